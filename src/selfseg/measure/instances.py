"""Measures of objects: average precision over IoU, panoptic quality, lesions, and cells between membranes (ISBI 2012)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfseg.core.errors import InputError
from selfseg.measure._table import Counts, Floats, Labels, as_truths, check_counted, check_labels, contingency
from selfseg.measure.overlap import connected_parts
from selfseg.measure.partition import adapted_rand, information_scores

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)


@dataclass(frozen=True)
class InstanceScores:
    """Matched and unmatched instances at several IoU thresholds; those of several images are added.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import instance_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> scores = instance_scores(labels, truth)
    >>> scores.true[0].item(), scores.false[0].item(), scores.missed[0].item()
    (1, 1, 1)
    """

    thresholds: Floats
    """``[T]`` IoU that a match exceeds."""
    true: Counts
    false: Counts
    missed: Counts
    """``[T]`` matched pairs, predicted instances without a match, true instances without a match."""
    matched_iou: Floats
    """``[T]`` summed IoU of the matched pairs."""

    def __add__(self, other: "InstanceScores") -> "InstanceScores":
        if not np.array_equal(self.thresholds, other.thresholds):
            raise InputError(
                "instance scores",
                expected="equal thresholds",
                got=f"{self.thresholds.tolist()} and {other.thresholds.tolist()}",
                fix="score both alike",
            )
        true, false, missed = self.true + other.true, self.false + other.false, self.missed + other.missed
        return InstanceScores(self.thresholds, true, false, missed, self.matched_iou + other.matched_iou)

    @cached_property
    def average_precision(self) -> Floats:
        """TP / (TP + FP + FN) at each threshold, as in the Data Science Bowl 2018: ``[T]``. 1 without any instance."""
        return _ratio(self.true, self.true + self.false + self.missed)

    @cached_property
    def precision(self) -> Floats:
        """TP / (TP + FP): ``[T]``."""
        return _ratio(self.true, self.true + self.false)

    @cached_property
    def recall(self) -> Floats:
        """TP / (TP + FN): ``[T]``."""
        return _ratio(self.true, self.true + self.missed)

    @cached_property
    def f1(self) -> Floats:
        """2 TP / (2 TP + FP + FN): ``[T]``."""
        return _ratio(2 * self.true, 2 * self.true + self.false + self.missed)

    @cached_property
    def panoptic_quality(self) -> Floats:
        """Summed IoU of matches over TP + FP/2 + FN/2 (Kirillov et al. 2019, eq. 1): ``[T]``, published at 0.5."""
        return _ratio(2.0 * self.matched_iou, 2 * self.true + self.false + self.missed)

    @property
    def mean_average_precision(self) -> float:
        """Mean of `average_precision` over the thresholds."""
        return float(self.average_precision.mean())


def instance_scores(
    labels: ArrayLike,
    truth: ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
    background: int = 0,
    ignore: int | None = None,
) -> InstanceScores:
    """Match predicted with true instances one-to-one at each IoU threshold.

    A pair may match if its IoU is above the threshold (strictly, as in the Data Science Bowl and in panoptic quality).
    From 0.5 up each instance has at most one such partner. Below, the matching with most pairs is taken, and of those
    the one with the largest summed IoU.

    Parameters
    ----------
    labels, truth
        Integer arrays of equal shape: one value an instance.
    thresholds
        IoU values in 0-1.
    background
        Value of pixels of no instance, in both.
    ignore
        Truth value of pixels to leave out.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import instance_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> scores = instance_scores(labels, truth)
    >>> round(float(scores.average_precision[0]), 4), round(scores.mean_average_precision, 4)
    (0.3333, 0.1481)
    """
    table = contingency(labels, truth, ignore)
    is_row, is_column = table.row_labels != background, table.column_labels != background
    keep = is_row[table.rows] & is_column[table.columns]
    rows, columns, ious = table.rows[keep], table.columns[keep], table.ious[keep]
    levels = np.asarray(thresholds, np.float64)
    true, quality = np.zeros(len(levels), np.int64), np.zeros(len(levels))
    for k, level in enumerate(levels):
        close = ious > level
        chosen = ious[close] if level >= 0.5 else _best_pairs(rows[close], columns[close], ious[close])
        true[k], quality[k] = len(chosen), chosen.sum()
    return InstanceScores(levels, true, int(is_row.sum()) - true, int(is_column.sum()) - true, quality)


def panoptic_quality(labels: ArrayLike, truth: ArrayLike, background: int = 0, ignore: int | None = None) -> float:
    """Return the panoptic quality of one class of instances (Kirillov et al. 2019). See `instance_scores`.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import panoptic_quality
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> round(panoptic_quality(truth, truth), 4)
    1.0
    """
    return float(instance_scores(labels, truth, (0.5,), background, ignore).panoptic_quality[0])


class LesionCounts(NamedTuple):
    """Lesions, counted as connected components. Add the parts over all images, then take the scores.

    Examples
    --------
    >>> from selfseg.measure import LesionCounts
    >>> LesionCounts(found=3, lesions=4, right=3, predicted=6).f1
    0.6
    """

    found: int
    lesions: int
    """True lesions that were found, and all."""
    right: int
    predicted: int
    """Predicted components that touch a true lesion, and all."""

    @property
    def recall(self) -> float:
        """Share of lesions found; 1 if there are none."""
        return self.found / self.lesions if self.lesions else 1.0

    @property
    def precision(self) -> float:
        """Share of predicted components that are right; 1 if there are none."""
        return self.right / self.predicted if self.predicted else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of lesion-wise precision and recall."""
        both = self.precision + self.recall
        return 2.0 * self.precision * self.recall / both if both else 0.0


