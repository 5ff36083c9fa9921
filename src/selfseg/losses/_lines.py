"""How a map ``[B K *S]`` lies in memory, for kernels that walk it line by line. A line is a row of pixels along the last axis."""

from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Lines(NamedTuple):
    """A map as flat memory.

    Attributes
    ----------
    values
        NumPy view of the map's memory, ``[B K *S]`` in some order.
    strides
        From one (image, class, line, pixel) to the next, in values.
    per_image
        Lines of one image.
    """

    values: Any
    strides: tuple[int, int, int, int]
    per_image: int


def runs_kernels(values: Tensor) -> bool:
    """Return whether the float32 kernels apply: a CPU, and a map whose lines can be numbered."""
    plain = values.device.type == "cpu" and values.dtype == torch.float32 and values.ndim in (3, 4, 5)
    return plain and values.numel() > 0 and (values.is_contiguous() or _channels_last(values))


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def runs_triton(values: Tensor) -> bool:
    """Return whether the float32 kernel of a GPU applies: a CUDA or ROCm device with Triton, and a dense map."""
    plain = values.device.type == "cuda" and values.dtype == torch.float32 and values.ndim in (4, 5)
    return plain and values.numel() > 0 and (values.is_contiguous() or _channels_last(values)) and _has_triton()


def as_lines(values: Tensor) -> Lines:
    """Return the memory of a map for which `runs_kernels` holds. What is written there is written to the map."""
    K, X = values.shape[1], values.shape[-1]
    n = values[0, 0].numel()
    strides = (K * n, n, X, 1) if values.is_contiguous() else (K * n, 1, K * X, K)
    return Lines(values.detach().as_strided((values.numel(),), (1,)).numpy(), strides, n // X)


def _channels_last(values: Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return values.ndim in formats and values.is_contiguous(memory_format=formats[values.ndim])
