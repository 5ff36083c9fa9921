"""Continuity: neighbouring pixels, or superpixels, should answer alike. On graphs O(edges), never a dense matrix."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.losses._valid import check_pixels, mean_over


def continuity(response: Tensor, valid: Tensor | None = None) -> tuple[Tensor, ...]:
    r"""Return, for each spatial axis, the mean absolute difference between neighbours along that axis; 0 without a pair of them.

    .. math:: L_{con, y} = \frac{1}{K (Y - 1) X} \sum_{k, y, x} |r'_{k, y+1, x} - r'_{k, y, x}|, \quad \text{and so on}

    The scalars are in the order of the axes, (Y, X) or (Z, Y, X). Their sum is the continuity loss of the paper (Kim, Kanezaki and Tanaka,
    IEEE TIP 2020, equation 4), up to the constant by which its sum becomes a mean. The normalised response r' is ``[B K *S]``; a pair
    with a pixel whose `valid` ``[B *S]`` is False does not count, None = all count.

    Raises
    ------
    UsageError
        If `valid` has another shape than the pixels of `response`.
    """
    check_pixels("valid", valid, response)
    terms = []
    for axis in range(2, response.ndim):
        length = response.shape[axis] - 1
        near, far = response.narrow(axis, 0, max(length, 0)), response.narrow(axis, min(1, length + 1), max(length, 0))
        pairs = None
        if valid is not None:
            both = valid.narrow(axis - 1, 0, max(length, 0)) & valid.narrow(
                axis - 1, min(1, length + 1), max(length, 0)
            )
            pairs = both.unsqueeze(1).expand(near.shape)
        terms.append(mean_over((far - near).abs(), pairs))
    return tuple(terms)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """How much each neighbour of a superpixel counts for it: `matrix` W ``[R R]``, sparse, whose rows sum to 1.

    The row of a superpixel without neighbours is empty, and `counted` ``[R]`` is False there.
    """

    matrix: Tensor
    counted: Tensor


def neighbour_weights(edges: Tensor, distances: Tensor, n_nodes: int, tau: float = 0.0) -> Neighbours:
    r"""Return the weights of continuity on a graph.

    .. math:: W_{ij} = \frac{\exp(\tau d_{ij})}{\sum_{m \in N(i)} \exp(\tau d_{im})} \quad \text{for } j \in N(i), \text{ else } 0

    Parameters
    ----------
    edges, distances, n_nodes
        As for `losses.region_affinity`.
    tau
        :math:`\tau` (tau_con), in 1 / unit of the distances: 0 = plain mean over the neighbours, negative = like ones count
        more, ``-inf`` = the nearest alone, ``inf`` = the farthest alone; those that are equally near share.

    Raises
    ------
    UsageError
        If shapes do not fit, or `tau` is NaN.
    """
    if edges.ndim != 2 or edges.shape[1] != 2 or distances.shape != edges.shape[:1]:
        got = f"{tuple(edges.shape)} and {tuple(distances.shape)}"
        raise UsageError("edges and distances", expected="(E, 2) and (E,)", got=got, fix="use one graph")
    if math.isnan(tau):
        raise UsageError("tau", expected="a number or an infinity", got="nan", fix="0 gives the plain mean")
    both = torch.cat([edges, edges.flip(1)]).long()  # each pair in both directions: i takes from j
    i, scores = both[:, 0], distances.repeat(2) * (math.copysign(1.0, tau) if math.isinf(tau) else tau)
    best = scores.new_full((n_nodes,), -math.inf).scatter_reduce(0, i, scores, "amax")
    gap = scores - best[i]
    weights = (gap == 0).to(scores) if math.isinf(tau) else gap.exp()
    total = weights.new_zeros(n_nodes).index_add(0, i, weights)
    matrix = torch.sparse_coo_tensor(both.T, weights / total[i], (n_nodes, n_nodes), check_invariants=True).coalesce()
    return Neighbours(matrix, total > 0)


def region_continuity(response: Tensor, neighbours: Neighbours) -> Tensor:
    r"""Return how far superpixels are from the weighted mean of their neighbours (Leng et al., VISAPP 2024).

    .. math:: L_{con} = \frac{1}{R K} \sum_{r k} \Big| m_{kr} - \sum_j W_{rj} m_{kj} \Big|

    `response` is m ``[B K R]``, the mean response of each superpixel; `neighbours` are W of `neighbour_weights`. The mean is over
    superpixels that have a neighbour; 0 where none has.

    Raises
    ------
    UsageError
        If `response` has other superpixels than `neighbours`.
    """
    if response.ndim != 3 or response.shape[2] != len(neighbours.counted):
        expected = f"shape (B, K, {len(neighbours.counted)})"
        raise UsageError("response", expected=expected, got=str(tuple(response.shape)), fix="use the same superpixels")
    response = response.float() if response.dtype in (torch.float16, torch.bfloat16) else response
    rows = response.flatten(0, 1).T  # [R BK]
    with torch.autocast(rows.device.type, enabled=False):  # which would round the products to half precision
        pulled = torch.sparse.mm(neighbours.matrix.to(rows.dtype), rows)
    apart = (rows - pulled).abs().where(neighbours.counted[:, None], rows.new_zeros(()))
    mean: Tensor = apart.sum() / (neighbours.counted.sum().clamp(min=1) * rows.shape[1])
    return mean