def lesion_counts(
    labels: ArrayLike, truth: ArrayLike, background: int = 0, ignore: int | None = None, min_pixels: int = 1
) -> LesionCounts:
    """Count lesions found and missed. Both masks are split into components (edges and corners connect).

    A lesion is found if one component covers at least `min_pixels` of it, and a predicted component is right if it
    covers several voxels of one lesion. Sizes do not matter: give the voxel-wise Dice beside it.

    Parameters
    ----------
    labels, truth
        Integer or boolean arrays of equal shape; everything but `background` is lesion.
    background
        Value of healthy pixels, in both.
    ignore
        Truth value of pixels to leave out.
    min_pixels
        Least overlap, in pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import lesion_counts
    >>> truth = np.array([[1, 1, 0, 0, 1]])
    >>> lesion_counts(np.array([[0, 1, 0, 0, 0]]), truth)
    LesionCounts(found=1, lesions=2, right=1, predicted=1)
    """
    from scipy.ndimage import label

    mask = check_labels(labels, "labels")
    target = as_truths([np.asarray(truth)], mask.shape)[0]
    counts = np.ones(mask.shape, bool) if ignore is None else target != ignore
    components = [label((a != background) & counts, np.ones((3,) * a.ndim))[0] for a in (mask, target)]
    check_counted(counts, ignore)
    table = contingency(components[0][counts], components[1][counts])
    touching = (table.row_labels[table.rows] > 0) & (table.column_labels[table.columns] > 0)
    touching &= table.counts >= min_pixels
    found, right = len(np.unique(table.columns[touching])), len(np.unique(table.rows[touching]))
    return LesionCounts(found, int((table.column_labels > 0).sum()), right, int((table.row_labels > 0).sum()))


def _best_pairs(rows: NDArray[np.intp], columns: NDArray[np.intp], ious: Floats) -> Floats:
    """Return the IoUs of the one-to-one matching with most pairs, and of those with the largest sum."""
    from scipy.optimize import linear_sum_assignment

    if len(ious) == 0:
        return ious
    _, i = np.unique(rows, return_inverse=True)
    _, j = np.unique(columns, return_inverse=True)
    shape = int(i.max()) + 1, int(j.max()) + 1
    gain = np.zeros(shape)
    # One more pair outweighs any sum of IoUs.
    gain[i, j] = ious + min(shape) + 1.0
    value = np.zeros(shape)
    value[i, j] = ious
    chosen = value[linear_sum_assignment(gain, maximize=True)]
    return chosen[chosen > 0]


