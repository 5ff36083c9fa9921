"""All scores of one image by the kind of its truth (regions, classes, instances, ...), and their values for a dataset."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from selfseg.core.errors import Failure, UsageError
from selfseg.measure._table import Labels, Table, Truths, as_truths, check_counted, check_labels, contingencies, pooled
from selfseg.measure.boundary import boundary_counts
from selfseg.measure.instances import foreground_scores, instance_scores, lesion_counts
from selfseg.measure.overlap import (
    AreaSum,
    best_ious,
    best_overlap_sums,
    connected_parts,
    covering_sum,
    hungarian_class_scores,
    majority_class_scores,
    pool,
)
from selfseg.measure.partition import adapted_rand, adjusted_mutual, information_scores, pair_scores

F_MEASURES = {
    "boundary_f": ("boundary_precision", "boundary_recall"),
    "lesion_f1": ("lesion_precision", "lesion_recall"),
}
"""Scores that are the harmonic mean of two others: of pooled ones where those are pooled."""


@dataclass(frozen=True)
class Scores:
    """Named scores of one image.

    Examples
    --------
    >>> from selfseg.measure import Scores
    >>> Scores(means={"rand": 0.9}).row()
    {'rand': 0.9}
    """

    means: dict[str, float] = field(default_factory=dict)
    """Scores whose dataset value is the mean over images."""
    pooled: dict[str, AreaSum] = field(default_factory=dict)
    """Scores whose dataset value is a sum over all images by a sum of weights: covering (by area), Kim's mIoU (by truth
    segment), Dice and IoU of a foreground (by pixel), boundary precision and recall (by boundary pixel), instance
    scores (by instance)."""

    def row(self) -> dict[str, float]:
        """Return every score of this image as one number; NaN where there was nothing to score."""
        return summarize([self])

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` takes back."""
        return {"means": self.means, "pooled": {name: list(part) for name, part in self.pooled.items()}}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Scores":
        """Make scores of the values of `to_json`."""
        return cls(dict(values["means"]), {name: AreaSum(*part) for name, part in values["pooled"].items()})


def summarize(images: Sequence[Scores]) -> dict[str, float]:
    """Return the dataset value of every score that any of the images has.

    An image without a score (or with NaN) is left out of its mean. Pooled scores divide the summed parts by the summed
    weights, and are NaN where the weights sum to 0.

    Examples
    --------
    >>> from selfseg.measure import Scores, summarize
    >>> summarize([Scores(means={"rand": 0.9}), Scores(means={"rand": 0.7})])
    {'rand': 0.8}
    """
    result: dict[str, float] = {}
    for name in dict.fromkeys(name for image in images for name in image.pooled):
        result[name] = pool(image.pooled[name] for image in images if name in image.pooled).ratio
        for f_name, (first, second) in F_MEASURES.items():
            if name in (first, second) and first in result and second in result:
                result[f_name] = _harmonic(result[first], result[second])
    for name in dict.fromkeys(name for image in images for name in image.means):
        values = [image.means[name] for image in images if not math.isnan(image.means.get(name, math.nan))]
        result[name] = math.fsum(values) / len(values) if values else math.nan
    return result


def _harmonic(precision: float, recall: float) -> float:
    """Return the F measure; NaN stands for "there was none": 1 if neither side has any, 0 if only one has."""
    if math.isnan(precision) or math.isnan(recall):
        return float(math.isnan(precision) and math.isnan(recall))
    both = precision + recall
    return 2.0 * precision * recall / both if both else 0.0


