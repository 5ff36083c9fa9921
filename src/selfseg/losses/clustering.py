"""The terms of differentiable feature clustering: similarity to the own cluster, and continuity between neighbours.

Neighbours are pixels or superpixels; on graphs the cost is O(edges), never that of a dense matrix.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from selfseg.core.errors import UsageError
from selfseg.kernels.layout import runs_on_channels_last
from selfseg.losses._valid import check_pixels, cross_entropies, mean_over
from selfseg.losses.soft_ncut import weighted_sums
from selfseg.sample.shared_batch import own_part

MIN_FUSED_PIXELS = 1024
"""Smallest image for which both terms in one pass over the response are faster."""


def similarity(response: Tensor, target: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response against the pixel's own cluster: a scalar, in nats.

    .. math:: L_{sim} = -\frac{1}{N} \sum_n \log \frac{\exp r'_{n, c_n}}{\sum_i \exp r'_{n, i}},
              \qquad c_n = \arg\max_i r'_{n, i}

    It is 0 without a valid pixel. On a CPU in float32 it has a first derivative only.

    Parameters
    ----------
    response
        Normalised response r' ``[B K *S]``.
    target
        Cluster c of each pixel ``[B *S]`` int64, 0..K-1, for example that of its superpixel (Leng et al., VISAPP 2024); None = the
        argmax of the response, the first where several are largest. No gradient flows through it.
    valid
        ``[B *S]`` bool, False = the pixel does not count; None = all count.

    Raises
    ------
    UsageError
        If `target` or `valid` has another shape than the pixels of `response`.

    References
    ----------
    Kim, Kanezaki and Tanaka, "Unsupervised learning of image segmentation based on differentiable feature clustering",
    IEEE TIP 2020, equations 2 and 3.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import similarity
    >>> response = torch.tensor([[2.0, 2.0, -1.0], [-1.0, -1.0, 3.0]]).reshape(1, 2, 1, 3)
    >>> round(similarity(response).item(), 4)
    0.0384
    """
    check_pixels("target", target, response)
    check_pixels("valid", valid, response)
    if target is None:
        target = response.detach().argmax(dim=1)
    if response.device.type != "cpu" or response.dtype != torch.float32 or not response.numel():
        if valid is not None:
            target = target.where(valid, 0)  # what does not count may have no class at all
        elif response.numel() and not torch.are_deterministic_algorithms_enabled():
            return own_part(F.cross_entropy(response, target), target.numel())
        return mean_over(cross_entropies(response, target), valid)
    from selfseg.kernels.cross_entropy import cross_entropy

    counted = target if valid is None else target.where(valid, target.new_full((), -1))
    n_counted = target.numel() if valid is None else int(valid.sum())
    return own_part(cross_entropy(response, counted) / max(1, n_counted), n_counted)


