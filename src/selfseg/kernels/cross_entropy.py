"""Cross entropy of the softmax of a response against given or its own classes, and its continuity, float32 on a CPU.

`cross_entropy` is the sum over pixels; a pass over the response each way, for both memory layouts, and no map of probabilities is kept.
A map lies in rows ``[N K]`` (all channels of a pixel together) or in planes ``[K N]``. Planes are taken in blocks of pixels that stay in
the cache. Pixels whose class is negative do not count, whatever they hold. The log-sum-exp of each pixel is kept for the way back.

`similarity_and_continuity` gives ``mean_n (log sum_k exp r_nk - max_k r_nk)``, whose gradient is ``(softmax(r_n) - onehot(argmax)) / N``,
and along each axis the mean of ``|r_{n+1,k} - r_nk|``, whose gradient is the sign of the difference, over their number: one pass over
the response and one for the gradient. Kept: the response, a label and a log-sum-exp for each pixel. The textbook form keeps six
arrays of the response's size. Work is shared by rows of pixels, numbered over the batch. Unsigned indices and sums kept by channel let
the compiler use vector instructions.
"""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from selfseg.core.machine import compiled, run_shared
from selfseg.core.powers import power_of_e
from selfseg.kernels.layout import flat_rows, rows_or_planes

f32 = np.float32

MIN_PARALLEL_SIZE = 30_000
"""Values below which one thread is done before two have met."""

BLOCK = 512
"""Pixels of a block of planes."""

LANES = 16
"""Sums that an exponential sum is kept in. The order is written down, not left to the compiler: that need not give the same code twice."""


def cross_entropy(response: Tensor, target: Tensor) -> Tensor:
    """Return the sum over the pixels of ``response [B K *S]`` with a class of 0 or more in ``target [B *S]``; a first derivative only."""
    value: Tensor = _CrossEntropy.apply(response, target)  # type: ignore[no-untyped-call]
    return value


