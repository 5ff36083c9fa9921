"""Scores of one image, and of a dataset: some are means over images, some are pooled over pixels, segments or objects."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from selfseg.core.errors import Failure
from selfseg.measure._table import Table, pooled
from selfseg.measure.overlap import AreaSum, hungarian_class_scores, majority_class_scores

F_MEASURES = {
    "boundary_f": ("boundary_precision", "boundary_recall"),
    "lesion_f1": ("lesion_precision", "lesion_recall"),
}
"""Scores that are the harmonic mean of two others: of pooled ones where those are pooled."""


@dataclass(frozen=True)
class Scores:
    """Named scores of one image.

    Attributes
    ----------
    means
        Scores whose dataset value is the mean over images.
    pooled
        Scores whose dataset value is a sum over all images by a sum of weights: covering (by area), Kim's mIoU (by truth
        segment), Dice and IoU of a foreground (by pixel), boundary precision and recall (by boundary pixel), instance
        scores (by instance).
    """

    means: dict[str, float] = field(default_factory=dict)
    pooled: dict[str, AreaSum] = field(default_factory=dict)

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
    """
    result: dict[str, float] = {}
    for name in dict.fromkeys(name for image in images for name in image.pooled):
        parts = [image.pooled[name] for image in images if name in image.pooled]
        total, weight = sum(part.sum for part in parts), sum(part.weight for part in parts)
        result[name] = total / weight if weight else math.nan
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


@dataclass(frozen=True)
class Evaluation:
    """Scores of labels against truth.

    Attributes
    ----------
    images
        Scores by the name of the image.
    failures
        Pairs that could not be scored: name, and the one line that says why.
    without_labels
        Names in the truth for which there are no labels.
    tables
        Contingency table of each image that has one annotator and was scored as classes.
    """

    images: dict[str, Scores]
    failures: list[Failure]
    without_labels: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list, repr=False)

    def summary(self) -> dict[str, float]:
        """Return the value of every score over all images: the mean, or the pooled value (`Scores`).

        Where several images were scored as classes, ``pooled_hungarian_iou`` and its like match the classes once for all
        images, as is right where an id means the same in each: matching image by image is much kinder.
        """
        scores = summarize(list(self.images.values()))
        if len(self.tables) > 1:
            whole = pooled(self.tables)
            for name, found in (
                ("hungarian", hungarian_class_scores(whole)),
                ("majority", majority_class_scores(whole)),
            ):
                scores |= {f"pooled_{name}_iou": found.mean_iou, f"pooled_{name}_dice": found.mean_dice}
                scores |= {f"pooled_{name}_accuracy": found.accuracy}
        return scores
