"""How a map lies in memory, and where the kernels of this room apply. Nothing here loads numba or Triton."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

Offsets = list[tuple[tuple[int, ...], float]]
"""Places in a window relative to a pixel, each with a number: its squared distance."""


class Lines(NamedTuple):
    """A map as flat memory."""

    values: Any
    """NumPy view of the map's memory, ``[B K *S]`` in some order."""
    strides: tuple[int, int, int, int]
    """From one (image, class, line, pixel) to the next, in values."""
    per_image: int
    """Lines of one image."""


def runs_kernels(values: Tensor) -> bool:
    """Return whether the float32 kernels apply: a CPU, and a map whose lines can be numbered."""
    plain = values.device.type == "cpu" and values.dtype == torch.float32 and values.ndim in (3, 4, 5)
    return plain and values.numel() > 0 and (values.is_contiguous() or is_channels_last(values))


def as_lines(values: Tensor) -> Lines:
    """Return the memory of a map for which `runs_kernels` holds. What is written there is written to the map."""
    K, X = values.shape[1], values.shape[-1]
    n = values[0, 0].numel()
    strides = (K * n, n, X, 1) if values.is_contiguous() else (K * n, 1, K * X, K)
    return Lines(values.detach().as_strided((values.numel(),), (1,)).numpy(), strides, n // X)


def is_channels_last(values: Tensor) -> bool:
    """Return whether all channels of a pixel of ``[B K Y X]`` or ``[B K Z Y X]`` lie together."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return values.ndim in formats and values.is_contiguous(memory_format=formats[values.ndim])


def runs_on_channels_last(values: Tensor, least: int) -> bool:
    """Return whether the kernels over rows of channels apply: float32 images of `least` pixels, on a CPU, channels last, no autocast."""
    plain = values.device.type == "cpu" and values.dtype == torch.float32 and values.ndim == 4
    if not plain or torch.is_autocast_enabled("cpu") or values.shape[2] * values.shape[3] < least:
        return False
    return values.is_contiguous(memory_format=torch.channels_last)


def flat_rows(values: Tensor) -> Any:
    """Return the memory of a channels-last map ``[B C Y X]``, flat ``[B Y X C]``. What is written there is written to the map."""
    return values.detach().permute(0, 2, 3, 1).reshape(-1).numpy()


def rows_or_planes(values: Tensor) -> tuple[Tensor, bool]:
    """Return ``[B N K]`` and True where all channels of a pixel of ``[B K *S]`` lie together, else ``[B K N]`` and False."""
    values = values.detach()
    rows = values.movedim(1, -1)
    if rows.is_contiguous() and not values.is_contiguous():
        return rows.flatten(1, -2), True
    return values.contiguous().flatten(2), False


def softmax(values: Tensor) -> Tensor:
    """Return the softmax of ``[B K *S]`` over its channels; on a CPU by the logarithm, which no number of threads changes."""
    return values.log_softmax(1).exp() if values.device.type == "cpu" else values.softmax(1)
