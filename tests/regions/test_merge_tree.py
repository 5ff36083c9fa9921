import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering

from selfseg.core.errors import UsageError
from selfseg.regions.graph import RegionGraph, adjacency, region_means
from selfseg.regions.merge_tree import complete_graph, merge, ward


def average_linkage(graph):
    return merge(graph, size_power=0.0, feature_power=0.0, strength_power=1.0)


def example(seed, shape=(8, 9), n=14):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(np.prod(shape)) % n).reshape(shape) if seed % 2 else rng.integers(0, n, shape)
    image = rng.random((*shape, 2))
    return labels, image, adjacency(labels, rng.random(shape), n_regions=n)


def loop_merges(labels, cost):
    """Recompute every cost from the pixels after each merge; yield the partitions and costs."""
    parts = {frozenset([int(r)]) for r in np.unique(labels)}
    while len(parts) > 1:
        pairs = [(cost(a, b), a, b) for a in parts for b in parts if min(a) < min(b)]
        pairs = [p for p in pairs if p[0] is not None]
        best = min(pairs, key=lambda p: p[0])
        parts = parts - {best[1], best[2]} | {best[1] | best[2]}
        yield set(parts), best[0]


def faces(labels, strength, a, b):
    found = []
    for axis in range(labels.ndim):
        one, two = np.moveaxis(labels, axis, 0)[:-1], np.moveaxis(labels, axis, 0)[1:]
        s, t = np.moveaxis(strength, axis, 0)[:-1], np.moveaxis(strength, axis, 0)[1:]
        touch = (np.isin(one, list(a)) & np.isin(two, list(b))) | (np.isin(one, list(b)) & np.isin(two, list(a)))
        found.extend(((s + t) / 2)[touch])
    return found


def squared_error(image, inside):
    return ((image[inside] - image[inside].mean(0)) ** 2).sum()


def check_against_loop(labels, cost, tree):
    """Compare all partitions; the loop's costs are made monotone by nesting, which the cuts by count must follow."""
    costs = [c for _, c in loop_merges(labels, cost)]
    if np.all(np.diff(costs) >= 0):
        np.testing.assert_allclose(tree.altitudes[tree.n_leaves :], costs, rtol=1e-9)
    for step, (parts, _) in enumerate(loop_merges(labels, cost)):
        mine = merged_sets(tree, step + 1)
        assert mine == parts or not np.all(np.diff(costs) >= 0)
    # With or without inversions, the sets that ever existed are the same.
    ever = {p for parts, _ in loop_merges(labels, cost) for p in parts}
    assert ever <= {p for k in range(tree.n_leaves) for p in merged_sets(tree, k)}


def merged_sets(tree, step):
    cut = tree.cut(n_regions=tree.n_leaves - step)
    return {frozenset(np.flatnonzero(cut == k).tolist()) for k in range(cut.max() + 1)}


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_ward_equals_exhaustive_recomputation_from_pixels(seed):
    labels, image, graph = example(seed)

    def cost(a, b):
        if not faces(labels, image[..., 0], a, b):
            return None
        one, two = np.isin(labels, list(a)), np.isin(labels, list(b))
        return (squared_error(image, one | two) - squared_error(image, one) - squared_error(image, two)) / labels.size

    check_against_loop(labels, cost, ward(graph, region_means(labels, image)))


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_average_linkage_equals_exhaustive_mean_over_faces(seed):
    labels, _, _ = example(seed)
    strength = np.random.default_rng(seed).random(labels.shape)

    def cost(a, b):
        found = faces(labels, strength, a, b)
        return np.mean(found) if found else None

    check_against_loop(labels, cost, average_linkage(adjacency(labels, strength)))


@pytest.mark.parametrize("seed", [1, 3])
def test_combined_criterion_equals_exhaustive_recomputation(seed):
    labels, image, _ = example(seed)
    strength = np.random.default_rng(seed).random(labels.shape)

    def cost(a, b):
        found = faces(labels, strength, a, b)
        one, two = np.isin(labels, list(a)), np.isin(labels, list(b))
        if not found:
            return None
        shares = one.sum() * two.sum() / (one.sum() + two.sum()) / labels.size
        gap = ((image[one].mean(0) - image[two].mean(0)) ** 2).sum()
        return shares**0.3 * gap**0.5 * np.mean(found) ** 1.5

    tree = merge(
        adjacency(labels, strength), region_means(labels, image), size_power=0.3, feature_power=0.5, strength_power=1.5
    )
    check_against_loop(labels, cost, tree)


