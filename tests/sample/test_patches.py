from collections import Counter

import numpy as np
import pytest
import torch

from selfseg.core.errors import UsageError
from selfseg.sample.patches import (
    ChannelsFirst,
    PatchPosition,
    PatchShape,
    cut,
    drawn_once,
    equal_pixel_shapes,
    redrawn,
)

SHAPES = (PatchShape((4, 6), 5), PatchShape((6, 6), 3))


def test_every_shape_has_the_same_number_of_pixels_in_a_batch():
    shapes = equal_pixel_shapes((96, 64), 4)
    assert [(s.sides, s.count) for s in shapes] == [((64, 64), 9), ((64, 96), 6), ((96, 64), 6), ((96, 96), 4)]
    assert len(equal_pixel_shapes((8, 12), 2, n_dims=3)) == 8
    for wrong in ((), (0, 4)):
        with pytest.raises(UsageError):
            equal_pixel_shapes(wrong, 4)


def test_places_are_a_function_of_the_seed_and_lie_inside():
    one, again, other = (redrawn((20, 31), SHAPES, seed) for seed in (5, 5, 6))
    assert one == again and one != other
    assert [len(places) for places in one] == [5, 3]
    for places, shape in zip(one, SHAPES, strict=True):
        for place in places:
            assert place.sides == shape.sides
            ends = zip(place.start, place.sides, (20, 31), strict=True)
            assert all(start >= 0 and start + side <= n for start, side, n in ends)


def test_first_and_last_pixels_are_reached_and_all_turns_occur():
    places = redrawn((7, 8), (PatchShape((6, 6), 400),), 0)[0]
    assert {p.start for p in places} == {(y, x) for y in (0, 1) for x in (0, 1, 2)}
    kinds = Counter((p.flips, p.turns) for p in places)
    assert len(kinds) == 16 and min(kinds.values()) > 8
    assert {p.turns for p in redrawn((7, 8), (PatchShape((5, 6), 50),), 0)[0]} == {0}


def test_a_window_holds_every_patch():
    places = redrawn((20, 30), (PatchShape((4, 4), 60),), 1, window=[(3, 9), (10, 30)])[0]
    assert {p.start[0] for p in places} == {3, 4, 5}
    assert min(p.start[1] for p in places) >= 10 and max(p.start[1] + 4 for p in places) <= 30
    with pytest.raises(UsageError, match="window"):
        redrawn((20, 30), SHAPES, 1, window=[(0, 25), (0, 30)])
    with pytest.raises(UsageError, match="axis"):
        redrawn((20, 30, 4), SHAPES, 1)


def test_a_patch_longer_than_the_image_is_shortened():
    (places,) = redrawn((3, 40), (PatchShape((6, 6), 4),), 0)
    assert {p.sides for p in places} == {(3, 6)} and {p.turns for p in places} == {0}


def test_the_pool_comes_once_in_each_round():
    n = 4
    rounds = [[drawn_once((20, 31), SHAPES, n, n * r + i, seed=9) for i in range(n)] for r in range(2)]
    for index, shape in enumerate(SHAPES):
        pools = [Counter(place for batch in batches for place in batch[index]) for batches in rounds]
        assert pools[0] == pools[1] and sum(pools[0].values()) == n * shape.count
        assert rounds[0][0][index] != rounds[1][0][index]
    assert drawn_once((20, 31), SHAPES, n, 6, seed=9) == rounds[1][2]


def test_cutting_mirrors_and_turns():
    image = np.arange(2 * 5 * 6).reshape(2, 5, 6)
    plain, mirrored, turned = cut(
        image,
        [
            PatchPosition((1, 2), (3, 3), (False, False)),
            PatchPosition((1, 2), (3, 3), (True, False)),
            PatchPosition((1, 2), (3, 3), (False, True), 1),
        ],
    ).numpy()
    part = image[:, 1:4, 2:5]
    assert np.array_equal(plain, part)
    assert np.array_equal(mirrored, part[:, ::-1])
    for y in range(3):
        for x in range(
            3
        ):  # mirrored along X, then a quarter turn: row y, column x comes from column 2 - (2 - y) ... of the part
            assert turned[0, y, x] == part[0, x, ::-1][2 - y]


def test_tensors_and_volumes():
    volume = torch.arange(2 * 4 * 5 * 6).view(2, 4, 5, 6)
    (places,) = redrawn((4, 5, 6), (PatchShape((2, 3, 3), 20),), 3)
    patches = cut(volume, places)
    assert patches.shape == (20, 2, 2, 3, 3) and patches.dtype == volume.dtype
    for place, patch in zip(places, patches, strict=True):
        box = tuple(slice(a, a + n) for a, n in zip(place.start, place.sides, strict=True))
        assert sorted(patch[0].flatten().tolist()) == sorted(volume[(0, *box)].flatten().tolist())


class Lazy:
    """Counts what is read of it."""

    def __init__(self, array):
        self.array, self.shape, self.read = array, array.shape, 0

    def __getitem__(self, index):
        found = self.array[index]
        self.read += found.size
        return found


@pytest.mark.parametrize("axes", ["YXC", "CYX", "TYXC", "XCY"])
def test_any_order_of_axes_is_read_lazily(axes):
    sizes = {"T": 3, "Y": 40, "X": 50, "C": 2}
    array = np.random.default_rng(0).integers(0, 255, [sizes[a] for a in axes])
    lazy = Lazy(array)
    source = ChannelsFirst(lazy, axes, time=1)
    plain = np.moveaxis(array[1] if "T" in axes else array, [axes.replace("T", "").index(a) for a in "CYX"], [0, 1, 2])
    assert source.shape == plain.shape == (2, 40, 50)
    places = redrawn(source.shape[1:], SHAPES, 0)[0]
    assert torch.equal(cut(source, places), cut(plain, places))
    assert lazy.read == 5 * 2 * 4 * 6


def test_without_channels_there_is_one():
    volume = np.random.default_rng(0).random((6, 7, 8))
    source = ChannelsFirst(volume, "ZYX")
    assert source.shape == (1, 6, 7, 8)
    assert np.array_equal(source[:, 1:3, :, 2:4], volume[None, 1:3, :, 2:4])
    for wrong in ("YX", "YYX", "ZYC"):
        with pytest.raises(UsageError, match="axes"):
            ChannelsFirst(volume, wrong)
