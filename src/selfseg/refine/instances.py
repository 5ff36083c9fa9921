"""From classes to objects: connected components, or components cut at their necks by a distance-transform watershed."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from selfseg.core.errors import UsageError
from selfseg.regions.connect import connected_components

KINDS = ("components", "watershed")
"""Ways to find objects."""

DEPTH = 1.0
"""Default of `depth`, in pixels; how it was chosen: EXPERIMENTS.md."""


def find_instances(
    labels: NDArray[np.integer],
    kind: str = "watershed",
    classes: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    min_size: int = 1,
    depth: float = DEPTH,
) -> NDArray[np.uint32]:
    """Number the objects of some classes.

    ``components``: each part of equal class whose pixels hang together by faces is an object. ``watershed``: such a part
    is cut where it has a neck. Its seeds are the h-maxima of the distance to the class' border (Soille 2003, section
    6.3.4): maxima from which every way to a higher one loses at least h of that distance. The watershed of the distance
    grows them to the border.

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
    depth
        For ``watershed``: h, in pixels of the finest axis. Half the width of a neck must be less than that of the narrower
        part by so much. Larger cuts less: 2 or 3 for objects of more than a hundred pixels with rough borders.

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
    check_kind(kind, depth)
    chosen = np.unique(labels[labels > 0]) if classes is None else np.asarray(list(classes), np.int64)
    inside = np.isin(labels, chosen) & (labels > 0)
    parts = np.where(inside, labels, 0).astype(np.int64)
    if kind == "watershed":
        parts = _cut(labels, chosen.tolist(), spacing or (1.0,) * labels.ndim, depth)
    numbers = connected_components(np.where(inside, parts, -1)) + np.int32(1)
    sizes = np.bincount(numbers.ravel())
    kept = sizes >= min_size
    kept[0] = False
    renumbered = np.where(kept, np.cumsum(kept), 0).astype(np.uint32)
    return renumbered[numbers]


def _cut(labels: NDArray[Any], classes: Sequence[int], spacing: Sequence[float], depth: float) -> NDArray[np.int64]:
    """Return seeds grown to the borders of their class, numbered over all classes ``[*S]``."""
    from skimage.segmentation import watershed  # here, since every prediction imports this file, and few cut objects

    parts = np.zeros(labels.shape, np.int64)
    n_parts = 0
    for value in classes:
        mask = labels == value
        if not mask.any():
            continue
        # without any border there is nothing to cut at, and no distance
        distance = np.ones(mask.shape) if mask.all() else distance_transform_edt(mask, spacing)
        seeds = _seeds(distance, mask, depth * min(spacing))
        grown = watershed(-distance, seeds, mask=mask, connectivity=1)
        parts[mask] = grown[mask] + n_parts
        n_parts += int(seeds.max()) + 1  # 0 is a part too: one whose only way to a maximum leads over a corner
    return parts


def _seeds(distance: NDArray[np.float64], mask: NDArray[np.bool_], drop: float) -> NDArray[np.int32]:
    """Number the maxima from which every way to a higher one leads down by `drop` or more."""
    from skimage.measure import label as connected
    from skimage.morphology import local_maxima, reconstruction

    height = np.where(mask, distance, -drop - 1)  # below what any object sinks to
    sunk = reconstruction(height - drop, height, footprint=np.ones((3,) * mask.ndim))
    maxima = local_maxima(sunk, connectivity=mask.ndim) & mask
    return np.asarray(connected(maxima, connectivity=mask.ndim), np.int32)


def check_kind(kind: str, depth: float = DEPTH) -> None:
    """Raise `UsageError` unless objects can be found in this way."""
    if kind not in KINDS:
        got, fix = repr(kind), "watershed also cuts what touches"
        raise UsageError("instances", expected=" or ".join(KINDS), got=got, fix=fix)
    if not 0 <= depth < math.inf:
        fix = f"{DEPTH:g} is usual; more cuts less"
        raise UsageError("depth", expected="0 pixels or more", got=str(depth), fix=fix)


def _check(labels: NDArray[Any], spacing: Sequence[float] | None, min_size: int) -> None:
    if labels.dtype.kind not in "iu" or labels.ndim not in (2, 3):
        got, fix = f"{labels.dtype} in {labels.ndim}D", "give class ids of one image or volume"
        raise UsageError("labels", expected="integers in 2D or 3D", got=got, fix=fix)
    if spacing is not None and (len(spacing) != labels.ndim or min(spacing) <= 0):
        got, fix = str(tuple(spacing)), "one number an axis"
        raise UsageError("spacing", expected=f"{labels.ndim} positive numbers", got=got, fix=fix)
    if min_size < 0:
        raise UsageError("min_size", expected="0 or more", got=str(min_size), fix="give a number of pixels")
