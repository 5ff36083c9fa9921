"""Overlays and displays: golden small arrays, and what each kind of image becomes."""

import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.core.classes import ClassTable, SegmentClass, class_colours
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.export.labels import colour_table, labels_picture
from selfseg.export.overlay import (
    GREY_RANGE,
    displayed,
    middle_planes,
    montage,
    number_places,
    overlay,
    write_labels_picture,
    write_overlay,
)

TABLE = ClassTable(
    (SegmentClass(1, "a", (200, 0, 0, 255), 0.5, 0.0, (0,)), SegmentClass(3, "b", (0, 100, 0, 255), 0.5, 0.0, (1,)))
)


def _photo(shape=(6, 8, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_the_colour_table_takes_the_table_and_then_the_palette():
    colours = colour_table(TABLE, 4)
    assert colours.tolist()[:2] == [[0, 0, 0, 0], [200, 0, 0, 255]]
    assert tuple(colours[2]) == class_colours(2)[1]
    assert tuple(colours[3]) == (0, 100, 0, 255)
    assert colour_table(None, 300)[256].tolist() == list(class_colours(1)[0])
    assert len(colour_table(None, 0)) == 1


def test_the_labels_picture_leaves_ignored_pixels_transparent():
    picture = labels_picture(np.array([[0, 1], [3, 0]]), TABLE)
    assert picture.tolist() == [[[0, 0, 0, 0], [200, 0, 0, 255]], [[0, 100, 0, 255], [0, 0, 0, 0]]]


def test_the_mix_is_the_equation_and_ignored_pixels_stay():
    photo, labels = _photo(), np.random.default_rng(1).choice([0, 1, 3], (6, 8))
    found = overlay(Image(photo, "YXC"), labels, TABLE, opacity=0.25, boundaries=False, grey=False)
    for y, x in np.ndindex(6, 8):
        colour = {0: photo[y, x], 1: (200, 0, 0), 3: (0, 100, 0)}[labels[y, x]]
        np.testing.assert_allclose(found[y, x], 0.75 * photo[y, x] + 0.25 * np.array(colour), atol=0.51)


def test_in_grey_ignored_pixels_have_no_colour():
    photo = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.uint8)
    found = overlay(Image(photo, "YXC"), np.zeros((1, 3), int), TABLE)
    assert (found == found[..., :1]).all()
    assert found[0, :2, 0].tolist() == list(GREY_RANGE)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_boundaries_are_seen_on_any_ground(value):
    image = Image(np.full((9, 9, 3), value, np.uint8), "YXC")
    labels = np.ones((9, 9), int)
    labels[:, 5:] = 3
    lined, plain = (overlay(image, labels, TABLE, boundaries=lines).astype(int) for lines in (True, False))
    assert lined[:, 4].min() > 200
    assert (lined[:, [3, 5]].sum(axis=2) < plain[:, [3, 5]].sum(axis=2)).all()
    np.testing.assert_array_equal(lined[:, [0, 1, 2, 6, 7, 8]], plain[:, [0, 1, 2, 6, 7, 8]])


def test_a_picture_stays_and_numbers_are_stretched():
    photo = _photo()
    np.testing.assert_array_equal(displayed(Image(photo, "YXC"), [0])[0], photo)
    ramp = np.linspace(1000, 3000, 10000).reshape(100, 100)
    for data in (ramp.astype(np.uint16), ramp.astype(np.float32)):
        grey = displayed(Image(data, "YX"), [0])[0]
        assert grey.min() == 0
        assert grey.max() == 255
        assert (grey[..., 0] == grey[..., 2]).all()
        low, high = np.percentile(data, (0.5, 99.5))
        np.testing.assert_allclose(grey[..., 0], np.clip((data - low) / (high - low), 0, 1) * 255, atol=0.51)


def test_channels_first_one_two_and_many():
    data = np.random.default_rng(0).random((5, 20, 30)).astype(np.float32)
    two = displayed(Image(data[:2], "CYX"), [0])[0]
    assert (two[..., 0] == two[..., 2]).all()
    assert (two[..., 0] != two[..., 1]).any()
    five = displayed(Image(np.moveaxis(data, 0, -1), "YXC"), [0])[0]
    np.testing.assert_array_equal(five, displayed(Image(data, "CYX"), [0])[0])
    np.testing.assert_allclose(five[..., 2], displayed(Image(data[4], "YX"), [0])[0][..., 0], atol=1)


@pytest.mark.parametrize(
    "data", [np.full((4, 5), 7.0), np.full((4, 5), np.nan), np.array([[np.inf, 1.0, -np.inf, np.nan]])]
)
def test_one_value_nan_and_infinity_do_not_break_the_display(data):
    shown = displayed(Image(data, "YX"), [0])
    assert shown.shape == (1, *data.shape, 3)
    assert (shown == 128).all()


def test_invalid_pixels_do_not_stretch():
    data = np.linspace(0, 1, 400).reshape(20, 20)
    spoiled = data.copy()
    spoiled[:10] = 1e9
    valid = np.arange(20)[:, None] >= np.full(20, 10)
    shown = displayed(Image(spoiled, "YX", valid=valid), [0])[0, 10:]
    np.testing.assert_array_equal(shown, displayed(Image(data[10:], "YX"), [0])[0])


def test_a_volume_shows_its_middle_or_a_montage():
    data = np.stack([np.full((4, 6), z, np.uint16) for z in range(9)])
    image, labels = Image(data, "ZYX"), np.zeros((9, 4, 6), int)
    labels[4] = 1
    middle = overlay(image, labels, TABLE, opacity=1.0, boundaries=False)
    assert middle.shape == (4, 6, 3)
    assert (middle == (200, 0, 0)).all()
    sheet = overlay(image, labels, TABLE, opacity=1.0, boundaries=False, planes=3)
    assert (sheet == (200, 0, 0)).all(axis=-1).sum() == 24
    assert (middle_planes(9, 1), middle_planes(9, 3), middle_planes(2, 5)) == ([4], [1, 4, 7], [0, 1])
    turned = overlay(Image(data.transpose(2, 1, 0), "XYZ"), labels.transpose(2, 1, 0), TABLE, planes=3)
    np.testing.assert_array_equal(turned, overlay(image, labels, TABLE, planes=3))


def test_the_montage_is_a_grid_with_gaps():
    tiles = [np.full((2, 2, 3), i, np.uint8) for i in range(3)]
    sheet = montage(tiles, gap=1)
    assert sheet.shape == (5, 5, 3)
    assert sheet[:, :, 0].tolist() == [
        [0, 0, 255, 1, 1],
        [0, 0, 255, 1, 1],
        [255] * 5,
        [2, 2, 255, 255, 255],
        [2, 2, 255, 255, 255],
    ]


def test_numbers_stand_at_centroids_or_deep_inside():
    ids = np.zeros((21, 21), int)
    ids[2:7, 2:9] = 4
    assert number_places(ids) == [(4, 4.0, 5.0)]
    ids = np.full((21, 21), 2)
    ids[:18, 3:] = 0  # an L, whose centroid lies outside
    ((label, y, x),) = number_places(ids)
    assert (label, ids[round(y), round(x)]) == (2, 2)
    assert number_places(np.pad([[5]], 40)) == []


def test_numbers_change_the_picture_inside_the_region_alone():
    image, labels = Image(np.full((60, 80, 3), 90, np.uint8), "YXC"), np.zeros((60, 80), int)
    labels[10:50, 10:70] = 3
    plain, numbered = (overlay(image, labels, TABLE, boundaries=False, numbers=n) for n in (False, True))
    changed = (plain != numbered).any(axis=2)
    assert changed[20:40, 30:50].any()
    assert not changed[labels == 0].any()


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        (np.zeros((6, 7), int), {}, "shape"),
        (np.zeros((6, 8)), {}, "ids"),
        (np.full((6, 8), -1), {}, "ids"),
        (np.zeros((6, 8), int), {"opacity": 1.5}, "opacity"),
        (np.zeros((6, 8), int), {"planes": 0}, "planes"),
    ],
)
def test_what_does_not_fit_is_refused(labels, options, said):
    with pytest.raises(UsageError, match=said):
        overlay(Image(_photo(), "YXC"), labels, TABLE, **options)


def test_files_hold_the_same_pictures(tmp_path):
    image, labels = Image(_photo(), "YXC"), np.random.default_rng(1).choice([0, 1, 3], (6, 8))
    write_overlay(tmp_path / "a" / "o.png", image, labels, TABLE, opacity=0.3)
    write_labels_picture(tmp_path / "l.png", image, labels, TABLE)
    with Picture.open(tmp_path / "a" / "o.png") as picture:
        np.testing.assert_array_equal(np.array(picture), overlay(image, labels, TABLE, opacity=0.3))
    with Picture.open(tmp_path / "l.png") as picture:
        np.testing.assert_array_equal(np.array(picture), labels_picture(labels, TABLE))
