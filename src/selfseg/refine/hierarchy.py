"""The merge tree of any method's probabilities: from superpixels to one region, cut wherever the user likes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.refine.crf import colour_range
from selfseg.regions.boundaries import gradient_at_angles, gradient_strength
from selfseg.regions.connect import connected_components, merge_small
from selfseg.regions.contours import appearance, merge_contours
from selfseg.regions.graph import RegionGraph, adjacency, region_means
from selfseg.regions.lab import rgb_to_lab
from selfseg.regions.merge_tree import MergeTree, merge
from selfseg.regions.oriented_watershed import arc_graph, oriented_watershed
from selfseg.regions.slic import slic

SUPERPIXEL_SIZE = 200.0
"""Mean size of the superpixels into which large regions are split, in pixels."""

SMALLEST = 0.1
"""Fragments below this share of a superpixel join another superpixel of the same class."""

PRESENT = 0.02
"""A class that nowhere reaches this probability is left out: it can tell no two regions apart."""

COLOUR_UNIT = 100.0
"""Lab differences count as their share of this, L's span from black to white."""

SIGMA = 1.5
"""Smoothing before boundaries are measured, in pixels."""

LEARNED_SIGMA = 3.0
"""The same where contours are given: probabilities of texture learned at full size are too fine beside them (EXPERIMENTS.md)."""

LEARNED_WEIGHT = 0.5
"""Weight of the gradient of the probabilities' roots, per pixel, against contours of the image."""

TIE_BREAK = 0.1
"""Weight of the probabilities' roots against the image's appearance where contours are given: more of it does harm."""


@dataclass(frozen=True)
class Hierarchy:
    """Superpixels and the merge tree over them.

    Attributes
    ----------
    superpixels
        ``[*S]`` int32, 0..R-1; -1 outside the mask.
    tree
        The merge tree over R leaves.
    """

    superpixels: NDArray[np.int32]
    tree: MergeTree

    @property
    def n_superpixels(self) -> int:
        """Number of superpixels R: the finest cut."""
        return self.tree.n_leaves

    @property
    def levels(self) -> NDArray[np.float64]:
        """Levels at which a cut changes, ascending."""
        return self.tree.levels

    def cut(self, n_regions: int | None = None, level: float | None = None) -> NDArray[np.int32]:
        """Return the label image ``[*S]`` int32 of a cut, 0..K-1, -1 outside the mask.

        Parameters
        ----------
        n_regions
            Regions wanted.
        level
            Every merge whose altitude is at most this is done.

        Raises
        ------
        UsageError
            Unless exactly one of the two is given.
        """
        return self.tree.labels(self.superpixels, n_regions, level)


def hierarchy(
    probabilities: NDArray[Any],
    image: NDArray[Any] | None = None,
    superpixels: NDArray[np.integer] | None = None,
    spacing: Sequence[float] | None = None,
    mask: NDArray[np.bool_] | None = None,
    image_weight: float = 0.5,
    superpixel_size: float = SUPERPIXEL_SIZE,
    contours: NDArray[Any] | None = None,
    learned_weight: float = LEARNED_WEIGHT,
) -> Hierarchy:
    """Build the merge tree of class probabilities.

    Superpixels are the connected parts of the class map, the large ones split by SLIC: the finest cut has every
    boundary of the class map. Neighbours then merge in the order of

        (n_a n_b / ((n_a + n_b) N)) ^ 0.4  *  |m_a - m_b|  *  mean boundary strength between a and b

    with N the pixels of the image, m the mean of the features, and strength the gradient of the smoothed features. The
    features are the square roots of the probabilities (whose distance is Hellinger's, times sqrt 2) and, with an image,
    its channels: so regions of one class merge by their colour first, and classes after that. A level means the same in
    images of any size.

    With contours of the image (2D, `regions.contours.contour_strength`), the gradient of the probabilities is one more cue beside
    them: the sum goes through the oriented watershed, whose basins are the superpixels, and these merge as in
    `regions.contours.merge_contours`, by the features above.

    Parameters
    ----------
    probabilities
        ``[K *S]``, summing to 1 over K, 2D or 3D. NaN counts as 0.
    image
        ``[C *S]`` prepared image (values about 0-1); three channels are taken as RGB.
    superpixels
        ``[*S]`` integers 0..R-1 to use instead, -1 outside; then the finest cut is these.
    spacing
        Size of a pixel along each spatial axis.
    mask
        ``[*S]`` bool, False = outside.
    image_weight
        Weight of the image against the probabilities; at 1, black against white counts like two certain classes nearly.
    superpixel_size
        Mean size of the superpixels, in pixels; with contours, these decide.
    contours
        ``[A Y X]`` boundary strength at A angles, about 0-1; the finest cut then no longer has every boundary of the class map.
    learned_weight
        Weight of the gradient of the probabilities against the contours.

    Returns
    -------
    Hierarchy

    Raises
    ------
    UsageError
        If shapes do not fit each other, or no pixel is inside.
    """
    _check(probabilities, image, superpixels, mask, contours)
    roots = _roots(probabilities)
    classes = np.where(True if mask is None else mask, roots.argmax(0), -1)
    present = roots.reshape(len(roots), -1).max(1) >= PRESENT**0.5
    if contours is not None:
        features = np.moveaxis(roots[present], 0, -1)
        strength = contours + np.float32(learned_weight) * gradient_at_angles(features, LEARNED_SIGMA, len(contours))
        return _from_contours(strength, features, image, superpixels, mask)
    features, guide = tree_features(probabilities, image, image_weight, present)
    if superpixels is None:
        superpixels = split_classes(classes, guide, superpixel_size, spacing)
    elif mask is not None:
        superpixels = np.where(mask, superpixels, -1)
    leaves = np.asarray(superpixels, np.int32)
    graph = adjacency(leaves, gradient_strength(features, SIGMA, spacing), spacing)
    return Hierarchy(leaves, merge_regions(graph, region_means(leaves, features)))


