"""The fused terms against the separate losses in float64: values, labels and gradient."""

import pytest
import torch

from selfseg.losses.clustering import clustering_terms
from selfseg.losses.continuity import continuity
from selfseg.losses.fused_clustering import fused_terms, fused_terms_pay
from selfseg.losses.similarity import similarity

SHAPES = [(1, 5, 32, 33), (2, 100, 40, 31), (3, 2, 2, 700), (1, 17, 600, 2)]


def response(shape, scale=1.0):
    torch.manual_seed(1)
    return (torch.randn(shape) * scale).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_values_labels_and_gradient(shape, scale):
    r = response(shape, scale).requires_grad_()
    assert fused_terms_pay(r)
    similar, (down, right), labels = fused_terms(r)
    (2 * similar + 3 * down - 0.5 * right).backward()
    exact = r.detach().double().requires_grad_()
    truth = similarity(exact), *continuity(exact)
    (2 * truth[0] + 3 * truth[1] - 0.5 * truth[2]).backward()
    for value, true in zip((similar, down, right), truth, strict=True):
        assert float(value.detach()) == pytest.approx(float(true.detach()), rel=1e-5, abs=1e-7)
    assert torch.equal(labels, exact.argmax(1))
    assert float((r.grad - exact.grad).norm() / exact.grad.norm()) < 1e-5


def test_the_dispatch_gives_the_same_on_both_ways():
    r = response((1, 9, 40, 40))
    fast, slow = clustering_terms(r), clustering_terms(r.double())
    assert float(fast[0]) == pytest.approx(float(slow[0]), rel=1e-5)
    assert [float(v) for v in fast[1]] == pytest.approx([float(v) for v in slow[1]], rel=1e-5)
    assert torch.equal(fast[2], slow[2])


def test_ties_go_to_the_first_cluster():
    r = torch.zeros(1, 6, 32, 32).contiguous(memory_format=torch.channels_last)
    r[:, 2] = r[:, 4] = 1.5
    assert (fused_terms(r)[2] == 2).all()


def test_nan_is_not_hidden():
    r = response((1, 9, 40, 40))
    r[0, 3, 5, 5] = torch.nan
    assert torch.isnan(fused_terms(r)[0])


def test_extreme_responses_stay_finite():
    r = response((1, 9, 40, 40), 1e4).requires_grad_()
    similar, continuous, _ = fused_terms(r)
    (similar + sum(continuous)).backward()
    assert torch.isfinite(r.grad).all() and torch.isfinite(similar)


def test_where_it_does_not_apply():
    r = response((1, 9, 40, 40))
    assert not fused_terms_pay(r.double())
    assert not fused_terms_pay(r.contiguous())
    assert not fused_terms_pay(r[:, :, :1])
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused_terms_pay(r)
