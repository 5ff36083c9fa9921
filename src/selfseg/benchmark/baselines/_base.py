"""Parts that baselines share: the contract, the image as they want it, label ids, k-means, smaller copies for the slow ones.

A baseline is a file of this folder with a function `segment`, found by its name.
"""

import importlib
import math
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image, spatial_axes
from selfseg.core.seed import derive, generator
from selfseg.refine.hierarchy import Hierarchy
from selfseg.refine.instances import number_objects
from selfseg.regions.graph import number_by_first_pixel
from selfseg.regions.slic import slic
from selfseg.regions.texture import rgb_to_lab

PACKAGE = "selfseg.benchmark.baselines"

LAB_UNIT = 100.0
"""Lab differences count as their share of this, L's span from black to white."""

PERCENTILES = (0.5, 99.5)
"""Percentiles that become 0 and 1 where the numbers are not 8-bit."""

MOST_SUPERPIXELS = 400

LEAST_SUPERPIXEL = 100
"""Mean size of superpixels in small images, in pixels: smaller ones would be all border."""

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Weights of red, green and blue (ITU-R BT.709)."""

SMALLEST = 15
"""Least size of an object, in pixels."""

N_SAMPLED = 10_000
"""Rows that the centres of k-means are found from; all rows are then given to the nearest centre."""

N_STARTS = 3
"""Starts by k-means++, of which the one with the least squared distance is kept."""

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Outcome:
    """Output of one method for one image: the one output a user gets, and its other scales for ODS / OIS."""

    labels: Labels
    """``[*S]`` integers, 1..K, 0 = ignore: the single segmentation, no choice in it made with labels."""
    levels: tuple[float, ...] = ()
    """Settings at which it can be cut otherwise, from fine to coarse, the same for every image."""
    cut: Callable[[float], Labels] | None = None
    """Returns the labels ``[*S]`` of a level; called after the clock has stopped."""
    hierarchy: Hierarchy | None = None
    """A merge tree in place of `levels`, where there is one."""

    @cached_property
    def scales(self) -> tuple[tuple[float, Labels], ...]:
        """Pairs of a level and its labels, made when they are first asked for."""
        return () if self.cut is None else tuple((level, self.cut(level)) for level in self.levels)


def cut_outcome(cut: Callable[[float], Labels], default: float, levels: Iterable[float]) -> Outcome:
    """Return the outcome of a baseline that can be cut at levels, each made once and when it is first asked for."""
    cut = cache(cut)
    return Outcome(cut(default), tuple(map(float, levels)), cut)


class Baseline(Protocol):
    """A module. The first line of its docstring describes it and is shown in tables.

    A module whose labels are a background, 1, and one object each from 2 on sets ``INSTANCES = True``.
    """

    __doc__: str | None

    def segment(self, image: Image, n_classes: int | None, seed: int) -> Outcome:
        """Segment one image: axes YX or YXC, ZYX or ZYXC where the baseline takes volumes; any type, any channels.

        `n_classes` are wanted; fewer come only where the image has fewer different pixels. A baseline that cannot
        choose the number ignores it, with the reason in its text. None = the baseline's own, fixed beforehand. `seed` is that of every
        random choice.

        InputError if the image has an axis that the baseline cannot take, or no valid pixel. UsageError if `n_classes` is
        below 1.
        """
        ...


def baseline_names() -> list[str]:
    """Return the names of all baselines, in alphabetical order."""
    package = importlib.import_module(PACKAGE)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def find_baseline(name: str) -> Baseline:
    """Return the baseline called `name`; UsageError if no baseline has that name."""
    if name not in baseline_names():
        known = ", ".join(baseline_names())
        raise UsageError("baseline", expected=f"one of {known}", got=repr(name), fix="check the name")
    return cast(Baseline, importlib.import_module(f"{PACKAGE}.{name}"))


@dataclass(frozen=True)
class Pixels:
    """The pixels of one image."""

    values: NDArray[np.float32]
    """``[*S C]`` float32 in 0-1. Pixels that are not valid hold the mean of those that are."""
    valid: NDArray[np.bool_]
    """``[*S]`` bool, at least one True."""
    spacing: tuple[float, ...]
    """Size of a pixel along each axis, in units of the smallest."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the spatial axes."""
        return self.valid.shape

    @cached_property
    def colour(self) -> NDArray[np.float32]:
        """``[*S C]``, black and white are 1 apart: Lab over 100 of three channels, others divided by the root of C."""
        if self.values.shape[-1] == 3:
            return rgb_to_lab(self.values) / np.float32(LAB_UNIT)
        return self.values / np.float32(math.sqrt(self.values.shape[-1]))

    @cached_property
    def luminance(self) -> NDArray[np.float32]:
        """``[*S]`` in 0-1: luma of three channels, else the mean over channels."""
        if self.values.shape[-1] == 3:
            return np.asarray(self.values @ LUMINANCE, np.float32)
        return self.values.mean(-1)

    def place(self) -> NDArray[np.float32]:
        """Return the centres of the pixels ``[*S D]``, in units of the longest side of the image."""
        longest = max(n * unit for n, unit in zip(self.shape, self.spacing, strict=True))
        lines = [(np.arange(n) + 0.5) * unit / longest for n, unit in zip(self.shape, self.spacing, strict=True)]
        return np.stack(np.meshgrid(*lines, indexing="ij"), -1).astype(np.float32)

    @property
    def lab(self) -> NDArray[np.float32]:
        """`colour` in units of Lab: black and white are 100 apart."""
        return self.colour * np.float32(LAB_UNIT)

    def colour_and_place(self, weight: float = 1.0) -> NDArray[np.float32]:
        """Return ``[*S C+D]``: `colour`, and `place` times a weight."""
        return np.concatenate([self.colour, self.place() * np.float32(weight)], -1)

    @property
    def n_superpixels(self) -> int:
        """Number of superpixels to ask for: `MOST_SUPERPIXELS`, or fewer that are not below `LEAST_SUPERPIXEL`."""
        return max(1, min(MOST_SUPERPIXELS, self.valid.size // LEAST_SUPERPIXEL))

    def superpixels(self) -> NDArray[np.int32]:
        """Return our SLIC's superpixels of the colours ``[*S]``, -1 where a pixel is not valid."""
        return slic(self.lab, self.n_superpixels, spacing=self.spacing, mask=self.valid)

    def region_ids(self, groups: NDArray[np.integer]) -> NDArray[np.int32]:
        """Return ``groups [*S]``, 0 or more, as ids 1..K in the order of first pixels, 0 where a pixel is not valid."""
        inside = np.where(self.valid, groups, -1).astype(np.int32)
        # Numbers that occur nowhere come last, so that there is no gap.
        return number_by_first_pixel(inside, int(inside.max()) + 1) + np.int32(1)

    def class_ids(self, groups: NDArray[np.integer]) -> NDArray[np.int32]:
        """Return ``groups [*S]`` as ids 1..K from dark to bright by mean luminance, 0 where a pixel is not valid."""
        inside, light = groups[self.valid], self.luminance[self.valid]
        _, number, count = np.unique(inside, return_inverse=True, return_counts=True)
        order = np.argsort(np.bincount(number, light) / count, kind="stable")
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(1, len(order) + 1)
        ids = np.zeros(self.shape, np.int32)
        ids[self.valid] = rank[number]
        return ids

    def enlarged(self, labels: NDArray[np.integer], side: int) -> NDArray[np.integer]:
        """Return labels of the blocks of `reduced` for each of the original pixels: ``[*S]``."""
        for axis in range(labels.ndim):
            labels = np.repeat(labels, side, axis)
        return labels[tuple(slice(n) for n in self.shape)]


def read_pixels(image: Image, planes_only: bool = False) -> Pixels:
    """Return the pixels of an image.

    8-bit channels are divided by 255. Others are stretched between two percentiles: three channels are colours and share
    one range, so that hues stay; otherwise each channel has its own.

    InputError if there is a time axis, a depth where `planes_only`, or no valid pixel.
    """
    axes = spatial_axes(image.axes)
    if "T" in image.axes:
        raise InputError(image.name, expected="an image without time", got=image.axes, fix="segment it frame by frame")
    if planes_only and len(axes) != 2:
        raise InputError(image.name, expected="a 2D image", got=image.axes, fix="segment it slice by slice")
    data = image.channels_last()
    valid = np.isfinite(data).all(-1)
    if image.valid is not None:
        valid &= image.valid
    if not valid.any():
        raise InputError(image.name, expected="at least one valid pixel", got="none", fix="leave it out")
    values = _scaled(data, valid)
    if not valid.all():
        values[~valid] = values[valid].mean(0)
    return Pixels(values, valid, tuple(unit / min(image.spacing) for unit in image.spacing))


def _scaled(data: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return ``data [*S C]`` in 0-1."""
    if data.dtype == np.uint8:
        return data.astype(np.float32) / np.float32(255)
    inside = data[valid].astype(np.float64)
    axis = None if data.shape[-1] == 3 else 0
    low, high = np.percentile(inside, PERCENTILES, axis)
    flat = high <= low
    low, high = np.where(flat, inside.min(axis), low), np.where(flat, inside.max(axis), high)
    finite = np.where(valid[..., None], data, low)
    return np.clip((finite - low) / np.where(high > low, high - low, 1), 0, 1).astype(np.float32)


def is_bright(above: NDArray[np.bool_], valid: NDArray[np.bool_]) -> bool:
    """Return whether the pixels above a threshold ``[*S]`` are objects: most of the image's border is below it.

    Right in all 60 images of DSB 2018, where the rarer side is right in 59 (it was one of ten rules looked at there).
    """
    border = np.ones(above.shape, np.bool_)
    border[tuple(slice(1, -1) for _ in above.shape)] = False
    rim = above[border & valid] if (border & valid).any() else above[valid]
    return bool(rim.mean() <= 0.5)


def cut_objects(found: NDArray[np.bool_], pixels: Pixels) -> Outcome:
    """Return objects of a mask ``[*S]`` from 2 on, cut at their necks, and 1 for the rest; below `SMALLEST` pixels they are dropped."""
    objects = np.zeros(found.shape, np.uint32)
    number_objects((found & pixels.valid).astype(np.uint8), objects, "watershed", (1,), pixels.spacing, SMALLEST)
    return Outcome(np.where(pixels.valid, objects.astype(np.int64) + 1, 0))


def n_wanted(n_classes: int | None, default: int) -> int:
    """Return `n_classes`, or the default for None; UsageError if it is below 1."""
    if n_classes is not None and n_classes < 1:
        raise UsageError("n_classes", expected="1 or more", got=str(n_classes), fix="ask for more classes")
    return default if n_classes is None else n_classes


def reduced(pixels: Pixels, most: int) -> tuple[Pixels, int]:
    """Return means over blocks, so that at most about `most` pixels are left, and the side of the blocks in pixels.

    A block is valid if one of its pixels is.
    """
    n_dims = len(pixels.shape)
    side = math.ceil((pixels.valid.size / most) ** (1 / n_dims))
    if side <= 1:
        return pixels, 1
    margin = [(0, -n % side) for n in pixels.shape]
    values = np.pad(pixels.values, [*margin, (0, 0)], mode="edge")
    valid = np.pad(pixels.valid, margin)
    blocks = [length for n in valid.shape for length in (n // side, side)]
    inner = tuple(range(1, 2 * n_dims, 2))
    means = values.reshape(*blocks, values.shape[-1]).mean(inner)
    return Pixels(means, np.asarray(valid.reshape(blocks).any(inner)), pixels.spacing), side


def k_means(
    features: NDArray[np.floating], n_clusters: int, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.floating]]:
    """Cluster rows ``[N F]`` by k-means: Lloyd's, on one thread, of a sample of the rows; the seed chooses sample and starts.

    Returns ``[N]`` the cluster of each row, 0..K-1 (fewer where fewer of the rows differ), and ``[N]`` its distance to the
    centre of that cluster.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    sample = features
    if len(features) > N_SAMPLED:
        sample = features[generator(seed, "k-means").choice(len(features), N_SAMPLED, replace=False)]
    # scikit-learn warns where centres would coincide.
    n_clusters = min(n_clusters, len(np.unique(sample, axis=0)))
    model = KMeans(n_clusters, n_init=N_STARTS, random_state=derive(seed, "k-means") % 2**32)
    # Two threads would add up in another order from run to run, and the caller has one image for each core.
    with threadpool_limits(1):
        model.fit(sample)
        clusters = model.predict(features)
    return clusters, np.linalg.norm(features - model.cluster_centers_[clusters], axis=1)
