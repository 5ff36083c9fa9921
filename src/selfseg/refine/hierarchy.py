"""The merge tree of any method's probabilities, from superpixels to one region; and its leaves of one class each, for edits by hand.

The tree exists in block form: superpixels are cut block by block, one graph is added up over all of them, and one tree is made of it. An
image in memory is one block.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.refine.blocks import Faces
from selfseg.regions.contours import merge_contours
from selfseg.regions.graph import (
    RegionGraph,
    boundary_sums,
    check_shape,
    connected_components,
    face_areas,
    merge_small,
    region_means,
    region_sums,
)
from selfseg.regions.merge_tree import MergeTree, merge
from selfseg.regions.slic import slic
from selfseg.regions.superpixels import IMAGE_WEIGHT
from selfseg.regions.texture import (
    LIGHTNESS,
    appearance,
    colour_channels,
    gradient_at_angles,
    gradient_strength,
    rgb_to_lab,
)
from selfseg.regions.watershed import arc_graph, oriented_watershed

SUPERPIXEL_SIZE = 200.0
"""Mean size of the superpixels into which large regions are split, in pixels."""

SMALLEST = 0.1
"""Fragments below this share of a superpixel join another superpixel of the same class."""

PRESENT = 0.02
"""A class that nowhere reaches this probability is left out: it cannot separate two regions."""

SIGMA = 1.5
"""Smoothing before boundaries are measured, in pixels."""

HALO = math.ceil(4 * SIGMA) + 2
"""Pixels around a block that its boundary strength depends on: the Gaussian's reach, and one for the slope."""

MOST_REGIONS = 2**31 - 1
"""Regions that an edge can name."""

LEARNED_SIGMA = 3.0
"""The same where contours are given: probabilities of texture learned at full size are too fine beside them (EXPERIMENTS.md)."""

LEARNED_WEIGHT = 0.5
"""Weight of the gradient of the probabilities' roots, per pixel, against contours of the image."""

APPEARANCE_UNIT = np.float32(30)
"""Differences of the image's appearance count as their share of this, beside the probabilities' roots."""

TIE_BREAK = 0.1
"""Weight of the probabilities' roots against the image's appearance where contours are given: more of it does harm."""


@dataclass(frozen=True)
class Hierarchy:
    """Superpixels and the merge tree over them.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.refine.hierarchy import hierarchy
    >>> classes = np.zeros((2, 8, 8), np.float32)
    >>> classes[0, :, :4] = classes[1, :, 4:] = 0.8
    >>> classes[1, :, :4] = classes[0, :, 4:] = 0.2
    >>> tree = hierarchy(classes)
    >>> tree.n_superpixels
    2
    """

    superpixels: NDArray[np.int32]
    """``[*S]`` int32, 0..R-1; -1 outside the mask."""
    tree: MergeTree
    """The merge tree over R leaves."""

    @property
    def n_superpixels(self) -> int:
        """Number of superpixels R: the finest cut."""
        return self.tree.n_leaves

    @property
    def levels(self) -> NDArray[np.float64]:
        """Levels at which a cut changes, ascending."""
        return self.tree.levels

    def cut(self, n_regions: int | None = None, level: float | None = None) -> NDArray[np.int32]:
        """Return the label image ``[*S]`` int32 of a cut, 0..K-1, -1 outside the mask. See `MergeTree.cut`."""
        return self.tree.labels(self.superpixels, n_regions, level)


