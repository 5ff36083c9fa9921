"""The fused terms against the separate losses in float64: values, labels and gradient."""

import pytest
import torch

from selfseg.kernels.cross_entropy import similarity_and_continuity
from selfseg.kernels.layout import runs_on_channels_last
from selfseg.losses.clustering import MIN_FUSED_PIXELS, clustering_terms, continuity, similarity

SHAPES = [(1, 5, 32, 33), (2, 100, 40, 31), (3, 2, 2, 700), (1, 17, 600, 2)]


def response(shape, scale=1.0):
    torch.manual_seed(1)
    return (torch.randn(shape) * scale).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_values_labels_and_gradient(shape, scale):
    r = response(shape, scale).requires_grad_()
    assert runs_on_channels_last(r, MIN_FUSED_PIXELS)
    similar, (down, right), labels = similarity_and_continuity(r)
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
    assert (similarity_and_continuity(r)[2] == 2).all()


def test_nan_is_not_hidden():
    r = response((1, 9, 40, 40))
    r[0, 3, 5, 5] = torch.nan
    assert torch.isnan(similarity_and_continuity(r)[0])


def test_extreme_responses_stay_finite():
    r = response((1, 9, 40, 40), 1e4).requires_grad_()
    similar, continuous, _ = similarity_and_continuity(r)
    (similar + sum(continuous)).backward()
    assert torch.isfinite(r.grad).all() and torch.isfinite(similar)


def test_where_it_does_not_apply():
    r = response((1, 9, 40, 40))
    assert not runs_on_channels_last(r.double(), MIN_FUSED_PIXELS)
    assert not runs_on_channels_last(r.contiguous(), MIN_FUSED_PIXELS)
    assert not runs_on_channels_last(r[:, :, :1], MIN_FUSED_PIXELS)
    with torch.autocast("cpu", torch.bfloat16):
        assert not runs_on_channels_last(r, MIN_FUSED_PIXELS)
