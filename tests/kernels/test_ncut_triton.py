"""The kernel for GPUs, run by Triton's interpreter where there is no GPU: it needs Triton, which torch brings with CUDA alone."""

import importlib
import os
from functools import partial

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is loaded: it decides then
pytest.importorskip("triton", reason="Triton is not installed: it comes with torch for CUDA")

from selfseg.losses import soft_ncut, window_affinity

pytestmark = [] if torch.cuda.is_available() else [pytest.mark.slow]  # the interpreter takes minutes
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def on_triton(monkeypatch):
    """Every float32 map goes to the kernel, also where it is interpreted."""
    affinity_module = importlib.import_module("selfseg.losses.soft_ncut")
    monkeypatch.setattr(affinity_module, "runs_kernels", lambda values: False)
    monkeypatch.setattr(affinity_module, "runs_triton", lambda values: values.dtype == torch.float32)


def pairwise(image, radius, sigma_i, sigma_x, valid):
    """Weights between all pixels of image [C *S], from all pairs at once, float64."""
    place = torch.cartesian_prod(*(torch.arange(n).double() for n in image.shape[1:])).reshape(-1, image.ndim - 1)
    value = image.flatten(1).T.double()
    apart = torch.cdist(place, place)
    weights = torch.exp(-torch.cdist(value, value).square() / sigma_i**2 - apart.square() / sigma_x**2)
    counts = valid.flatten()
    return weights * (apart < radius) * (counts[:, None] & counts[None, :])


@pytest.mark.parametrize("shape", [(7, 37), (1, 9), (3, 5, 6)], ids=str)
@pytest.mark.parametrize("n_classes", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_the_kernel_gives_the_equation(shape, n_classes, masked, on_triton):
    draw = torch.Generator().manual_seed(0)
    image = 20 * torch.rand(2, 3, *shape, generator=draw)
    p = torch.randn(2, n_classes, *shape, generator=draw).softmax(1)
    valid = torch.rand(2, *shape, generator=draw) < 0.8 if masked else torch.ones(2, *shape, dtype=torch.bool)
    affinity = window_affinity(image.to(DEVICE), 3.5, 10.0, 4.0, valid=valid.to(DEVICE) if masked else None)
    forms, degrees = affinity.forms(p.to(DEVICE)), affinity.degrees(torch.float32)
    for b in range(2):
        w = pairwise(image[b], 3.5, 10.0, 4.0, valid[b])
        q = p[b].flatten(1).double()
        close = partial(torch.testing.assert_close, rtol=2e-5, atol=2e-5, check_dtype=False)
        close(forms.products[b].flatten(1).cpu(), q @ w)
        close(degrees[b].flatten().cpu(), w.sum(1))
        close(forms.association[b].cpu(), ((q @ w) * q).sum(1))
        close(forms.volume[b].cpu(), q @ w.sum(1))


def test_value_and_gradient_of_a_channels_last_batch_on_one_image(on_triton):
    draw = torch.Generator().manual_seed(1)
    image = 30 * torch.rand(1, 1, 9, 11, generator=draw)
    p = torch.randn(3, 5, 9, 11, generator=draw).softmax(1)
    exact = p.double().requires_grad_()
    soft_ncut(exact, window_affinity(image.double(), 5.0)).backward()
    ours = p.to(DEVICE).to(memory_format=torch.channels_last).requires_grad_()
    value = soft_ncut(ours, window_affinity(image.to(DEVICE), 5.0))
    value.backward()
    torch.testing.assert_close(ours.grad.cpu().double(), exact.grad, rtol=1e-4, atol=1e-7)
    assert float(value.detach()) == pytest.approx(
        float(soft_ncut(exact.detach(), window_affinity(image.double(), 5.0))), rel=1e-5
    )
