"""Leaves: superpixels of one class each, and the merge tree over them; all that editing a segmentation takes."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.refine.hierarchy import Hierarchy
from selfseg.regions.merge_tree import MergeTree
from selfseg.regions.texture import rgb_to_lab


@dataclass(frozen=True)
class Leaves:
    """The finest pieces of a segmented image.

    Attributes
    ----------
    superpixels
        ``[*S]`` int32, 0..R-1, each inside one class; -1 outside the mask.
    tree
        The merge tree over the R leaves.
    classes
        ``[R]`` the model's class of each leaf, 1..K; 0 = ignored.
    features
        ``[R D]`` float32 mean look of each leaf: Lab of three channels, others as they were prepared.
    """

    superpixels: NDArray[np.int32]
    tree: MergeTree
    classes: NDArray[np.integer]
    features: NDArray[np.float32]

    @property
    def sizes(self) -> NDArray[np.float64]:
        """``[R]`` pixels of each leaf."""
        return self.tree.sizes[: self.tree.n_leaves]


def find_leaves(labels: NDArray[np.integer], hierarchy: Hierarchy, image: NDArray[Any]) -> Leaves:
    """Cut superpixels that hold several classes into parts of one class each, which are the first to merge again.

    Parameters
    ----------
    labels
        ``[*S]`` the model's labels, 0 = ignored.
    hierarchy
        The merge tree of the same image.
    image
        ``[C *S]`` prepared image.

    Returns
    -------
    Leaves
        The tree begins with the merges of the parts of a superpixel, at altitude 0; above them it is that of `hierarchy`.

    Raises
    ------
    UsageError
        If the shapes differ.
    """
    shape = hierarchy.superpixels.shape
    if labels.shape != shape or image.shape[1:] != shape:
        got = f"labels {list(labels.shape)}, image {list(image.shape)}, superpixels {list(shape)}"
        raise UsageError("leaves", expected="one spatial shape", got=got, fix="use one image's own")
    sums = LeafSums(hierarchy.tree, int(labels.max(initial=0)) + 1)
    sums.add(hierarchy.superpixels, labels, image)
    leaves = sums.finish()
    superpixels = sums.leaf_of(hierarchy.superpixels, labels).astype(np.int32)
    return replace(leaves, superpixels=superpixels, classes=leaves.classes.astype(labels.dtype))


class LeafSums:
    """Adds up the leaves of an image block by block: distinct pairs of superpixel and class, their pixels and mean look.

    Parameters
    ----------
    tree
        The merge tree over the superpixels.
    n_values
        Labels are 0..n_values-1.
    """

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
