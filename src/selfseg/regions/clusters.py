"""Clusters in NumPy: codebooks of regions and words of pixels by k-means, and clusters brought to the number that is wanted.

`seed_centres` and `lloyd` are k-means in NumPy: scikit-learn takes a second to import, which a first look at one picture would
wait for (docs/decisions/0009). Only the codebook of more than a few hundred regions imports it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from selfseg.core.errors import UsageError
from selfseg.regions.merge_tree import MergeTree, complete_graph, merge

START = 256
"""Regions are reduced to at most this many by k-means before Ward's method, whose graph is complete."""

ROUNDS, TOLERANCE = 300, 1e-4
"""Rounds at most, and the squared way of all centres, as a share of the rows' variance, at which they have arrived."""


SAMPLES, WORD_ROUNDS = 6000, 15
"""Pixels from which words are learned, and rounds of k-means: what moves after that moves little."""


def codebook(
    rows: NDArray[Any], weights: NDArray[Any], n_entries: int | None, explained: float, max_entries: int
) -> NDArray[np.float64]:
    """Cluster regions by their features; return the entries ``[K D]``.

    Parameters
    ----------
    rows, weights
        ``[M D]`` features of the regions, and ``[M]`` what each counts.
    n_entries
        Entries wanted; fewer come back where there are fewer different regions. None or 0 = by `explained`.
    explained
        Share of the variance between regions that the entries explain, 0-1: the fewest entries that do.
    max_entries
        Never more than this, where `n_entries` is open.
    """
    rows, inverse = np.unique(np.round(rows, 6), axis=0, return_inverse=True)
    weights = np.bincount(inverse.ravel(), weights, len(rows)) if len(rows) else weights
    if len(rows) <= 1:
        return np.asarray(rows, np.float64)
    start, mass = rows, weights
    if len(rows) > START:
        from sklearn.cluster import KMeans

        with threadpool_limits(1):  # sums over threads would come in any order
            rough = KMeans(START, n_init=1, random_state=0).fit(rows, sample_weight=weights)
        start, mass = rough.cluster_centers_, np.bincount(rough.labels_, weights, START)
        start, mass = start[mass > 0], mass[mass > 0]
    tree = merge(complete_graph(mass), start, mass)
    count = min(n_entries, len(start)) if n_entries else _explaining(tree, explained, max_entries)
    cut = tree.cut(n_regions=count)
    first = np.stack([np.bincount(cut, mass * column) for column in start.T], -1) / np.bincount(cut, mass)[:, None]
    return lloyd(rows, weights, first)


def seed_centres(rows: NDArray[Any], n_clusters: int, seed: int = 0) -> NDArray[Any]:
    """Choose ``[K D]`` of the rows ``[M D]`` as first centres, far from each other: greedy k-means++.

    Each further centre is drawn with a probability that grows with its squared distance to those chosen; of 2 + ln K draws the
    one that leaves the least distance is taken (Arthur & Vassilvitskii, SODA 2007, section 7).
    """
    draws = np.random.RandomState(seed)  # scikit-learn's, whose centres stored models were made with
    exact = rows.astype(np.float64)
    squares = np.square(exact).sum(1)

    def distances(places: NDArray[np.intp]) -> NDArray[np.float64]:
        apart = squares[places, None] + squares - 2 * (exact[places] @ exact.T)
        return np.maximum(apart, 0)  # which rounding can leave it below

    chosen = [min(int(draws.random_sample() * len(rows)), len(rows) - 1)]
    nearest = distances(np.array(chosen))[0]
    for _ in range(1, n_clusters):
        cumulated = np.cumsum(nearest)
        wanted = draws.random_sample(2 + int(np.log(n_clusters))) * cumulated[-1]
        places = np.searchsorted(cumulated, wanted).clip(max=len(rows) - 1)
        reached = np.minimum(nearest, distances(places))
        best = int(reached.sum(1).argmin())
        chosen.append(int(places[best]))
        nearest = reached[best]
    return rows[chosen]


def lloyd(
    rows: NDArray[Any], weights: NDArray[Any], centres: NDArray[Any], rounds: int = ROUNDS, tolerance: float = TOLERANCE
) -> NDArray[Any]:
    """Move centres to the weighted means of the rows nearest to them, until no row changes its centre or none moves far.

    Parameters
    ----------
    rows, weights
        ``[M D]``, and ``[M]`` what each counts.
    centres
        ``[K D]`` where to begin. A centre to which no row is nearest stays where it is.
    rounds, tolerance
        Most rounds; and the squared way of all centres, as a share of the rows' variance, at which they have arrived.

    Returns
    -------
    ndarray
        ``[K D]`` of the type of the centres. As scikit-learn's `KMeans` with this start.
    """
    enough = tolerance * float(np.var(rows, axis=0).mean())
    before: NDArray[Any] | None = None
    for _ in range(rounds):
        nearest = _nearest(rows, centres)
        mass = np.bincount(nearest, weights, len(centres))
        sums = np.stack([np.bincount(nearest, weights * column, len(centres)) for column in rows.T], -1)
        moved = np.where(mass[:, None] > 0, sums / np.maximum(mass, 1e-300)[:, None], centres).astype(centres.dtype)
        shift = float(np.square(moved - centres).sum())
        centres = moved
        if shift <= enough or (before is not None and np.array_equal(nearest, before)):
            break
        before = nearest
    return centres


def _nearest(rows: NDArray[Any], centres: NDArray[Any]) -> NDArray[np.intp]:
    # |x - c|^2 without its |x|^2, which all centres share.
    return np.asarray(((centres**2).sum(1) / 2 - rows @ centres.T).argmin(1))


def _explaining(tree: MergeTree, explained: float, max_entries: int) -> int:
    """Return the fewest entries that explain the wanted share of the variance. The merges sum to all of it."""
    merges = tree.altitudes[tree.n_leaves :]
    lost = np.cumsum(merges) / max(merges.sum(), 1e-300)
    done = int(np.searchsorted(lost, 1 - explained, side="right"))
    return min(tree.n_leaves - done, max_entries)


def feature_words(features: NDArray[Any], n_words: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Give each pixel the nearest of a few typical features: words ``[*S]`` uint8, and their centres ``[K C]`` float32.

    Parameters
    ----------
    features
        ``[*S C]``, of comparable scale. NaN and inf count as 0.
    n_words
        Words wanted, 1-255; a picture with fewer different pixels gives fewer. `UsageError` if it is out of range.
    seed
        Of the sample of pixels, and of the start of k-means (k-means++).
    """
    if features.size == 0 or not 1 <= n_words <= 255:
        raise UsageError(
            "words",
            expected="some pixels, and 1 to 255 words",
            got=f"{list(features.shape)} and {n_words} words",
            fix="ask for fewer",
        )
    points = np.nan_to_num(features.reshape(-1, features.shape[-1]), posinf=0, neginf=0).astype(np.float32)
    chosen = np.random.default_rng(seed).choice(len(points), min(SAMPLES, len(points)), replace=False)
    sample = points[np.sort(chosen)]
    # Rounded, since filters answer to flat ground with what their rounding leaves.
    count = min(n_words, len(np.unique(np.round(sample, 4), axis=0)))
    start = seed_centres(sample, count, seed)
    centres = lloyd(sample, np.ones(len(sample), np.float32), start, WORD_ROUNDS, 0.0)
    return _nearest(points, centres).reshape(features.shape[:-1]).astype(np.uint8), centres


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
