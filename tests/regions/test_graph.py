import itertools

import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.regions.graph import adjacency, region_means, region_sums


def loop_adjacency(labels, strength, spacing):
    """Visit each pixel face once."""
    length, total = {}, {}
    for place in itertools.product(*map(range, labels.shape)):
        for axis in range(labels.ndim):
            other = tuple(p + (i == axis) for i, p in enumerate(place))
            if (
                other[axis] == labels.shape[axis]
                or labels[place] == labels[other]
                or min(labels[place], labels[other]) < 0
            ):
                continue
            area = np.prod([s for i, s in enumerate(spacing) if i != axis])
            key = tuple(sorted((int(labels[place]), int(labels[other]))))
            length[key] = length.get(key, 0) + area
            total[key] = total.get(key, 0) + area * (strength[place] + strength[other]) / 2
    keys = sorted(length)
    return keys, [length[k] for k in keys], [total[k] / length[k] for k in keys]


@pytest.mark.parametrize(
    ("shape", "spacing"), [((9, 7), (1, 1)), ((9, 7), (2, 0.5)), ((4, 5, 6), (3, 1, 0.5)), ((12,), (2,))]
)
@pytest.mark.parametrize("lowest", [0, -1])
def test_equals_a_loop_over_faces(shape, spacing, lowest):
    rng = np.random.default_rng(3)
    labels, strength = rng.integers(lowest, 6, shape), rng.random(shape)
    graph = adjacency(labels, strength, spacing, n_regions=6)
    keys, length, mean = loop_adjacency(labels, strength, spacing)
    assert graph.edges.dtype == np.int32
    assert list(map(tuple, graph.edges)) == keys
    np.testing.assert_allclose(graph.length, length)
    np.testing.assert_allclose(graph.strength, mean)
    np.testing.assert_array_equal(graph.sizes, [(labels == r).sum() for r in range(6)])


def test_renaming_regions_renames_the_graph():
    rng = np.random.default_rng(0)
    labels, strength, names = rng.integers(0, 5, (8, 8)), rng.random((8, 8)), np.array([3, 1, 4, 0, 2])
    before, after = adjacency(labels, strength), adjacency(names[labels], strength)
    expected = {tuple(sorted(names[list(e)])): s for e, s in zip(before.edges, before.strength, strict=True)}
    assert {tuple(e) for e in after.edges} == set(expected)
    for edge, value in zip(after.edges, after.strength, strict=True):
        assert value == pytest.approx(expected[tuple(edge)])


def test_statistics_equal_numpy_per_region():
    rng = np.random.default_rng(1)
    labels, features = rng.integers(-1, 4, (6, 7)), rng.random((6, 7, 3)) + 1e4
    for r in range(4):
        inside = features[labels == r]
        np.testing.assert_allclose(region_sums(labels, features)[r], inside.sum(0))
        np.testing.assert_allclose(region_means(labels, features)[r], inside.mean(0))


def test_one_region_and_no_region():
    one = adjacency(np.zeros((3, 3), int))
    assert one.edges.shape == (0, 2) and one.sizes.tolist() == [9]
    assert adjacency(np.full((3, 3), -1)).n_regions == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: adjacency(np.zeros((2, 2))),
        lambda: adjacency(np.zeros((2, 2), int), np.zeros((2, 3))),
        lambda: adjacency(np.zeros((2, 2), int), spacing=(1, 0)),
        lambda: region_means(np.zeros((2, 2), int), np.zeros((3, 2, 1))),
    ],
)
def test_wrong_input_is_named(call):
    with pytest.raises(UsageError, match="expected"):
        call()
