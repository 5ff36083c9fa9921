"""Leaves: superpixels cut so that each holds one class, and the grown merge tree, against loops over pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfseg.core.errors import UsageError
from selfseg.refine.hierarchy import Hierarchy, _distinct, find_leaves
from selfseg.regions.graph import adjacency
from selfseg.regions.merge_tree import MergeTree, merge


def tree_over(superpixels: np.ndarray, values: np.ndarray) -> Hierarchy:
    graph = adjacency(superpixels)
    means = np.array([[values[superpixels == r].mean()] for r in range(superpixels.max() + 1)])
    return Hierarchy(superpixels.astype(np.int32), merge(graph, means))


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    flat = labels.ravel()
    return {frozenset(np.flatnonzero(flat == key).tolist()) for key in np.unique(flat) if key >= 0}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n_classes=st.integers(1, 4))
def test_cuts_above_zero_are_those_of_the_old_tree(seed, n_classes):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:12, :15]
    superpixels = (y // 4) * 5 + x // 3
    values = rng.random((12, 15))
    labels = rng.integers(0, n_classes + 1, (12, 15))
    hierarchy = tree_over(superpixels, values)
    leaves = find_leaves(labels, hierarchy, values[None].astype(np.float32))
    assert np.array_equal(leaves.classes[leaves.superpixels], labels)  # each leaf lies inside one class
    n_old, n_new = hierarchy.tree.n_leaves, leaves.tree.n_leaves
    pairs = {(int(s), int(c)) for s, c in zip(superpixels.ravel(), labels.ravel(), strict=True)}
    assert n_new == len(pairs) and len(leaves.tree.parents) == 2 * n_new - 1
    assert np.all(leaves.tree.parents[:-1] > np.arange(2 * n_new - 2)) and leaves.tree.parents[-1] == 2 * n_new - 2
    for level in [0.0, *hierarchy.levels[:: max(1, n_old // 5)]]:
        old = hierarchy.cut(level=level)
        assert partition(leaves.tree.labels(leaves.superpixels, level=level)) == partition(old)
    for node in range(2 * n_new - 1):  # sizes by counting the leaves below, one by one
        below = [leaf for leaf in range(n_new) if node in path_up(leaves.tree, leaf)]
        assert leaves.tree.sizes[node] == sum(np.count_nonzero(leaves.superpixels == leaf) for leaf in below)


@pytest.mark.parametrize("end", [60, 5000])  # counted in a table, and sorted
def test_distinct_values_are_those_that_sorting_finds(end):
    values = np.random.default_rng(0).integers(0, end, 200) // 3 * 3
    found, place, counts = _distinct(values, end)
    assert np.array_equal(found, np.array(sorted(set(values.tolist())))) and np.array_equal(found[place], values)
    assert counts.tolist() == [np.count_nonzero(values == value) for value in found]


def path_up(tree: MergeTree, node: int) -> list[int]:
    path = [node]
    while tree.parents[path[-1]] != path[-1]:
        path.append(int(tree.parents[path[-1]]))
    return path


def test_below_zero_nothing_is_merged():
    superpixels = np.zeros((4, 4), np.int32)
    labels = np.array([[1, 1, 2, 2]] * 4)
    hierarchy = Hierarchy(superpixels, MergeTree(np.array([0], np.int32), np.zeros(1), np.array([16.0])))
    leaves = find_leaves(labels, hierarchy, np.zeros((1, 4, 4), np.float32))
    assert len(np.unique(leaves.tree.labels(leaves.superpixels, level=-1))) == 2
    assert len(np.unique(leaves.tree.labels(leaves.superpixels, level=0))) == 1


def test_outside_and_lost_superpixels():
    superpixels = np.array([[0, 0, 2, 2, -1]], np.int32)  # superpixel 1 lost its pixels
    tree = MergeTree(np.array([3, 3, 4, 4, 4], np.int32), np.array([0, 0, 0, 1.0, 2.0]), np.array([2, 1, 2, 3, 5.0]))
    leaves = find_leaves(np.array([[1, 1, 1, 2, 0]]), Hierarchy(superpixels, tree), np.ones((1, 1, 5), np.float32))
    assert leaves.superpixels[0, 4] == -1
    assert leaves.tree.n_leaves == 4 and sorted(leaves.sizes.tolist()) == [0, 1, 1, 2]
    assert np.isfinite(leaves.features).all()
    assert len(np.unique(leaves.tree.cut(level=2.0))) == 1


def test_colour_is_lab_and_shapes_are_checked():
    superpixels = np.zeros((3, 3), np.int32)
    one = Hierarchy(superpixels, MergeTree(np.array([0], np.int32), np.zeros(1), np.array([9.0])))
    white = find_leaves(np.ones((3, 3), int), one, np.ones((3, 3, 3), np.float32))
    assert white.features[0] == pytest.approx([100, 0, 0], abs=0.05)  # CIELAB of white
    with pytest.raises(UsageError, match="one spatial shape"):
        find_leaves(np.ones((3, 4), int), one, np.ones((3, 3, 3), np.float32))
