"""Clusters brought to the number that is wanted: the closest pair merges, again and again; or a dead one is raised until it wins."""

import numpy as np
from numpy.typing import NDArray


def merge_closest(
    means: NDArray[np.floating], sizes: NDArray[np.integer], apart: NDArray[np.bool_], n_groups: int
) -> NDArray[np.int64]:
    """Merge clusters to `n_groups`, always the pair whose union adds least squared error; return the group of each ``[R]``.

    The error that a union adds is ``n_a n_b / (n_a + n_b) |m_a - m_b|^2`` (Ward, JASA 58, 1963). For a few hundred clusters; the
    merge tree over superpixels is `regions.merge_tree`. Groups are numbered by their first cluster.

    Parameters
    ----------
    means, sizes
        ``[R D]`` mean, and ``[R]`` size above 0, of each cluster.
    apart
        ``[R]``: two clusters that both carry True are never merged, unless `n_groups` cannot be reached otherwise.
    n_groups
        From 1 to R.
    """
    means, sizes, apart = means.astype(np.float64), sizes.astype(np.float64), apart.copy()
    group = np.arange(len(means))
    closed = np.eye(len(means), dtype=bool)
    for _ in range(len(means) - n_groups):
        distance = ((means[:, None] - means[None]) ** 2).sum(-1)
        cost = np.where(closed, np.inf, distance * sizes[:, None] * sizes / (sizes[:, None] + sizes))
        held = np.where(apart[:, None] & apart, np.inf, cost)
        cost = held if np.isfinite(held).any() else cost
        first, second = sorted(divmod(int(cost.argmin()), len(means)))
        total = sizes[first] + sizes[second]
        means[first] = (sizes[first] * means[first] + sizes[second] * means[second]) / total
        sizes[first], apart[first] = total, apart[first] | apart[second]
        closed[second], closed[:, second] = True, True
        group[group == second] = first
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def merge_by_cut(association: NDArray[np.floating], volume: NDArray[np.floating], n_groups: int) -> NDArray[np.int64]:
    """Merge soft segments to `n_groups`, always the pair whose union leaves the smallest normalised cut; return groups ``[K]``.

    With the association ``A_ab = p_a' W p_b`` ``[K K]`` and the volume ``V_a = p_a' W 1`` ``[K]``, the cut of K segments is
    ``K - sum_a A_aa / V_a`` (Xia & Kulis 2017, eq. 5), and that of a union follows from A and V alone. Groups are numbered by their first.
    """
    inside, sizes = association.astype(np.float64), volume.astype(np.float64)
    group = np.arange(len(sizes))
    closed = np.eye(len(sizes), dtype=bool)
    for _ in range(len(sizes) - n_groups):
        kept = inside.diagonal() / np.maximum(sizes, 1e-30)
        union = np.add.outer(inside.diagonal(), inside.diagonal()) + inside + inside.T
        gain = union / np.maximum(np.add.outer(sizes, sizes), 1e-30) - np.add.outer(kept, kept)
        first, second = sorted(divmod(int(np.where(closed, -np.inf, gain).argmax()), len(sizes)))
        inside[first] += inside[second]
        inside[:, first] += inside[:, second]
        sizes[first] += sizes[second]
        closed[second], closed[:, second] = True, True
        group[group == second] = first
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def winning_offsets(
    logits: NDArray[np.floating], weights: NDArray[np.floating], wanted: int, least: float
) -> NDArray[np.float64]:
    """Return what must be added to each cluster's logit so that at least `wanted` clusters win somewhere.

    Again and again, of the clusters that win less than `least`, the one that can win the share ``max(2 least, 1 / (4 wanted))`` with
    the smallest offset is raised by it.

    Parameters
    ----------
    logits
        ``[K N]``, finite; the largest of a column wins it.
    weights
        ``[N]``, 0 or more.
    wanted
        From 1 to K.
    least
        Share of all weight, 0-1, that a cluster must exceed to count as living.

    Returns
    -------
    ndarray
        ``[K]``, 0 or more. Where columns are few or alike, fewer clusters than `wanted` may live even so.
    """
    raised, offsets, total = logits.astype(np.float64), np.zeros(len(logits)), float(weights.sum())
    share = max(2 * least, 1 / (4 * wanted)) * total
    for _ in range(4 * len(logits)):  # one that is raised can win the last column of another
        won = np.bincount(raised.argmax(0), weights, len(logits))
        dead = np.flatnonzero(won <= least * total)
        if len(logits) - len(dead) >= wanted:
            break
        short = raised.max(0) - raised[dead]  # by how much each fails to win, column by column
        order = short.argsort(1)
        enough = np.minimum((weights[order].cumsum(1) < share).sum(1), len(weights) - 1)
        lifts = np.take_along_axis(short, np.take_along_axis(order, enough[:, None], 1), 1)[:, 0]
        lift, cluster = float(lifts.min()) * (1 + 1e-6) + 1e-6, dead[lifts.argmin()]
        raised[cluster] += lift
        offsets[cluster] += lift
    return offsets
