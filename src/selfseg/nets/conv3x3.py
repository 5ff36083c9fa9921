"""3x3 convolution with one pixel of zero padding, float32 on a CPU: Winograd's F(4x4, 3x3), with its gradient.

``Y = A^T [ (G w G^T) * (B^T d B) ] A`` for tiles of 4x4 output pixels (Lavin & Gray, CVPR 2016, arXiv:1509.09308): 36
products instead of 144 for each pair of channels. For 100 -> 100 channels at 321x481 that is 7 GFLOP instead of 28, as 36
matrix products. The relative error against float64 is about 2e-6, four times that of a direct convolution.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.nets._winograd_kernels import transforms
from selfseg.nets.alone import run_alone
from selfseg.nets.direct_conv import direct_conv
from selfseg.nets.fused_norm import channel_sums

MIN_CHANNELS = 32
"""Fewest channels, in and out, for which the transforms cost less than the products they save."""

MIN_PIXELS = 4096
"""Smallest image for which this pays."""

CHUNK_TILES = 384
"""Tiles whose transforms and products stay in the cache together: 36 x 384 x 100 values are 5.5 MB."""

G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `torch.nn.functional.conv2d` with ``padding=1``, the faster way where there is one.

    Parameters
    ----------
    x
        ``[B C H W]``.
    weight
        ``[K C 3 3]``.
    bias
        ``[K]``.

    Returns
    -------
    Tensor
        ``[B K H W]``, channels last in memory on the faster way.
    """
    if not winograd_pays(x, weight):
        return direct_conv(x, weight, bias)
    result: Tensor = _Winograd.apply(x, weight, bias)
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
    of_input, to_output = transforms(C).of_input, transforms(K).to_output

    def work(start: int, stop: int) -> None:
        tiles = x.new_empty(36 * grid.chunk_tiles * C) if kept is None else None
        products = x.new_empty(36 * grid.chunk_tiles * K)
        for image, chunk, first, n_rows in grid.items(start, stop):
            n = n_rows * grid.columns
            v = (tiles if kept is None else kept[image, chunk])[: 36 * n * C]  # type: ignore[index]
            m = products[: 36 * n * K]
            of_input(0, n_rows, _flat(padded[image, 4 * first :]), v.numpy(), grid.columns, n)
            torch.bmm(v.view(36, n, C), product, out=m.view(36, n, K))
            to_output(
                0,
                n_rows,
                m.numpy(),
                _flat(pixels[image, 4 * first :]),
                shift,
                grid.height - 4 * first,
                grid.width,
                grid.columns,
                n,
            )

    with torch.no_grad():
        run_alone(work, B * grid.n_chunks)
    return out


def _weight_gradient(kept: Tensor, gradient: Tensor, C: int) -> Tensor:
    """Adjoint of the forward pass in the weight: ``dU = V^T (A dY A^T)`` summed over tiles, ``dw = G^T dU G [K C 3 3]``."""
    grid, (B, K) = _Grid.of(gradient), gradient.shape[:2]
    padded = _padded(gradient, 0, 4 * grid.rows - grid.height, 4 * grid.columns - grid.width)
    of_gradient = transforms(K).of_gradient

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
        dU = torch.stack(run_alone(work, B * grid.n_chunks)).sum(0)
    g = gradient.new_tensor(G)
    return torch.einsum("ai,abck,bj->kcij", g, dU.unflatten(0, (6, 6)), g)


def _transform_weight(weight: Tensor) -> Tensor:
    """``G w G^T``: ``[K C 3 3] -> [36 C K]``."""
    g = weight.new_tensor(G)
    return torch.einsum("ai,kcij,bj->abck", g, weight.detach(), g).flatten(0, 1).contiguous()


def _padded(x: Tensor, before: int, below: int, right: int) -> Tensor:
    """Return ``[B Hp Wp C]`` of ``x [B C H W]``, with zeros around."""
    return F.pad(x.detach().permute(0, 2, 3, 1), (0, 0, before, right, before, below))


def _flat(tensor: Tensor) -> Any:
    return tensor.view(-1).numpy()
