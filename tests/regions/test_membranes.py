"""Lines and the cells between them, on drawings whose cells are known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import adjusted_rand_score

from selfseg.core.errors import UsageError
from selfseg.regions.graph import connected_components
from selfseg.regions.membranes import find_membranes


def cells(gap=0, dark_thing=False, grain=8.0, side=160):
    """Six cells, 2 x 3, between dark lines of 4 pixels; the first line across has a gap. Return light and the cell of each pixel."""
    light, truth = np.full((side, side + 80), 180.0), np.zeros((side, side + 80), int)
    truth[side // 2 :] += 3
    for k in (1, 2):
        truth[:, k * 80 :] += 1
        light[:, k * 80 - 2 : k * 80 + 2] = 60
    light[side // 2 - 2 : side // 2 + 2] = 60
    light[side // 2 - 2 : side // 2 + 2, 30 : 30 + gap] = 180
    if dark_thing:  # it almost parts the second cell
        light[34:44, 84:144] = 60
    return light + np.random.default_rng(0).normal(0, grain, light.shape), truth


def found(light, level=0.4, **how):
    regions, lines = find_membranes(light, **how).cells(level)
    return np.where(lines, -1, regions), lines


def test_cells_between_dark_lines_are_found():
    light, truth = cells(grain=30)
    regions, lines = found(light)
    assert regions.max() == 5
    assert adjusted_rand_score(truth[~lines], regions[~lines]) == 1
    assert 0.5 < lines.sum() / (4 * (2 * 160 + 240)) < 1.5
    assert connected_components(regions).max() == 5  # lines keep them apart


def test_bright_lines_are_dark_ones_turned_round():
    light, _ = cells()
    for one, other in zip(found(light), found(255 - light, polarity=1), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_dark_thing_in_a_cell_is_no_line_and_parts_nothing():
    light, truth = cells(dark_thing=True)
    regions, lines = found(light)
    assert regions.max() == 5 and not lines[36:42, 90:138].any()
    assert adjusted_rand_score(truth[~lines], regions[~lines]) > 0.999


def test_a_small_gap_is_closed_and_a_wide_one_stays_open():
    assert found(cells(gap=2)[0])[0].max() == 5
    wide, _ = cells(gap=20)
    assert found(wide)[0].max() == 4
    counts = [int(found(wide, level)[0].max()) for level in (0, 0.4, 1.2, 9)]
    assert counts == sorted(counts, reverse=True) and counts[-1] == 0 and len(set(counts)) > 2


def test_size_contrast_and_brightness_change_nothing():
    """Twice the pixels with twice the width of a line, half the contrast: the same cells."""
    light, truth = cells(grain=0)
    large = np.kron(light, np.ones((2, 2))) / 2 + 1000
    regions, lines = found(large, width=8)
    again = np.kron(truth, np.ones((2, 2), int))
    assert adjusted_rand_score(again[~lines], regions[~lines]) == 1
    one, other = find_membranes(light).tree.altitudes[-5:], find_membranes(large, 8).tree.altitudes[-5:]
    np.testing.assert_allclose(one, other, rtol=0.1)


def test_what_is_masked_takes_no_part():
    light, truth = cells()
    mask = np.ones(light.shape, bool)
    mask[:, 100:120] = False
    changed = np.where(mask, light, 0)
    for one, other in zip(found(light, mask=mask), found(changed, mask=mask), strict=True):
        np.testing.assert_array_equal(one, other)
    regions, lines = found(light, mask=mask)
    assert (regions[~mask] == -1).all() and not lines[~mask].any()
    left = (truth == 0) & ~lines
    assert len(np.unique(regions[left])) == 1


@pytest.mark.parametrize("light", [np.zeros((1, 1)), np.full((9, 12), 7.0), gaussian_filter(np.eye(30), 1)])
def test_poor_images_have_a_tree(light):
    membranes = find_membranes(light)
    assert membranes.cells(0.4)[0].shape == light.shape
    assert membranes.basins.max() + 1 == membranes.tree.n_leaves
    nothing = find_membranes(light, mask=np.zeros(light.shape, bool))
    assert (nothing.cells(0.4)[0] == -1).all()


def test_volumes_are_refused():
    with pytest.raises(UsageError, match="slice by slice"):
        find_membranes(np.zeros((3, 4, 5)))
