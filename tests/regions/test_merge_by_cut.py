from itertools import combinations

import numpy as np
import pytest

from selfseg.regions.clusters import merge_by_cut


def cut(assignment, weights):
    """The normalised cut of hard or soft segments [K N], from its definition."""
    degrees = weights.sum(1)
    return len(assignment) - sum((p @ weights @ p) / (p @ degrees) for p in assignment)


@pytest.mark.parametrize("seed", range(5))
def test_each_merge_leaves_the_smallest_cut(seed):
    rng = np.random.default_rng(seed)
    weights = rng.random((30, 30))
    weights = weights + weights.T
    p = rng.dirichlet(np.ones(6) * 0.3, 30).T
    group = merge_by_cut(p @ weights @ p.T, p @ weights.sum(1), 5)
    merged = [p[group == g].sum(0) for g in range(5)]
    unions = []
    for a, b in combinations(range(6), 2):
        rest = [p[k] for k in range(6) if k not in (a, b)]
        unions.append(cut([p[a] + p[b], *rest], weights))
    assert cut(merged, weights) == pytest.approx(min(unions))


def test_groups_are_numbered_by_their_first_segment():
    blocks = np.kron(np.eye(2), np.ones((2, 2)))  # segments 0 and 1 are tied, 2 and 3 too
    order = [0, 2, 1, 3]
    weights = blocks[np.ix_(order, order)] + 0.01
    assert merge_by_cut(weights, weights.sum(1), 2).tolist() == [0, 1, 0, 1]
    assert merge_by_cut(weights, weights.sum(1), 4).tolist() == [0, 1, 2, 3]
    assert merge_by_cut(weights, weights.sum(1), 1).tolist() == [0, 0, 0, 0]
