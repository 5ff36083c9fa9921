import math
from collections import Counter

import numpy as np
import pytest

from selfseg import measure
from selfseg.core.errors import InputError


def scores_by_loop(segments, truth):
    """Arganda-Carreras et al. 2015 on labels; a 0 of the segmentation is a region of its own pixel."""
    pairs = []
    for k, (s, t) in enumerate(zip(segments.ravel().tolist(), truth.ravel().tolist(), strict=True)):
        if t != 0:
            pairs.append((s if s else ("alone", k), t))
    n = len(pairs)
    p = {key: c / n for key, c in Counter(pairs).items()}
    s = {key: c / n for key, c in Counter(a for a, _ in pairs).items()}
    t = {key: c / n for key, c in Counter(b for _, b in pairs).items()}
    both = sum(v * v for v in p.values())
    squares = sum(v * v for v in s.values()), sum(v * v for v in t.values())
    mutual = sum(v * math.log(v / (s[a] * t[b])) for (a, b), v in p.items())
    entropies = -sum(v * math.log(v) for v in s.values()), -sum(v * math.log(v) for v in t.values())
    rand = 2 * both / sum(squares), both / squares[1], both / squares[0]
    return *rand, 2 * mutual / sum(entropies), mutual / entropies[0], mutual / entropies[1]


def test_scores_equal_a_loop_over_foreground_pixels():
    rng = np.random.default_rng(0)
    labels, truth = rng.integers(0, 4, (12, 13)), rng.integers(0, 3, (12, 13))
    ours = measure.foreground_scores(labels, truth, thin=False, components=False)
    assert ours == pytest.approx(scores_by_loop(labels, truth))


def test_splits_lower_the_split_half_and_merges_the_merge_half():
    truth = np.repeat([1, 1, 0, 2, 2], 4)[None].repeat(6, 0)
    cut = np.repeat([1, 3, 0, 2, 4], 4)[None].repeat(6, 0)
    split = measure.foreground_scores(cut, truth, components=False)
    assert split.rand_split < 1 and split.rand_merge == pytest.approx(1) and split.info_split < 1
    merged = measure.foreground_scores(np.ones_like(truth), truth)
    assert merged.rand_merge < 1 and merged.rand_split == 1 and merged.info_merge == 0


def test_masks_are_split_into_cells_and_width_does_not_matter():
    truth = np.ones((20, 30), bool)
    truth[:, 13:17] = False
    thin, thick = np.ones_like(truth), np.ones_like(truth)
    thin[:, 15] = False
    thick[:, 9:21] = False
    for labels in (thin, thick):
        scores = measure.foreground_scores(labels, truth)
        assert scores == pytest.approx((1.0,) * 6)
    assert measure.foreground_scores(thick, truth, thin=False).rand < 0.8
    shifted = np.ones_like(truth)
    shifted[:, 20] = False
    assert measure.foreground_scores(shifted, truth).rand < 0.9


def test_thin_borders_are_lines_halfway():
    labels = np.zeros((9, 21), int)
    labels[:, :5], labels[:, 16:] = -7, 4
    thinned = measure.thin_borders(labels)
    assert set(np.unique(thinned)) == {-7, 0, 4}
    line = np.argwhere(thinned == 0)
    assert len(line) == 9 and set(line[:, 1]) == {10}
    assert (thinned[:, :10] == -7).all() and (thinned[:, 11:] == 4).all()


def test_thin_borders_leave_what_has_no_border():
    for labels in (np.zeros((4, 4), int), np.ones((4, 4), int)):
        assert np.array_equal(measure.thin_borders(labels), labels)


def test_a_truth_without_foreground_is_refused():
    with pytest.raises(InputError, match=r"\(3, 4\)"):
        measure.foreground_scores(np.ones((3, 4), int), np.zeros((3, 4), int))
