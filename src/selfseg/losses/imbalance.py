"""Balance: the clusters' mean shares should not collapse into few."""

import math

from torch import Tensor

from selfseg.losses.area import soft_areas


def imbalance(probabilities: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Return the share of the greatest entropy that the mean assignment lacks: 0 for equal shares, 1 for one cluster alone.

    .. math:: L = 1 + \frac{1}{\log K} \sum_k a_k \log a_k, \qquad a_k = \frac{1}{N} \sum_n q_{nk}

    The marginal entropy of Krause, Perona & Gomes, "Discriminative Clustering by Regularized Information Maximization", NIPS 2010, eq. 2.

    Parameters
    ----------
    probabilities
        q ``[B K *S]``, summing to 1 over K; the mean is over the whole batch.
    valid
        ``[B *S]`` bool; None = all count.
    """
    shares = soft_areas(probabilities, valid)
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum()
    return 1 - entropy / math.log(max(2, len(shares)))
