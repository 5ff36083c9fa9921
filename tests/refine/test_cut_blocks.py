"""Touching objects cut in blocks: the partition of the whole image, whatever the blocks."""

import numpy as np
import pytest

from selfseg.refine import cut_blocks
from selfseg.refine.cut_blocks import cut_parts
from selfseg.refine.instances import find_instances
from selfseg.refine.link_blocks import link_components


def _discs(shape, n, seed, radii=(3, 9)):
    """Class 1: discs (or balls) that often touch; class 2: a strip; the rest is 3 or ignored."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    labels = np.full(shape, 3, np.uint8)
    labels[..., : shape[-1] // 20] = 0
    for _ in range(n):
        centre, radius = [rng.uniform(0, n) for n in shape], rng.uniform(*radii)
        away = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True))
        labels[away < radius**2] = 1
    labels[shape[0] // 2 : shape[0] // 2 + 3] = 2
    return labels


def _pairs(a, b):
    return set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))


def _in_blocks(labels, sides, classes, min_size=1, **how):
    numbers = np.zeros(labels.shape, np.uint32)
    n_parts = link_components(labels, numbers, sides, classes)
    found, n_whole = cut_parts(labels, numbers, n_parts, sides, classes, min_size=min_size, **how)
    return numbers, found, n_whole


@pytest.mark.parametrize(
    ("shape", "sides", "spacing"),
    [((120, 140), (32, 32), None), ((90, 100), (16, 50), (2.0, 1.0)), ((24, 50, 44), (16, 16, 16), (2.0, 1.0, 1.0))],
)
@pytest.mark.parametrize("min_size", [1, 20])
def test_blocks_are_cut_like_the_whole(shape, sides, spacing, min_size):
    labels = _discs(shape, 40, seed=len(shape))
    whole = find_instances(labels, "watershed", [1, 2], spacing, min_size)
    numbers, found, n_whole = _in_blocks(labels, sides, [1, 2], min_size, spacing=spacing)
    assert n_whole == 0
    assert whole.max() == found == numbers.max()
    assert len(_pairs(whole, numbers)) == found + 1  # one number each, and none with none
    assert (0, 0) in _pairs(whole, numbers)
    assert found > find_instances(labels, "components", [1, 2], spacing, min_size).max()


def test_a_part_that_is_too_large_stays_whole_and_is_counted(monkeypatch):
    monkeypatch.setattr(cut_blocks, "LARGEST_PART", 200)
    labels = np.zeros((40, 60), np.uint8)
    labels[3:9, 3:9] = 1
    labels[20:30, 2:50] = 1  # a box of 480 pixels
    numbers, found, n_whole = _in_blocks(labels, (16, 16), [1])
    assert (found, n_whole) == (2, 1)
    assert len(np.unique(numbers[20:30, 2:50])) == 1


def test_without_objects_there_are_none():
    numbers, found, n_whole = _in_blocks(np.zeros((20, 30), np.uint8), (16, 16), [1])
    assert (found, n_whole, numbers.max()) == (0, 0, 0)
