"""Scores of one outcome against the truth of one image, by the task of the dataset."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.benchmark.baselines._base import Outcome
from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.measure import label_free
from selfseg.measure.kinds import Scores, region_kind, score
from selfseg.measure.scales import ScaleScores, list_scores, tree_scores
from selfseg.read.datasets._base import Dataset
from selfseg.regions.graph import connected_components

Labels = NDArray[np.integer]

REGIONS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 60, 75, 90, 110, 135, 165, 200)
"""Numbers of regions at which a merge tree is scored."""

KIND_OF_TASK = {"instances": "instances", "foreground": "membranes", "lesion": "lesions"}
"""How the foreground of a task is scored (`measure.score`)."""


@dataclass(frozen=True)
class ImageScores:
    """Everything that is known of one outcome."""

    one: Scores
    """Scores of the one output."""
    connected: Scores | None = None
    """The same with classes cut into connected components; only for partitions."""
    oracle: Scores | None = None
    """Scores of the foreground that is best by the truth; only for tasks with a foreground."""
    scales: ScaleScores | None = None
    """Scores over scales; only for partitions with several."""
    altitudes: NDArray[np.float64] | None = None
    """``[L]`` altitude in the merge tree at which each number of regions comes up; None for lists."""


def score_outcome(
    dataset: Dataset,
    image: Image,
    outcome: Outcome,
    truths: Sequence[Labels],
    instances: bool = False,
    curve: bool = False,
) -> ImageScores:
    """Score one outcome by the task of the dataset; InputError if labels or truth do not fit the image.

    `truths` are one array ``[*S]`` an annotator. With `instances`, labels are single objects and 1 is the background. With
    `curve`, boundaries are scored at every scale, which is slow.
    """
    for name, array in (("labels", outcome.labels), *(("truth", truth) for truth in truths)):
        if array.shape != image.spatial_shape:
            raise InputError(
                image.name,
                expected=f"shape {image.spatial_shape}",
                got=f"{name} of shape {array.shape}",
                fix="check the dataset",
            )
    if dataset.task == "partition":
        return _score_partition(outcome, truths, curve)
    if dataset.task == "none":
        return ImageScores(_score_without_truth(outcome.labels, image))
    return _score_foreground(dataset, image, outcome.labels, truths[0], instances)


def _score_partition(outcome: Outcome, truths: Sequence[Labels], curve: bool) -> ImageScores:
    one = score(outcome.labels, truths)
    parts = connected_components(outcome.labels)
    connected = region_kind(parts, truths)  # their boundaries are those of the classes
    if outcome.hierarchy is not None:
        tree = outcome.hierarchy.tree
        scales = tree_scores(
            outcome.hierarchy.superpixels, tree.parents, tree.altitudes, truths, REGIONS, by="regions", boundaries=curve
        )
        merges = tree.altitudes[tree.n_leaves :]
        done = np.clip(tree.n_leaves - np.array(REGIONS), 0, len(merges))
        altitudes = np.concatenate([[0.0], merges])[done]
        return ImageScores(one, connected, None, scales, altitudes)
    if outcome.scales:
        levels = [level for level, _ in outcome.scales]
        scales = list_scores((labels for _, labels in outcome.scales), truths, levels, boundaries=curve)
        return ImageScores(one, connected, None, scales)
    return ImageScores(one, connected)


def _score_without_truth(labels: Labels, image: Image) -> Scores:
    pixels = image.channels_last().astype(np.float64)
    criteria = ("borsotti_q", "zhang_entropy", "boundary_edge_agreement")
    values = {name: float(getattr(label_free, name)(labels, pixels)) for name in criteria}
    return Scores({**values, "n_regions": float(len(np.unique(labels)))})


def _score_foreground(dataset: Dataset, image: Image, labels: Labels, truth: Labels, instances: bool) -> ImageScores:
    kind = KIND_OF_TASK[dataset.task]
    if instances:
        own = np.maximum(labels.astype(np.int64) - 1, 0)
        return ImageScores(score(own, truth, kind), oracle=score(own, truth, kind))
    by_rule = foreground_classes(labels, dataset.foreground, image)
    by_truth = best_classes(labels, truth != 0, both=dataset.task == "foreground")
    masks = (np.isin(labels, classes).astype(np.int32) for classes in (by_rule, by_truth))
    # Single objects where the task counts them.
    objects = ((connected_components(mask - 1) + 1 if dataset.task == "instances" else mask) for mask in masks)
    one, oracle = (score(found, truth, kind) for found in objects)
    return ImageScores(one, oracle=oracle)


def foreground_classes(labels: Labels, rule: str, image: Image) -> list[int]:
    """Choose the foreground among the classes of ``labels [*S]``, 1..K, 0 = ignore, without truth.

    The rule is ``not_largest`` (the class with most pixels is background), ``largest`` (only that one is foreground), or
    ``brightest`` (the class of the highest mean intensity).
    """
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    if len(ids) == 0:
        return []
    largest = int(ids[np.argmax(counts)])
    if rule == "not_largest":
        return [int(label) for label in ids if label != largest]
    if rule == "largest":
        return [largest]
    intensity = image.channels_last().astype(np.float64).mean(-1)
    means = [float(intensity[labels == label].mean()) for label in ids]
    return [int(ids[int(np.argmax(means))])]


def best_classes(labels: Labels, inside: NDArray[np.bool_], both: bool = False) -> list[int]:
    """Return the classes of ``labels [*S]``, 1..K, 0 = in no union, whose union fits the mask ``inside [*S]`` best: an oracle.

    The union with the best Dice takes all classes whose share inside the mask is above some value, so that only K unions are
    compared. With `both`, the best of these K has the best mean IoU of inside and outside: for masks that cover most of the
    image, where taking everything has a good Dice.
    """
    ids, index = np.unique(labels, return_inverse=True)
    area = np.bincount(index.ravel(), minlength=len(ids)).astype(np.float64)
    hits = np.bincount(index.ravel(), weights=inside.ravel(), minlength=len(ids))
    order = np.argsort(-hits / area, kind="stable")
    order = order[ids[order] > 0]
    if len(order) == 0:
        return []
    hit, taken, wanted = np.cumsum(hits[order]), np.cumsum(area[order]), float(inside.sum())
    fit = 2 * hit / np.maximum(taken + wanted, 1)
    if both:
        missed, rest = wanted - hit, labels.size - taken
        fit = hit / np.maximum(taken + missed, 1) + (rest - missed) / np.maximum(labels.size - hit, 1)
    return [int(label) for label in ids[order[: int(np.argmax(fit)) + 1]]]


def scales_to_json(found: ImageScores) -> dict[str, Any] | None:
    """Return the scores over scales as plain values."""
    scales = found.scales
    if scales is None:
        return None
    arrays = ("levels", "n_regions", "rand", "variation", "covered")
    return {
        **{name: getattr(scales, name).tolist() for name in arrays},
        "altitudes": None if found.altitudes is None else found.altitudes.tolist(),
        "covered_best": scales.covered_best,
        "area": scales.area,
        "boundaries": [list(astuple(one)) for one in scales.boundaries],
    }
