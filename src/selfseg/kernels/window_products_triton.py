"""``W p`` for the weights of a window around each pixel, float32, in one launch: the heart of `losses.soft_ncut` on a GPU.

A program has a tile of pixels of one plane and all their classes. It goes over the window tap by tap; a weight is computed where it
is used, and what a tile reads stays in the cache for its other taps, so that of the map about one read and one write reach the
memory. Degrees and the two quadratic forms come from the same pass.
"""

import contextlib
import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from selfseg.kernels.layout import Offsets

SIZES = ("n_taps", "C", "K", "Z", "Y", "X", "stride_b", "stride_k", "stride_pixel")
"""Arguments that are numbers: none of them makes another kernel, so that images of any size share one."""

TILE_Y, TILE_X = 4, 32
"""Pixels of a tile: whole cache lines along x, and few enough that 32 classes of them stay in registers."""

LARGEST_INT32 = 2**31 - 1


class Tiling(NamedTuple):
    """How the kernel is made for a number of classes and of channels: what it is compiled with, by name."""

    C_PAD: int
    K_PAD: int
    TY: int
    PLACE: Any
    """Type of the places in one image's map."""
    num_warps: int

    @classmethod
    def of(cls, n_channels: int, n_classes: int, n_pixels: int) -> "Tiling":
        """Return that of images of `n_pixels` pixels: the sums of a tile stay in registers."""
        k = triton.next_power_of_2(n_classes)
        place = tl.int32 if max(n_channels, n_classes) * n_pixels <= LARGEST_INT32 else tl.int64
        rows = max(1, TILE_Y // max(1, k // 32) // (1 if place is tl.int32 else 2))
        return cls(triton.next_power_of_2(n_channels), k, rows, place, 4 if k <= 128 else 8)


@triton.jit(do_not_specialize=SIZES)
def _products(
    image, valid, p, products, degrees, forms, taps, fall, scale,
    n_taps, C, K, Z, Y, X, stride_b, stride_k, stride_pixel,
    HAS_VALID: tl.constexpr, C_PAD: tl.constexpr, K_PAD: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, PLACE: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(2)
    b = (plane // Z).to(tl.int64)
    z = plane % Z
    n = Z.to(PLACE) * Y * X
    lane = tl.arange(0, TY * TX)
    y = tl.program_id(1) * TY + lane // TX
    x = tl.program_id(0) * TX + lane % TX
    zs = tl.zeros_like(lane) + z
    here = (zs.to(PLACE) * Y + y) * X + x
    counts = (y < Y) & (x < X)
    if HAS_VALID:
        counts = counts & (tl.load(valid + b * n + here, mask=counts, other=0) > 0)
    c, k = tl.arange(0, C_PAD), tl.arange(0, K_PAD)
    of_class = k[None, :].to(PLACE) * stride_k
    pixels, classes = image + b * C * n + c[None, :] * n, p + b * stride_b + of_class
    own = tl.load(pixels + here[:, None], mask=counts[:, None] & (c < C)[None, :], other=0.0)
    factor = tl.load(scale + b)
    sums = tl.zeros((TY * TX, K_PAD), tl.float32)
    degree = tl.zeros((TY * TX,), tl.float32)
    for tap in range(n_taps):
        dz, dy, dx = tl.load(taps + 3 * tap), tl.load(taps + 3 * tap + 1), tl.load(taps + 3 * tap + 2)
        there = here + (dz.to(PLACE) * Y + dy) * X + dx
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
    tl.store(products + b * stride_b + of_class + here[:, None] * stride_pixel, sums, mask=wide)
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
    tiling = Tiling.of(window.image.shape[1], K, n)
    grid = (triton.cdiv(X, TILE_X), triton.cdiv(Y, tiling.TY), B * Z)
    forms = p.new_empty((B, grid[2] // B * grid[1] * grid[0], 2, K))
    shapes: tuple[Any, ...] = (len(window.taps), window.image.shape[1], K, Z, Y, X, *strides)
    marks = (
        window.image if window.valid is None else window.valid.contiguous().view(torch.uint8)
    )  # never read if all count
    with (
        torch.cuda.device(p.device) if p.is_cuda else contextlib.nullcontext()
    ):  # Triton launches on the current device
        _products[grid](
            window.image.contiguous(), marks, p, products, degrees, forms, window.taps, window.fall, window.scale, *shapes,
            HAS_VALID=window.valid is not None, TX=TILE_X, **tiling._asdict(),
        )  # fmt: skip
    association, volume = forms.sum(1, dtype=torch.float64).movedim(1, 0)
    return products, degrees, association, volume


def try_out(device: torch.device) -> None:
    """Launch the kernel on a few pixels; raise whatever the compiler or the driver raises."""
    ones = torch.ones(1, 1, 2, 2, device=device)
    window = lay_out(ones, None, torch.ones(1), [((0, 1), 1.0)])
    window_products(window, ones, None)[0].cpu()
