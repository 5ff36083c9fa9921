"""Means over superpixels and their way back, float32 on a CPU, for both memory layouts of a map. One pass over the pixels each.

A map ``[K N]`` lies in planes (all pixels of a channel together) or in rows (all channels of a pixel together). Planes are shared
among threads by channel, rows by region or by pixel: no two threads write to the same place, so that the result does not depend
on their number. Sums are in float64.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfseg.core.machine import compiled, run_shared
from selfseg.kernels.layout import rows_or_planes

f32 = np.float32

MIN_PARALLEL_SIZE = 30_000
"""Values below which one thread is done before two have met."""


def region_mean(features: Tensor, labels: Tensor, sizes: Tensor, order: Any, first: Any) -> Tensor:
    """Return the mean ``[B K R]`` of ``features [B K *S]`` over each superpixel; a first derivative only.

    `labels` ``[*S]`` are 0..R-1, or -1 = outside; `sizes` ``[R]`` are their pixels. Those of r are ``order[first[r] : first[r + 1]]``.
    """
    inverse = (1 / sizes.clamp(min=1).double()).float().numpy()  # of an unused label too, whose sum is 0
    pooled: Tensor = _RegionMean.apply(features, labels.view(-1).numpy(), inverse, order, first)  # type: ignore[no-untyped-call]
    return pooled


class _RegionMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, labels: Any, inverse: Any, order: Any, first: Any) -> Tensor:
        values, in_rows = rows_or_planes(features)
        (n_images, n_channels), n_regions = features.shape[:2], len(inverse)
        parts = 1 if features.numel() < MIN_PARALLEL_SIZE else None
        pooled = torch.empty(n_images, *((n_regions, n_channels) if in_rows else (n_channels, n_regions)))
        for image, out in zip(values.numpy(), pooled.numpy(), strict=True):
            if in_rows:
                run_shared(_mean_rows, n_regions, image, order, first, inverse, out, parts=parts)
            else:
                run_shared(_mean_planes, n_channels, image, labels, inverse, out, parts=parts)
        ctx.arguments, ctx.in_rows, ctx.shape = (labels, inverse), in_rows, features.shape
        return pooled.transpose(1, 2) if in_rows else pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (labels, inverse), shape = ctx.arguments, ctx.shape
        parts = 1 if shape.numel() < MIN_PARALLEL_SIZE else None
        if ctx.in_rows:
            rows = torch.empty(shape[0], *shape[2:], shape[1])
            for source, out in zip(gradient.transpose(1, 2).contiguous().numpy(), rows, strict=True):
                run_shared(
                    _spread_rows, labels.size, source, labels, inverse, out.view(-1, shape[1]).numpy(), parts=parts
                )
            return rows.movedim(-1, 1), None, None, None, None
        planes = torch.empty(shape)
        for source, out in zip(gradient.contiguous().numpy(), planes, strict=True):
            run_shared(_spread_planes, shape[1], source, labels, inverse, out.view(shape[1], -1).numpy(), parts=parts)
        return planes, None, None, None, None


@compiled()
def _mean_planes(start: Any, stop: Any, values: Any, labels: Any, inverse: Any, out: Any) -> None:
    """Fill ``out [K R]`` for the channels start..stop of ``values [K N]``; `inverse` ``[R]`` is 1 / size."""
    total = np.empty(inverse.size)
    for k in range(start, stop):
        total[:] = 0
        for p in range(labels.size):
            if labels[p] >= 0:
                total[labels[p]] += values[k, p]
        for r in range(inverse.size):
            out[k, r] = f32(total[r] * inverse[r])


@compiled()
def _mean_rows(start: Any, stop: Any, values: Any, order: Any, first: Any, inverse: Any, out: Any) -> None:
    """Fill ``out [R K]`` for the regions start..stop of ``values [N K]``; the pixels of r are ``order[first[r] : first[r + 1]]``."""
    n_channels = np.uint64(values.shape[1])
    total = np.empty(values.shape[1])
    for r in range(start, stop):
        total[:] = 0
        for i in range(first[r], first[r + 1]):
            row = values[order[i]]
            for k in range(n_channels):
                total[k] += row[k]
        for k in range(n_channels):
            out[r, k] = f32(total[k] * inverse[r])


@compiled()
def _spread_planes(start: Any, stop: Any, values: Any, labels: Any, factors: Any, out: Any) -> None:
    """Fill the channels start..stop of ``out [K N]`` with ``values [K R]`` times `factors` ``[R]``; 0 outside."""
    scaled = np.empty(factors.size, np.float32)
    for k in range(start, stop):
        for r in range(factors.size):
            scaled[r] = values[k, r] * factors[r]
        for p in range(labels.size):
            out[k, p] = scaled[labels[p]] if labels[p] >= 0 else f32(0)


@compiled()
def _spread_rows(start: Any, stop: Any, values: Any, labels: Any, factors: Any, out: Any) -> None:
    """Fill the pixels start..stop of ``out [N K]`` with ``values [R K]`` times `factors` ``[R]``; 0 outside."""
    n_channels = np.uint64(values.shape[1])
    for p in range(start, stop):
        row = out[p]
        if labels[p] < 0:
            row[:] = 0
            continue
        source, factor = values[labels[p]], factors[labels[p]]
        for k in range(n_channels):
            row[k] = source[k] * factor
