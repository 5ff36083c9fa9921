"""Groups of clusters: the closest pair merges, again and again, down to the number that is wanted."""

import numpy as np
from numpy.typing import NDArray


def merge_closest(
    means: NDArray[np.floating], sizes: NDArray[np.integer], apart: NDArray[np.bool_], n_groups: int
) -> NDArray[np.int64]:
    """Merge clusters to `n_groups`: always the pair whose union adds least squared error.

    The error that a union adds is ``n_a n_b / (n_a + n_b) |m_a - m_b|^2`` (Ward, JASA 58, 1963). For a few hundred clusters; the
    merge tree over superpixels is `regions.merge_tree`.

    Parameters
    ----------
    means
        ``[R D]``, mean of each cluster.
    sizes
        ``[R]``, positive.
    apart
        ``[R]``: two clusters that both carry True are never merged, unless `n_groups` cannot be reached otherwise.
    n_groups
        From 1 to R.

    Returns
    -------
    ndarray
        ``[R]`` int64, the group 0..n_groups-1 of each cluster, numbered by their first cluster.
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
