"""ReLU and batch normalisation in one, float32 on a CPU, with the gradient written by hand: five passes over memory in all.

``y = w (h - m) / s + b`` with ``h = max(x, 0)`` or ``h = x``, mean m and deviation s of h over all pixels (Ioffe & Szegedy,
ICML 2015). With g = dL/dy, xhat = (h - m) / s and sums over the N pixels: ``db = sum g``, ``dw = sum g xhat`` and
``dh = (w / s) (g - db / N - xhat dw / N)``. Kept for the backward pass: x alone. Where processes share the batch, N and the sums in
``m``, ``s`` and ``dh`` are over all of it, while db and dw are of this process's pixels.

The arrays are ``[N C]``, flat, float32. Sums are kept in float32 over `BLOCK` rows and in float64 over blocks.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfseg.core.machine import compiled, run_shared
from selfseg.kernels.layout import flat_rows
from selfseg.sample.shared_batch import Share, current_share

BLOCK = 64
RECTIFIED, AS_IS = np.float32(0), np.float32(-np.inf)


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, rectify: bool, eps: float, moments: Tensor | None = None
) -> Tensor:
    """Normalise channels-last ``x [B C H W]``, after a ReLU if `rectify`, by its own statistics; see the module.

    Mean and biased variance are written to `moments` ``[2 C]`` if given.
    """
    result: Tensor = _BatchNorm.apply(x, weight, bias, RECTIFIED if rectify else AS_IS, eps, moments)  # type: ignore[no-untyped-call]
    return result


def channel_sums(x: Tensor) -> Tensor:
    """Return the sum of each channel ``[C]`` of float32 ``x [B C H W]`` on a CPU, channels last; added up in float64."""
    C = x.shape[1]
    total = np.sum(run_shared(_sums, x.numel() // C, flat_rows(x), flat_rows(x), C, AS_IS, AS_IS), axis=0)[:C]
    return torch.from_numpy(total).to(x.dtype)


def _added_up(values: Any, share: Share | None) -> Any:
    """Return float64 sums over all processes that share the batch."""
    if share is None:
        return values
    own = torch.from_numpy(np.zeros_like(values) if share.empty else values)
    return share.all_reduce(own).numpy()


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, floor: np.float32, eps: float, moments: Tensor | None
    ) -> Tensor:
        C, n = x.shape[1], x.numel() // x.shape[1]
        share = current_share()
        sums = np.sum(run_shared(_sums, n, flat_rows(x), flat_rows(x), C, floor, floor), axis=0)
        *total, counted = _added_up(np.append(sums, n), share)
        total = np.asarray(total) / counted
        mean = total[:C]
        variance = np.maximum(total[C:] - mean**2, 0)
        if moments is not None:
            moments.copy_(torch.from_numpy(np.stack([mean, variance])))
        deviation = np.sqrt(variance + eps)
        scale = weight.detach().double().numpy() / deviation
        shift = bias.detach().double().numpy() - mean * scale
        y = torch.empty_like(x)
        factors = scale.astype(np.float32), shift.astype(np.float32)
        run_shared(_scale_and_shift, n, flat_rows(x), flat_rows(y), *factors, floor)
        ctx.save_for_backward(x)
        ctx.statistics = mean, deviation, scale, floor, counted, share
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        mean, deviation, scale, floor, counted, share = ctx.statistics
        C, n = x.shape[1], x.numel() // x.shape[1]
        g = gradients[0].contiguous(memory_format=torch.channels_last)
        own = np.sum(run_shared(_sums, n, flat_rows(g), flat_rows(x), C, AS_IS, floor), axis=0)
        db, dw = own[:C], (own[C:] - mean * own[:C]) / deviation
        counts = share is None or not share.empty  # pixels that count nowhere move no statistics
        whole = _added_up(own, share) * counts
        slope = -scale * (whole[C:] - mean * whole[:C]) / deviation**2 / counted
        constant = -scale * whole[:C] / counted - slope * mean
        dx = torch.empty_like(x)
        parts = (part.astype(np.float32) for part in (scale, slope, constant))
        run_shared(_input_gradient, n, flat_rows(x), flat_rows(g), flat_rows(dx), *parts, floor)
        return dx, torch.from_numpy(dw).to(x.dtype), torch.from_numpy(db).to(x.dtype), None, None, None


@compiled()
def _sums(start: Any, stop: Any, a: Any, b: Any, n_channels: Any, floor_a: Any, floor_b: Any) -> Any:
    """Return ``[2 C]`` float64: the sums of ``max(a, floor_a)`` and of its product with ``max(b, floor_b)`` over rows start..stop."""
    C = np.uint64(n_channels)
    total = np.zeros(2 * n_channels)
    one, two = np.zeros(n_channels, np.float32), np.zeros(n_channels, np.float32)
    for first in range(start, stop, BLOCK):
        one[:] = 0
        two[:] = 0
        for row in range(first, min(first + BLOCK, stop)):
            at = np.uint64(row) * C
            for c in range(C):
                value = max(a[at + c], floor_a)
                one[c] += value
                two[c] += value * max(b[at + c], floor_b)
        for c in range(C):
            total[c] += one[c]
            total[C + c] += two[c]
    return total


@compiled()
def _scale_and_shift(start: Any, stop: Any, x: Any, y: Any, scale: Any, shift: Any, floor: Any) -> None:
    """``y = max(x, floor) * scale + shift`` over rows start..stop."""
    C = np.uint64(len(scale))
    for row in range(start, stop):
        at = np.uint64(row) * C
        for c in range(C):
            y[at + c] = max(x[at + c], floor) * scale[c] + shift[c]


@compiled()
def _input_gradient(start: Any, stop: Any, x: Any, g: Any, dx: Any, a: Any, b: Any, c0: Any, floor: Any) -> None:
    """``dx = a g + b x + c0`` where ``x > floor``, else 0, over rows start..stop."""
    C = np.uint64(len(a))
    for row in range(start, stop):
        at = np.uint64(row) * C
        for c in range(C):
            value = a[c] * g[at + c] + b[c] * x[at + c] + c0[c]
            dx[at + c] = value if x[at + c] > floor else np.float32(0)