def hierarchy(
    probabilities: NDArray[Any],
    image: NDArray[Any] | None = None,
    superpixels: NDArray[np.integer] | None = None,
    spacing: Sequence[float] | None = None,
    mask: NDArray[np.bool_] | None = None,
    image_weight: float = IMAGE_WEIGHT,
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

    Raises
    ------
    UsageError
        If shapes do not fit each other, or no pixel is inside.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.refine.hierarchy import hierarchy
    >>> classes = np.zeros((2, 8, 8), np.float32)
    >>> classes[0, :, :4] = classes[1, :, 4:] = 0.8
    >>> classes[1, :, :4] = classes[0, :, 4:] = 0.2
    >>> tree = hierarchy(classes)
    >>> tree.cut(n_regions=2)[0]
    array([0, 0, 0, 0, 1, 1, 1, 1], dtype=int32)
    """
    _check(probabilities, image, superpixels, mask, contours)
    roots = _roots(probabilities)
    present = roots.reshape(len(roots), -1).max(1) >= PRESENT**0.5
    if contours is not None:
        features = np.moveaxis(roots[present], 0, -1)
        strength = contours + np.float32(learned_weight) * gradient_at_angles(features, LEARNED_SIGMA, len(contours))
        return _from_contours(strength, features, image, superpixels, mask)
    block = tree_block(probabilities, image, superpixels, spacing, mask, image_weight, superpixel_size, present=present)
    return Hierarchy(block.superpixels, merge_blocks([block], (1,) * block.superpixels.ndim, spacing))


@dataclass(frozen=True)
class TreeBlock:
    """Parts from which the merge tree of a block is made."""

    superpixels: NDArray[np.int32]
    """``[*s]`` int32, 0..R-1 in this block, -1 = outside."""
    features: NDArray[np.float32]
    """``[*s D]``, whose means regions merge by."""
    strength: NDArray[np.float32]
    """``[*s]`` boundary strength."""


def tree_block(
    probabilities: NDArray[Any],
    image: NDArray[Any] | None = None,
    superpixels: NDArray[np.integer] | None = None,
    spacing: Sequence[float] | None = None,
    mask: NDArray[np.bool_] | None = None,
    image_weight: float = IMAGE_WEIGHT,
    superpixel_size: float = SUPERPIXEL_SIZE,
    inner: tuple[slice, ...] = (),
    present: NDArray[np.bool_] | None = None,
) -> TreeBlock:
    """Cut a block into superpixels, and measure what they merge by.

    Parameters
    ----------
    probabilities, image, superpixels, spacing, mask, image_weight, superpixel_size
        As for `hierarchy`, over the block and `HALO` pixels around it, cut at the borders of the image.
    inner
        Where the block itself lies in these; empty = they are the block.
    present
        ``[K]`` classes that count; None = all.
    """
    roots = _roots(probabilities)
    features, guide = _tree_features(roots, image, image_weight, present)
    strength = gradient_strength(features, SIGMA, spacing)[inner]
    if superpixels is None:
        classes = np.where(True if mask is None else mask, roots.argmax(0), -1)[inner]
        superpixels = np.full(classes.shape, -1)
        if (classes >= 0).any():
            superpixels = split_classes(classes, guide[inner], superpixel_size, spacing)
    else:
        superpixels = (superpixels if mask is None else np.where(mask, superpixels, -1))[inner]
    return TreeBlock(np.asarray(superpixels, np.int32), features[inner], strength)


def merge_blocks(
    blocks: Iterable[TreeBlock],
    counts: Sequence[int],
    spacing: Sequence[float] | None = None,
    store: Callable[[tuple[int, ...], NDArray[np.int64]], None] | None = None,
    source: str = "merge tree",
) -> MergeTree:
    """Build the merge tree of an image in blocks.

    It is that of the whole image but that superpixels end where blocks end: their parts have like features and no boundary
    between them, and merge early. In memory are one block, faces of blocks, the graph and the tree.

    Parameters
    ----------
    blocks
        The blocks of a grid, in row order of their places.
    counts
        Number of blocks along each axis.
    spacing
        Size of a pixel along each axis.
    store
        Called for each block with its place and the numbers ``[*s]`` of its superpixels in the tree, -1 = outside.
    source
        The image, for messages.

    Raises
    ------
    UsageError
        If no pixel is inside, or there are more superpixels than can be numbered.
    """
    return merge_regions(*graph_of_blocks(blocks, counts, spacing, store, source))


def graph_of_blocks(
    blocks: Iterable[TreeBlock],
    counts: Sequence[int],
    spacing: Sequence[float] | None = None,
    store: Callable[[tuple[int, ...], NDArray[np.int64]], None] | None = None,
    source: str = "merge tree",
) -> tuple[RegionGraph, NDArray[np.float64]]:
    """Return the graph of all superpixels and their mean features ``[R D]``, added up block by block. See `merge_blocks`.

    Superpixels on both sides of a face between blocks are neighbours: the graph is that of the whole image, up to the numbering.
    """
    shared: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]] = []
    sizes, sums, faces, n_regions = [], [], Faces(), 0
    for place, block in zip(itertools.product(*map(range, counts)), blocks, strict=True):
        own = boundary_sums(block.superpixels, block.strength, spacing)
        numbers = np.where(block.superpixels >= 0, block.superpixels.astype(np.int64) + n_regions, -1)
        last = [i == count - 1 for i, count in zip(place, counts, strict=True)]
        shared.append((own[0].astype(np.int64) + n_regions, own[1], own[2]))
        areas = face_areas(len(counts), spacing)
        for axis, there, here in faces.meet(place, last, numbers, np.asarray(block.strength, np.float64)):
            shared.append(_touching(there, here, areas[axis]))
        sizes.append(own[3])
        sums.append(region_sums(block.superpixels, block.features, len(own[3])))
        n_regions += len(own[3])
        if n_regions > MOST_REGIONS:
            raise UsageError(source, expected=f"at most {MOST_REGIONS} superpixels", got="more", fix="use larger ones")
        if store is not None:
            store(place, numbers)
    if not n_regions:
        raise UsageError(
            source, expected="at least one pixel inside", got="none", fix="make no tree of it, or check the mask"
        )
    edges, length, total = (np.concatenate(column) for column in zip(*shared, strict=True))
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    strength = total / np.maximum(length, 1e-300)
    graph = RegionGraph(edges[order].astype(np.int32), length[order], strength[order], np.concatenate(sizes))
    return graph, np.concatenate(sums) / np.maximum(graph.sizes, 1)[:, None]


def _touching(
    there: list[NDArray[Any]], here: list[NDArray[Any]], area: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return edges, length and sum of the strength of superpixels that touch across a face; those before it come first."""
    both = (there[0] >= 0) & (here[0] >= 0)
    pairs = np.stack([there[0][both], here[0][both]], -1)
    edges, which = np.unique(pairs, axis=0, return_inverse=True)
    which = which.reshape(-1)
    length = np.bincount(which, minlength=len(edges)) * area
    total = np.bincount(which, (there[1][both] + here[1][both]) * (area / 2), len(edges))
    return edges, length.astype(np.float64), total.astype(np.float64)


def _tree_features(
    roots: NDArray[np.float32], image: NDArray[Any] | None, image_weight: float, present: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the features ``[*S D]`` whose means regions merge by, and what their superpixels are cut by ``[*S C]``."""
    features = np.moveaxis(roots if present is None else roots[present], 0, -1)
    guide = features
    if image is not None:
        guide = colour_channels(np.moveaxis(image, 0, -1)) / np.float32(LIGHTNESS)
        features = np.concatenate([features, guide * np.float32(image_weight)], -1)
    return features, guide * np.float32(LIGHTNESS)


def merge_regions(graph: RegionGraph, means: NDArray[Any]) -> MergeTree:
    """Merge regions of a graph with mean features ``[R D]`` in the order of `hierarchy`."""
    return merge(graph, means, size_power=0.4, feature_power=0.5, strength_power=1.0)


def _roots(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    return np.sqrt(np.clip(np.nan_to_num(probabilities), 0, 1)).astype(np.float32)


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
        look = appearance(np.moveaxis(image, 0, -1)) / APPEARANCE_UNIT
        features = np.concatenate([look, roots * np.float32(TIE_BREAK)], -1)
    if superpixels is None:
        leaves, graph = oriented_watershed(strength, mask)
    else:
        leaves = np.asarray(superpixels if mask is None else np.where(mask, superpixels, -1), np.int32)
        graph = arc_graph(leaves, strength)
    return Hierarchy(leaves, merge_contours(graph, region_means(leaves, features)))


def split_classes(
    classes: NDArray[np.integer], guide: NDArray[Any], size: float, spacing: Sequence[float] | None
) -> NDArray[np.int32]:
    """Return superpixels ``[*S]``, each within one class: ``classes [*S]`` (negative = outside) split by SLIC.

    It is split by ``guide [*S C]``, in the unit of Lab, into superpixels of `size` pixels on average; fragments join others of the same
    class only.
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
        raise UsageError(
            "probabilities",
            expected="[K Y X] or [K Z Y X]",
            got=str(list(probabilities.shape)),
            fix="put the classes first",
        )
    space = probabilities.shape[1:]
    check_shape("image", None if image is None or not len(image) else image[0], space)
    check_shape("superpixels", superpixels, space)
    check_shape("mask", mask, space)
    check_shape("contours", None if contours is None else contours[0], space)
    if mask is not None and not mask.any():
        raise UsageError("mask", expected="at least one pixel inside", got="none", fix="check the mask")


@dataclass(frozen=True)
class Leaves:
    """The finest pieces of a segmented image."""

    superpixels: NDArray[np.int32]
    """``[*S]`` int32, 0..R-1, each inside one class; -1 outside the mask."""
    tree: MergeTree
    """The merge tree over the R leaves."""
    classes: NDArray[np.integer]
    """``[R]`` the model's class of each leaf, 1..K; 0 = ignored."""
    features: NDArray[np.float32]
    """``[R D]`` float32 mean look of each leaf: Lab of three channels, others as they were prepared."""

    @property
    def sizes(self) -> NDArray[np.float64]:
        """``[R]`` pixels of each leaf."""
        return self.tree.sizes[: self.tree.n_leaves]


def find_leaves(labels: NDArray[np.integer], hierarchy: Hierarchy, image: NDArray[Any]) -> Leaves:
    """Cut superpixels that hold several classes into parts of one class each, which are the first to merge again.

    The tree begins with the merges of the parts of a superpixel, at altitude 0; above them it is that of `hierarchy`.

    Parameters
    ----------
    labels
        ``[*S]`` the model's labels, 0 = ignored.
    hierarchy
        The merge tree of the same image. `UsageError` if its shape differs.
    image
        ``[C *S]`` prepared image.
    """
    shape = hierarchy.superpixels.shape
    if labels.shape != shape or image.shape[1:] != shape:
        raise UsageError(
            "leaves",
            expected="one spatial shape",
            got=f"labels {list(labels.shape)}, image {list(image.shape)}, superpixels {list(shape)}",
            fix="use one image's own",
        )
    sums = LeafSums(hierarchy.tree, int(labels.max(initial=0)) + 1)
    sums.add(hierarchy.superpixels, labels, image)
    leaves = sums.finish()
    superpixels = sums.leaf_of(hierarchy.superpixels, labels).astype(np.int32)
    return replace(leaves, superpixels=superpixels, classes=leaves.classes.astype(labels.dtype))


class LeafSums:
    """Sums behind `Leaves`, block by block: distinct pairs of superpixel and label 0..n_values-1, their pixels and mean look."""

    def __init__(self, tree: MergeTree, n_values: int) -> None:
        self.tree, self.n_values = tree, n_values
        self._keys: list[NDArray[np.int64]] = []
        self._counts: list[NDArray[np.int64]] = []
        self._looks: list[NDArray[np.float64]] = []
        self._every: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, superpixels: NDArray[np.integer], labels: NDArray[np.integer], image: NDArray[Any]) -> None:
        """Take in a block: superpixels ``[*s]`` (-1 = outside), labels ``[*s]`` and the prepared image ``[C *s]``."""
        inside = superpixels >= 0
        keys = superpixels[inside].astype(np.int64) * self.n_values + labels[inside]
        found, inverse, counts = _distinct(keys, self.tree.n_leaves * self.n_values)
        last = np.moveaxis(np.nan_to_num(image, posinf=0, neginf=0), 0, -1).astype(np.float32)
        look = (rgb_to_lab(last) if last.shape[-1] == 3 else last)[inside]
        self._keys.append(found)
        self._counts.append(counts)
        columns = [np.bincount(inverse, column, len(found)) for column in look.T]
        self._looks.append(np.stack(columns, -1).astype(np.float64))

    def finish(self) -> Leaves:
        """Return the leaves, without their label image."""
        keys, inverse = np.unique(np.concatenate(self._keys), return_inverse=True)
        # A superpixel that lost its last pixel when it was brought back to the image's size stays as an empty leaf.
        empty = np.setdiff1d(np.arange(self.tree.n_leaves), keys // self.n_values) * self.n_values
        every = np.sort(np.concatenate([keys, empty]))
        place = np.searchsorted(every, keys)[inverse]
        sizes = np.bincount(place, np.concatenate(self._counts), len(every)).astype(np.int64)
        looks = np.concatenate(self._looks)
        features: NDArray[Any] = np.stack([np.bincount(place, column, len(every)) for column in looks.T], -1)
        features = features / np.maximum(sizes, 1)[:, None]
        self._every = every.astype(np.int64)
        tree = _grown(self.tree, every // self.n_values, sizes)
        return Leaves(np.zeros(0, np.int32), tree, every % self.n_values, features.astype(np.float32))

    def leaf_of(self, superpixels: NDArray[np.integer], labels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the leaf of each pixel of a block that was added, -1 = outside; after `finish`."""
        keys = superpixels.astype(np.int64) * self.n_values + labels
        return np.where(superpixels >= 0, np.searchsorted(self._every, keys), -1)


def _distinct(values: NDArray[np.int64], end: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct values of 0..end-1, ascending, the place of each value among them, and how often each occurs."""
    if end > 4 * len(values):  # a table of all values would be larger than what is sorted
        return np.unique(values, return_inverse=True, return_counts=True)
    counts = np.bincount(values, minlength=end)
    found = np.flatnonzero(counts)
    place = np.zeros(end, np.int64)
    place[found] = np.arange(len(found))
    return found, place[values], counts[found]


def _grown(tree: MergeTree, owner: NDArray[np.int64], sizes: NDArray[Any]) -> MergeTree:
    """Return the tree over parts, sorted by their superpixels `owner`: each superpixel becomes a chain of merges."""
    n_parts, n_old = len(owner), tree.n_leaves
    per_owner = np.bincount(owner, minlength=n_old)
    first = np.concatenate([[0], np.cumsum(per_owner)[:-1]])
    extra = per_owner - 1
    chain = n_parts + np.concatenate([[0], np.cumsum(extra)[:-1]])  # first node of each chain
    shift = 2 * (n_parts - n_old)  # old merges move up by the new leaves and the new merges
    top = np.where(extra > 0, chain + extra - 1, first)
    parents = np.empty(2 * n_parts - 1, np.int32)
    rank = np.arange(n_parts) - first[owner]
    parents[:n_parts] = np.where(extra[owner] > 0, chain[owner] + np.maximum(rank - 1, 0), 0)
    parents[n_parts : n_parts + int(extra.sum())] = np.arange(n_parts, n_parts + int(extra.sum())) + 1
    parents[top] = tree.parents[:n_old] + shift if n_old > 1 else top
    parents[n_parts + int(extra.sum()) :] = tree.parents[n_old:] + shift
    running = np.cumsum(sizes)
    before = np.concatenate([[0], running])[first]
    altitudes = np.zeros(2 * n_parts - 1)
    altitudes[n_old + shift :] = tree.altitudes[n_old:]
    grown = np.zeros(2 * n_parts - 1)
    grown[:n_parts] = sizes
    later = np.flatnonzero(rank > 0)
    grown[chain[owner[later]] + rank[later] - 1] = running[later] - before[owner[later]]
    grown[n_old + shift :] = tree.sizes[n_old:]
    return MergeTree(parents, altitudes, grown)
