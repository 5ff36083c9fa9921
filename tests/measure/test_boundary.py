import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import thin

from selfseg import measure
from selfseg.measure.boundary import match_points


def most_pairs_by_search(first, second, distance):
    """Size of the largest one-to-one matching, by augmenting paths from the definition."""
    partner = {}

    def place(i, tried):
        for j, point in enumerate(second):
            if j not in tried and np.linalg.norm(first[i] - point) <= distance:
                tried.add(j)
                if j not in partner or place(partner[j], tried):
                    partner[j] = i
                    return True
        return False

    return sum(place(i, set()) for i in range(len(first)))


@given(seed=st.integers(0, 10_000), n=st.integers(0, 40), m=st.integers(0, 40), n_dims=st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_matching_is_one_to_one_near_and_as_large_as_can_be(seed, n, m, n_dims):
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, 9, (k, n_dims)).astype(float) for k in (n, m))
    chosen = match_points(first, second, 1.5)
    used = chosen[chosen >= 0]
    assert len(set(used.tolist())) == len(used)
    assert (np.linalg.norm(first[chosen >= 0] - second[used], axis=1) <= 1.5).all()
    assert len(used) == most_pairs_by_search(first, second, 1.5)


def test_a_pair_exactly_at_the_distance_matches():
    a, b = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    assert match_points(a, b, 5.0).tolist() == [0]
    assert match_points(a, b, 4.999).tolist() == [-1]


def test_boundary_map_is_where_a_neighbour_ahead_differs():
    labels = np.random.default_rng(0).integers(0, 2, (9, 11)).repeat(3, 0).repeat(3, 1)
    edge = np.zeros(labels.shape, bool)
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            ahead = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            edge[y, x] = any(v < height and u < width and labels[v, u] != labels[y, x] for v, u in ahead)
    assert np.array_equal(measure.boundary_map(labels), thin(edge))


def test_boundary_of_a_volume_is_a_surface():
    labels = np.zeros((4, 5, 6), int)
    labels[2:] = 1
    edge = measure.boundary_map(labels)
    assert edge[1].all() and edge.sum() == 30


def vertical(column, shape=(40, 60)):
    labels = np.zeros(shape, int)
    labels[:, column:] = 1
    return labels


def test_a_shifted_boundary_matches_within_the_tolerance_only():
    diagonal = np.hypot(40, 60)
    truth = vertical(30)
    assert measure.boundary_f(vertical(32), truth, tolerance=2.01 / diagonal) == 1.0
    assert measure.boundary_f(vertical(33), truth, tolerance=2.01 / diagonal) == 0.0


def test_spacing_stretches_distances_and_diagonal_alike():
    truth, labels = vertical(30), vertical(32)
    # Two columns of 10 units are 20 units away; the diagonal is hypot(40, 600).
    tolerance = 20.5 / np.hypot(40, 600)
    assert measure.boundary_counts(labels, truth, tolerance, spacing=(1, 10)).f == 1.0
    assert measure.boundary_counts(labels, truth, 19.5 / np.hypot(40, 600), spacing=(1, 10)).f == 0.0


def test_precision_counts_pixels_matched_by_any_annotator_and_recall_every_annotator():
    labels = vertical(20) + 2 * vertical(40)  # two lines of 40 pixels
    truths = [vertical(20), vertical(40), vertical(50)]
    counts = measure.boundary_counts(labels, truths, tolerance=1.0 / np.hypot(40, 60))
    assert counts == measure.BoundaryCounts(80, 80, 80, 120)
    assert (counts.precision, counts.recall) == (1.0, pytest.approx(2 / 3))
    assert counts.f == pytest.approx(0.8)
    assert counts + counts == measure.BoundaryCounts(160, 160, 160, 240)


def test_one_pixel_cannot_serve_two():
    # A double line in the truth, three pixels apart, against one line between them.
    truth = vertical(29) + vertical(32)
    counts = measure.boundary_counts(vertical(30), truth, tolerance=3.1 / np.hypot(40, 60))
    assert (counts.matched_labels, counts.matched_truth, counts.of_truth) == (40, 40, 80)


def test_boundaries_next_to_ignored_pixels_count_on_neither_side():
    truth = vertical(30)
    truth[20:] = 9
    counts = measure.boundary_counts(vertical(30), truth, ignore=9)
    # Row 19 touches the ignored rows; rows 0..18 count.
    assert counts == measure.BoundaryCounts(19, 19, 19, 19)


def test_without_any_boundary():
    flat, cut = np.zeros((20, 20), int), vertical(10, (20, 20))
    assert measure.boundary_f(flat, flat) == 1.0
    assert measure.boundary_f(flat, cut) == 0.0
    assert measure.boundary_f(cut, flat) == 0.0
