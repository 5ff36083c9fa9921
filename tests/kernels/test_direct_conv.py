"""The weight gradient as a product, against torch in float64."""

import pytest
import torch
import torch.nn.functional as F

from selfseg.kernels.convolution import direct_conv, product_pays


@pytest.mark.parametrize(
    ("batch", "channels", "outputs", "size"), [(1, 3, 20, 3), (2, 40, 7, 1), (2, 5, 9, 3), (1, 1, 4, 5)]
)
def test_value_and_gradients(batch, channels, outputs, size):
    torch.manual_seed(0)
    x = torch.randn(batch, channels, 67, 71).contiguous(memory_format=torch.channels_last).requires_grad_()
    parts = [x, torch.randn(outputs, channels, size, size).requires_grad_(), torch.randn(outputs).requires_grad_()]
    assert product_pays(parts[0], parts[1])
    out = direct_conv(*parts)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    exact = [part.detach().double().requires_grad_() for part in parts]
    reference = F.conv2d(*exact, padding=size // 2)
    reference.backward(gradient.double())
    torch.testing.assert_close(out.double(), reference, atol=1e-4, rtol=1e-5)
    for part, truth in zip(parts, exact, strict=True):
        assert float((part.grad - truth.grad).norm() / truth.grad.norm()) < 1e-5


def test_where_it_does_not_apply():
    x, weight = torch.randn(1, 3, 70, 70).contiguous(memory_format=torch.channels_last), torch.randn(4, 3, 3, 3)
    assert product_pays(x, weight)
    assert not product_pays(x.double(), weight.double())
    assert not product_pays(x[:, :, :9], weight)
    assert not product_pays(x, torch.randn(4, 30, 3, 3))
    assert not product_pays(x.contiguous(), weight)
