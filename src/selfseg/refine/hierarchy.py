"""The merge tree of any method's probabilities: from superpixels to one region, cut wherever the user likes.

It exists in block form: superpixels are cut block by block, one graph is added up over all of them, and one tree is made of it. An
image in memory is one block.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.refine.blocks import Faces
from selfseg.refine.crf import colour_range
from selfseg.regions.boundaries import gradient_at_angles, gradient_strength
from selfseg.regions.connect import connected_components, merge_small
from selfseg.regions.contours import appearance, merge_contours
from selfseg.regions.graph import RegionGraph, boundary_sums, face_areas, region_means, region_sums
from selfseg.regions.lab import rgb_to_lab
from selfseg.regions.merge_tree import MergeTree, merge
from selfseg.regions.oriented_watershed import arc_graph, oriented_watershed
from selfseg.regions.slic import slic
from selfseg.regions.superpixels import IMAGE_WEIGHT, LIGHTNESS

SUPERPIXEL_SIZE = 200.0
"""Mean size of the superpixels into which large regions are split, in pixels."""

SMALLEST = 0.1
"""Fragments below this share of a superpixel join another superpixel of the same class."""

PRESENT = 0.02
"""A class that nowhere reaches this probability is left out: it can tell no two regions apart."""

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
    present = roots.reshape(len(roots), -1).max(1) >= PRESENT**0.5
    if contours is not None:
        features = np.moveaxis(roots[present], 0, -1)
        strength = contours + np.float32(learned_weight) * gradient_at_angles(features, LEARNED_SIGMA, len(contours))
        return _from_contours(strength, features, image, superpixels, mask)
    block = tree_block(probabilities, image, superpixels, spacing, mask, image_weight, superpixel_size, present=present)
    return Hierarchy(block.superpixels, merge_blocks([block], (1,) * block.superpixels.ndim, spacing))


@dataclass(frozen=True)
class TreeBlock:
    """What the merge tree of a block is made from.

    Attributes
    ----------
    superpixels
        ``[*s]`` int32, 0..R-1 in this block, -1 = outside.
    features
        ``[*s D]``, whose means regions merge by.
    strength
        ``[*s]`` boundary strength.
    """

    superpixels: NDArray[np.int32]
    features: NDArray[np.float32]
    strength: NDArray[np.float32]


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
    graph: BlockGraph | None = None
    for place, block in zip(itertools.product(*map(range, counts)), blocks, strict=True):
        graph = graph or BlockGraph(block.features.shape[-1], spacing)
        last = [i == count - 1 for i, count in zip(place, counts, strict=True)]
        numbers = graph.add(place, last, block)
        if store is not None:
            store(place, numbers)
    if graph is None or not graph.n_regions:
        raise UsageError(
            source, expected="at least one pixel inside", got="none", fix="make no tree of it, or check the mask"
        )
    return merge_regions(*graph.finish())


def _tree_features(
    roots: NDArray[np.float32], image: NDArray[Any] | None, image_weight: float, present: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the features ``[*S D]`` whose means regions merge by, and what their superpixels are cut by ``[*S C]``."""
    features = np.moveaxis(roots if present is None else roots[present], 0, -1)
    guide = features
    if image is not None:
        guide = _colour(image)
        features = np.concatenate([features, guide * np.float32(image_weight)], -1)
    return features, guide * np.float32(LIGHTNESS)


class BlockGraph:
    """Adds up regions that each lie within one block; those on both sides of a face between blocks are neighbours.

    The graph and the means are those of the whole image at once, up to the numbering. What is in memory are its edges, and one
    layer of pixels on the faces of the blocks that still wait for their next neighbour.

    Parameters
    ----------
    n_features
        Features of a pixel.
    spacing
        Size of a pixel along each axis: faces count by their area; None = 1.

    Attributes
    ----------
    n_regions
        Regions so far.
    """

    def __init__(self, n_features: int, spacing: Sequence[float] | None = None) -> None:
        self.n_regions = 0
        self._spacing = None if spacing is None else tuple(spacing)
        self._edges: list[NDArray[np.int64]] = []
        self._length: list[NDArray[np.float64]] = []
        self._total: list[NDArray[np.float64]] = []
        self._sizes: list[NDArray[np.int64]] = []
        self._sums: list[NDArray[np.float64]] = [np.zeros((0, n_features))]
        self._faces = Faces()

    def add(self, place: Sequence[int], last: Sequence[bool], block: TreeBlock) -> NDArray[np.int64]:
        """Add a block; blocks come in row order of their places. Return the numbers ``[*s]`` of its regions in the image.

        Parameters
        ----------
        place
            Its place in the grid of blocks.
        last
            Whether no block follows along each axis.
        block
            Superpixels, features and boundary strength.

        Raises
        ------
        UsageError
            If there are more regions than can be numbered.
        """
        labels, strength = block.superpixels, block.strength
        edges, length, total, sizes = boundary_sums(labels, strength, self._spacing)
        numbers = np.where(labels >= 0, labels.astype(np.int64) + self.n_regions, -1)
        self._put(edges.astype(np.int64) + self.n_regions, length, total)
        self._sizes.append(sizes)
        self._sums.append(region_sums(labels, block.features, len(sizes)))
        self.n_regions += len(sizes)
        if self.n_regions > MOST_REGIONS:
            fix = "use larger superpixels"
            raise UsageError("superpixels", expected=f"at most {MOST_REGIONS}", got="more", fix=fix)
        areas = face_areas(labels.ndim, self._spacing)
        for axis, there, here in self._faces.meet(place, last, numbers, np.asarray(strength, np.float64)):
            self._link(there, here, areas[axis])
        return numbers

    def _put(self, edges: NDArray[np.int64], length: NDArray[np.float64], total: NDArray[np.float64]) -> None:
        self._edges.append(edges)
        self._length.append(length)
        self._total.append(total)

    def _link(self, there: list[NDArray[Any]], here: list[NDArray[Any]], area: float) -> None:
        """Join the regions that touch across a face; a region before it has the smaller number."""
        both = (there[0] >= 0) & (here[0] >= 0)
        pairs = np.stack([there[0][both], here[0][both]], -1)
        strength = (there[1][both] + here[1][both]) * (area / 2)
        edges, which = np.unique(pairs, axis=0, return_inverse=True)
        which = which.reshape(-1)
        length = np.bincount(which, minlength=len(edges)) * area
        total: NDArray[np.float64] = np.bincount(which, strength, len(edges)).astype(np.float64)
        self._put(edges, length.astype(np.float64), total)

    def finish(self) -> tuple[RegionGraph, NDArray[np.float64]]:
        """Return the graph of all regions, and their mean features ``[R D]``."""
        edges = np.concatenate([np.zeros((0, 2), np.int64), *self._edges]).astype(np.int32)
        length, total = (np.concatenate([np.zeros(0), *parts]) for parts in (self._length, self._total))
        order = np.lexsort((edges[:, 1], edges[:, 0]))
        sizes = np.concatenate([np.zeros(0, np.int64), *self._sizes])
        graph = RegionGraph(edges[order], length[order], (total / np.maximum(length, 1e-300))[order], sizes)
        return graph, np.concatenate(self._sums) / np.maximum(sizes, 1)[:, None]


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
        return rgb_to_lab(last) / np.float32(LIGHTNESS)
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
