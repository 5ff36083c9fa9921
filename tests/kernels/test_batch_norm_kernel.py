"""ReLU and normalisation in one, against the equation in float64: value and every gradient."""

import pytest
import torch

from selfseg.kernels.batch_norm import batch_norm
from selfseg.kernels.layout import runs_on_channels_last
from selfseg.nets.norms import MIN_FUSED_PIXELS

EPS = 1e-5


def plain(x, weight, bias, rectify):
    h = x.clamp(min=0) if rectify else x
    mean = h.mean((0, 2, 3), keepdim=True)
    variance = ((h - mean) ** 2).mean((0, 2, 3), keepdim=True)
    return (h - mean) / (variance + EPS).sqrt() * weight[:, None, None] + bias[:, None, None]


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize(("batch", "channels", "height", "width"), [(1, 7, 32, 32), (2, 20, 33, 47), (3, 1, 64, 17)])
def test_value_and_gradients(batch, channels, height, width, rectify):
    torch.manual_seed(0)
    x = (torch.randn(batch, channels, height, width) * 3 + 1).contiguous(memory_format=torch.channels_last)
    parts = [x.requires_grad_(), torch.rand(channels).requires_grad_(), torch.randn(channels).requires_grad_()]
    assert runs_on_channels_last(parts[0], MIN_FUSED_PIXELS)
    out = batch_norm(*parts, rectify, EPS)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    exact = [part.detach().double().requires_grad_() for part in parts]
    reference = plain(*exact, rectify)
    reference.backward(gradient.double())
    torch.testing.assert_close(out.double(), reference, atol=2e-5, rtol=1e-5)
    for part, truth in zip(parts, exact, strict=True):
        assert float((part.grad - truth.grad).norm() / truth.grad.norm()) < 1e-5


def test_a_constant_channel_gives_the_bias_and_no_nan():
    x = torch.full((1, 2, 32, 32), 4.0).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = batch_norm(x, torch.ones(2), torch.tensor([0.5, -1.0]), True, EPS)
    out.sum().backward()
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([0.5, -1.0]), atol=1e-2, rtol=0)
    assert torch.isfinite(x.grad).all()


def test_nan_is_not_hidden():
    x = torch.randn(1, 2, 32, 32).contiguous(memory_format=torch.channels_last)
    x[0, 0, 3, 3] = torch.nan
    out = batch_norm(x, torch.ones(2), torch.zeros(2), False, EPS)
    assert torch.isnan(out[:, 0]).any() and torch.isfinite(out[:, 1]).all()


def test_where_it_does_not_apply():
    x = torch.randn(1, 4, 40, 40)
    assert not runs_on_channels_last(x, MIN_FUSED_PIXELS)
    assert not runs_on_channels_last(x.double().contiguous(memory_format=torch.channels_last), MIN_FUSED_PIXELS)
    assert not runs_on_channels_last(x[..., :8].contiguous(memory_format=torch.channels_last), MIN_FUSED_PIXELS)