def region_scores(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> dict[str, float]:
    """Return every region score of one segmentation against one or several annotators.

    All are means over annotators, except the covering, which is pooled by area (with equal areas that is the same).
    See `contingencies` for the arguments.

    Returns
    -------
    dict
        ``covering``, ``probabilistic_rand_index``, ``variation_of_information`` (bits), ``split``, ``merge`` (bits),
        ``adjusted_rand_index``, ``adapted_rand_error``, ``fowlkes_mallows``, ``adjusted_mutual_information``,
        ``homogeneity``, ``completeness``, ``v_measure``, ``mean_best_iou`` (the segmentation is not split into components),
        ``n_regions`` (label values in the segmentation).

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import region_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> round(region_scores(labels, [truth])["covering"], 4)
    0.5833
    """
    tables = contingencies(labels, truths, ignore)
    rows = [_one(table) for table in tables]
    return {
        "covering": pool(map(covering_sum, tables)).ratio,
        **{name: float(np.mean([row[name] for row in rows])) for name in rows[0]},
        "n_regions": float(max(len(table.row_labels) for table in tables)),
    }


def _one(table: Table) -> dict[str, float]:
    pairs, bits = pair_scores(table), information_scores(table)
    return {
        "probabilistic_rand_index": pairs.rand,
        "variation_of_information": bits.split + bits.merge,
        "split": bits.split,
        "merge": bits.merge,
        "adjusted_rand_index": pairs.adjusted_rand,
        "adapted_rand_error": adapted_rand(table).error,
        "fowlkes_mallows": pairs.fowlkes_mallows,
        "adjusted_mutual_information": adjusted_mutual(table),
        "homogeneity": bits.homogeneity,
        "completeness": bits.completeness,
        "v_measure": bits.v_measure,
        "mean_best_iou": float(best_ious(table).mean()),
    }


def region_kind(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> Scores:
    """Score a partition against one or several annotators by the measures of regions alone."""
    means = region_scores(labels, truths, ignore)
    covering, counts = means.pop("covering"), (truth != ignore for truth in _annotators(labels, truths))
    area = float(sum(int(np.count_nonzero(inside)) for inside in counts))
    return Scores(means, {"covering": AreaSum(covering * area, area)})


def partition_kind(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> Scores:
    """Score a partition against one or several annotators: region measures, boundary F, Kim's best-overlap mIoU."""
    regions = region_kind(labels, truths, ignore)
    edges = boundary_counts(labels, truths, ignore=ignore)
    parts = connected_parts(np.asarray(labels).astype(np.int64))
    pooled = {
        **regions.pooled,
        "boundary_precision": AreaSum(edges.matched_labels, edges.of_labels),
        "boundary_recall": AreaSum(edges.matched_truth, edges.of_truth),
    }
    for which in ("all", "fine", "coarse"):
        name = "best_overlap_miou" if which == "all" else f"best_overlap_miou_{which}"
        pooled[name] = best_overlap_sums(parts, truths, which, ignore, components=False)
    return Scores(regions.means, pooled)


def class_kind(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> Scores:
    """Score classes under two matchings made with the truth of this image: one to one (Hungarian), and by majority."""
    parts = []
    for table in contingencies(labels, truths, ignore):
        parts.append(Scores(_class_means(table)))
    return _over_annotators(parts)


def _class_means(table: Table) -> dict[str, float]:
    means: dict[str, float] = {}
    for name, found in (("hungarian", hungarian_class_scores(table)), ("majority", majority_class_scores(table))):
        means |= {f"{name}_iou": found.mean_iou, f"{name}_dice": found.mean_dice, f"{name}_accuracy": found.accuracy}
    return means


def instance_kind(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> Scores:
    """Score instances (0 = none): average precision at IoU 0.5, 0.7, 0.9 and its mean, F1, panoptic quality, Dice and IoU."""
    parts = []
    for truth in _annotators(labels, truths):
        found = instance_scores(labels, truth, ignore=ignore)
        mask = mask_kind(labels, truth, ignore)
        pooled = mask.pooled
        for level in (0.5, 0.7, 0.9):
            k = int(np.argmin(np.abs(found.thresholds - level)))
            both = int(found.true[k] + found.false[k] + found.missed[k])
            pooled[f"ap_{round(100 * level)}"] = AreaSum(float(found.true[k]), float(both))
        true, other = int(found.true[0]), int(found.false[0] + found.missed[0])
        pooled["f1_50"] = AreaSum(2.0 * true, 2.0 * true + other)
        pooled["panoptic_quality"] = AreaSum(2.0 * float(found.matched_iou[0]), 2.0 * true + other)
        parts.append(Scores({**mask.means, "mean_ap": found.mean_average_precision}, pooled))
    return _over_annotators(parts)


def mask_kind(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> Scores:
    """Score a mask (0 = outside, anything else = inside): Dice, IoU, pixel accuracy, pooled and per image."""
    inside = np.asarray(labels) != 0
    parts = []
    for truth in _annotators(labels, truths):
        counts = np.ones(inside.shape, bool) if ignore is None else truth != ignore
        check_counted(counts, ignore)
        wanted = (truth != 0) & counts
        both, ours, theirs = (int(m.sum()) for m in (inside & wanted, inside & counts, wanted))
        right = int(((inside == wanted) & counts).sum())
        dice, iou = AreaSum(2.0 * both, ours + theirs), AreaSum(both, ours + theirs - both)
        per_image = {
            f"mean_{name}": part.ratio if part.weight else 1.0 for name, part in (("dice", dice), ("iou", iou))
        }
        parts.append(Scores(per_image, {"dice": dice, "iou": iou, "accuracy": AreaSum(right, int(counts.sum()))}))
    return _over_annotators(parts)


def membrane_kind(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> Scores:
    """Score cells between membranes (0 = membrane) as the ISBI 2012 challenge does: V_rand, V_info; and the mask's Dice."""
    if ignore is not None:
        raise UsageError(
            "membranes", expected="no ignore label", got=str(ignore), fix="leave --ignore out for this kind"
        )
    found = [foreground_scores(labels, truth) for truth in _annotators(labels, truths)]
    names = {"v_rand": "rand", "v_info": "info", "v_rand_split": "rand_split", "v_rand_merge": "rand_merge"}
    both = _over_annotators([Scores({name: getattr(one, part) for name, part in names.items()}) for one in found])
    mask = mask_kind(labels, truths)
    return Scores({**both.means, **mask.means}, mask.pooled)


def lesion_kind(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> Scores:
    """Score lesions (0 = healthy): Dice and IoU by voxel, precision and recall by lesion."""
    parts = []
    for truth in _annotators(labels, truths):
        found = lesion_counts(labels, truth, ignore=ignore)
        precision, recall = AreaSum(found.right, found.predicted), AreaSum(found.found, found.lesions)
        parts.append(Scores({}, {"lesion_precision": precision, "lesion_recall": recall}))
    mask = mask_kind(labels, truths, ignore)
    return Scores(mask.means, {**mask.pooled, **_over_annotators(parts).pooled})


def _annotators(labels: ArrayLike, truths: Truths) -> list[Labels]:
    return as_truths(truths, check_labels(labels, "labels").shape)


def _over_annotators(parts: Sequence[Scores]) -> Scores:
    """Return the means of means and the sums of sums."""
    means = {name: float(np.mean([part.means[name] for part in parts])) for name in parts[0].means}
    return Scores(means, {name: pool(part.pooled[name] for part in parts) for name in parts[0].pooled})


KINDS: Mapping[str, Callable[[ArrayLike, Truths, int | None], Scores]] = {
    "regions": partition_kind,
    "classes": class_kind,
    "instances": instance_kind,
    "mask": mask_kind,
    "membranes": membrane_kind,
    "lesions": lesion_kind,
}


def score(labels: ArrayLike, truths: Truths, kind: str = "regions", ignore: int | None = None) -> Scores:
    """Return all scores of one image. See `contingencies` for the other arguments.

    Parameters
    ----------
    kind
        ``regions`` (a partition), ``classes`` (ids of either side are matched), ``instances`` (0 = none), ``mask``,
        ``membranes`` (ISBI 2012; 0 = membrane), ``lesions`` (0 = healthy).

    Raises
    ------
    InputError
        If an array is not of integers, shapes differ, or every pixel is ignored.
    UsageError
        If there is no such kind.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import score
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> round(score(labels, [truth]).row()["covering"], 4)
    0.5833
    """
    if kind not in KINDS:
        raise UsageError("kind", expected=f"one of {', '.join(KINDS)}", got=repr(kind), fix="choose one")
    return KINDS[kind](labels, truths, ignore)


@dataclass(frozen=True)
class Evaluation:
    """Scores of labels against truth."""

    images: dict[str, Scores]
    """Scores by the name of the image."""
    failures: list[Failure]
    """Pairs that could not be scored: name, and the reason in one line."""
    without_labels: list[str] = field(default_factory=list)
    """Names in the truth for which there are no labels."""
    tables: list[Table] = field(default_factory=list, repr=False)
    """Contingency table of each image that has one annotator and was scored as classes."""

    def summary(self) -> dict[str, float]:
        """Return the value of every score over all images: the mean, or the pooled value (`Scores`).

        Where several images were scored as classes, ``pooled_hungarian_iou`` and its like match the classes once for all
        images, as is right where an id means the same in each: matching image by image is much kinder.
        """
        scores = summarize(list(self.images.values()))
        if len(self.tables) > 1:
            scores |= {f"pooled_{name}": value for name, value in _class_means(pooled(self.tables)).items()}
        return scores
