"""Winograd convolution against torch's direct convolution in float64: value and every gradient."""

import pytest
import torch
import torch.nn.functional as F

from selfseg.kernels.convolution import conv3x3, winograd_pays

SHAPES = [(1, 32, 32, 64, 64), (1, 40, 36, 65, 67), (2, 33, 32, 66, 63), (1, 32, 48, 2, 2050), (3, 32, 32, 4097, 1)]


def tensors(batch, channels, outputs, height, width, seed=0):
    torch.manual_seed(seed)
    x = torch.randn(batch, channels, height, width).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(outputs, channels, 3, 3) / (3 * channels**0.5), torch.randn(outputs)
    return [tensor.requires_grad_() for tensor in (x, weight, bias)]


def off(a, b):
    return float(((a.double() - b).norm() / b.norm().clamp(min=1e-12)).detach())


@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_equal_the_direct_convolution(shape):
    parts = tensors(*shape)
    assert winograd_pays(parts[0], parts[1])
    out = conv3x3(*parts)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    exact = [part.detach().double().requires_grad_() for part in parts]
    reference = F.conv2d(*exact, padding=1)
    reference.backward(gradient.double())
    assert off(out, reference) < 1e-5
    for part, truth in zip(parts, exact, strict=True):
        assert off(part.grad, truth.grad) < 1e-5


def test_gradient_by_finite_differences():
    x, weight, bias = tensors(1, 32, 32, 64, 64)
    direction = torch.randn_like(weight)
    loss = conv3x3(x, weight, bias).square().mean()
    (gradient,) = torch.autograd.grad(loss, weight)
    with torch.no_grad():
        step = 1e-2
        up, down = (
            F.conv2d(x.double(), (weight + s * direction).double(), bias.double(), padding=1).square().mean()
            for s in (step, -step)
        )
    assert float((gradient * direction).sum()) == pytest.approx(float((up - down) / (2 * step)), rel=1e-3)


def test_the_same_input_gives_the_same_bits():
    runs = []
    for _ in range(2):
        parts = tensors(1, 32, 32, 70, 70)
        conv3x3(*parts).sum().backward()
        runs.append([part.grad for part in parts])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_only_what_is_asked_for_is_computed():
    x, weight, bias = tensors(1, 32, 32, 64, 64)
    x.requires_grad_(False)
    conv3x3(x, weight, bias).sum().backward()
    assert x.grad is None and weight.grad is not None


@pytest.mark.parametrize("change", ["float64", "few channels", "small", "autocast", "three dimensions"])
def test_where_it_does_not_apply_torch_does_the_work(change):
    x, weight, bias = tensors(1, 32, 32, 64, 64)
    if change == "float64":
        x, weight, bias = x.double(), weight.double(), bias.double()
    if change == "few channels":
        x, weight = x[:, :3], weight[:, :3]
    if change == "small":
        x = x[..., :9]
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        if change == "three dimensions":
            assert not winograd_pays(x[:, :, None], weight)
            return
        assert not winograd_pays(x, weight)
        torch.testing.assert_close(conv3x3(x, weight, bias), F.conv2d(x, weight, bias, padding=1))
