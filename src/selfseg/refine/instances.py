"""From classes to objects: connected components, or components cut at their necks by a distance-transform watershed."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.measure import label as connected
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from selfseg.core.errors import UsageError, explain
from selfseg.regions.connect import connected_components

KINDS = ("components", "watershed")
"""Ways to find objects."""

NECK = 0.8
"""Default of `neck`; how it was chosen: EXPERIMENTS.md."""

MARGIN = 1.0
"""Pixels (of the finest axis) by which distances are lengthened before they are compared: they are no more exact."""


def find_instances(
    labels: NDArray[np.integer],
    kind: str = "watershed",
    classes: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    min_size: int = 1,
    neck: float = NECK,
) -> NDArray[np.uint32]:
    """Number the objects of some classes.

    ``components``: each part of equal class whose pixels hang together by faces is an object. ``watershed``: such a part
    is cut where it has a neck. Its seeds are the maxima of the distance to the class' border that stand out (h-maxima);
    the watershed of that distance grows them (Soille 2003, chapter 9). A seed stands out from another if on every way
    between them the distance falls below `neck` times that of the lower of the two. That is a ratio (an h-maximum of
    the logarithm), so that large and small objects are cut by one rule; distances of a few pixels are too coarse for
    ratios, and all are lengthened by `MARGIN` first.

    Parameters
    ----------
    labels
        Class ids ``[*S]``, 2D or 3D, 0 = ignore.
    kind
        ``"components"`` or ``"watershed"``.
    classes
        Ids of the classes that consist of objects; None = all but 0.
    spacing
        Size of a pixel along each axis: distances are in these units.
    min_size
        Objects of fewer pixels are left out.
    neck
        For ``watershed``, above 0 and up to 1: two parts are cut where the neck is narrower than this share of the
        narrower part. Smaller cuts less.

    Returns
    -------
    ndarray
        ``[*S]`` uint32: 0 = no object, 1..N in the order of their first pixels, each connected by faces.

    Raises
    ------
    UsageError
        If an argument is out of range.
    """
    _check(labels, spacing, min_size)
    check_kind(kind, neck)
    chosen = np.unique(labels[labels > 0]) if classes is None else np.asarray(list(classes), np.int64)
    inside = np.isin(labels, chosen) & (labels > 0)
    parts = np.where(inside, labels, 0).astype(np.int64)
    if kind == "watershed":
        parts = _cut(labels, chosen.tolist(), spacing or (1.0,) * labels.ndim, neck)
    numbers = connected_components(np.where(inside, parts, -1)) + np.int32(1)
    sizes = np.bincount(numbers.ravel())
    kept = sizes >= min_size
    kept[0] = False
    renumbered = np.where(kept, np.cumsum(kept), 0).astype(np.uint32)
    return renumbered[numbers]


def _cut(labels: NDArray[Any], classes: Sequence[int], spacing: Sequence[float], neck: float) -> NDArray[np.int64]:
    """Return seeds grown to the borders of their class, numbered over all classes ``[*S]``."""
    parts = np.zeros(labels.shape, np.int64)
    n_parts = 0
    for value in classes:
        mask = labels == value
        if not mask.any():
            continue
        # without any border there is nothing to cut at, and no distance
        depth = np.ones(mask.shape) if mask.all() else distance_transform_edt(mask, spacing)
        seeds = _seeds(depth, mask, MARGIN * min(spacing), neck)
        grown = watershed(-depth, seeds, mask=mask, connectivity=1)
        parts[mask] = grown[mask] + n_parts
        n_parts += int(seeds.max()) + 1  # 0 is a part too: one whose only way to a maximum leads over a corner
    return parts


def _seeds(depth: NDArray[np.float64], mask: NDArray[np.bool_], margin: float, neck: float) -> NDArray[np.int32]:
    """Number the maxima whose distance, with the margin, is 1 / neck times that of the way to any higher one."""
    height = np.log(depth + margin)
    drop = -math.log(neck)
    height[~mask] = height[mask].min() - drop - 1  # below what any object sinks to
    sunk = reconstruction(height - drop, height, footprint=np.ones((3,) * mask.ndim))
    maxima = local_maxima(sunk, connectivity=mask.ndim) & mask
    return np.asarray(connected(maxima, connectivity=mask.ndim), np.int32)


def check_kind(kind: str, neck: float = NECK) -> None:
    """Raise `UsageError` unless objects can be found in this way."""
    if kind not in KINDS:
        got, fix = repr(kind), "watershed also cuts what touches"
        raise UsageError(explain("instances", expected=" or ".join(KINDS), got=got, fix=fix))
    if not 0 < neck <= 1:
        got, fix = str(neck), f"{NECK} is usual; less cuts less"
        raise UsageError(explain("neck", expected="above 0, up to 1", got=got, fix=fix))


def _check(labels: NDArray[Any], spacing: Sequence[float] | None, min_size: int) -> None:
    if labels.dtype.kind not in "iu" or labels.ndim not in (2, 3):
        got, fix = f"{labels.dtype} in {labels.ndim}D", "give class ids of one image or volume"
        raise UsageError(explain("labels", expected="integers in 2D or 3D", got=got, fix=fix))
    if spacing is not None and (len(spacing) != labels.ndim or min(spacing) <= 0):
        got, fix = str(tuple(spacing)), "one number an axis"
        raise UsageError(explain("spacing", expected=f"{labels.ndim} positive numbers", got=got, fix=fix))
    if min_size < 0:
        raise UsageError(explain("min_size", expected="0 or more", got=str(min_size), fix="give a number of pixels"))
