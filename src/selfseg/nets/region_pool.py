"""Region pooling: the mean of a response over each superpixel, its gradient, and the label that a superpixel has.

Both directions are one pass over the pixels, however many superpixels there are. (One index list a superpixel, as a loop, makes
the backward pass take superpixels times pixels.)
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.core.threads import run_shared

LabelBy = Literal["mean", "majority"]

MIN_PARALLEL_SIZE = 30_000
"""Values below which one thread is done before two have met."""


@dataclass(frozen=True, eq=False)
class RegionMap:
    """Which pixels belong to which superpixel.

    Attributes
    ----------
    labels
        ``[*S]`` int64, 0..R-1; -1 = outside.
    sizes
        ``[R]`` int64, pixels of each superpixel.
    order, first
        Pixels sorted by superpixel: those of r are ``order[first[r] : first[r + 1]]``, numbered over ``*S``.
    """

    labels: Tensor
    sizes: Tensor
    order: NDArray[np.int64]
    first: NDArray[np.int64]

    @property
    def n_regions(self) -> int:
        """Number of superpixels R."""
        return len(self.sizes)

    @property
    def valid(self) -> Tensor:
        """``[*S]`` bool: False outside."""
        return self.labels >= 0


def region_map(
    labels: NDArray[np.integer], n_regions: int | None = None, device: torch.device | str = "cpu"
) -> RegionMap:
    """Prepare superpixels for pooling.

    Parameters
    ----------
    labels
        ``[*S]`` integers 0..R-1, negative = outside.
    n_regions
        R, when the last labels may be unused. The mean over an unused label is 0.
    device
        Where pooling will take place.

    Raises
    ------
    UsageError
        If labels are not integers, or exceed `n_regions`.
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
    r"""Return the mean of features over each superpixel; differentiable.

    .. math:: m_{kr} = \frac{1}{n_r} \sum_{u: s_u = r} f_{ku}, \qquad
              \frac{\partial L}{\partial f_{ku}} = \frac{1}{n_{s_u}} \frac{\partial L}{\partial m_{k s_u}}

    Parameters
    ----------
    features
        f ``[B K *S]`` floating, finite where a superpixel is. Half precision is computed in float32.
    regions
        s and n: the same superpixels for all B.

    Returns
    -------
    Tensor
        ``[B K R]``. It has a first derivative only on a CPU in float32, and all in float64.

    Raises
    ------
    UsageError
        If the features have another shape than the superpixels.
    """
    if features.shape[2:] != regions.labels.shape:
        wanted, got = (str(tuple(shape)) for shape in (regions.labels.shape, features.shape[2:]))
        raise UsageError("features", expected=f"*S = {wanted}", got=got, fix="use this image's superpixels")
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    if features.device.type == "cpu" and features.dtype == torch.float32 and features.numel():
        pooled: Tensor = _RegionMean.apply(features, regions)
        return pooled
    flat = regions.labels.flatten()
    flat = flat.where(flat >= 0, flat.new_full((), regions.n_regions))  # what is outside goes into a bin of its own
    sums = features.new_zeros(*features.shape[:2], regions.n_regions + 1).index_add(2, flat, features.flatten(2))
    return sums[..., :-1] / regions.sizes.clamp(min=1)


def spread(values: Tensor, regions: RegionMap, outside: float = 0.0) -> Tensor:
    """Return ``[B K *S]``: the value of its superpixel at each pixel, of values ``[B K R]``; `outside` at -1. Differentiable."""
    more = torch.cat([values, values.new_full((*values.shape[:2], 1), outside)], dim=2)
    return more[:, :, regions.labels]  # -1 is the last one


def region_labels(features: Tensor, regions: RegionMap, by: LabelBy = "mean") -> Tensor:
    """Return the label of each superpixel, ``[B R]`` int64.

    Parameters
    ----------
    features
        ``[B K *S]``.
    regions
        The superpixels.
    by
        ``mean``: the largest channel of the mean features. ``majority``: the channel that is largest in most pixels. The first
        of several that are equal.
    """
    if by == "mean":
        return region_mean(features.detach(), regions).argmax(1)
    return region_votes(features, regions).argmax(1)


@torch.no_grad()
def region_votes(features: Tensor, regions: RegionMap) -> Tensor:
    """Return in how many pixels of each superpixel each channel is the largest: ``[B K R]`` int64, of features ``[B K *S]``."""
    n_channels, inside = features.shape[1], regions.valid.flatten()
    flat = regions.labels.flatten()[inside]
    winners = features.argmax(1).flatten(1)[:, inside]  # [B N]
    count = n_channels * regions.n_regions
    votes = [torch.bincount(winner * regions.n_regions + flat, minlength=count) for winner in winners]
    return torch.stack(votes).view(-1, n_channels, regions.n_regions)


class _RegionMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, regions: RegionMap) -> Tensor:
        from selfseg.nets import _region_kernels as kernels

        values, in_rows = _layout(features)
        inverse = _inverse(regions)
        n_images, n_channels = features.shape[:2]
        parts = 1 if features.numel() < MIN_PARALLEL_SIZE else None
        if in_rows:
            pooled = torch.empty(n_images, regions.n_regions, n_channels)
            for image, out in zip(values, pooled.numpy(), strict=True):
                rows = image, regions.order, regions.first, inverse, out
                run_shared(kernels.mean_rows, regions.n_regions, *rows, parts=parts)
            pooled = pooled.transpose(1, 2)
        else:
            pooled = torch.empty(n_images, n_channels, regions.n_regions)
            for image, out in zip(values, pooled.numpy(), strict=True):
                planes = image, regions.labels.view(-1).numpy(), inverse, out
                run_shared(kernels.mean_planes, n_channels, *planes, parts=parts)
        ctx.regions, ctx.in_rows, ctx.shape = regions, in_rows, features.shape
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        from selfseg.nets import _region_kernels as kernels

        regions, shape = ctx.regions, ctx.shape
        labels, inverse = regions.labels.view(-1).numpy(), _inverse(regions)
        parts = 1 if shape.numel() < MIN_PARALLEL_SIZE else None
        if ctx.in_rows:
            rows = torch.empty(shape[0], *shape[2:], shape[1])
            for source, out in zip(gradient.transpose(1, 2).contiguous().numpy(), rows, strict=True):
                arguments = source, labels, inverse, out.view(-1, shape[1]).numpy()
                run_shared(kernels.spread_rows, labels.size, *arguments, parts=parts)
            return rows.movedim(-1, 1), None
        planes = torch.empty(shape)
        for source, out in zip(gradient.contiguous().numpy(), planes, strict=True):
            arguments = source, labels, inverse, out.view(shape[1], -1).numpy()
            run_shared(kernels.spread_planes, shape[1], *arguments, parts=parts)
        return planes, None


def _inverse(regions: RegionMap) -> NDArray[np.float32]:
    """Return 1 / size, ``[R]``; of an unused label too, whose sum is 0."""
    return (1 / regions.sizes.clamp(min=1).double()).float().numpy()


def _layout(features: Tensor) -> tuple[NDArray[np.float32], bool]:
    """Return the memory as ``[B N K]`` and True where all channels of a pixel lie together, else as ``[B K N]`` and False."""
    features = features.detach()
    last = features.movedim(1, -1)
    if last.is_contiguous() and not features.is_contiguous():
        return last.flatten(1, -2).numpy(), True
    return features.contiguous().flatten(2).numpy(), False
