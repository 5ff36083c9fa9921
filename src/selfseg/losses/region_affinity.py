"""Weights of the normalised cut between superpixels that touch: alike in colour, long in common boundary, large."""

import torch
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.losses.edge_affinity import EdgeAffinity, edge_affinity


def region_affinity(
    edges: Tensor,
    distances: Tensor,
    n_nodes: int,
    tau: float = -1.0,
    lengths: Tensor | None = None,
    sizes: Tensor | None = None,
) -> EdgeAffinity:
    r"""Return the affinity of the soft normalised cut on a superpixel graph; nodes have no weight to themselves.

    .. math:: w_{ij} = \exp(\tau d_{ij}) \; \frac{l_{ij}}{\bar l} \; \frac{n_i n_j}{\bar n^2}

    Parameters
    ----------
    edges
        ``[E 2]`` integers, each pair of neighbours once.
    distances
        d ``[E]`` floating: how far the mean colours of the two are apart.
    n_nodes
        Number of superpixels R.
    tau
        :math:`\tau`, below 0 for weights that fall with the distance, in 1 / unit of the distances.
    lengths
        l ``[E]``: boundary that two share. None = the factor is left out, as in the origin.
    sizes
        n ``[R]``: pixels of each. None = the factor is left out, as in the origin.

    Raises
    ------
    UsageError
        If shapes or values do not fit, or the weights overflow.

    References
    ----------
    Leng et al., "Unsupervised few-shot image segmentation with dense feature learning and sparse clustering", VISAPP 2024: the
    first factor (tau_cut).
    """
    weights = torch.exp(tau * distances)
    for name, values, n in (("lengths", lengths, len(edges)), ("sizes", sizes, n_nodes)):
        if values is not None and values.shape != (n,):
            got = str(tuple(values.shape))
            raise UsageError(name, expected=f"shape ({n},)", got=got, fix="use one superpixel graph")
    if lengths is not None and len(lengths):
        weights = weights * (lengths / lengths.to(weights).mean())
    if sizes is not None and len(edges):
        shares = sizes.to(weights) / sizes.to(weights).mean()
        weights = weights * shares[edges[:, 0]] * shares[edges[:, 1]]
    return edge_affinity(edges, weights, n_nodes)
