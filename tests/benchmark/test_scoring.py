from itertools import combinations

import numpy as np
import pytest

from selfseg.benchmark.baselines._base import Outcome
from selfseg.benchmark.scoring import REGIONS, best_classes, foreground_classes, score_outcome
from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.measure import covering
from selfseg.read.datasets import find_dataset
from selfseg.refine.hierarchy import hierarchy


def dice(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


@pytest.mark.parametrize("seed", range(8))
def test_the_best_union_of_classes_is_that_of_all_unions(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, (12, 13))
    inside = rng.random(labels.shape) < np.array([0.9, 0.1, 0.5, 0.8, 0.3, 0.45])[labels]
    unions = [np.isin(labels, chosen) for k in range(1, 6) for chosen in combinations(range(1, 6), k)]
    best = max(dice(union, inside) for union in unions)
    assert dice(np.isin(labels, best_classes(labels, inside)), inside) == pytest.approx(best)


def test_where_the_mask_is_most_of_the_image_the_rest_counts_too():
    """Everything has a Dice of .95 with this mask; the class that is the mask but for two pixels fits both sides better."""
    labels = np.ones((10, 11), int)
    labels[:, 0] = 2
    inside = labels == 1
    inside[:2, 1] = False
    inside[:, 0] = [False] * 8 + [True] * 2
    assert best_classes(labels, inside, both=True) == [1]
    iou = [
        ((union & inside).sum() / (union | inside).sum() + (~union & ~inside).sum() / (~union | ~inside).sum())
        for union in (labels == 1, labels > 0)
    ]
    assert iou[0] > iou[1]


def test_rules_for_the_foreground_know_no_truth():
    labels = np.array([[1, 1, 1, 2, 2, 3, 0]])
    image = Image(np.array([[5, 5, 5, 9, 9, 1, 50]], np.uint8), "YX")
    assert foreground_classes(labels, "not_largest", image) == [2, 3]
    assert foreground_classes(labels, "largest", image) == [1]
    assert foreground_classes(labels, "brightest", image) == [2]
    assert foreground_classes(np.zeros((1, 7), int), "brightest", image) == []


def test_a_tree_is_scored_at_its_cuts(picture):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), picture.spatial_shape).transpose(2, 0, 1).astype(np.float32)
    tree = hierarchy(probabilities, np.moveaxis(picture.data, -1, 0))
    truths = [rng.integers(0, 3, picture.spatial_shape) for _ in range(2)]
    labels = np.ones(picture.spatial_shape, np.uint8)
    found = score_outcome(find_dataset("bsds500"), picture, Outcome(labels, hierarchy=tree), truths)
    for k in (0, 3, 9):
        cut = tree.cut(n_regions=min(REGIONS[k], tree.n_superpixels))
        assert found.scales.covering[k] == pytest.approx(covering(cut, truths))
        again = tree.cut(level=found.altitudes[k])
        assert len(np.unique(again)) == len(np.unique(cut))  # the altitude is where that number comes up
    assert found.one.row()["covering"] == pytest.approx(covering(labels, truths))


def test_connected_parts_are_scored_beside_classes(picture):
    truth = np.zeros(picture.spatial_shape, int)
    truth[:, 20:30], truth[:, 30:] = 1, 2
    labels = np.where(truth == 1, 2, 1)  # left and right are one class, in two parts
    found = score_outcome(find_dataset("bsds500"), picture, Outcome(labels), [truth])
    assert found.connected.row()["covering"] == 1 and found.one.row()["covering"] < 1


def test_instances_come_from_the_smaller_class_or_as_they_are(picture):
    truth = np.zeros(picture.spatial_shape, int)
    truth[5:15, 5:15], truth[20:30, 30:40] = 1, 2
    image = Image(np.where(truth > 0, 200, 20).astype(np.uint8), "YX")
    classes = np.where(truth > 0, 2, 1)
    found = score_outcome(find_dataset("dsb2018"), image, Outcome(classes), [truth])
    assert found.one.row()["ap_50"] == 1 and found.one.row()["dice"] == 1
    inverted = score_outcome(find_dataset("dsb2018"), image, Outcome(3 - classes), [truth])
    assert inverted.one.row()["ap_50"] == 1  # ids say nothing, sizes do
    single = score_outcome(find_dataset("dsb2018"), image, Outcome(truth + 1), [truth], instances=True)
    assert single.one.row()["ap_90"] == 1


def test_another_shape_is_one_clear_line(picture):
    labels = np.ones(picture.spatial_shape, int)
    with pytest.raises(InputError, match=r"picture: expected shape \(40, 52\), got truth of shape \(3, 4\)"):
        score_outcome(find_dataset("bsds500"), picture, Outcome(labels), [np.ones((3, 4), int)])