def clustering_terms(
    response: Tensor, valid: Tensor | None = None, live: Tensor | None = None
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Return `similarity`, `continuity` along each axis, and the labels of the response; `response` and `valid` as for these.

    Labels ``[B *S]`` int64 are the argmax of the response over the `live` clusters (``[K]`` bool, at least one; None = all), the first
    where several are largest; also where `valid` is False, though such a label means nothing. The other clusters stay in the softmax,
    so that the similarity pushes them down.

    Raises
    ------
    UsageError
        If `valid` or `live` has the wrong shape, or no cluster is live.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import clustering_terms
    >>> response = torch.tensor([[2.0, 2.0, -1.0], [-1.0, -1.0, 3.0]]).reshape(1, 2, 1, 3)
    >>> alike, (along_y, along_x), labels = clustering_terms(response)
    >>> labels
    tensor([[[0, 0, 1]]])
    """
    _check_live(live, response)
    whole = valid is None and live is None and min(response.shape[2:]) >= 2
    if not whole or not runs_on_channels_last(response, MIN_FUSED_PIXELS):
        scores = response.detach()
        if live is not None:
            scores = scores.masked_fill(~live.reshape(1, -1, *(1,) * (response.ndim - 2)), -torch.inf)
        labels = scores.argmax(dim=1)
        return similarity(response, labels, valid), continuity(response, valid), labels
    from selfseg.kernels.cross_entropy import similarity_and_continuity

    similar, differences, labels = similarity_and_continuity(response)
    n = len(response)
    return own_part(similar, n), tuple(own_part(difference, n) for difference in differences), labels


def _check_live(live: Tensor | None, response: Tensor) -> None:
    """Raise `UsageError` unless `live` is None or one bool for each cluster of `response`, at least one True."""
    if live is None:
        return
    wanted = (response.shape[1],)
    if tuple(live.shape) != wanted:
        raise UsageError(
            "live", expected=f"shape {wanted}", got=f"{tuple(live.shape)}", fix="give one bool for each cluster"
        )
    if not bool(live.any()):
        raise UsageError("live", expected="at least one live cluster", got="none", fix="leave one cluster alive")


def continuity(response: Tensor, valid: Tensor | None = None) -> tuple[Tensor, ...]:
    r"""Return, for each spatial axis, the mean absolute difference between neighbours along that axis; 0 without a pair of them.

    .. math:: L_{con, y} = \frac{1}{K (Y - 1) X} \sum_{k, y, x} |r'_{k, y+1, x} - r'_{k, y, x}|, \quad \text{and so on}

    The scalars are in the order of the axes, (Y, X) or (Z, Y, X). Their sum is the continuity loss of the paper (Kim, Kanezaki and Tanaka,
    IEEE TIP 2020, equation 4), up to the constant by which its sum becomes a mean. The normalised response r' is ``[B K *S]``; a pair
    with a pixel whose `valid` ``[B *S]`` is False does not count, None = all count. On a GPU it has a first derivative only.

    Raises
    ------
    UsageError
        If `valid` has another shape than the pixels of `response`.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import continuity
    >>> response = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 3.0]]).reshape(1, 1, 2, 3)
    >>> continuity(response)
    (tensor(0.), tensor(1.5000))
    """
    check_pixels("valid", valid, response)
    if valid is None and response.device.type != "cpu" and min(response.shape) > 0 and min(response.shape[2:]) > 1:
        means: tuple[Tensor, ...] = _Differences.apply(response)  # type: ignore[no-untyped-call]
        return tuple(own_part(mean, len(response)) for mean in means)
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


class _Differences(torch.autograd.Function):
    """Mean absolute difference of neighbours along each axis, with a way back of half as many launches as that of its operations."""

    @staticmethod
    def forward(ctx: Any, response: Tensor) -> tuple[Tensor, ...]:
        steps = [response.diff(dim=axis) for axis in range(2, response.ndim)]
        ctx.save_for_backward(*steps)
        ctx.form = response.shape, response.stride()
        return tuple(step.abs().mean() for step in steps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        shape, strides = ctx.form
        found: Tensor = ctx.saved_tensors[0].new_empty_strided(shape, strides).zero_()
        shared = all(gradient is gradients[0] for gradient in gradients)  # of a plain sum: it can be multiplied by once
        for axis, (step, gradient) in enumerate(zip(ctx.saved_tensors, gradients, strict=True), 2):
            pull, length = step.sgn() if shared else step.sgn().mul_(gradient), step.shape[axis]
            found.narrow(axis, 1, length).add_(pull, alpha=1 / step.numel())
            found.narrow(axis, 0, length).sub_(pull, alpha=1 / step.numel())
        return found.mul_(gradients[0]) if shared else found


@dataclass(frozen=True, eq=False)
class Neighbours:
    """How much each neighbour of a superpixel counts for it: `matrix` W ``[R R]``, sparse, whose rows sum to 1.

    The row of a superpixel without neighbours is empty, and `counted` ``[R]`` is False there.
    """

    matrix: Tensor
    counted: Tensor

    @cached_property
    def n_counted(self) -> Tensor:
        """Number of superpixels with a neighbour, at least 1."""
        return self.counted.sum().clamp(min=1)


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

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import neighbour_weights, region_continuity
    >>> edges = torch.tensor([[0, 1], [1, 2]])
    >>> neighbours = neighbour_weights(edges, torch.tensor([0.1, 0.9]), n_nodes=3)
    >>> region_continuity(torch.tensor([[[0.0, 0.0, 4.0]]]), neighbours)
    tensor(2.)
    """
    if edges.ndim != 2 or edges.shape[1] != 2 or distances.shape != edges.shape[:1]:
        raise UsageError(
            "edges and distances",
            expected="(E, 2) and (E,)",
            got=f"{tuple(edges.shape)} and {tuple(distances.shape)}",
            fix="use one graph",
        )
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

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import neighbour_weights, region_continuity
    >>> edges = torch.tensor([[0, 1], [1, 2]])
    >>> neighbours = neighbour_weights(edges, torch.tensor([0.1, 0.9]), n_nodes=3)
    >>> region_continuity(torch.tensor([[[2.0, 2.0, 2.0]]]), neighbours)
    tensor(0.)
    """
    if response.ndim != 3 or response.shape[2] != len(neighbours.counted):
        raise UsageError(
            "response",
            expected=f"shape (B, K, {len(neighbours.counted)})",
            got=str(tuple(response.shape)),
            fix="use the same superpixels",
        )
    response = response.float() if response.dtype in (torch.float16, torch.bfloat16) else response
    rows = response.flatten(0, 1).T  # [R BK]
    pulled = weighted_sums(neighbours.matrix, rows)
    apart = (rows - pulled).abs().where(neighbours.counted[:, None], 0.0)
    mean: Tensor = apart.sum() / (neighbours.n_counted * rows.shape[1])
    return mean
