"""Region pooling: the mean of a response over each superpixel, its gradient, and the label that a superpixel has.

Both directions are one pass over the pixels, however many superpixels there are. (One index list a superpixel, as a loop, makes
the backward pass take superpixels times pixels.)
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfseg.core.errors import UsageError


@dataclass(frozen=True, eq=False)
class RegionMap:
    """Superpixel of each pixel, and pixels of each superpixel: those of r are ``order[first[r] : first[r + 1]]``, numbered over ``*S``."""

    labels: Tensor
    """``[*S]`` int64, 0..R-1; -1 = outside."""
    sizes: Tensor
    """``[R]`` int64, pixels of each superpixel."""
    order: NDArray[np.int64]
    first: NDArray[np.int64]

    _sorted: dict[torch.device, Tensor] = field(default_factory=dict)

    def sorted_pixels(self, device: torch.device) -> Tensor:
        """Return `order` as a tensor on a device, where it stays."""
        if device not in self._sorted:
            self._sorted[device] = torch.from_numpy(self.order).to(device)
        return self._sorted[device]

    @property
    def n_regions(self) -> int:
        """Number of superpixels R."""
        return len(self.sizes)

    @property
    def everywhere(self) -> bool:
        """True if every pixel is of a superpixel."""
        return len(self.order) == self.labels.numel()

    @cached_property
    def divisors(self) -> Tensor:
        """``[R]`` int64: `sizes`, 1 where a label is unused."""
        return self.sizes.clamp(min=1)

    @property
    def valid(self) -> Tensor:
        """``[*S]`` bool: False outside."""
        return self.labels >= 0


def region_map(
    labels: NDArray[np.integer], n_regions: int | None = None, device: torch.device | str = "cpu"
) -> RegionMap:
    """Prepare superpixels ``[*S]``, integers 0..R-1 and negative = outside, for pooling on `device`.

    `n_regions` is R, where the last labels may be unused; the mean over an unused label is 0. `UsageError` if labels are not integers,
    or exceed it.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise UsageError("labels", expected="integers", got=str(labels.dtype), fix="convert with astype(int)")
    largest = int(labels.max(initial=-1))
    count = largest + 1 if n_regions is None else n_regions
    if largest >= count:
        raise UsageError("labels", expected=f"at most {count - 1}", got=str(largest), fix="check n_regions")
    flat = np.maximum(labels.reshape(-1).astype(np.int64), -1)
    inside = np.flatnonzero(flat >= 0)
    order = inside[np.argsort(flat[inside], kind="stable")]
    sizes = np.bincount(flat[inside], minlength=count)
    first = np.concatenate([[0], np.cumsum(sizes)])
    here = torch.from_numpy(flat.reshape(labels.shape)).to(device)
    return RegionMap(here, torch.from_numpy(sizes).to(device), order, first)


def region_mean(features: Tensor, regions: RegionMap) -> Tensor:
    r"""Return the mean of features over each superpixel, ``[B K R]``; differentiable.

    .. math:: m_{kr} = \frac{1}{n_r} \sum_{u: s_u = r} f_{ku}, \qquad
              \frac{\partial L}{\partial f_{ku}} = \frac{1}{n_{s_u}} \frac{\partial L}{\partial m_{k s_u}}

    Features f are ``[B K *S]`` floating, finite where a superpixel is, on the pixels of the superpixels s (else `UsageError`), which serve
    all B; half precision is computed in float32. It has a first derivative only on a CPU in float32, and all in float64.
    """
    if features.shape[2:] != regions.labels.shape:
        wanted, got = (str(tuple(shape)) for shape in (regions.labels.shape, features.shape[2:]))
        raise UsageError("features", expected=f"*S = {wanted}", got=got, fix="use this image's superpixels")
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    if features.device.type == "cpu" and features.dtype == torch.float32 and features.numel():
        from selfseg.kernels import region_mean as kernels

        return kernels.region_mean(features, regions.labels, regions.sizes, regions.order, regions.first)
    means: Tensor = _RegionMean.apply(features, regions)
    return means


class _RegionMean(torch.autograd.Function):
    """Sums over pixels sorted by their superpixel, one after the other: the same each time, where atomic additions on a GPU are not."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, regions: RegionMap) -> Tensor:
        ctx.regions = regions
        rows = features.flatten(2).flatten(0, 1).T.index_select(0, regions.sorted_pixels(features.device))  # [N BK]
        sums = torch.segment_reduce(rows, "sum", lengths=regions.sizes, axis=0, unsafe=True)  # [R BK]
        return sums.T.reshape(*features.shape[:2], -1) / regions.divisors

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return spread(gradient / ctx.regions.divisors, ctx.regions), None


def spread(values: Tensor, regions: RegionMap, outside: float = 0.0) -> Tensor:
    """Return ``[B K *S]``: the value of its superpixel at each pixel, of values ``[B K R]``; `outside` at -1. Differentiable."""
    if regions.everywhere:
        return values[:, :, regions.labels]
    more = torch.cat([values, values.new_full((*values.shape[:2], 1), outside)], dim=2)
    return more[:, :, regions.labels]  # -1 is the last one


@torch.no_grad()
def region_votes(features: Tensor, regions: RegionMap) -> Tensor:
    """Return in how many pixels of each superpixel each channel is the largest: ``[B K R]`` int64, of features ``[B K *S]``."""
    n_channels, inside = features.shape[1], regions.valid.flatten()
    flat = regions.labels.flatten()[inside]
    winners = features.argmax(1).flatten(1)[:, inside]  # [B N]
    count = n_channels * regions.n_regions
    votes = [torch.bincount(winner * regions.n_regions + flat, minlength=count) for winner in winners]
    return torch.stack(votes).view(-1, n_channels, regions.n_regions)