def tree_features(
    probabilities: NDArray[Any],
    image: NDArray[Any] | None = None,
    image_weight: float = 0.5,
    present: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the features ``[*S D]`` whose means regions merge by, and what their superpixels are cut by ``[*S C]``.

    Parameters
    ----------
    probabilities, image, image_weight
        As for `hierarchy`.
    present
        Classes that count; None = all.
    """
    roots = _roots(probabilities)
    features = np.moveaxis(roots if present is None else roots[present], 0, -1)
    guide = features
    if image is not None:
        guide = _colour(image)
        features = np.concatenate([features, guide * np.float32(image_weight)], -1)
    return features, guide * np.float32(COLOUR_UNIT)


def merge_regions(graph: RegionGraph, means: NDArray[Any]) -> MergeTree:
    """Merge regions of a graph with mean features ``[R D]`` in the order of `hierarchy`."""
    return merge(graph, means, size_power=0.4, feature_power=0.5, strength_power=1.0)


def _roots(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    return np.sqrt(np.clip(np.nan_to_num(probabilities), 0, 1)).astype(np.float32)


def plain_hierarchy(image: Image, probabilities: NDArray[np.float32]) -> Hierarchy:
    """Build the merge tree of probabilities ``[K *S]`` and of an image as it was read, each channel brought to a range of 1."""
    channels = np.moveaxis(image.channels_last(), -1, 0).astype(np.float32)
    width = colour_range(channels, image.valid).reshape(-1, *(1,) * (channels.ndim - 1))
    return hierarchy(probabilities, channels / width, spacing=image.spacing, mask=image.valid)


def _from_contours(
    strength: NDArray[Any],
    roots: NDArray[np.float32],
    image: NDArray[Any] | None,
    superpixels: NDArray[np.integer] | None,
    mask: NDArray[np.bool_] | None,
) -> Hierarchy:
    """Merge the basins of an oriented strength ``[A Y X]``, or given superpixels, by arcs, ``roots [Y X K]`` and image."""
    features = roots
    if image is not None:
        look = appearance(np.moveaxis(image, 0, -1))
        features = np.concatenate([look, roots * np.float32(TIE_BREAK)], -1)
    if superpixels is None:
        leaves, graph = oriented_watershed(strength, mask)
    else:
        leaves = np.asarray(superpixels if mask is None else np.where(mask, superpixels, -1), np.int32)
        graph = arc_graph(leaves, strength)
    return Hierarchy(leaves, merge_contours(graph, region_means(leaves, features)))


def _colour(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``[*S C]`` on a scale where black and white are 1 apart: Lab of three channels, others as they are."""
    last = np.nan_to_num(np.moveaxis(image, 0, -1), posinf=0, neginf=0).astype(np.float32)
    if last.shape[-1] == 3:
        return rgb_to_lab(last) / np.float32(COLOUR_UNIT)
    return np.asarray(last / np.sqrt(last.shape[-1]), np.float32)


def split_classes(
    classes: NDArray[np.integer], guide: NDArray[Any], size: float, spacing: Sequence[float] | None
) -> NDArray[np.int32]:
    """Return superpixels ``[*S]``, each within one class: a class map split by SLIC.

    Parameters
    ----------
    classes
        ``[*S]``, negative = outside.
    guide
        ``[*S C]`` by which it is split, in the unit of Lab; fragments join others of the same class only.
    size
        Mean size of a superpixel in pixels.
    spacing
        Size of a pixel along each axis.
    """
    inside = classes >= 0
    pieces = slic(guide, max(1, round(int(inside.sum()) / size)), spacing=spacing, mask=inside)
    both = np.where(inside, classes.astype(np.int64) * (int(pieces.max(initial=0)) + 1) + pieces, -1)
    # Fewer than 2^31 pairs are in use: number them before they become int32.
    _, numbered = np.unique(both, return_inverse=True)
    parts = connected_components(np.where(inside, numbered.reshape(classes.shape), -1))
    return merge_small(parts, guide, SMALLEST * size, groups=classes)


def _check(
    probabilities: NDArray[Any],
    image: NDArray[Any] | None,
    superpixels: NDArray[Any] | None,
    mask: NDArray[Any] | None,
    contours: NDArray[Any] | None,
) -> None:
    if probabilities.ndim not in (3, 4) or probabilities.size == 0:
        got = str(list(probabilities.shape))
        raise UsageError("probabilities", expected="[K Y X] or [K Z Y X]", got=got, fix="put the classes first")
    space = probabilities.shape[1:]
    for name, shape in (
        ("image", None if image is None else image.shape[1:]),
        ("superpixels", None if superpixels is None else superpixels.shape),
        ("mask", None if mask is None else mask.shape),
        ("contours", None if contours is None else contours.shape[1:]),
    ):
        if shape is not None and shape != space:
            raise UsageError(name, expected=f"spatial shape {list(space)}", got=str(list(shape)), fix="crop it alike")
    if mask is not None and not mask.any():
        raise UsageError("mask", expected="at least one pixel inside", got="none", fix="check the mask")
