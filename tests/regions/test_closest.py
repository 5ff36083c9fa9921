import itertools

import numpy as np
import pytest

from selfseg.regions.closest import merge_closest


def error(points, sizes, groups):
    """Squared error of a grouping, by its definition."""
    total = 0.0
    for g in np.unique(groups):
        mine = groups == g
        mean = (points[mine] * sizes[mine, None]).sum(0) / sizes[mine].sum()
        total += (sizes[mine] * ((points[mine] - mean) ** 2).sum(1)).sum()
    return total


@pytest.mark.parametrize("seed", range(5))
def test_each_merge_is_the_cheapest_of_all(seed):
    rng = np.random.default_rng(seed)
    points, sizes = rng.normal(size=(9, 3)), rng.integers(1, 50, 9)
    free = np.zeros(9, bool)
    before = merge_closest(points, sizes, free, 9)
    for n in range(8, 0, -1):
        after = merge_closest(points, sizes, free, n)
        assert len(np.unique(after)) == n
        choices = []
        for a, b in itertools.combinations(np.unique(before), 2):
            choices.append(error(points, sizes, np.where(before == b, a, before)))
        assert error(points, sizes, after) == pytest.approx(min(choices))
        before = after


def test_clusters_held_apart_stay_apart_while_they_can():
    points = np.array([[0.0], [0.01], [5.0], [9.0]])
    apart = np.array([True, True, False, False])
    groups = merge_closest(points, np.ones(4, int), apart, 2)
    assert groups[0] != groups[1]
    assert len(np.unique(merge_closest(points, np.ones(4, int), apart, 1))) == 1


def test_groups_are_numbered_by_their_first_cluster():
    groups = merge_closest(np.array([[9.0], [0.0], [9.1]]), np.ones(3, int), np.zeros(3, bool), 2)
    assert groups.tolist() == [0, 1, 0]
