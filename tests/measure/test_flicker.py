import numpy as np
import pytest

from selfseg.core.errors import InputError
from selfseg.measure.temporal import FlickerMeter, flicker


def test_it_equals_the_loop():
    rng = np.random.default_rng(0)
    labels, before = rng.integers(0, 4, (2, 12, 15))
    image = (100 + rng.integers(0, 9, (12, 15, 3))).astype(np.uint8)
    old = (image + rng.integers(0, 8, image.shape)).astype(np.uint8)
    origin = rng.integers(0, labels.size, labels.shape)
    for q in (None, origin):
        changed = compared = 0
        for y, x in np.ndindex(labels.shape):
            yy, xx = (y, x) if q is None else divmod(int(q[y, x]), 15)
            stayed = all(abs(int(a) - int(b)) <= 5 for a, b in zip(image[y, x], old[yy, xx], strict=True))
            if labels[y, x] and before[yy, xx] and stayed:
                compared += 1
                changed += labels[y, x] != before[yy, xx]
        count = flicker(labels, before, image, old, 5.0, q)
        assert count == (changed, compared) and 0 < count.changed < count.compared
        assert count.share == changed / compared


def test_a_still_picture_counts_and_a_changed_one_does_not():
    meter = FlickerMeter()
    image = np.full((20, 30, 3), 100, np.uint8)
    labels = np.ones((20, 30), np.uint8)
    other = labels.copy()
    other[:, :3] = 2
    meter.add(labels, image)
    assert meter.describe() == "flicker: nothing to compare"
    meter.add(other, image)
    assert meter.in_place == (60, 600)
    meter.add(labels, np.full_like(image, 180))
    assert meter.in_place == (60, 600) and "10.00%" in meter.describe()


def test_following_the_motion_labels_that_move_along_do_not_flicker():
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 256, (16, 40)), np.ones((6, 6))).astype(np.uint8)[..., None]
    ids = np.kron(rng.integers(1, 4, (16, 40)), np.ones((6, 6), int))
    moving, stuck = FlickerMeter(), FlickerMeter()
    for step in range(4):
        view = slice(5 * step, 5 * step + 160)
        moving.add(ids[:, view], scene[:, view])
        stuck.add(ids[:, :160], scene[:, view])
    inside = moving.following
    assert inside.compared > 0.8 * 3 * 96 * 160 and inside.share < 0.02
    assert stuck.following.share > 0.3


def test_large_frames_are_shrunk_by_means():
    meter = FlickerMeter()
    rng = np.random.default_rng(0)
    labels = np.ones((9, 1300), np.uint8)
    for _ in range(2):
        meter.add(labels, (128 + rng.normal(0, 3, (9, 1300, 1))).astype(np.uint8))
    assert meter.in_place.compared <= 3 * 433 and meter.in_place.compared > 0.9 * 3 * 433 * 0.8


def test_sizes_must_agree():
    with pytest.raises(InputError, match="one size"):
        flicker(np.ones((2, 2), int), np.ones((2, 3), int), np.ones((2, 2)), np.ones((2, 2)), 1)
