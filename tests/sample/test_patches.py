from collections import Counter

import numpy as np
import pytest
import torch

from selfseg.core.errors import UsageError
from selfseg.sample.patches import (
    PatchPosition,
    PatchShape,
    cut,
    drawn_once,
    equal_pixel_shapes,
    random_windows,
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


def test_cutting_reads_no_more_than_the_patches():
    array = np.random.default_rng(0).integers(0, 255, (2, 40, 50))
    lazy, places = Lazy(array), redrawn((40, 50), SHAPES, 0)[0]
    assert torch.equal(cut(lazy, places), cut(array, places))
    assert lazy.read == 5 * 2 * 4 * 6


def test_windows_are_parts_of_their_images_and_follow_the_seed():
    images = torch.arange(2 * 30 * 40).reshape(2, 1, 30, 40).float()
    torch.manual_seed(1)
    windows, valid = random_windows(images, None, 8)
    assert windows.shape == (2, 1, 8, 8) and valid is None
    for b in range(2):
        top, left = divmod(int(windows[b, 0, 0, 0]) - 1200 * b, 40)
        assert torch.equal(windows[b], images[b, :, top : top + 8, left : left + 8])
    torch.manual_seed(1)
    assert torch.equal(random_windows(images, None, 8)[0], windows)
    assert not torch.equal(random_windows(images, None, 8)[0], windows)


def test_every_place_can_come_up():
    images = torch.arange(12.0).reshape(1, 1, 3, 4)
    torch.manual_seed(0)
    corners = {int(random_windows(images, None, 2)[0][0, 0, 0, 0]) for _ in range(200)}
    assert corners == {0, 1, 2, 4, 5, 6}


def test_padding_is_not_looked_at_and_masks_are_kept():
    images, valid = torch.zeros(1, 1, 20, 20), torch.zeros(1, 20, 20, dtype=torch.bool)
    images[..., :10, :12] = 1
    valid[..., :10, :12] = True
    for seed in range(20):
        torch.manual_seed(seed)
        windows, counted = random_windows(images, valid, 6)
        assert windows.min() == 1 and counted is None
    valid[0, 4, 4] = False
    torch.manual_seed(0)
    assert random_windows(images, valid, 10)[1].sum() in (99, 100)


def test_small_images_and_volumes_are_continued_by_their_mirror_image():
    volume = torch.arange(2 * 3 * 4).reshape(1, 1, 2, 3, 4).float()
    windows, _ = random_windows(volume, None, 4)
    assert windows.shape == (1, 1, 4, 4, 4)
    assert torch.equal(windows[0, 0, 2:], windows[0, 0, :2].flip(0))