def test_ward_on_the_complete_graph_equals_scikit_learn():
    points = np.random.default_rng(2).random((40, 3))
    tree = ward(complete_graph(np.ones(40)), points)
    for k in (2, 5, 11):
        theirs = AgglomerativeClustering(k, linkage="ward").fit_predict(points)
        mine = tree.cut(n_regions=k)
        assert len(set(zip(theirs.tolist(), mine.tolist(), strict=True))) == k


def test_ward_altitudes_sum_to_the_variance():
    points = np.random.default_rng(2).random((30, 2))
    assert ward(complete_graph(np.ones(30)), points).altitudes.sum() == pytest.approx(points.var(0).sum())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), powers=st.tuples(*[st.sampled_from([0.0, 0.3, 1.0])] * 3))
def test_any_tree_is_whole_monotone_and_cuts_to_order(seed, powers):
    labels, image, graph = example(seed, (6, 7), 11)
    tree = merge(
        graph, region_means(labels, image, 11), size_power=powers[0], feature_power=powers[1], strength_power=powers[2]
    )
    nodes = len(tree.parents)
    assert nodes == 21 and tree.parents[-1] == nodes - 1
    assert np.all(tree.parents[:-1] > np.arange(nodes - 1))
    assert np.all(np.diff(tree.altitudes) >= 0)
    assert np.bincount(tree.parents[:-1], minlength=nodes).tolist() == [0] * 11 + [2] * 10
    assert tree.sizes[-1] == graph.sizes.sum()
    previous = None
    for k in range(1, 12):
        cut = tree.cut(n_regions=k)
        assert sorted(set(cut.tolist())) == list(range(k))
        if previous is not None:  # a finer cut is nested in a coarser one
            assert len(set(zip(cut.tolist(), previous.tolist(), strict=True))) == k
        previous = cut
    for level in tree.levels:
        merged = int((tree.altitudes[11:] <= level).sum())
        assert tree.cut(level=level).max() + 1 == 11 - merged


def test_level_does_not_depend_on_the_size_of_the_image():
    labels, image, _ = example(1)
    large, picture = np.kron(labels, np.ones((3, 3), int)), np.kron(image, np.ones((3, 3, 1)))
    small_tree = ward(adjacency(labels), region_means(labels, image))
    large_tree = ward(adjacency(large), region_means(large, picture))
    np.testing.assert_allclose(small_tree.altitudes, large_tree.altitudes)


def test_the_order_of_regions_does_not_matter():
    labels, image, graph = example(1)
    names = np.random.default_rng(9).permutation(14)
    other = adjacency(names[labels])
    tree, renamed = ward(graph, region_means(labels, image)), ward(other, region_means(names[labels], image))
    for k in (2, 5, 9):
        pairs = set(
            zip(tree.cut(n_regions=k)[labels].ravel(), renamed.cut(n_regions=k)[names[labels]].ravel(), strict=True)
        )
        assert len(pairs) == k


def test_parts_that_do_not_touch_join_last_at_the_largest_altitude():
    labels = np.array([[0, 1, -1, 2, 3, -1, 4]])
    means = np.array([[0.0], [1.0], [0.0], [3.0], [9.0]])
    tree = ward(adjacency(labels), means)
    assert tree.cut(n_regions=3).tolist() == [0, 0, 1, 1, 2]
    assert tree.altitudes[-1] == tree.altitudes[-2] == tree.altitudes[-3] == pytest.approx(4.5 / 5)
    assert tree.labels(labels, n_regions=1).tolist() == [[0, 0, -1, 0, 0, -1, 0]]


def test_one_region():
    tree = ward(RegionGraph(np.zeros((0, 2), np.int32), np.zeros(0), np.zeros(0), np.array([5])), np.zeros((1, 1)))
    assert tree.parents.tolist() == [0] and tree.cut(n_regions=3).tolist() == [0] and len(tree.levels) == 0


def test_wrong_calls_are_named():
    _, _, graph = example(1)
    tree = average_linkage(graph)
    for bad in ({}, {"n_regions": 0}, {"n_regions": 2, "level": 1.0}):
        with pytest.raises(UsageError, match="either n_regions"):
            tree.cut(**bad)
    with pytest.raises(UsageError, match="14 regions"):
        ward(graph, np.zeros((3, 1)))
    with pytest.raises(UsageError, match="at least one region"):
        average_linkage(adjacency(np.full((2, 2), -1)))
