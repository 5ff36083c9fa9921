"""Colours: stable, distinct, also for colour-blind eyes."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from selfseg.core.classes import (
    DEUTERANOPIA,
    MOST,
    PROTANOPIA,
    class_colours,
    relative_luminance,
    seen_lab,
    standing_out,
)
from selfseg.core.errors import UsageError


def _distances(n, cones=None):
    lab = seen_lab(np.array(class_colours(n), float)[:, :3], cones)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances


def test_the_first_colours_are_the_same_for_every_number():
    every = class_colours(MOST)
    assert all(class_colours(n) == every[:n] for n in (0, 1, 7, 8, 9, 40, 254))


def test_all_colours_are_distinct_opaque_bytes():
    colours = class_colours(MOST)
    assert len(set(colours)) == MOST
    assert all(len(c) == 4 and c[3] == 255 and all(type(v) is int and 0 <= v <= 255 for v in c) for c in colours)


def test_lab_agrees_with_scikit_image():
    rgb = np.array(class_colours(60), float)[:, :3]
    np.testing.assert_allclose(seen_lab(rgb), rgb2lab(rgb / 255), atol=0.02)


def test_the_first_eight_can_be_told_apart_by_all_eyes():
    assert _distances(8).min() > 25
    assert _distances(8, DEUTERANOPIA).min() > 16
    assert _distances(8, PROTANOPIA).min() > 16


def test_the_first_twenty_can_be_told_apart():
    assert _distances(20).min() > 20
    assert _distances(20, DEUTERANOPIA).min() > 10


@pytest.mark.parametrize("cones", [None, DEUTERANOPIA, PROTANOPIA])
def test_neighbouring_ids_differ_well(cones):
    assert np.diag(_distances(8, cones), 1).min() > 45
    assert np.diag(_distances(40, cones), 1).min() > 12
    assert np.diag(_distances(MOST, cones), 1).min() > 5


def test_deuteranopia_confuses_what_it_should():
    """Equal greys stay apart; this red and this green, far apart for a full eye, come near each other."""
    pair = np.array([(176.0, 96, 0), (112, 128, 0)])
    full, blind = (np.linalg.norm(np.diff(seen_lab(pair, cones), axis=0)) for cones in (None, DEUTERANOPIA))
    assert full > 45
    assert blind < full / 3


def test_luminance_of_white_black_and_grey():
    assert relative_luminance((255, 255, 255)) == pytest.approx(1.0)
    assert relative_luminance((0, 0, 0, 255)) == 0.0
    assert relative_luminance((119, 119, 119)) == pytest.approx(0.1845, abs=1e-3)


@pytest.mark.parametrize("n", [-1, 256])
def test_a_number_out_of_range_is_refused(n):
    with pytest.raises(UsageError, match="0 to 255"):
        class_colours(n)


def test_colours_stand_out_from_the_picture_and_each_other():
    beneath = np.array([[230, 160, 10], [86, 180, 233], [20, 20, 20], [250, 250, 250], [0, 158, 115]], float)
    found = np.array(standing_out(beneath), float)[:, :3]
    apart = np.linalg.norm(seen_lab(found)[:, None] - seen_lab(found), axis=-1) + 1e9 * np.eye(len(found))
    assert apart.min() > 15  # as far as those of the palette are
    assert np.linalg.norm(seen_lab(found) - seen_lab(beneath), axis=1).min() > 50
    usual = np.array(class_colours(5), float)[:, :3]
    assert np.linalg.norm(seen_lab(usual) - seen_lab(beneath), axis=1).min() < 1  # the first is the picture's own


def test_of_colours_that_are_clear_enough_the_first_are_taken():
    assert standing_out(np.array([[128.0, 128, 128]])) != () and len(standing_out(np.full((100, 3), 90.0))) == 100
    dark = standing_out(np.zeros((2, 3)))
    assert set(dark) <= set(class_colours(8))
