"""K-means as several baselines use it: Lloyd's, on one thread, of a sample of the pixels."""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from selfseg.core.seed import derive, generator

N_SAMPLED = 10_000
"""Rows that centres are found from; all rows are then given to the nearest centre."""

N_STARTS = 3
"""Starts by k-means++, of which the one with the least squared distance is kept."""


def k_means(
    features: NDArray[np.floating], n_clusters: int, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.floating]]:
    """Cluster rows by k-means.

    Parameters
    ----------
    features
        ``[N F]``, N at least 1.
    n_clusters
        K, 1 or more. Fewer are found where fewer of the rows differ.
    seed
        Chooses the sample and the starts.

    Returns
    -------
    clusters, distances
        ``[N]`` the cluster of each row, 0..K-1, and ``[N]`` its distance to the centre of that cluster.
    """
    sample = features
    if len(features) > N_SAMPLED:
        sample = features[generator(seed, "k-means").choice(len(features), N_SAMPLED, replace=False)]
    # scikit-learn warns where centres would coincide.
    n_clusters = min(n_clusters, len(np.unique(sample, axis=0)))
    model = KMeans(n_clusters, n_init=N_STARTS, random_state=derive(seed, "k-means") % 2**32)
    # Two threads would add up in another order from run to run, and the caller has one image for each core.
    with threadpool_limits(1):
        model.fit(sample)
        clusters = model.predict(features)
    return clusters, np.linalg.norm(features - model.cluster_centers_[clusters], axis=1)
