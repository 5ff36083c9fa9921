"""Convolutions of float32 images on a CPU, with their gradients: Winograd's F(4x4, 3x3), and one product for a weight gradient.

Winograd: ``Y = A^T [ (G w G^T) * (B^T d B) ] A`` for tiles of 4x4 output pixels (Lavin & Gray, CVPR 2016, arXiv:1509.09308): 36
products instead of 144 for each pair of channels. For 100 -> 100 channels at 321x481 that is 7 GFLOP instead of 28, as 36
matrix products. The relative error against float64 is about 2e-6, four times that of a direct convolution.

Direct: the library's own kernels, but for the weight gradient, which is slow in channels-last order. Here it is ``dw = g^T X`` with X
the patches as rows, ``[N, C k k]``; for a 1x1 kernel X is the image itself.

The tile transforms are compiled for one number of channels and close over plain numbers only, so that numba finds them again on disk.
Two habits let the compiler use vector instructions: indices are unsigned, so that no index is checked for being negative, and the
number of channels is a constant of the compiled function, so that few overlaps of arrays need a check.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from selfseg.core.machine import compiled, run_shared, share
from selfseg.kernels.batch_norm import channel_sums
from selfseg.kernels.layout import is_channels_last, runs_on_channels_last

MIN_CHANNELS = 32
"""Fewest channels, in and out, for which the transforms cost less than the products they save."""

MIN_PIXELS = 4096
"""Smallest image for which either way pays."""

MOST_INPUTS = 256
"""Largest ``C k k`` for which the patches as rows are worth their memory (or are the image itself)."""

CHUNK_TILES = 384
"""Tiles whose transforms and products stay in the cache together: 36 x 384 x 100 values are 5.5 MB."""

WEIGHT_SHARES = 8
"""Shares of the tiles in a weight gradient, each with sums of its own."""

CONV_SHARES = 8
"""Shares of a convolution by the library; as many threads can work at one."""

LEAST_PIXELS = 1024
"""Smallest share, in pixels of the smaller side."""

G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `torch.nn.functional.conv2d` of ``x [B C H W]`` with ``weight [K C 3 3]`` and ``padding=1``.

    The faster way is taken where there is one; its result ``[B K H W]`` is channels last in memory.
    """
    if not winograd_pays(x, weight):
        return direct_conv(x, weight, bias)
    result: Tensor = _Winograd.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


def winograd_pays(x: Tensor, weight: Tensor) -> bool:
    """Return whether the Winograd form applies (CPU, float32, 2D, no autocast) and is faster."""
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.ndim == 4
    if not plain or torch.is_autocast_enabled("cpu"):
        return False
    return min(weight.shape[:2]) >= MIN_CHANNELS and x.shape[2] * x.shape[3] >= MIN_PIXELS


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        grid = _Grid.of(x)
        kept = x.new_empty(len(x), grid.n_chunks, 36 * grid.chunk_tiles * x.shape[1]) if weight.requires_grad else None
        out = _convolve(x, weight, bias, kept)
        ctx.save_for_backward(kept, weight)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        kept, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        dx = dw = db = None
        if ctx.needs_input_grad[0]:  # the convolution of the gradient with the turned kernel
            turned = weight.flip(2, 3).transpose(0, 1)
            dx = _convolve(gradient, turned, gradient.new_zeros(len(turned)), None)
        if ctx.needs_input_grad[1]:
            dw = _weight_gradient(kept, gradient, weight.shape[1])
        if ctx.needs_input_grad[2]:
            db = channel_sums(gradient)
        return dx, dw, db


