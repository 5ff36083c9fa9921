import itertools

import numpy as np
import pytest

from selfseg.regions.clusters import merge_closest, winning_offsets


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


def test_clusters_that_win_nowhere_are_raised_until_enough_of_them_win():
    logits = np.array([[3.0, 3, 3, 3, 3, 0], [0, 0, 0, 0, 0, 2], [2, 1, 0, 0, 0, 0], [-9, -9, -9, -9, -9, -9]])
    weights = np.ones(6)
    assert not winning_offsets(logits, weights, 2, 0.0).any()
    offsets = winning_offsets(logits, weights, 3, 0.0)
    assert offsets[[0, 1, 3]].tolist() == [0, 0, 0] and offsets[2] > 1
    assert set((logits + offsets[:, None]).argmax(0)) == {0, 1, 2}
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (8, 500)) - 4.0 * np.arange(8)[:, None]
    assert len(set(logits.argmax(0))) < 4
    for wanted in (4, 6, 8):
        raised = logits + winning_offsets(logits, np.ones(500), wanted, 0.01)[:, None]
        assert (np.bincount(raised.argmax(0), minlength=8) > 5).sum() >= wanted


def test_a_cluster_must_win_its_least_share():
    logits = np.stack([np.zeros(100), -np.arange(100.0) - 1])
    offsets = winning_offsets(logits, np.ones(100), 2, 0.05)
    won = np.bincount((logits + offsets[:, None]).argmax(0), minlength=2)
    assert 5 < won[1] <= 20


def test_columns_all_alike_end():
    assert np.isfinite(winning_offsets(np.zeros((3, 1)), np.ones(1), 3, 0.0)).all()
