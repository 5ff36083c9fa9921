"""The graph of an image in blocks: that of the whole up to the numbering, and so is the merge tree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfseg.refine.hierarchy import BlockGraph, TreeBlock, merge_regions
from selfseg.regions.graph import adjacency, region_means
from selfseg.tiling.tiles import Grid


def _in_blocks(labels, features, strength, sides, spacing=None):
    """Number the regions block by block; return the graph, the means, and the numbers in the whole image."""
    grid = Grid(labels.shape, sides, 0)
    graph = BlockGraph(features.shape[-1], spacing)
    numbers = np.zeros(labels.shape, np.int64)
    for place in grid.places():
        core = grid.tile(place).core
        inside = labels[core] >= 0
        local = np.full(inside.shape, -1, np.int32)
        local[inside] = np.unique(labels[core][inside], return_inverse=True)[1]
        last = [i == n - 1 for i, n in zip(place, grid.counts, strict=True)]
        numbers[core] = graph.add(place, last, TreeBlock(local, features[core], strength[core]))
    return *graph.finish(), numbers


def _cells(shape, cell, rng, outside):
    """Regions that are cells of a grid, so that blocks of whole cells cut none; some of them outside."""
    places = np.indices(shape) // np.reshape(cell, (-1, *(1,) * len(shape)))
    counts = [-(-n // c) for n, c in zip(shape, cell, strict=True)]
    flat = np.ravel_multi_index(places, counts)
    names = np.where(rng.random(np.prod(counts)) < outside, -1, np.arange(np.prod(counts)))
    return names[flat]


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 3), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.95]))
def test_blocks_give_the_graph_of_the_whole(n_dims, seed, outside):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 14, n_dims).tolist())
    cell = tuple(rng.integers(1, 4, n_dims).tolist())
    sides = tuple((c * int(rng.integers(1, 4))) for c in cell)
    spacing = tuple(rng.uniform(0.5, 3, n_dims).tolist())
    labels = _cells(shape, cell, rng, outside)
    features, strength = rng.random((*shape, 2)), rng.random(shape)
    graph, means, numbers = _in_blocks(labels, features, strength, sides, spacing)
    np.testing.assert_array_equal(numbers >= 0, labels >= 0)
    assert graph.n_regions == len(np.unique(labels[labels >= 0]))
    if not graph.n_regions:
        return
    # the same partition, numbered otherwise: compare the graph of the whole under these numbers
    whole = adjacency(numbers, strength, spacing, graph.n_regions)
    np.testing.assert_array_equal(graph.edges, whole.edges)
    np.testing.assert_array_equal(graph.sizes, whole.sizes)
    np.testing.assert_allclose(graph.length, whole.length)
    np.testing.assert_allclose(graph.strength, whole.strength)
    np.testing.assert_allclose(means, region_means(numbers, features))
    pairs = set(zip(labels[labels >= 0].tolist(), numbers[labels >= 0].tolist(), strict=True))
    assert len(pairs) == graph.n_regions


def test_edges_against_a_loop_over_all_faces():
    rng = np.random.default_rng(1)
    labels = _cells((8, 9), (2, 3), rng, 0.2)
    strength = rng.random(labels.shape)
    graph, _, numbers = _in_blocks(labels, np.zeros((8, 9, 1)), strength, (4, 3))
    faces = {}
    for y in range(8):
        for x in range(9):
            for other in ((y + 1, x), (y, x + 1)):
                if other[0] < 8 and other[1] < 9 and min(numbers[y, x], numbers[other]) >= 0:
                    key = tuple(sorted((int(numbers[y, x]), int(numbers[other]))))
                    if key[0] != key[1]:
                        faces.setdefault(key, []).append((strength[y, x] + strength[other]) / 2)
    assert [tuple(edge) for edge in graph.edges.tolist()] == sorted(faces)
    for edge, length, mean in zip(graph.edges.tolist(), graph.length, graph.strength, strict=True):
        assert length == len(faces[tuple(edge)])
        assert mean == pytest.approx(np.mean(faces[tuple(edge)]))


def test_every_cut_of_the_tree_is_that_of_the_whole():
    rng = np.random.default_rng(2)
    labels = _cells((24, 30), (3, 3), rng, 0.1)
    features, strength = rng.random((24, 30, 3)), rng.random((24, 30))
    graph, means, numbers = _in_blocks(labels, features, strength, (12, 6))
    compact = np.where(labels >= 0, np.searchsorted(np.unique(labels[labels >= 0]), labels), -1)
    whole = merge_regions(adjacency(compact, strength), region_means(compact, features))
    parts = merge_regions(graph, means)
    np.testing.assert_allclose(np.sort(parts.altitudes), np.sort(whole.altitudes), rtol=1e-9)
    for n_regions in (1, 2, 5, 17, 40):
        a, b = parts.labels(numbers, n_regions), whole.labels(compact, n_regions)
        np.testing.assert_array_equal(a < 0, b < 0)
        pairs = {(i, j) for i, j in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True) if i >= 0}
        assert len(pairs) == n_regions