def similarity_and_continuity(response: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Return similarity, (continuity in y, in x), labels ``[B Y X]`` of channels-last ``response [B K Y X]``; Y and X at least 2."""
    similarity, down, right, labels = _SimilarityAndContinuity.apply(response)  # type: ignore[no-untyped-call]
    return similarity, (down, right), labels


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, response: Tensor, target: Tensor) -> Tensor:
        ctx.values, ctx.in_rows = rows_or_planes(response)
        ctx.shape, ctx.target = response.shape, target.contiguous().flatten(1).numpy()  # [B N]
        ctx.logsum = np.zeros(ctx.target.shape, np.float32)
        parts = 1 if response.numel() < MIN_PARALLEL_SIZE else None
        total, n = 0.0, ctx.target.shape[1]
        for image, classes, logsum in zip(ctx.values.numpy(), ctx.target, ctx.logsum, strict=True):
            if ctx.in_rows:
                by_row = image.reshape(-1), classes, logsum, response.shape[1]
                total += sum(run_shared(_forward_rows, n, *by_row, parts=parts))
            else:
                total += sum(run_shared(_forward_planes, -(-n // BLOCK), image, classes, logsum, parts=parts))
        return response.new_tensor(total)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        weight, out = np.float32(gradient), torch.empty_like(ctx.values)
        parts, n = 1 if out.numel() < MIN_PARALLEL_SIZE else None, ctx.target.shape[1]
        for image, into, classes, logsum in zip(ctx.values.numpy(), out.numpy(), ctx.target, ctx.logsum, strict=True):
            if ctx.in_rows:
                by_row = image.reshape(-1), classes, logsum, weight, into.reshape(-1), ctx.shape[1]
                run_shared(_backward_rows, n, *by_row, parts=parts)
            else:
                blocks = image, classes, logsum, weight, into
                run_shared(_backward_planes, -(-n // BLOCK), *blocks, parts=parts)
        if ctx.in_rows:
            return out.reshape(ctx.shape[0], *ctx.shape[2:], ctx.shape[1]).movedim(-1, 1), None
        return out.reshape(ctx.shape), None


class _SimilarityAndContinuity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, response: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        B, K, Y, X = response.shape
        labels = torch.empty(B, Y, X, dtype=torch.int64)
        logsum = np.empty(B * Y * X, np.float32)
        parts = run_shared(_forward_all, B * Y, flat_rows(response), labels.view(-1).numpy(), logsum, Y, X, K)
        sizes = np.array([B * Y * X, B * (Y - 1) * X * K, B * Y * (X - 1) * K], np.float64)
        values = torch.from_numpy((np.sum(parts, axis=0) / sizes).astype(np.float32))
        ctx.save_for_backward(response, labels)
        ctx.logsum, ctx.sizes = logsum, sizes
        ctx.mark_non_differentiable(labels)
        return values[0], values[1], values[2], labels

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        response, labels = ctx.saved_tensors
        B, K, Y, X = response.shape
        weights = (np.array([float(g) for g in gradients[:3]]) / ctx.sizes).astype(np.float32)
        out = torch.empty_like(response)
        arguments = (flat_rows(response), labels.view(-1).numpy(), ctx.logsum, weights, flat_rows(out), Y, X, K)
        run_shared(_backward_all, B * Y, *arguments)
        return out


@compiled(fastmath={"nnan", "nsz", "reassoc"})
def _largest(r: Any, at: Any, K: Any) -> Any:
    best = r[at]
    for k in range(K):
        best = max(best, r[at + k])
    return best


@njit(inline="always")
def _exp_sum(r: Any, at: Any, K: Any, top: Any, lanes: Any) -> Any:
    """Return ``sum_k exp(r[at + k] - top)``; `lanes` is room for `LANES` sums, value k goes to sum k modulo `LANES`."""
    lanes[:] = 0
    whole = K // np.uint64(LANES)
    for block in range(whole):
        first = at + block * np.uint64(LANES)
        for j in range(np.uint64(LANES)):
            lanes[j] += power_of_e(r[first + j] - top)
    total = f32(0)
    for k in range(whole * np.uint64(LANES), K):
        total += power_of_e(r[at + k] - top)
    for j in range(np.uint64(LANES)):
        total += lanes[j]
    return total


@compiled()
def _forward_all(start: Any, stop: Any, r: Any, labels: Any, logsum: Any, Y: Any, X: Any, n_clusters: Any) -> Any:
    """Fill labels and log-sum-exp ``[B Y X]`` of rows start..stop; return the sums of (CE, |dy|, |dx|) as float64."""
    K, line = np.uint64(n_clusters), np.uint64(X * n_clusters)
    down, right = np.zeros(n_clusters, np.float32), np.zeros(n_clusters, np.float32)
    sums, lanes = np.zeros(3), np.empty(LANES, np.float32)
    for row in range(start, stop):
        inner = row % Y < Y - 1
        down[:] = 0
        right[:] = 0
        for column in range(X):
            pixel = row * X + column
            at = np.uint64(pixel) * K
            top = _largest(r, at, K)
            label = 0
            while label < n_clusters - 1 and r[at + np.uint64(label)] != top:
                label += 1
            labels[pixel] = label
            logsum[pixel] = top + np.log(_exp_sum(r, at, K, top, lanes))
            sums[0] += logsum[pixel] - top
            if inner:
                for k in range(K):
                    down[k] += abs(r[at + line + k] - r[at + k])
            if column < X - 1:
                for k in range(K):
                    right[k] += abs(r[at + K + k] - r[at + k])
        for k in range(K):
            sums[1] += down[k]
            sums[2] += right[k]
    return sums


@njit(inline="always")
def _pull(r: Any, at: Any, neighbour: Any, dr: Any, weight: Any, K: Any) -> None:
    """Add ``weight * sign(r[at] - r[neighbour])`` for all clusters."""
    for k in range(K):
        here, there = r[at + k], r[neighbour + k]
        dr[at + k] += weight * (f32(here > there) - f32(here < there))


@compiled()
def _backward_all(
    start: Any, stop: Any, r: Any, labels: Any, logsum: Any, weights: Any, dr: Any, Y: Any, X: Any, n_clusters: Any
) -> None:
    """``dr`` of rows start..stop, of ``w0 sum CE + w1 sum |dy| + w2 sum |dx|``."""
    K, line = np.uint64(n_clusters), np.uint64(X * n_clusters)
    w0, w1, w2 = weights[0], weights[1], weights[2]
    for row in range(start, stop):
        for column in range(X):
            pixel = row * X + column
            at = np.uint64(pixel) * K
            shift = logsum[pixel]
            for k in range(K):
                dr[at + k] = w0 * power_of_e(r[at + k] - shift)
            dr[at + np.uint64(labels[pixel])] -= w0
            if row % Y > 0:
                _pull(r, at, at - line, dr, w1, K)
            if row % Y < Y - 1:
                _pull(r, at, at + line, dr, w1, K)
            if column > 0:
                _pull(r, at, at - K, dr, w2, K)
            if column < X - 1:
                _pull(r, at, at + K, dr, w2, K)


@compiled()
def _forward_rows(start: Any, stop: Any, r: Any, target: Any, logsum: Any, n_classes: Any) -> Any:
    """Fill the log-sum-exp of the pixels start..stop of flat ``r [N K]``; return their summed cross entropy."""
    K, total, lanes = np.uint64(n_classes), 0.0, np.empty(LANES, np.float32)
    for p in range(start, stop):
        if target[p] < 0:
            continue
        at = np.uint64(p) * K
        top = _largest(r, at, K)
        logsum[p] = top + np.log(_exp_sum(r, at, K, top, lanes))
        total += logsum[p] - r[at + np.uint64(target[p])]
    return total


@compiled()
def _backward_rows(
    start: Any, stop: Any, r: Any, target: Any, logsum: Any, weight: Any, dr: Any, n_classes: Any
) -> None:
    """Fill ``dr [N K]`` of the pixels start..stop, of `weight` times the sum."""
    K = np.uint64(n_classes)
    for p in range(start, stop):
        at = np.uint64(p) * K
        if target[p] < 0:
            for k in range(K):
                dr[at + k] = 0
            continue
        shift = logsum[p]
        for k in range(K):
            dr[at + k] = weight * power_of_e(r[at + k] - shift)
        dr[at + np.uint64(target[p])] -= weight


@compiled()
def _forward_planes(start: Any, stop: Any, r: Any, target: Any, logsum: Any) -> Any:
    """As `_forward_rows`, for the blocks start..stop of ``r [K N]``."""
    top, total = np.empty(BLOCK, np.float32), 0.0
    sums = np.empty(BLOCK, np.float32)
    for block in range(start, stop):
        first, last = block * BLOCK, min((block + 1) * BLOCK, target.size)
        n = np.uint64(last - first)
        for i in range(n):
            top[i], sums[i] = -np.inf, 0
        for k in range(len(r)):
            row = r[k, first:last]
            for i in range(n):
                top[i] = max(top[i], row[i])
        for k in range(len(r)):
            row = r[k, first:last]
            for i in range(n):
                sums[i] += power_of_e(row[i] - top[i])
        for i in range(n):
            p = first + np.int64(i)
            if target[p] >= 0:
                logsum[p] = top[i] + np.log(sums[i])
                total += logsum[p] - r[target[p], p]
    return total


@compiled()
def _backward_planes(start: Any, stop: Any, r: Any, target: Any, logsum: Any, weight: Any, dr: Any) -> None:
    """As `_backward_rows`, for the blocks start..stop of ``dr [K N]``."""
    for block in range(start, stop):
        first, last = block * BLOCK, min((block + 1) * BLOCK, target.size)
        n = np.uint64(last - first)
        counted, shift = target[first:last], logsum[first:last]
        for k in range(len(r)):
            row, out = r[k, first:last], dr[k, first:last]
            for i in range(n):
                value = weight * power_of_e(row[i] - shift[i])
                out[i] = value if counted[i] >= 0 else f32(0)
        for i in range(n):
            if counted[i] >= 0:
                dr[counted[i], first + np.int64(i)] -= weight
