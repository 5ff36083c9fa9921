import math

import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.regions.watershed import arc_graph, oriented_watershed


def one_hot_planes(shape, k, value=1.0):
    planes = np.zeros((8, *shape))
    planes[k] = value
    return planes


@pytest.mark.parametrize(("labels", "k"), [
    (np.repeat([[0], [1]], 20, 0).repeat(40, 1), 0),
    (np.repeat([[0, 1]], 20, 1).repeat(40, 0), 4),
    ((np.add.outer(np.arange(40), -np.arange(40)) > 0).astype(int), 2),
    ((np.add.outer(np.arange(40), np.arange(40)) > 39).astype(int), 6),
])  # fmt: skip
def test_an_arc_takes_the_gradient_at_its_own_angle(labels, k):
    for angle in range(8):
        graph = arc_graph(labels, one_hot_planes(labels.shape, angle))
        assert graph.edges.tolist() == [[0, 1]]
        # Near its ends the chord of a staircase tilts a little.
        assert graph.strength[0] == pytest.approx(1.0 if angle == k else 0.0, abs=0.1)


def test_an_angle_between_two_planes_is_interpolated():
    slope = math.pi / 16  # halfway between plane 0 and plane 1
    y, x = np.mgrid[:60, :120]
    labels = (y - 15 > x * math.tan(slope)).astype(int)
    both = [arc_graph(labels, one_hot_planes(labels.shape, k)).strength[0] for k in (0, 1)]
    assert both[0] == pytest.approx(0.5, abs=0.15) and sum(both) == pytest.approx(1.0, abs=0.05)


def test_arcs_are_means_over_faces_and_every_face_counts_once():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (12, 15))
    plane = rng.random((12, 15))
    graph = arc_graph(labels, np.stack([plane] * 8))  # the same at all angles: the angle cannot matter
    sums, lengths = {}, {}
    for y in range(12):
        for x in range(15):
            for yy, xx in ((y + 1, x), (y, x + 1)):
                if yy < 12 and xx < 15 and labels[y, x] != labels[yy, xx]:
                    pair = tuple(sorted((labels[y, x], labels[yy, xx])))
                    sums[pair] = sums.get(pair, 0) + (plane[y, x] + plane[yy, xx]) / 2
                    lengths[pair] = lengths.get(pair, 0) + 1
    assert [tuple(edge) for edge in graph.edges.tolist()] == sorted(sums)
    np.testing.assert_allclose(graph.length, [lengths[pair] for pair in sorted(sums)])
    np.testing.assert_allclose(graph.strength, [sums[pair] / lengths[pair] for pair in sorted(sums)])
    assert graph.sizes.tolist() == np.bincount(labels.ravel()).tolist()


def test_a_weak_arc_beside_a_strong_contour_of_another_angle_stays_weak():
    # A strong vertical contour; the watershed's horizontal arc ends on it, where the strongest angle is the contour's.
    planes = one_hot_planes((21, 21), 4, 0.0)
    planes[4, :, 9:12] = 1.0
    labels = np.zeros((21, 21), int)
    labels[:, 11:] = 1
    labels[10:, :11] = 2
    graph = arc_graph(labels, planes)
    strength = dict(zip(map(tuple, graph.edges.tolist()), graph.strength, strict=True))
    assert strength[0, 1] > 0.9 and strength[1, 2] > 0.9
    assert strength[0, 2] < 0.05


def test_loops_and_the_outside():
    labels = np.zeros((9, 9), int)
    labels[3:6, 3:6] = 1
    assert arc_graph(labels, np.ones((8, 9, 9))).length.tolist() == [12]
    labels[:, :2] = -1
    graph = arc_graph(labels, np.ones((8, 9, 9)))
    assert graph.length.tolist() == [12] and graph.sizes.sum() == 63


def test_a_mask_and_degenerate_pictures():
    mask = np.ones((10, 12), bool)
    mask[:, :3] = False
    labels, graph = oriented_watershed(np.random.default_rng(0).random((8, 10, 12)), mask)
    assert (labels[~mask] == -1).all() and labels[mask].min() == 0 and graph.sizes.sum() == mask.sum()
    for shape in ((1, 1), (1, 7), (5, 5)):
        labels, graph = oriented_watershed(np.zeros((8, *shape)))
        assert labels.max() == 0 and len(graph.edges) == 0


def test_wrong_input_is_named():
    with pytest.raises(UsageError, match="expected"):
        arc_graph(np.zeros((4, 5), int), np.zeros((8, 5, 4)))
    with pytest.raises(UsageError, match="integers"):
        arc_graph(np.zeros((4, 5)), np.zeros((8, 4, 5)))
