"""``W p`` for the weights of a window around each pixel, float32, in one launch: the heart of `losses.soft_ncut` on a GPU.

A program has a tile of pixels of one plane and all their classes. It goes over the window tap by tap; a weight is computed where it
is used, and what a tile reads stays in the cache for its other taps, so that of the map about one read and one write reach the
memory. Degrees and the two quadratic forms come from the same pass.
"""

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from selfseg.kernels.layout import Offsets

TILE_Y, TILE_X = 4, 32
"""Pixels of a tile: whole cache lines along x, and few enough that 32 classes of them stay in registers."""


@triton.jit
def _products(
    image, valid, p, products, degrees, forms, taps, fall, scale,
    n_taps, C, K, Z, Y, X, stride_b, stride_k, stride_pixel,
    HAS_VALID: tl.constexpr, C_PAD: tl.constexpr, K_PAD: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(2)
    b = (plane // Z).to(tl.int64)
    z = plane % Z
    n = Z * Y * X
    lane = tl.arange(0, TY * TX)
    y = tl.program_id(1) * TY + lane // TX
    x = tl.program_id(0) * TX + lane % TX
    zs = tl.zeros_like(lane) + z
    here = (zs * Y + y) * X + x
    counts = (y < Y) & (x < X)
    if HAS_VALID:
        counts = counts & (tl.load(valid + b * n + here, mask=counts, other=0) > 0)
    c, k = tl.arange(0, C_PAD), tl.arange(0, K_PAD)
    pixels, classes = image + b * C * n + c[None, :] * n, p + b * stride_b + k[None, :] * stride_k
    own = tl.load(pixels + here[:, None], mask=counts[:, None] & (c < C)[None, :], other=0.0)
    factor = tl.load(scale + b)
    sums = tl.zeros((TY * TX, K_PAD), tl.float32)
    degree = tl.zeros((TY * TX,), tl.float32)
    for tap in range(n_taps):
        dz, dy, dx = tl.load(taps + 3 * tap), tl.load(taps + 3 * tap + 1), tl.load(taps + 3 * tap + 2)
        there = here + (dz * Y + dy) * X + dx
        both = counts & (zs + dz >= 0) & (zs + dz < Z) & (y + dy >= 0) & (y + dy < Y) & (x + dx >= 0) & (x + dx < X)
        if HAS_VALID:
            both = both & (tl.load(valid + b * n + there, mask=both, other=0) > 0)
        other = tl.load(pixels + there[:, None], mask=both[:, None] & (c < C)[None, :], other=0.0)
        step = tl.where(both[:, None] & (c < C)[None, :], own - other, 0.0)
        w = tl.where(both, tl.exp2(-factor * tl.sum(step * step, 1) - tl.load(fall + tap)), 0.0)
        value = tl.load(classes + there[:, None] * stride_pixel, mask=both[:, None] & (k < K)[None, :], other=0.0)
        sums += w[:, None] * value
        degree += w
    some = (y < Y) & (x < X)
    wide = some[:, None] & (k < K)[None, :]
    mine = tl.load(classes + here[:, None] * stride_pixel, mask=counts[:, None] & (k < K)[None, :], other=0.0)
    tl.store(products + b * stride_b + k[None, :] * stride_k + here[:, None] * stride_pixel, sums, mask=wide)
    tl.store(degrees + b * n + here, degree, mask=some)
    program = (plane * tl.num_programs(1) + tl.program_id(1)).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    rows = forms + 2 * program * K
    tl.store(rows + k, tl.sum(mine * sums, 0), mask=k < K)
    tl.store(rows + K + k, tl.sum(mine * degree[:, None], 0), mask=k < K)


class Window(NamedTuple):
    """Images and the window around each of their pixels."""

    image: Tensor
    """``[B C *S]`` float32, finite."""
    valid: Tensor | None
    """``[B *S]`` bool; None = all count."""
    taps: Tensor
    """``[N 3]`` int32: (dz, dy, dx) of every pixel in the window, the centre too."""
    fall: Tensor
    """``[N]`` float32: ``log2(e) |X|^2 / sigma_space^2``."""
    scale: Tensor
    """``[B]`` float32: ``log2(e) / sigma_intensity^2``."""


def lay_out(image: Tensor, valid: Tensor | None, sigma_intensity: Tensor, offsets: Offsets) -> Window:
    """Return the `Window` of images ``[B C *S]``, where `offsets` are half of it, with ``|X|^2 / sigma_space^2``."""
    log2e, device = 1 / math.log(2), image.device
    half = [((0, 0, *offset)[-3:], fall) for offset, fall in offsets]
    whole = [((0, 0, 0), 0.0), *half, *((tuple(-n for n in offset), fall) for offset, fall in half)]
    taps, falls = zip(*whole, strict=True)
    scale = (log2e * sigma_intensity.square().reciprocal()).float().to(device)
    places = torch.tensor(taps, dtype=torch.int32, device=device)
    return Window(image.float(), valid, places, log2e * torch.tensor(falls).to(device), scale)


def window_products(window: Window, p: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ``W p`` of ``p [B K *S]``, laid out as p, degrees ``[B *S]``, and ``p . W p`` and ``p . d`` ``[B K]`` float64.

    Degrees that are `known` are computed along, at no cost.
    """
    p = p.detach()
    B, K = p.shape[:2]
    Z, Y, X = (1, *p.shape[2:])[-3:]
    n = Z * Y * X
    strides = (K * n, n, 1) if p.is_contiguous() else (K * n, 1, K)
    products = torch.empty_like(p, memory_format=torch.preserve_format)
    degrees = p.new_empty((B, *p.shape[2:]))
    grid = (triton.cdiv(X, TILE_X), triton.cdiv(Y, TILE_Y), B * Z)
    forms = p.new_empty((B, grid[2] // B * grid[1] * grid[0], 2, K))
    shapes: tuple[Any, ...] = (len(window.taps), window.image.shape[1], K, Z, Y, X, *strides)
    marks = (
        window.image if window.valid is None else window.valid.contiguous().view(torch.uint8)
    )  # never read if all count
    _products[grid](
        window.image.contiguous(), marks, p, products, degrees, forms, window.taps, window.fall, window.scale, *shapes,
        HAS_VALID=window.valid is not None, C_PAD=triton.next_power_of_2(window.image.shape[1]), K_PAD=triton.next_power_of_2(K),
        TY=TILE_Y, TX=TILE_X,
    )  # fmt: skip
    association, volume = forms.sum(1, dtype=torch.float64).movedim(1, 0)
    return products, degrees, association, volume