@dataclass(frozen=True)
class _Grid:
    """Tiles of 4x4 pixels in chunks of whole tile rows, small enough for a chunk's work to stay in the cache."""

    height: int
    width: int
    rows: int
    columns: int
    chunk_rows: int

    @classmethod
    def of(cls, x: Tensor) -> "_Grid":
        height, width = x.shape[2:]
        rows, columns = -(-height // 4), -(-width // 4)
        return cls(height, width, rows, columns, max(1, min(rows, CHUNK_TILES // columns)))

    @property
    def n_chunks(self) -> int:
        return -(-self.rows // self.chunk_rows)

    @property
    def chunk_tiles(self) -> int:
        return self.chunk_rows * self.columns

    def items(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (image, chunk, first tile row, number of tile rows) of the work items start..stop."""
        for item in range(start, stop):
            image, chunk = divmod(item, self.n_chunks)
            first = chunk * self.chunk_rows
            yield image, chunk, first, min(self.chunk_rows, self.rows - first)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, kept: Tensor | None) -> Tensor:
    """Convolve ``x [B C H W]``, channels last; the transformed input goes to `kept` ``[B chunks 36*T*C]`` if given."""
    grid, (B, C), K = _Grid.of(x), x.shape[:2], len(weight)
    padded = _padded(x, 1, 4 * grid.rows + 1 - grid.height, 4 * grid.columns + 1 - grid.width)  # [B Hp Wp C]
    product = _transform_weight(weight)
    shift = bias.detach().numpy()
    out = torch.empty(B, K, grid.height, grid.width, memory_format=torch.channels_last)
    pixels = out.permute(0, 2, 3, 1)  # [B H W K]
    of_input, to_output = _transforms(C).of_input, _transforms(K).to_output

    def work(start: int, stop: int) -> None:
        tiles = x.new_empty(36 * grid.chunk_tiles * C) if kept is None else None
        products = x.new_empty(36 * grid.chunk_tiles * K)
        for image, chunk, first, n_rows in grid.items(start, stop):
            n = n_rows * grid.columns
            v = (tiles if kept is None else kept[image, chunk])[: 36 * n * C]  # type: ignore[index]
            m = products[: 36 * n * K]
            of_input(0, n_rows, _flat(padded[image, 4 * first :]), v.numpy(), grid.columns, n)
            torch.bmm(v.view(36, n, C), product, out=m.view(36, n, K))
            sizes = grid.height - 4 * first, grid.width, grid.columns, n
            to_output(0, n_rows, m.numpy(), _flat(pixels[image, 4 * first :]), shift, *sizes)

    with torch.no_grad():
        run_alone(work, B * grid.n_chunks)
    return out


def _weight_gradient(kept: Tensor, gradient: Tensor, C: int) -> Tensor:
    """Adjoint of the forward pass in the weight: ``dU = V^T (A dY A^T)`` summed over tiles, ``dw = G^T dU G [K C 3 3]``."""
    grid, (B, K) = _Grid.of(gradient), gradient.shape[:2]
    padded = _padded(gradient, 0, 4 * grid.rows - grid.height, 4 * grid.columns - grid.width)
    of_gradient = _transforms(K).of_gradient

    def work(start: int, stop: int) -> Tensor:
        total = gradient.new_zeros(36, C, K)
        space = gradient.new_empty(36 * grid.chunk_tiles * K)
        for image, chunk, first, n_rows in grid.items(start, stop):
            n = n_rows * grid.columns
            m, v = space[: 36 * n * K], kept[image, chunk, : 36 * n * C]
            of_gradient(0, n_rows, _flat(padded[image, 4 * first :]), m.numpy(), grid.columns, n)
            torch.baddbmm(total, v.view(36, n, C).transpose(1, 2), m.view(36, n, K), out=total)
        return total

    with torch.no_grad():
        dU = reduce(torch.add, run_alone(work, B * grid.n_chunks, WEIGHT_SHARES))
    g = gradient.new_tensor(G)
    return torch.einsum("ai,abck,bj->kcij", g, dU.reshape(6, 6, *dU.shape[1:]), g)


def _transform_weight(weight: Tensor) -> Tensor:
    """``G w G^T``: ``[K C 3 3] -> [36 C K]``."""
    g = weight.new_tensor(G)
    return torch.einsum("ai,kcij,bj->abck", g, weight.detach(), g).flatten(0, 1).contiguous()


def _padded(x: Tensor, before: int, below: int, right: int) -> Tensor:
    """Return ``[B Hp Wp C]`` of ``x [B C H W]``, with zeros around."""
    return F.pad(x.detach().permute(0, 2, 3, 1), (0, 0, before, right, before, below))


def _flat(tensor: Tensor) -> Any:
    return tensor.view(-1).numpy()


def direct_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `torch.nn.functional.conv2d` of ``x [B C H W]`` with ``weight [K C k k]``, padded to the same size."""
    if not product_pays(x, weight):
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    result: Tensor = _DirectConv.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


def product_pays(x: Tensor, weight: Tensor) -> bool:
    """Return whether the product form applies (CPU, float32, 2D, channels last, no autocast) and is faster."""
    return weight.dtype == x.dtype and weight[0].numel() <= MOST_INPUTS and runs_on_channels_last(x, MIN_PIXELS)


def _patches(x: Tensor, size: int) -> Tensor:
    """Return the patch around each pixel as a row, in the order of a weight: ``[B C H W] -> [N, C k k]``."""
    rows = x.permute(0, 2, 3, 1)  # [B H W C]
    if size == 1:
        return rows.reshape(-1, x.shape[1])
    padded, (H, W) = F.pad(rows, (0, 0, *(size // 2,) * 4)), x.shape[2:]
    shifted = [padded[:, i : i + H, j : j + W] for i in range(size) for j in range(size)]
    return torch.stack(shifted, -1).reshape(-1, x.shape[1] * size * size)


class _DirectConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2).contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))  # [N K]
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            pad, ones = [weight.shape[-1] // 2] * 2, [1, 1]
            asked = [True, False, False]
            back = torch.ops.aten.convolution_backward
            dx = back(gradient, x, weight, None, ones, pad, ones, False, [0, 0], 1, asked)[0]
        if ctx.needs_input_grad[1]:
            dw = (rows.t() @ _patches(x, weight.shape[-1])).reshape(weight.shape)
        if ctx.needs_input_grad[2]:
            db = channel_sums(gradient)
        return dx, dw, db


def shared_conv(x: Tensor, layer: Any) -> Tensor:
    """Return what the convolution `layer` makes of ``x [B C *S]``, 2D or 3D, transposed or not.

    It and its gradients are computed by the library in shares of lines, each in one thread; they are put together in order. The
    library alone splits its sums by the number of threads.
    """
    after = getattr(layer, "output_padding", (0,) * len(layer.stride))
    how = _Layer(layer.stride, layer.padding, layer.transposed, after, layer.groups)
    result: Tensor = _SharedConv.apply(x, layer.weight, layer.bias, how)  # type: ignore[no-untyped-call]
    return result


def can_share(x: Tensor, layer: Any) -> bool:
    """Return whether `shared_conv` is asked for (`sample.device.in_fixed_order`; it takes half as long again), and applies: float32 on a
    CPU, no autocast, zeros around the image, a kernel without gaps."""
    if not torch.are_deterministic_algorithms_enabled():
        return False
    if x.device.type != "cpu" or not x.dtype == layer.weight.dtype == torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if torch.compiler.is_compiling() or layer.bias is None or isinstance(layer.padding, str) or not x.numel():
        return False
    return bool(layer.padding_mode == "zeros" and set(layer.dilation) == {1} and x.ndim == layer.weight.ndim)


class _Layer(NamedTuple):
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int

    def of_lines(self) -> tuple[Any, ...]:
        """Return torch's arguments for lines that come with what is around them along the first axis."""
        pad, after = (0, *self.padding[1:]), (0, *self.output_padding[1:])
        return self.stride, pad, (1,) * len(self.stride), self.transposed, after, self.groups

    def shape(self, x: Tensor, weight: Tensor) -> tuple[int, ...]:
        """Return the shape of the result."""
        sizes, kernel = x.shape[2:], weight.shape[2:]
        if self.transposed:
            each = zip(sizes, kernel, self.stride, self.padding, self.output_padding, strict=True)
            return len(x), weight.shape[1] * self.groups, *((n - 1) * s - 2 * p + k + o for n, k, s, p, o in each)
        steps = zip(sizes, kernel, self.stride, self.padding, strict=True)
        return len(x), len(weight), *((n + 2 * p - k) // s + 1 for n, k, s, p in steps)


class _Lines(NamedTuple):
    """A share: lines of the coarse side of a layer, and those of the fine side that they go with, some of them beyond its border."""

    image: int
    start: int
    stop: int
    first: int
    last: int
    before: int
    after: int

    def coarse(self, x: Tensor) -> Tensor:
        return x[self.image : self.image + 1, :, self.start : self.stop]

    def fine(self, x: Tensor) -> Tensor:
        lines = x[self.image : self.image + 1, :, self.first : self.last]
        edges = self.before, self.after
        return F.pad(lines, (*(0, 0) * (x.ndim - 3), *edges)) if any(edges) else lines

    def add(self, lines: Tensor, total: Tensor) -> None:
        """Add `lines` of the fine side, with what is beyond the border, to the whole."""
        total[self.image, :, self.first : self.last] += lines[0].narrow(1, self.before, self.last - self.first)


def _shares_of(fine: Tensor, coarse: Tensor, kernel: int, stride: int, pad: int) -> list[_Lines]:
    """Return shares of the coarse side's lines; how many depends on the sizes alone."""
    (B, _, n), pixels = coarse.shape[:3], coarse[0, 0].numel()
    shares = []
    for image in range(B):
        for start, stop in share(n, min(-(-CONV_SHARES // B), pixels // LEAST_PIXELS)):
            first, last = start * stride - pad, (stop - 1) * stride + kernel - pad
            low, high = max(first, 0), min(last, fine.shape[2])
            shares.append(_Lines(image, start, stop, low, high, low - first, last - high))
    return shares


def _room(shape: tuple[int, ...], like: Tensor, weight: Tensor, zeros: bool) -> Tensor:
    rows = like.ndim == 4 and any(is_channels_last(t) and not t.is_contiguous() for t in (like, weight))
    order = torch.channels_last if rows else torch.contiguous_format
    room = torch.empty(shape, memory_format=order)
    return room.zero_() if zeros else room


class _SharedConv(torch.autograd.Function):
    """n lines of the coarse side go with ``(n - 1) stride + kernel`` of the fine one: what a convolution reads, or a transposed one adds
    to. Of the fine side's gradient or result, shares overlap, and are added up in order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, how: _Layer) -> Tensor:
        y = _room(how.shape(x, weight), x, weight, zeros=how.transposed)
        fine, coarse = (y, x) if how.transposed else (x, y)
        shares = _shares_of(fine, coarse, weight.shape[2], how.stride[0], how.padding[0])
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.shares = how, shares
        plain = weight.detach()

        def work(start: int, stop: int) -> Tensor | None:
            lines = shares[start]
            if how.transposed:
                made: Tensor = torch.ops.aten.convolution(lines.coarse(x), plain, None, *how.of_lines())
                return made
            lines.coarse(y).copy_(torch.ops.aten.convolution(lines.fine(x), plain, bias.detach(), *how.of_lines()))
            return None

        parts = run_alone(work, len(shares), len(shares))
        if how.transposed:
            with torch.no_grad():
                for lines, part in zip(shares, parts, strict=True):
                    lines.add(part, y)
                y += bias.view(-1, *(1,) * (x.ndim - 2))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (x, weight), how, shares = ctx.saved_tensors, ctx.how, ctx.shares
        if x.ndim == 4 and is_channels_last(x) and not x.is_contiguous():
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        wanted = [*ctx.needs_input_grad[:2], ctx.needs_input_grad[2] and not how.transposed]
        of_bias = None if how.transposed else [len(weight)]

        def work(start: int, stop: int) -> Any:
            lines = shares[start]
            inner, outer = (
                (lines.coarse(x), lines.fine(gradient)) if how.transposed else (lines.fine(x), lines.coarse(gradient))
            )
            return torch.ops.aten.convolution_backward(outer, inner, weight, of_bias, *how.of_lines(), wanted)

        dxs, dws, dbs = zip(*run_alone(work, len(shares), len(shares)), strict=True)
        dx = _room(tuple(x.shape), x, weight, zeros=not how.transposed) if wanted[0] else None
        for lines, part in zip(shares, dxs, strict=True) if dx is not None else ():
            if how.transposed:
                lines.coarse(dx).copy_(part)
            else:
                lines.add(part, dx)
        dw = reduce(torch.add, dws) if wanted[1] else None
        db = reduce(torch.add, dbs) if wanted[2] else None
        if how.transposed and ctx.needs_input_grad[2]:
            db = gradient.sum((0, *range(2, gradient.ndim)))
        return dx, dw, db, None


def run_alone(work: Callable[[int, int], Any], n: int, parts: int | None = None) -> list[Any]:
    """Run ``work(start, stop)`` over shares of ``range(n)``, and return the results in order; they depend on no number of threads.

    Inside `work`, torch uses the thread that it is called from and no other: many small matrix products then need no meeting of
    threads, which costs little on an idle machine and ten times the products on a busy one.
    """
    threads = torch.get_num_threads()

    def settled(start: int, stop: int) -> Any:
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        with torch.no_grad():
            return work(start, stop)

    try:
        return run_shared(settled, n, parts=parts, threads=threads)
    finally:
        torch.set_num_threads(threads)  # new threads take over the last number set anywhere


Kernel = Callable[..., None]
u = np.uint64
F2, F4, F5, F8 = (np.float32(value) for value in (2, 4, 5, 8))


@njit(inline="always")
def _input_columns(source: Any, base: Any, stride: Any, target: Any, at: Any, jump: Any, C: Any) -> None:
    """target[at + k*jump] = (B^T source)[k] for six rows of C values that are `stride` apart."""
    p1 = base + stride
    p2 = p1 + stride
    p3 = p2 + stride
    p4 = p3 + stride
    p5 = p4 + stride
    for c in range(C):
        d0, d1, d2 = source[base + c], source[p1 + c], source[p2 + c]
        d3, d4, d5 = source[p3 + c], source[p4 + c], source[p5 + c]
        e, f = d4 - F4 * d2, d3 - F4 * d1
        g, h = d4 - d2, F2 * (d3 - d1)
        target[at + c] = F4 * d0 - F5 * d2 + d4
        target[at + jump + c] = e + f
        target[at + u(2) * jump + c] = e - f
        target[at + u(3) * jump + c] = g + h
        target[at + u(4) * jump + c] = g - h
        target[at + u(5) * jump + c] = F4 * d1 - F5 * d3 + d5


@njit(inline="always")
def _gradient_columns(source: Any, base: Any, stride: Any, target: Any, at: Any, jump: Any, C: Any) -> None:
    """target[at + k*jump] = (A source)[k] for four rows of C values that are `stride` apart."""
    p1 = base + stride
    p2 = p1 + stride
    p3 = p2 + stride
    for c in range(C):
        g0, g1, g2, g3 = source[base + c], source[p1 + c], source[p2 + c], source[p3 + c]
        even, odd = g0 + g2, g1 + g3
        even2, odd2 = g0 + F4 * g2, F2 * g1 + F8 * g3
        target[at + c] = g0
        target[at + jump + c] = even + odd
        target[at + u(2) * jump + c] = even - odd
        target[at + u(3) * jump + c] = even2 + odd2
        target[at + u(4) * jump + c] = even2 - odd2
        target[at + u(5) * jump + c] = g3


@njit(inline="always")
def _output_columns(source: Any, base: Any, stride: Any, target: Any, at: Any, jump: Any, C: Any) -> None:
    """target[at + k*jump] = (A^T source)[k] for six rows of C values that are `stride` apart."""
    p1 = base + stride
    p2 = p1 + stride
    p3 = p2 + stride
    p4 = p3 + stride
    p5 = p4 + stride
    for c in range(C):
        m1, m2, m3, m4 = source[p1 + c], source[p2 + c], source[p3 + c], source[p4 + c]
        p, q, r, s = m1 + m2, m1 - m2, m3 + m4, m3 - m4
        target[at + c] = source[base + c] + p + r
        target[at + jump + c] = q + F2 * s
        target[at + u(2) * jump + c] = p + F4 * r
        target[at + u(3) * jump + c] = q + F8 * s + source[p5 + c]


@njit(inline="always")
def _copy(source: Any, base: Any, target: Any, at: Any, C: Any) -> None:
    for c in range(C):
        target[at + c] = source[base + c]


@njit(inline="always")
def _copy_plus(source: Any, base: Any, more: Any, target: Any, at: Any, C: Any) -> None:
    for c in range(C):
        target[at + c] = source[base + c] + more[c]


class _Transforms(NamedTuple):
    """Kernels over a range of tile rows ``(start, stop, source, target, ...)`` on flat float32 arrays."""

    of_input: Kernel
    """``B^T d B``: padded image ``[Hp Wp C]`` to tiles ``[36 T C]``; further arguments: tile rows, tile columns."""
    to_output: Kernel
    """``A^T m A``: tiles ``[36 T C]`` to image ``[H W C]``; further arguments: bias, H, W, tile columns, T."""
    of_gradient: Kernel
    """``A g A^T``: gradient ``[4 ty, 4 tx, C]`` (padded with zeros) to tiles ``[36 T C]``; as `of_input`."""


@lru_cache(maxsize=16)
def _transforms(n_channels: int) -> _Transforms:
    """Return the kernels for `n_channels`; compiled at their first call, then read from numba's cache on disk."""
    return _Transforms(_tile_kernel(n_channels, 6), _output_kernel(n_channels), _tile_kernel(n_channels, 4))


def _tile_kernel(n_channels: int, side: int) -> Kernel:
    """Return the kernel that makes tiles of squares of `side` pixels: 6 of the input, which overlap by 2, or 4 of the gradient."""
    C, ROW, TILE, SIDE = u(n_channels), u(side * n_channels), 36 * n_channels, side

    @compiled()
    def kernel(start: Any, stop: Any, image: Any, tiles: Any, n_columns: Any, n_tiles: Any) -> None:
        half, whole = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        width = u(4 * n_columns + SIDE - 4) * C
        for row in range(start, stop):
            for column in range(n_columns):
                corner = u(4 * row) * width + u(4 * column) * C
                for s in range(SIDE):
                    if SIDE == 6:
                        _input_columns(image, corner + u(s) * C, width, half, u(s) * C, ROW, C)
                    else:
                        _gradient_columns(image, corner + u(s) * C, width, half, u(s) * C, ROW, C)
                for k in range(6):
                    if SIDE == 6:
                        _input_columns(half, u(k) * ROW, C, whole, u(6 * k) * C, C, C)
                    else:
                        _gradient_columns(half, u(k) * ROW, C, whole, u(6 * k) * C, C, C)
                for k in range(36):
                    _copy(whole, u(k) * C, tiles, u(k * n_tiles + row * n_columns + column) * C, C)

    return cast(Kernel, kernel)


def _output_kernel(n_channels: int) -> Kernel:
    C, ROW, TILE = u(n_channels), u(6 * n_channels), 36 * n_channels

    @compiled()
    def kernel(  # one place for what a tile needs, so that its parts stay in the cache
        start: Any, stop: Any, tiles: Any, image: Any, bias: Any, H: Any, W: Any, n_columns: Any, n_tiles: Any
    ) -> None:
        whole, half, done = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        for row in range(start, stop):
            for column in range(n_columns):
                for k in range(36):
                    _copy(tiles, u(k * n_tiles + row * n_columns + column) * C, whole, u(k) * C, C)
                for s in range(6):
                    _output_columns(whole, u(s) * C, ROW, half, u(s) * C, ROW, C)
                for i in range(4):
                    _output_columns(half, u(i) * ROW, C, done, u(4 * i) * C, C, C)
                for i in range(min(4, H - 4 * row)):
                    for j in range(min(4, W - 4 * column)):
                        at = u((4 * row + i) * W + 4 * column + j) * C
                        _copy_plus(done, u(4 * i + j) * C, bias, image, at, C)

    return cast(Kernel, kernel)
