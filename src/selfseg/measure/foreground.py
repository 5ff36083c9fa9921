"""The scores of the ISBI 2012 challenge: Rand and information, in the truth's foreground, borders thinned."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfseg.core.errors import InputError
from selfseg.measure._table import Labels, as_truths, check_labels, contingency
from selfseg.measure.overlap import connected_parts
from selfseg.measure.partition import adapted_rand, information_scores


class ForegroundScores(NamedTuple):
    """V_rand and V_info, each with its split and merge half: 0-1, 1 = equal. Splits lower the split half."""

    rand: float
    rand_split: float
    rand_merge: float
    info: float
    info_split: float
    info_merge: float


def foreground_scores(
    labels: ArrayLike, truth: ArrayLike, background: int = 0, thin: bool = True, components: bool = True
) -> ForegroundScores:
    """Return the foreground-restricted Rand and information scores (Arganda-Carreras et al. 2015, 2.2).

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
    """
    proposal = check_labels(labels, "labels")
    target = as_truths([np.asarray(truth)], proposal.shape)[0]
    inside = target != background
    if not inside.any():
        got = f"only background {background} in the whole truth of shape {target.shape}"
        raise InputError("truth", expected="some foreground", got=got, fix="check the background label")
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
