"""Measures of overlap between regions or classes: Berkeley's covering, IoU and Dice, Kim's best-overlap mIoU."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfseg.core.errors import UsageError
from selfseg.measure._table import Counts, Floats, Labels, Table, Truths, as_truths, check_labels, contingencies


class AreaSum(NamedTuple):
    """A weighted sum and its weight. `pool` those of all images, then take the `ratio`: that is the pooled score.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import covering_sums
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> from selfseg.measure.overlap import pool
    >>> pool([covering_sums(labels, [truth]), covering_sums(truth, [truth])]).ratio
    0.7916666666666666
    """

    sum: float
    weight: float

    @property
    def ratio(self) -> float:
        """The sum over the weight; NaN where the weight is 0."""
        return self.sum / self.weight if self.weight else math.nan


def pool(parts: Iterable[AreaSum]) -> AreaSum:
    """Return the sum of sums and the sum of weights."""
    sums, weights = zip(*parts, strict=True)
    return AreaSum(sum(sums), sum(weights))


def best_ious(table: Table) -> Floats:
    """Return, for each truth region, the largest IoU that a region of the segmentation has with it: ``[C]``."""
    best = np.zeros(len(table.column_labels))
    np.maximum.at(best, table.columns, table.ious)
    return best


def covering_sum(table: Table) -> AreaSum:
    """Return the sum over truth regions of area x best IoU, and the area, of one annotator."""
    return AreaSum(float((table.column_sums * best_ious(table)).sum()), float(table.total))


def covering_sums(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> AreaSum:
    """Return the covering of one image as a sum over all annotators and its area, in pixels, to be pooled over images.

    See `contingencies` for the arguments.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import covering_sums
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> covering_sums(labels, [truth])
    AreaSum(sum=4.666666666666666, weight=8.0)
    """
    return pool(covering_sum(table) for table in contingencies(labels, truths, ignore))


def covering(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> float:
    """Return the covering of the truth by the segmentation, pooled by area over annotators: 0-1, 1 = equal.

    Each truth region takes the best IoU that a region of the segmentation has with it; the mean is weighted by area
    (Arbelaez, Maire, Fowlkes & Malik 2011, eq. 10, direction and pooling as in the Berkeley bench). Many truth regions
    may take the same region. See `contingencies` for the arguments, and `covering_sums` for pooling over a dataset.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import covering
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> round(covering(labels, [truth, labels]), 4)
    0.7917
    """
    return covering_sums(labels, truths, ignore).ratio


@dataclass(frozen=True)
class ClassScores:
    """Scores of each truth class under one mapping of segmentation labels to truth classes.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import contingency, same_class_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> scores = same_class_scores(contingency(labels, truth))
    >>> scores.iou.round(3).tolist(), scores.dice.round(3).tolist()
    ([0.667, 0.5], [0.8, 0.667])
    """

    classes: Counts
    """``[C]`` label values of the truth, ascending."""
    intersection: Counts
    predicted: Counts
    area: Counts
    """``[C]`` pixels: right, given to the class, and of the class."""
    mapping: dict[int, int]
    """Truth class of each label of the segmentation that has one. A label without one is wrong everywhere."""

    @cached_property
    def iou(self) -> Floats:
        """Intersection over union of each class: ``[C]``. 0 for a class that no label stands for."""
        return self.intersection / (self.predicted + self.area - self.intersection)

    @cached_property
    def dice(self) -> Floats:
        """Dice coefficient of each class: ``[C]``."""
        return 2.0 * self.intersection / (self.predicted + self.area)

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes of the truth."""
        return float(self.iou.mean())

    @property
    def mean_dice(self) -> float:
        """Mean Dice coefficient over the classes of the truth."""
        return float(self.dice.mean())

    @property
    def accuracy(self) -> float:
        """Share of pixels whose mapped class is right."""
        return float(self.intersection.sum() / self.area.sum())


def same_class_scores(table: Table) -> ClassScores:
    """Return the scores of each class where equal ids mean the same class: no matching (Dice of a mask, for one).

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import contingency, same_class_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> round(same_class_scores(contingency(labels, truth)).mean_iou, 4)
    0.5833
    """
    shared = {int(value): int(value) for value in np.intersect1d(table.row_labels, table.column_labels)}
    return _class_scores(table, shared)