def _ratio(part: NDArray[np.int64] | Floats, whole: NDArray[np.int64]) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


class ForegroundScores(NamedTuple):
    """V_rand and V_info, each with its split and merge half: 0-1, 1 = equal. Splits lower the split half.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import foreground_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> round(foreground_scores(labels, truth).rand, 4)
    0.6667
    """

    rand: float
    rand_split: float
    rand_merge: float
    info: float
    info_split: float
    info_merge: float


def foreground_scores(
    labels: ArrayLike, truth: ArrayLike, background: int = 0, thin: bool = True, components: bool = True
) -> ForegroundScores:
    """Return the foreground-restricted Rand and information scores of the ISBI 2012 challenge (Arganda-Carreras et al. 2015, 2.2).

    V_rand = sum p_ij^2 / (sum s_i^2 / 2 + sum t_j^2 / 2) and V_info = 2 I(S;T) / (H(S) + H(T)), over the pixels whose
    truth is not background. Background pixels of the segmentation among them are regions of one pixel each, as the
    challenge's own program counts them for V_rand; here for V_info too. The challenge scores each slice and takes the
    mean over slices.

    Parameters
    ----------
    labels, truth
        Integer or boolean arrays of equal shape; `background` = membrane, anything else = cell.
    background
        Value of the membrane in both.
    thin
        Thin the membranes of the segmentation to one pixel first (see `thin_borders`), so that their width does not
        matter. The truth is left as it is: its wide membranes are the tolerance.
    components
        Split both into face-connected components first. False = equal labels are one object, however far apart.

    Raises
    ------
    InputError
        As in `contingency`; also if the truth is all background.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import foreground_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> scores = foreground_scores(labels, truth)
    >>> round(scores.rand_split, 4), round(scores.rand_merge, 4)
    (0.75, 0.6)
    """
    proposal = check_labels(labels, "labels")
    target = as_truths([np.asarray(truth)], proposal.shape)[0]
    inside = target != background
    if not inside.any():
        raise InputError(
            "truth",
            expected="some foreground",
            got=f"only background {background} in the whole truth of shape {target.shape}",
            fix="check the background label",
        )
    proposal = _objects(proposal, background, components)
    target = _objects(target, background, components)
    proposal = thin_borders(proposal) if thin else proposal
    s = proposal[inside]
    alone = s == 0
    s[alone] = int(s.max()) + 1 + np.arange(int(alone.sum()))
    table = contingency(s, target[inside])
    pairs, bits = adapted_rand(table), information_scores(table)
    both = bits.entropy_labels + bits.entropy_truth
    info = 2.0 * bits.mutual / both if both else 1.0
    return ForegroundScores(1.0 - pairs.error, pairs.recall, pairs.precision, info, bits.completeness, bits.homogeneity)


def thin_borders(labels: ArrayLike, background: int = 0) -> NDArray[np.int64]:
    """Return the labels with borders of one pixel: every region grows evenly into the background, and lines are left.

    Parameters
    ----------
    labels
        Integer array ``[*S]``. Regions that touch already keep touching.
    background
        Value of the border pixels; it is the value of the thin lines too.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import thin_borders
    >>> thin_borders(np.array([[1, 0, 0, 0, 2]]))
    array([[1, 1, 0, 2, 2]])
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.segmentation import watershed

    array = check_labels(labels, "labels").astype(np.int64)
    border = array == background
    if border.all() or not border.any():
        return array
    values, markers = np.unique(array[~border], return_inverse=True)
    seeds = np.zeros(array.shape, np.int64)
    seeds[~border] = markers + 1
    grown = watershed(distance_transform_edt(border), seeds, watershed_line=True)
    thinned: NDArray[np.int64] = np.concatenate([[background], values])[grown]
    return thinned


def _objects(labels: Labels, background: int, components: bool) -> NDArray[np.int64]:
    """Name the objects 1, 2, ... and the background 0."""
    outside = labels == background
    names = connected_parts(labels) if components else np.unique(labels, return_inverse=True)[1].astype(np.int64) + 1
    named = names.reshape(labels.shape).copy()
    named[outside] = 0
    return named
