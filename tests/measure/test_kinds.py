import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from selfseg import measure
from selfseg.core.errors import InputError, UsageError


@pytest.fixture
def masks():
    rng = np.random.default_rng(3)
    truth = np.kron(rng.integers(0, 2, (6, 7)), np.ones((5, 5), int))
    labels = np.where(rng.random(truth.shape) < 0.2, 1 - truth, truth)
    return labels, truth


def test_mask_scores_are_scikit_learns(masks):
    labels, truth = masks
    row = measure.score(labels, truth, "mask").row()
    assert row["dice"] == pytest.approx(f1_score(truth.ravel(), labels.ravel()))
    assert row["iou"] == pytest.approx(jaccard_score(truth.ravel(), labels.ravel()))
    assert row["accuracy"] == pytest.approx((labels == truth).mean())


def test_ignored_pixels_of_a_mask_do_not_count(masks):
    labels, truth = masks
    marked, keep = truth.copy(), np.ones(truth.shape, bool)
    marked[:10], keep[:10] = 255, False
    row = measure.score(labels, marked, "mask", ignore=255).row()
    assert row["dice"] == pytest.approx(f1_score(truth[keep], labels[keep]))
    with pytest.raises(InputError, match="only 255"):
        measure.score(labels, np.full(truth.shape, 255), "mask", ignore=255)


def test_pooled_scores_weigh_by_size_and_means_by_image(masks):
    labels, truth = masks
    small = measure.score(np.ones((2, 2), int), np.ones((2, 2), int), "mask")
    large = measure.score(labels, truth, "mask")
    both = measure.summarize([small, large])
    hits, sizes = 2 * (4 + (labels & truth).sum()), 8 + labels.sum() + truth.sum()
    assert both["dice"] == pytest.approx(hits / sizes)
    assert both["mean_dice"] == pytest.approx((1 + large.row()["dice"]) / 2)


def test_no_boundary_at_all_is_a_zero_not_a_gap():
    truth = np.repeat([[0, 1]], 9, 0).repeat(5, 1)
    row = measure.score(np.ones_like(truth), truth).row()
    assert math.isnan(row["boundary_precision"]) and row["boundary_recall"] == 0 and row["boundary_f"] == 0
    assert measure.score(np.ones_like(truth), np.ones_like(truth)).row()["boundary_f"] == 1


def test_instance_and_lesion_scores_on_a_countable_picture():
    truth = np.zeros((20, 20), int)
    truth[1:5, 1:5], truth[8:12, 8:12], truth[15:19, 15:19] = 1, 2, 3
    labels = np.zeros_like(truth)
    labels[1:5, 1:5], labels[8:12, 8:10], labels[1:3, 15:17] = 1, 2, 3
    row = measure.score(labels, truth, "instances").row()
    assert row["ap_50"] == pytest.approx(1 / 5)  # one exact; the half has an IoU of .5, which is not above .5
    assert row["f1_50"] == pytest.approx(2 / 6)
    assert row["dice"] == pytest.approx(2 * (16 + 8) / (16 + 8 + 4 + 48))
    lesions = measure.score(labels, truth, "lesions").row()
    assert lesions["lesion_precision"] == pytest.approx(2 / 3) == lesions["lesion_recall"]


def test_scores_go_through_json(masks):
    scores = measure.score(*masks, "regions")
    assert measure.Scores.from_json(scores.to_json()) == scores


def test_an_unknown_kind_is_refused(masks):
    with pytest.raises(UsageError, match="one of regions, classes"):
        measure.score(*masks, "beauty")