def hungarian_class_scores(table: Table) -> ClassScores:
    """Return class scores under the one-to-one matching of labels to classes that makes the summed IoU largest.

    Where there are more labels than classes, the rest stand for no class; where fewer, some classes score 0. Matching
    each image on its own is much kinder than one matching for a dataset: tables that are `pooled` over images give the latter.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import contingency, hungarian_class_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> hungarian_class_scores(contingency(3 - truth, truth)).mapping
    {1: 2, 2: 1}
    """
    from scipy.optimize import linear_sum_assignment

    ious = np.zeros((len(table.row_labels), len(table.column_labels)))
    ious[table.rows, table.columns] = table.ious
    rows, columns = linear_sum_assignment(ious, maximize=True)
    pairs = [(i, j) for i, j in zip(rows, columns, strict=True) if ious[i, j] > 0]
    return _class_scores(table, {int(table.row_labels[i]): int(table.column_labels[j]) for i, j in pairs})


def majority_class_scores(table: Table) -> ClassScores:
    """Return class scores after giving each label to the truth class that most of its pixels have: many to one.

    It rewards cutting up: with a label a pixel it is perfect. Compare only segmentations of equally many labels. The
    lower class wins a tie.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import contingency, majority_class_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> majority_class_scores(contingency(labels, truth)).accuracy
    0.75
    """
    order = np.lexsort((-table.columns, table.counts, table.rows))
    last = order[np.flatnonzero(np.diff(table.rows[order], append=len(table.row_labels)))]
    targets = table.column_labels[table.columns[last]]
    return _class_scores(table, dict(zip(table.row_labels.tolist(), targets.tolist(), strict=True)))


def _class_scores(table: Table, mapping: dict[int, int]) -> ClassScores:
    column_of = {int(value): j for j, value in enumerate(table.column_labels)}
    targets = [mapping.get(int(value)) for value in table.row_labels]
    target = np.array([-1 if value is None else column_of[value] for value in targets], dtype=np.intp)
    mapped = target >= 0
    n = len(table.column_labels)
    predicted = np.bincount(target[mapped], table.row_sums[mapped], n).astype(np.int64)
    right = target[table.rows] == table.columns
    intersection = np.bincount(table.columns[right], table.counts[right], n).astype(np.int64)
    return ClassScores(table.column_labels, intersection, predicted, table.column_sums, mapping)


Annotators = Literal["all", "fine", "coarse"]


def best_overlap_sums(
    labels: ArrayLike,
    truths: Truths,
    annotators: Annotators = "all",
    ignore: int | None = None,
    components: bool = True,
) -> AreaSum:
    """Return the summed best IoU over truth segments of one image, and their number, to be pooled over images.

    The protocol of Kim, Kanezaki & Tanaka 2020: the segmentation is split into connected components (4-connected in
    2D), then each truth segment takes the component of largest IoU, many to one. Every truth segment of every image
    weighs the same. The truth is not split, and ignored pixels split no component. It rewards oversegmentation: report it for
    comparison only. See `contingencies` for the other arguments.

    Parameters
    ----------
    annotators
        ``"all"``; ``"fine"`` = only the annotator with most segments, ``"coarse"`` = with fewest (the first of equals).
    components
        False where `labels` are components already.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import best_overlap_sums
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> best_overlap_sums(labels, [truth])
    AreaSum(sum=1.1666666666666665, weight=2.0)
    """
    segmentation = check_labels(labels, "labels")
    chosen = _choose(as_truths(truths, segmentation.shape), annotators)
    split = connected_parts(segmentation) if components else segmentation
    ious = [best_ious(table) for table in contingencies(split, chosen, ignore)]
    return AreaSum(float(sum(part.sum() for part in ious)), float(sum(len(part) for part in ious)))


def best_overlap_miou(
    labels: ArrayLike, truths: Truths, annotators: Annotators = "all", ignore: int | None = None
) -> float:
    """Return Kim et al.'s best-overlap mean IoU of one image. See `best_overlap_sums`, also for pooling.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import best_overlap_miou
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> round(best_overlap_miou(labels, [truth, labels]), 4)
    0.7917
    """
    return best_overlap_sums(labels, truths, annotators, ignore).ratio


def connected_parts(labels: Labels) -> NDArray[np.int64]:
    """Return the face-connected components of equal label, in up to three dimensions, numbered from 1 by their first pixels."""
    from selfseg.regions.graph import (
        connected_components,  # here: numba is slow to import, and most measures do without
    )

    return connected_components(labels.astype(np.int64) - int(labels.min())).astype(np.int64) + 1


def _choose(truths: list[Labels], annotators: Annotators) -> list[Labels]:
    if annotators == "all":
        return truths
    if annotators not in ("fine", "coarse"):
        raise UsageError("annotators", expected="all, fine or coarse", got=repr(annotators), fix="choose one")
    counts = [len(np.unique(truth)) for truth in truths]
    return [truths[int(np.argmax(counts) if annotators == "fine" else np.argmin(counts))]]
