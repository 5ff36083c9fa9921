"""Corrections by hand: painted, given and remade pixels, in whole images and in blocks, through JSON."""

import json

import numpy as np
import pytest

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Silent
from selfseg.export.ome_zarr import known_label_zarr
from selfseg.refine.edits import Counting, Edits, Given, Painted, Remade, draw, runs_of
from selfseg.results import instances
from selfseg.results.instances import ObjectOptions, image_instances, store_instances


def blob(shape=(20, 30), top=4, left=6, height=5, width=7):
    mask = np.zeros(shape, bool)
    mask[..., top : top + height, left : left + width] = True
    return mask


def test_runs_are_the_pixels():
    rng = np.random.default_rng(0)
    for shape in ((13, 17), (4, 9, 11), (1, 1)):
        mask = rng.random(shape) < 0.4
        again = Edits(corrections={"a": (Given(1, runs_of(mask)),)}).correct(np.zeros(shape, np.uint8), "a")
        assert np.array_equal(again > 0, mask)


def test_corrections_are_made_in_order_and_only_where_they_belong():
    made = (Given(2, runs_of(blob())), Painted(3, 1.5, ((5.0, 8.0), (5.0, 20.0))), Given(4, runs_of(blob()), frame=1))
    edits = Edits(corrections={"a": made})
    labels = np.ones((20, 30), np.uint8)
    expected = np.where(blob(), 2, 1)
    stroke = {"plane": 0, "value": 3, "radius": 1.5, "points": [(5.0, 8.0), (5.0, 20.0)]}
    expected = np.where(draw((20, 30), [stroke]) == 3, 3, expected)
    assert np.array_equal(edits.correct(labels, "a"), expected)
    assert edits.correct(labels, "b") is labels and (labels == 1).all()
    assert (edits.correct(labels, "a", frame=1) == 4).sum() == 35


def test_blocks_are_corrected_as_the_whole():
    made = (Given(2, runs_of(blob((6, 20, 30)))), Painted(300, 3.2, ((9.0, 8.0), (15.0, 25.0)), plane=3))
    edits = Edits(corrections={"a": made})
    labels = np.ones((6, 20, 30), np.uint8)
    whole, parts = edits.correct(labels, "a"), np.zeros((6, 20, 30), np.uint16)
    for z in (slice(0, 2), slice(2, 6)):
        for y in (slice(0, 11), slice(11, 20)):
            for x in (slice(0, 9), slice(9, 30)):
                parts[z, y, x] = edits.correct(labels[z, y, x], "a", 0, (z, y, x), labels.shape)
    assert whole.max() == 300 and np.array_equal(parts, whole)


def test_objects_are_remade():
    objects = np.zeros((20, 30), np.uint32)
    objects[blob()] = 1
    objects[blob(left=15)] = 2
    joined = Remade(runs_of(objects > 0), (runs_of(objects > 0),))
    edits = Edits(corrections={"a": (joined,)})
    assert edits.remakes("a") and not edits.remakes("b")
    assert set(np.unique(edits.correct_objects(objects, "a"))) == {0, 3}
    gone = Edits(corrections={"a": (Remade(runs_of(objects == 2)),)})
    assert np.array_equal(gone.correct_objects(objects, "a"), np.where(objects == 1, 1, 0))


def test_edits_with_corrections_go_through_json():
    made = (Painted(0, 2.0, ((1.0, 2.0),)), Given(5, (3, 4)), Remade((0, 2), ((0, 1), (1, 1))))
    edits = Edits(0.5, corrections={"a/b": made}, counting=Counting("components", (2, 3), 7))
    assert Edits.from_json(json.loads(json.dumps(edits.to_json()))) == edits
    assert Edits.from_json({}) == Edits()  # of before there were any
    for wrong in ({"corrections": {"a": [{"kind": "given", "value": 1, "runs": [1]}]}}, {"counting": {"kind": "x"}}):
        with pytest.raises(UsageError):
            Edits.from_json(wrong)


def test_objects_made_by_hand_are_the_same_in_blocks(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr")
    rng = np.random.default_rng(1)
    values = np.zeros((48, 60), np.uint8)
    for y, x in rng.integers(2, 40, (14, 2)):
        values[y : y + 6, x : x + 7] = 1
    image, table = Image(values, "YX", name="a"), ClassTable((SegmentClass(1, "spot", (9, 9, 9, 255), 0, 0, (0,)),))
    options = ObjectOptions("components", (1,), 20)
    whole = image_instances(image, values, table, ObjectOptions("components", (1,))).labels
    largest, other = np.argsort(np.bincount(whole.ravel())[1:])[-1] + 1, 1
    pair = (whole == largest) | (whole == other)
    speck = blob(values.shape, 44, 50, 3, 4)  # too small
    drawn = blob(values.shape, 28, 30, 9, 9)
    made = (
        Remade(runs_of(pair), (runs_of(pair),)),
        Remade((), (runs_of(drawn), runs_of(speck))),
        Remade(runs_of(whole == 2)),
    )
    edits = Edits(corrections={"a": made})
    expected = image_instances(image, values, table, options, edits=edits)
    assert (
        (expected.labels[drawn] > 0).all()
        and not expected.labels[speck].any()
        and not expected.labels[whole == 2].any()
    )
    monkeypatch.setattr(instances, "BLOCK", 16 * 16)
    stored = zarr.create_array(tmp_path / "labels.zarr", shape=values.shape, chunks=(16, 16), dtype=np.uint8)
    stored[:] = values
    columns = store_instances(image, stored, table, tmp_path, options, Silent(), edits=edits)
    numbers = known_label_zarr(tmp_path / "instances" / "a.zarr")
    assert np.array_equal(np.asarray(numbers[:]), expected.labels)
    assert columns["pixels"].tolist() == expected.columns["pixels"].tolist()
