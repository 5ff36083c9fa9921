"""Work in float32 where the loop asks for less."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def in_float32(work: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method whose first argument is images work without autocast.

    Distances between features are small differences of large numbers. And on a CPU the gradient of a 3D convolution in bfloat16
    reads beyond its input where a map has only two pixels along an axis (seen with torch 2.13), which gives NaN by chance.
    """

    @wraps(work)
    def run(self: Any, images: Tensor, *rest: Any) -> Any:
        with torch.autocast(images.device.type, enabled=False):
            return work(self, images, *rest)

    return run
