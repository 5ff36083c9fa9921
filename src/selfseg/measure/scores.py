"""All region scores of one segmentation at once, from one table an annotator."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from selfseg.measure._table import Table, contingencies
from selfseg.measure.overlap import best_ious, covering_sum
from selfseg.measure.partition import adapted_rand, adjusted_mutual, information_scores, pair_scores


def region_scores(
    labels: ArrayLike, truths: ArrayLike | Sequence[ArrayLike], ignore: int | None = None
) -> dict[str, float]:
    """Return every region score of one segmentation against one or several annotators.

    All are means over annotators, except the covering, which is pooled by area (with equal areas that is the same).

    Parameters
    ----------
    labels
        Integer array ``[*S]``.
    truths
        One annotator ``[*S]``, or several: a sequence, or an array ``[A *S]``.
    ignore
        Truth value of pixels to leave out.

    Returns
    -------
    dict
        ``covering``, ``probabilistic_rand_index``, ``variation_of_information`` (bits), ``split``, ``merge`` (bits),
        ``adjusted_rand_index``, ``adapted_rand_error``, ``fowlkes_mallows``, ``adjusted_mutual_information``,
        ``homogeneity``, ``completeness``, ``v_measure``, ``mean_best_iou`` (the segmentation is
        not split into components), ``n_regions`` (label values in the segmentation).
    """
    tables = contingencies(labels, truths, ignore)
    rows = [_one(table) for table in tables]
    sums = [covering_sum(table) for table in tables]
    return {
        "covering": sum(part.sum for part in sums) / sum(part.weight for part in sums),
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
