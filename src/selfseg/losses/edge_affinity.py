"""Weights on the edges of any graph: superpixels that touch, k nearest neighbours, or pixels themselves."""

import torch
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.losses.affinity import Affinity


def edge_affinity(edges: Tensor, weights: Tensor, n_nodes: int) -> "EdgeAffinity":
    """Return the affinity of an undirected graph.

    Parameters
    ----------
    edges
        ``[E 2]`` integers in 0..n_nodes-1, each pair once, in either order; the weights of a repeated pair add up. An edge
        ``(i, i)`` is the weight of a node to itself; there is none unless it is given.
    weights
        ``[E]`` floating, finite, not negative.
    n_nodes
        Number of nodes R. One that no edge names has no weight to anything, and counts for nothing.

    Returns
    -------
    EdgeAffinity
        For `probabilities` ``[B K R]``; the same graph serves all B.

    Raises
    ------
    UsageError
        If shapes, types or values are others than these.
    """
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.is_floating_point() or edges.is_complex():
        got = f"{edges.dtype} {tuple(edges.shape)}"
        raise UsageError("edges", expected="integers of shape (E, 2)", got=got, fix="give pairs of nodes")
    if weights.shape != edges.shape[:1] or not weights.is_floating_point():
        got, wanted = f"{weights.dtype} {tuple(weights.shape)}", f"floating numbers of shape ({len(edges)},)"
        raise UsageError("weights", expected=wanted, got=got, fix="give one for each edge")
    if len(edges) and (int(edges.min()) < 0 or int(edges.max()) >= n_nodes):
        got = f"{int(edges.min())}..{int(edges.max())}"
        raise UsageError("edges", expected=f"nodes in 0..{n_nodes - 1}", got=got, fix="check `n_nodes`")
    if not bool(((weights >= 0) & weights.isfinite()).all()):
        fix = "use exp(-distance), say"
        raise UsageError("weights", expected="finite numbers, not negative", got="others", fix=fix)
    return EdgeAffinity(edges.long(), weights.detach(), n_nodes)


class EdgeAffinity(Affinity):
    """See `edge_affinity`."""

    def __init__(self, edges: Tensor, weights: Tensor, n_nodes: int) -> None:
        self.shape = (1, n_nodes)
        apart = edges[:, 0] != edges[:, 1]
        both = torch.cat([edges, edges[apart].flip(1)])  # each pair in both directions, a loop once
        values = torch.cat([weights, weights[apart]])
        sizes = n_nodes, n_nodes
        self._matrix = torch.sparse_coo_tensor(both.T, values, sizes, check_invariants=True).coalesce()

    def apply(self, probabilities: Tensor) -> Tensor:
        """Return ``W p``, ``[B K R]``."""
        self.check(probabilities)
        rows = probabilities.detach().flatten(0, 1).T  # [R BK]
        with torch.autocast(rows.device.type, enabled=False):  # which would round the products to half precision
            products: Tensor = torch.sparse.mm(self._matrix.to(rows.dtype), rows)
        return products.T.reshape(probabilities.shape).contiguous()

    def degrees(self, dtype: torch.dtype) -> Tensor:
        """Return the sum of the weights of each node's edges, ``[1 R]``."""
        ones = self._matrix.values().new_ones((self.shape[1], 1), dtype=dtype)
        with torch.autocast(ones.device.type, enabled=False):
            degrees: Tensor = torch.sparse.mm(self._matrix.to(dtype), ones)
        return degrees.T
