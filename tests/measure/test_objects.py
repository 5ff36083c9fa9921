"""Measures of objects against scikit-image's regionprops, and by hand; units, edges, NaN."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import label, regionprops

from selfseg.core.errors import UsageError
from selfseg.measure import ObjectSums, measure_objects


def _objects(shape, seed=0):
    rng = np.random.default_rng(seed)
    objects = label(gaussian_filter(rng.normal(size=shape), 2) > 0.02)
    return np.where(objects == 3, 0, objects)  # ids need not be without gaps


@pytest.mark.parametrize(("shape", "spacing"), [((60, 70), (0.5, 0.25)), ((20, 30, 25), (2.0, 0.5, 0.25))])
def test_all_measures_are_those_of_regionprops(shape, spacing):
    objects = _objects(shape)
    values = np.random.default_rng(1).normal(size=shape)
    found = measure_objects(objects, {"dapi": values}, spacing)
    wanted = regionprops(objects, values, spacing=spacing)
    assert found["id"].tolist() == [region.label for region in wanted]
    for i, region in enumerate(wanted):
        letters = "zyx"[-len(shape) :]
        box = [(found[f"{a}_min"][i], found[f"{a}_max"][i]) for a in letters]
        assert [low for low, _ in box] + [high for _, high in box] == list(region.bbox)
        centroid = [found[f"centroid_{a}"][i] for a in letters]
        np.testing.assert_allclose(centroid, np.array(region.centroid) + 0.5 * np.array(spacing))
        for ours, theirs in (
            (found["pixels"][i], region.num_pixels),
            (found["size"][i], region.area),
            (found["equivalent_diameter"][i], region.equivalent_diameter_area),
            (found["mean_dapi"][i], region.intensity_mean),
            (found["std_dapi"][i], region.intensity_std),
            (found["min_dapi"][i], region.intensity_min),
            (found["max_dapi"][i], region.intensity_max),
        ):
            assert ours == pytest.approx(theirs)


def test_axes_of_the_ellipse_are_those_of_regionprops_for_points_and_a_pixel_besides():
    objects = _objects((60, 70))
    found = measure_objects(objects, spacing=(0.5, 0.5))
    # regionprops takes pixels as points; a square of side 1 has variance 1 / 12 of its own, as MATLAB's regionprops says
    for i, region in enumerate(regionprops(objects)):
        for ours, theirs in (("major_axis", region.axis_major_length), ("minor_axis", region.axis_minor_length)):
            assert found[ours][i] == pytest.approx(0.5 * np.sqrt(theirs**2 + 16 / 12))


def test_axes_of_a_long_box_and_of_a_ball():
    box = np.ones((1, 4, 10), np.uint8)
    found = measure_objects(box, spacing=(3.0, 1.0, 2.0))
    # a uniform side of length L has variance L^2 / 12; the axis of an ellipsoid with it is 2 sqrt(5 L^2 / 12)
    wanted = [2 * np.sqrt(5 * side**2 / 12) for side in (20.0, 4.0, 3.0)]
    got = [found[name][0] for name in ("major_axis", "middle_axis", "minor_axis")]
    np.testing.assert_allclose(got, wanted)
    z, y, x = np.mgrid[:41, :41, :41] - 20
    ball = measure_objects((z**2 + y**2 + x**2 <= 15**2).astype(int))
    assert ball["major_axis"][0] == pytest.approx(30, rel=0.01)
    assert ball["equivalent_diameter"][0] == pytest.approx(30, rel=0.01)


def test_objects_at_the_edge_of_the_image_are_told():
    objects = np.zeros((5, 6), int)
    objects[0, 2], objects[2, 2], objects[2, 5] = 1, 2, 3
    assert measure_objects(objects)["touches_edge"].tolist() == [True, False, True]
    flat = np.zeros((1, 5, 6), int)  # a volume of one slice: its slices are no edge
    flat[0, 2, 2] = 1
    assert measure_objects(flat)["touches_edge"].tolist() == [False]


def test_values_that_are_not_finite_do_not_count():
    objects = np.array([[1, 1, 1, 2]])
    found = measure_objects(objects, {"a": np.array([[1.0, np.nan, 3.0, np.inf]])})
    assert found["mean_a"][0] == 2.0
    assert found["max_a"][0] == 3.0
    assert np.isnan([found[f"{kind}_a"][1] for kind in ("mean", "std", "min", "max")]).all()


@pytest.mark.parametrize("shape", [(60, 70), (20, 30, 25)])
def test_regions_of_an_image_add_up_to_the_whole(shape):
    rng = np.random.default_rng(3)
    objects = label(gaussian_filter(rng.normal(size=shape), 2) > 0.02)
    values = {"a": rng.normal(1000, 1, shape), "b": np.where(rng.random(shape) < 0.3, np.nan, rng.random(shape))}
    whole = measure_objects(objects, values, [0.5] * len(shape))
    sums = ObjectSums(shape, int(objects.max()), [0.5] * len(shape))
    for corner in np.ndindex(*(-(-n // 9) for n in shape)):
        start = [9 * i for i in corner]
        region = tuple(slice(a, a + 9) for a in start)
        sums.add(objects[region], {name: channel[region] for name, channel in values.items()}, start)
    parts = sums.columns()
    assert list(parts) == list(whole)
    for name, column in whole.items():
        np.testing.assert_allclose(parts[name], column, rtol=1e-9, err_msg=name)


def test_no_objects_give_empty_columns():
    found = measure_objects(np.zeros((4, 5), np.uint8), {"a": np.zeros((4, 5))})
    assert {len(column) for column in found.values()} == {0}


@pytest.mark.parametrize(
    ("objects", "options"),
    [
        (np.zeros((3, 4)), {}),
        (np.full((3, 4), -1), {}),
        (np.zeros((2, 3, 4, 5), int), {}),
        (np.zeros((3, 4), int), {"spacing": (1.0,)}),
        (np.zeros((3, 4), int), {"spacing": (1.0, 0.0)}),
        (np.zeros((3, 4), int), {"letters": "ZYX"}),
        (np.zeros((3, 4), int), {"intensities": {"a": np.zeros((4, 3))}}),
    ],
)
def test_what_does_not_fit_is_refused(objects, options):
    with pytest.raises(UsageError, match="expected"):
        measure_objects(objects, **options)
