import pytest
import torch

from selfseg.core.errors import UsageError
from selfseg.losses import edge_affinity, soft_ncut


def dense(edges, weights, n_nodes):
    """W as a loop over edges."""
    w = torch.zeros(n_nodes, n_nodes, dtype=torch.float64)
    for (i, j), weight in zip(edges.tolist(), weights.tolist(), strict=True):
        w[i, j] += weight
        if i != j:
            w[j, i] += weight
    return w


def graph(n_nodes=12, n_edges=30):
    draw = torch.Generator().manual_seed(0)
    edges = torch.randint(0, n_nodes, (n_edges, 2), generator=draw)  # with loops, and pairs in both orders
    return edges, torch.rand(n_edges, generator=draw, dtype=torch.float64), n_nodes


def test_products_and_degrees_are_those_of_the_matrix():
    edges, weights, n = graph()
    assert (edges[:, 0] == edges[:, 1]).any()
    w, affinity = dense(edges, weights, n), edge_affinity(edges, weights, n)
    p = torch.rand(3, 4, n, dtype=torch.float64)
    torch.testing.assert_close(affinity.apply(p), p @ w, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(affinity.degrees(torch.float64)[0], w.sum(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(affinity.apply(p.float()).double(), p @ w, rtol=1e-5, atol=1e-5)


def test_cut_of_a_graph_by_hand():
    # Two triangles, joined by one edge of weight 0.5: each has 3 edges inside, twice each, and a volume of 6.5.
    edges = torch.tensor([[0, 1], [1, 2], [0, 2], [3, 4], [4, 5], [3, 5], [2, 3]])
    affinity = edge_affinity(edges, torch.tensor([1.0, 1, 1, 1, 1, 1, 0.5]), 6)
    p = torch.tensor([[[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]])
    assert float(soft_ncut(p, affinity)) == pytest.approx(2 - 2 * 6 / 6.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_node_without_edges_counts_for_nothing(dtype):
    edges, weights, n = graph()
    p = torch.rand(2, 3, n + 1, dtype=dtype).softmax(1).requires_grad_()
    value = soft_ncut(p, edge_affinity(edges, weights.to(dtype), n + 1))
    value.backward()
    torch.testing.assert_close(value, soft_ncut(p[..., :n].contiguous(), edge_affinity(edges, weights.to(dtype), n)))
    assert (p.grad[..., n] == 0).all()
    empty = edge_affinity(edges[:0], weights[:0], 4)
    assert float(soft_ncut(torch.full((1, 3, 4), 1 / 3), empty)) == 3  # no class holds anything together


def test_gradient_is_that_of_the_value():
    affinity = edge_affinity(*graph())
    p = torch.rand(2, 3, 12, dtype=torch.float64).softmax(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: soft_ncut(p, affinity), (p,))


@pytest.mark.parametrize(
    "edges, weights, match",
    [
        (torch.zeros(3, 2), torch.ones(3), "integers"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(3), "shape"),
        (torch.tensor([[0, 4]]), torch.ones(1), "0..3"),
        (torch.tensor([[0, 1]]), torch.ones(2), "weights"),
        (torch.tensor([[0, 1]]), -torch.ones(1), "not negative"),
        (torch.tensor([[0, 1]]), torch.tensor([torch.nan]), "finite"),
    ],
)
def test_wrong_graphs_are_named(edges, weights, match):
    with pytest.raises(UsageError, match=match):
        edge_affinity(edges, weights, 4)
