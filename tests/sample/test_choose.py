"""Farthest-point choice of frames, against the choice by a loop, and what it must not choose."""

import numpy as np

from conftest import blobs
from selfseg.core.image import Image
from selfseg.sample import choose
from selfseg.sample.choose import describe, most_different


def scenes(order, seed=0):
    """Frames out of a few scenes (each a picture of its own), with a little noise."""
    rng = np.random.default_rng(seed)
    pictures = [np.roll(blobs(48, 64, seed=i), 16 * i, axis=1) for i in range(max(order) + 1)]
    for i, picture in enumerate(pictures):
        picture[..., i % 3] = 255 - picture[..., i % 3]
        picture[: 10 * i] //= 2
    for number, scene in enumerate(order):
        noisy = pictures[scene] + rng.normal(0, 2, pictures[scene].shape)
        yield number, Image(np.clip(noisy, 0, 255).astype(np.uint8), "YXC")


def test_one_frame_of_each_scene_is_chosen():
    order = [0] * 9 + [1] * 4 + [2] * 2 + [0] * 3 + [3] * 5
    chosen = most_different(scenes(order), 4)
    assert sorted(order[number] for number in chosen) == [0, 1, 2, 3] and chosen == sorted(chosen)
    assert most_different(scenes(order), 4) == chosen
    assert most_different(scenes([0, 1]), 5) == [0, 1]


def test_the_description_is_block_means_and_deviations():
    data = np.random.default_rng(0).integers(0, 1000, (16, 24, 2)).astype(np.uint16)
    blocks = data.reshape(8, 2, 8, 3, 2).astype(float)
    light = blocks.mean(-1)
    expected = np.concatenate([blocks.mean((1, 3)).ravel(), light.std((1, 3)).ravel()])
    np.testing.assert_allclose(describe(Image(data, "YXC")), expected, rtol=1e-3, atol=0.5)
    assert np.isfinite(describe(Image(np.full((3, 5), np.nan), "YX"))).all()


def test_the_choice_is_the_farthest_point_rule():
    table = np.random.default_rng(3).normal(size=(40, 5)).astype(np.float32)
    chosen = [int(((table - table.mean(0)) ** 2).sum(1).argmin())]
    while len(chosen) < 6:
        gaps = [min(((row - table[c]) ** 2).sum() for c in chosen) for row in table]
        chosen.append(int(np.argmax(gaps)))
    assert choose._farthest(table, np.ones(40, np.float32), 6) == chosen


def test_black_frames_are_not_chosen_unless_there_is_nothing_else():
    frames = list(scenes([0, 1, 0, 1, 2]))
    black = [(number, Image(np.zeros((48, 64, 3), np.uint8), "YXC")) for number in (5, 6)]
    assert not {5, 6} & set(most_different(frames + black, 4))
    assert most_different(black, 1) == [5]
