import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from selfseg.regions import blobs


def discs(shape, places, radius):
    grid = np.mgrid[tuple(slice(0, n) for n in shape)]
    labels = np.zeros(shape, np.int32)
    for number, place in enumerate(places, 1):
        labels[sum((axis - p) ** 2 for axis, p in zip(grid, place, strict=True)) <= radius**2] = number
    return labels


@pytest.mark.parametrize(
    "shape, spacing", [((40, 50), None), ((40, 50), (2.0, 1.0)), ((9, 20, 20), (3.0, 1.0, 1.0)), ((1, 30), None)]
)
def test_distance_is_that_to_the_nearest_pixel_of_another_label(shape, spacing):
    labels = np.random.default_rng(0).integers(0, 3, shape).repeat(3, -1)[..., : shape[-1]].astype(np.int32)
    found = blobs.border_distance(labels, spacing)
    for label in (1, 2):
        alone = distance_transform_edt(labels == label, spacing)
        np.testing.assert_allclose(found[labels == label], alone[labels == label], rtol=1e-5)
    assert (found[labels == 0] == 0).all()
    assert (blobs.border_distance(np.ones((5, 5), np.int32)) == 0).all()


def basins_of_a_line(height, depth):
    """Peaks of a line that survive: each pass, from high to low, ends the lower of its two sides if that rises less than depth."""
    peaks = {i for i, h in enumerate(height) if h >= max(height[max(i - 1, 0) : i + 2])}
    side = {i: i for i in peaks}
    for level in sorted(set(height), reverse=True):
        parts, begin = [], None
        for i in range(len(height) + 1):
            inside = i < len(height) and height[i] >= level
            if inside and begin is None:
                begin = i
            if not inside and begin is not None:
                parts.append(range(begin, i))
                begin = None
        for part in parts:
            here = sorted((p for p in side if p in part), key=lambda p: -height[p])
            for lower in here[1:]:
                if height[lower] - level < depth:
                    del side[lower]
    return len(side)


def test_basins_are_those_of_maxima_that_rise_by_the_depth():
    rng = np.random.default_rng(3)
    for depth in (0.0, 0.2, 0.5, 1.0):
        height = rng.permutation(60).astype(np.float32) / 60 * 2
        labels = blobs.basins(height[None], np.ones((1, 60), np.int32), depth)
        assert labels.min() == 1
        assert labels.max() == basins_of_a_line(height.tolist(), depth)


def test_touching_discs_are_cut_and_one_disc_is_not():
    two = (discs((40, 60), [(20, 20), (20, 37)], 10) > 0).astype(np.int32)
    pieces, origin = blobs.split_at_necks(two, 30)
    assert pieces.max() == 2 and origin.tolist() == [1, 1]
    assert pieces[20, 20] != pieces[20, 37] and ((pieces > 0) == (two > 0)).all()
    one = discs((40, 60), [(20, 20)], 10)
    pieces, origin = blobs.split_at_necks(one, 30)
    assert (pieces == one).all() and origin.tolist() == [1]


def test_holes_of_one_object_are_filled_and_no_others():
    labels = np.zeros((20, 30), np.int32)
    labels[2:9, 2:9], labels[2:9, 9:16] = 1, 2
    labels[4, 4] = 0  # inside 1
    labels[5, 8:10] = 0  # between both
    labels[2:9, 20:30] = 3
    labels[4:6, 28:] = 0  # open to the border
    filled = blobs.filled(labels)
    assert filled[4, 4] == 1 and (filled[5, 8:10] == 0).all() and (filled[4:6, 28:] == 0).all()
    assert (blobs.filled(np.zeros((5, 6), np.int32)) == 0).all()


def test_contrast_is_the_median_inside_minus_that_of_a_ring_without_other_objects():
    labels = discs((40, 60), [(20, 15), (20, 33)], 6)
    image = np.where(labels == 1, 5.0, np.where(labels == 2, 9.0, 1.0)) + np.random.default_rng(0).normal(
        0, 1e-3, labels.shape
    )
    np.testing.assert_allclose(blobs.contrasts(labels, image), [4, 8], atol=0.01)
    assert np.isinf(blobs.contrasts(np.ones((4, 4), np.int32), np.ones((4, 4))))


def test_quantiles_and_medians_against_numpy():
    rng = np.random.default_rng(4)
    values, groups = rng.random(200), rng.integers(0, 7, 200)
    groups[groups == 3] = 2
    found = blobs.group_quantiles(values, groups, 7, 0.3)
    for group in range(7):
        if group == 3:
            assert np.isnan(found[group])
        else:
            assert found[group] == pytest.approx(np.quantile(values[groups == group], 0.3))
    assert blobs.weighted_median(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 5.0])) == 3.0
    assert blobs.weighted_median(np.zeros(0), np.zeros(0)) == 0.0
