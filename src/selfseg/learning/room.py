"""Whether the memory suffices for a training step, said before the first one."""

import numpy as np
import psutil
import torch

from selfseg.core.errors import InputError
from selfseg.core.progress import Progress
from selfseg.learning.training_set import TrainingSet
from selfseg.methods.base import Method


def check_room(method: Method, data: TrainingSet, device: torch.device, progress: Progress) -> None:
    """Say what a step will take before it is started, and refuse what cannot fit."""
    config = method.config
    largest = sorted((int(np.prod(s.shape[1:])) for s in data.samples), reverse=True)[: config.batch_size]
    pixels = -(-largest[0] * len(largest) // config.accumulate)
    needed = method.training_bytes(pixels)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    estimate = f"a step on {pixels / 1e6:.2f} megapixels takes about {needed / 2**30:.1f} GiB of memory"
    if needed > free:
        fix = "shrink the images (--prepare size=1000), learn from windows of them (--windows 16), or lower n_features or batch_size"
        raise InputError(estimate, expected=f"at most the {free / 2**30:.1f} GiB that are free", got="more", fix=fix)
    if needed > 0.25 * free:
        progress.say(f"{estimate}, of {free / 2**30:.1f} GiB free")
