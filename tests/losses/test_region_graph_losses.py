"""The losses on a superpixel graph, against their equations written as loops."""

import math

import pytest
import torch

from selfseg.core.errors import UsageError
from selfseg.losses import soft_ncut
from selfseg.losses.clustering import neighbour_weights, region_continuity
from selfseg.losses.soft_ncut import region_affinity

EDGES = torch.tensor([[0, 1], [0, 2], [1, 2], [2, 3], [3, 4], [1, 4]])
N = 6  # node 5 has no neighbour


def distances():
    return torch.tensor([0.1, 0.7, 0.3, 0.3, 1.1, 0.2], dtype=torch.float64)


def neighbours_of(i):
    for e, (a, b) in enumerate(EDGES.tolist()):
        if i in (a, b):
            yield (b if a == i else a), float(distances()[e])


def weights_by_loop(i, tau):
    """Row i of W."""
    found = list(neighbours_of(i))
    if math.isinf(tau):
        best = (min if tau < 0 else max)(d for _, d in found)
        scores = [float(d == best) for _, d in found]
    else:
        scores = [math.exp(tau * d) for _, d in found]
    return {j: score / sum(scores) for (j, _), score in zip(found, scores, strict=True)}


@pytest.mark.parametrize("tau", [0.0, 1.0, -3.0, math.inf, -math.inf])
def test_continuity_is_the_loop(tau):
    m = torch.randn(2, 3, N, dtype=torch.float64, requires_grad=True)
    total = 0.0
    for b in range(2):
        for k in range(3):
            for i in range(5):
                mean = sum(w * m[b, k, j] for j, w in weights_by_loop(i, tau).items())
                total = total + (m[b, k, i] - mean).abs()
    weights = neighbour_weights(EDGES, distances(), N, tau)
    value = region_continuity(m, weights)
    torch.testing.assert_close(value, total / (2 * 3 * 5), rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradcheck(lambda x: region_continuity(x, weights), m)


def test_large_tau_does_not_overflow_and_nears_the_infinite():
    near = neighbour_weights(EDGES, distances(), N, 1e4).matrix.to_dense()
    torch.testing.assert_close(near, neighbour_weights(EDGES, distances(), N, math.inf).matrix.to_dense())


def test_continuity_of_a_graph_without_edges_is_zero():
    none = neighbour_weights(EDGES[:0], distances()[:0], 3)
    m = torch.randn(1, 2, 3, requires_grad=True)
    value = region_continuity(m, none)
    value.backward()
    assert float(value.detach()) == 0 and (m.grad == 0).all()


def test_continuity_refuses_other_superpixels_and_nan():
    weights = neighbour_weights(EDGES, distances(), N)
    with pytest.raises(UsageError, match="same superpixels"):
        region_continuity(torch.zeros(1, 2, 4), weights)
    with pytest.raises(UsageError, match="nan"):
        neighbour_weights(EDGES, distances(), N, math.nan)
    with pytest.raises(UsageError, match="one graph"):
        neighbour_weights(EDGES, distances()[:2], N)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("sizes", [False, True])
def test_cut_on_the_graph_is_the_loop(lengths, sizes):
    length = torch.tensor([1.0, 4, 2, 2, 3, 6], dtype=torch.float64)
    size = torch.tensor([10.0, 20, 5, 5, 30, 8], dtype=torch.float64)
    w = torch.zeros(N, N, dtype=torch.float64)
    for e, (i, j) in enumerate(EDGES.tolist()):
        weight = math.exp(-2.0 * float(distances()[e]))
        if lengths:
            weight *= float(length[e] / (length.sum() / 6))
        if sizes:
            weight *= float(size[i] * size[j] / (size.sum() / N) ** 2)
        w[i, j] = w[j, i] = weight
    affinity = region_affinity(EDGES, distances(), N, -2.0, length if lengths else None, size if sizes else None)
    logits = torch.randn(1, 3, N, dtype=torch.float64, requires_grad=True)
    p = logits.softmax(1)
    j = 3.0
    for k in range(3):
        held = sum(p[0, k, u] * w[u, v] * p[0, k, v] for u in range(N) for v in range(N))
        tied = sum(p[0, k, u] * w[u, v] for u in range(N) for v in range(N))
        j = j - held / tied
    torch.testing.assert_close(soft_ncut(p, affinity), j, rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradcheck(lambda x: soft_ncut(x.softmax(1), affinity), logits)


def test_affinity_refuses_what_does_not_fit():
    with pytest.raises(UsageError, match="lengths"):
        region_affinity(EDGES, distances(), N, lengths=torch.ones(3))
    with pytest.raises(UsageError, match="sizes"):
        region_affinity(EDGES, distances(), N, sizes=torch.ones(3))
