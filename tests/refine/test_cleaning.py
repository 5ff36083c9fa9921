import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.refine.cleaning import Cleaning
from selfseg.refine.components import fill_holes


def rings():
    """A ring (2) on a ground (1), a hole (1) in it with a speck (3) inside, and a bay (1) that reaches the border."""
    labels = np.ones((12, 14), np.int64)
    labels[2:10, 2:10] = 2
    labels[3:9, 3:9] = 1
    labels[5, 5] = 3
    return labels


def test_a_hole_within_a_hole_is_filled_with_what_surrounds_both():
    filled = fill_holes(rings(), 60)
    assert (filled[2:10, 2:10] == 2).all() and (filled[0] == 1).all()
    assert (fill_holes(rings(), 3)[5, 5], fill_holes(rings(), 3)[3, 3]) == (1, 1)
    assert (fill_holes(rings(), 0) == rings()).all()


def test_what_touches_the_border_or_two_neighbours_or_the_outside_is_no_hole():
    labels = rings()
    labels[0:2, 0] = 5  # at the border
    labels[4, 12] = 6
    labels[5, 12] = 7  # two specks side by side: neither is within one other component
    assert (fill_holes(labels, 4)[[0, 1, 4, 5], [0, 0, 12, 12]] == [5, 5, 6, 7]).all()
    labels = rings()
    labels[5, 6] = -1  # the speck now lies at the outside
    assert fill_holes(labels, 4)[5, 5] == 3


def test_holes_in_volumes():
    volume = np.full((5, 6, 7), 4)
    volume[2, 3, 3:5] = 9
    assert (fill_holes(volume, 3) == 4).all()
    assert (fill_holes(volume, 2) == volume).all()
    assert (fill_holes(volume, 3, spacing=(2, 1, 1)) == volume).all()


def test_objects_go_and_ignored_pixels_stay():
    labels = rings().astype(np.uint8)
    labels[:, 13] = 0
    labels[6, 12] = 4
    cleaned = Cleaning.parse("objects:2,holes:60").apply(labels)
    assert cleaned.dtype == np.uint8
    assert (cleaned[:, 13] == 0).all() and cleaned[6, 12] == 1
    assert (cleaned[2:10, 2:10] == 2).all()
    assert Cleaning.parse("none").apply(labels) is labels


def test_spelling():
    assert str(Cleaning.parse("holes:100, objects:200")) == "objects:200,holes:100"
    assert Cleaning.parse(None) == Cleaning.parse("none") == Cleaning.parse("") == Cleaning()
    assert str(Cleaning()) == "none"
    assert Cleaning.parse("objects(200), holes(size=100)") == Cleaning(holes=100, objects=200)
    for wrong in ("objects", "objects:-3", "dust:5", "holes:1,holes:2"):
        with pytest.raises(UsageError, match="clean"):
            Cleaning.parse(wrong)
