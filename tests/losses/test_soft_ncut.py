"""The soft normalised cut against its equation as a loop over pairs of nodes, and the cases that are known by hand."""

import itertools
import math

import pytest
import torch

from selfseg.core.errors import UsageError
from selfseg.losses import edge_affinity, soft_ncut, window_affinity

SHAPES = {"2D": (6, 7), "2D, one row": (1, 9), "3D": (3, 4, 5), "one pixel": (1, 1)}


def pairwise(image, radius, sigma_i, sigma_x, spacing=None, valid=None):
    """w(u, v) as a loop over all pairs of pixels of image [C *S]: [N N] float64."""
    pixels = list(itertools.product(*map(range, image.shape[1:])))
    spacing = spacing or [1.0] * (image.ndim - 1)
    w = torch.zeros(len(pixels), len(pixels), dtype=torch.float64)
    for i, u in enumerate(pixels):
        for j, v in enumerate(pixels):
            if valid is not None and not (valid[u] and valid[v]):
                continue
            d2 = sum(((a - b) * s) ** 2 for a, b, s in zip(u, v, spacing, strict=True))
            f2 = sum((float(c[u]) - float(c[v])) ** 2 for c in image)
            if math.sqrt(d2) < radius:
                w[i, j] = math.exp(-f2 / sigma_i**2) * math.exp(-d2 / sigma_x**2)
    return w


def cut(p, w):
    """J of p [K N] and w [N N], term by term; differentiable."""
    total = torch.zeros((), dtype=p.dtype)
    for k in range(len(p)):
        association = sum(p[k, u] * (w[u] * p[k]).sum() for u in range(p.shape[1]))
        volume = sum(p[k, u] * w[u].sum() for u in range(p.shape[1]))
        total = total + association / volume
    return len(p) - total


def soft(shape, n_classes, n_images=2, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n_images, n_classes, *shape, generator=draw, dtype=dtype).softmax(1)


def pictures(shape, n_channels=3, n_images=2, seed=1, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    return 20 * torch.rand(n_images, n_channels, *shape, generator=draw, dtype=dtype)


def value_and_gradient(p, affinity):
    p = p.detach().requires_grad_()
    value = soft_ncut(p, affinity)
    value.backward()
    return value.detach(), p.grad


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_value_and_gradient_are_those_of_the_equation(shape, n_channels):
    image, p = pictures(shape, n_channels), soft(shape, 3).requires_grad_()
    spacing = [2.0, 1.0, 0.7][-len(shape) :]
    truth = torch.stack([cut(p[b].flatten(1), pairwise(image[b], 2.5, 10.0, 3.0, spacing)) for b in range(2)]).mean()
    (expected,) = torch.autograd.grad(truth, p)
    value, gradient = value_and_gradient(p, window_affinity(image, 2.5, 10.0, 3.0, spacing))
    assert abs(value - truth.detach()) < 1e-10
    assert (gradient - expected).abs().max() < 1e-10


def test_gradient_is_that_of_the_value():
    affinity = window_affinity(pictures((4, 5)), radius=3.0)
    assert torch.autograd.gradcheck(lambda p: soft_ncut(p, affinity), (soft((4, 5), 3).requires_grad_(),))


def test_masked_pixels_are_as_if_they_were_not_there():
    shape = (5, 6)
    image, p = pictures(shape), soft(shape, 3)
    valid = torch.rand(2, *shape, generator=torch.Generator().manual_seed(3)) > 0.3
    truth = torch.stack(
        [cut(p[b].flatten(1), pairwise(image[b], 3.0, 10.0, 4.0, valid=valid[b])) for b in range(2)]
    ).mean()
    broken, hidden = image.clone(), p.clone()
    broken.movedim(1, -1)[~valid] = torch.nan
    hidden.movedim(1, -1)[~valid] = torch.nan
    value, gradient = value_and_gradient(hidden, window_affinity(broken, 3.0, valid=valid))
    assert abs(value - truth) < 1e-10
    assert (gradient.movedim(1, -1)[~valid] == 0).all()
    assert gradient.isfinite().all()


def test_padding_changes_nothing():
    image, p = pictures((5, 6)), soft((5, 6), 3)
    value, gradient = value_and_gradient(p, window_affinity(image))
    wide, more = torch.full((2, 3, 8, 9), 7.0, dtype=torch.float64), soft((8, 9), 3, seed=5)
    wide[..., :5, :6], more[..., :5, :6] = image, p
    valid = torch.zeros(2, 8, 9, dtype=torch.bool)
    valid[:, :5, :6] = True
    same, padded = value_and_gradient(more, window_affinity(wide, valid=valid))
    torch.testing.assert_close(same, value)
    torch.testing.assert_close(padded[..., :5, :6], gradient)


@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5)])
def test_a_graph_of_the_same_pixels_gives_the_same(shape):
    image, p = pictures(shape, n_images=1), soft(shape, 4, n_images=1)
    w = pairwise(image[0], 2.5, 10.0, 4.0)
    edges = w.triu().nonzero()
    graph = edge_affinity(edges, w[edges[:, 0], edges[:, 1]], len(w))
    value, gradient = value_and_gradient(p, window_affinity(image, 2.5))
    same, on_graph = value_and_gradient(p.flatten(2), graph)
    assert abs(value - same) < 1e-10
    assert (gradient.flatten(2) - on_graph).abs().max() < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_classes", [1, 2, 5])
def test_uniform_probabilities_give_k_minus_1_and_stay(n_classes, dtype):
    p = torch.full((2, n_classes, 8, 9), 1 / n_classes, dtype=dtype)
    value, gradient = value_and_gradient(p, window_affinity(pictures((8, 9), dtype=dtype)))
    assert float(value) == pytest.approx(n_classes - 1, abs=1e-6)
    along = gradient - gradient.mean(1, keepdim=True)  # what is left after a softmax
    assert along.abs().max() < 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_class_takes_all(dtype):
    p = torch.zeros(2, 4, 8, 9, dtype=dtype)
    p[:, 2] = 1
    value, gradient = value_and_gradient(p, window_affinity(pictures((8, 9), dtype=dtype)))
    assert float(value) == pytest.approx(3, abs=1e-6)
    assert gradient.isfinite().all()
    assert (gradient[:, [0, 1, 3]] == 0).all()  # an empty class is not drawn to anything


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_perfect_split_costs_nothing(dtype):
    image, p = torch.zeros(1, 1, 8, 10, dtype=dtype), torch.zeros(1, 2, 8, 10, dtype=dtype)
    image[..., 4:] = 1000
    p[:, 0, :, :4], p[:, 1, :, 4:] = 1, 1
    assert float(soft_ncut(p, window_affinity(image))) == pytest.approx(0, abs=1e-6)
    assert float(soft_ncut(p, window_affinity(image, sigma_intensity="auto"))) == pytest.approx(0, abs=1e-6)
    one = torch.zeros_like(p)
    one[:, 0] = 1
    assert float(soft_ncut(one, window_affinity(image))) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_permuted_classes_and_affine_intensities_change_nothing(dtype):
    image, p = pictures((9, 11), dtype=dtype), soft((9, 11), 4, dtype=dtype)
    value = soft_ncut(p, window_affinity(image, sigma_intensity=6.0))
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(soft_ncut(p[:, order], window_affinity(image, sigma_intensity=6.0)), value)
    torch.testing.assert_close(soft_ncut(p, window_affinity(5 - 3 * image, sigma_intensity=18.0)), value)
    automatic = soft_ncut(p, window_affinity(image, sigma_intensity="auto"))
    torch.testing.assert_close(soft_ncut(p, window_affinity(5 - 3 * image, sigma_intensity="auto")), automatic)


def test_the_batch_is_averaged_and_one_affinity_serves_a_batch():
    image, p = pictures((6, 7)), soft((6, 7), 3)
    alone = [soft_ncut(p[b : b + 1], window_affinity(image[b : b + 1])) for b in range(2)]
    torch.testing.assert_close(soft_ncut(p, window_affinity(image)), sum(alone) / 2)
    for dtype in (torch.float32, torch.float64):
        one = window_affinity(image[:1].to(dtype))
        each = [value_and_gradient(p[b : b + 1].to(dtype), one) for b in range(2)]
        value, gradient = value_and_gradient(p.to(dtype), one)
        torch.testing.assert_close(value, (each[0][0] + each[1][0]) / 2)
        torch.testing.assert_close(gradient, torch.cat([each[0][1], each[1][1]]) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fading_class_costs_1_and_keeps_its_gradient(dtype):
    # A_k / D_k is proportional to the scale of class k, so its derivative does not depend on that scale.
    image, p = pictures((8, 9), dtype=dtype), soft((8, 9), 3, dtype=dtype)
    affinity = window_affinity(image)
    _, gradient = value_and_gradient(p, affinity)
    faint, none = p.clone(), p.clone()
    faint[:, 1] *= 1e-20
    none[:, 1] = 0
    value, kept = value_and_gradient(faint, affinity)
    limit, without = value_and_gradient(none, affinity)
    torch.testing.assert_close(value, limit)
    torch.testing.assert_close(kept, gradient, rtol=1e-4, atol=1e-9)
    assert (without[:, 1] == 0).all()
    faint[:, 1] *= 1e-18
    assert value_and_gradient(faint, affinity)[1].isfinite().all()


def test_descent_separates_two_tones():
    image = torch.zeros(1, 1, 12, 12)
    image[..., 6:] = 100
    image += torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    logits = (0.01 * torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(1))).requires_grad_()
    affinity, optimizer = window_affinity(image), torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        soft_ncut(logits.softmax(1), affinity).backward()
        optimizer.step()
    labels = logits.argmax(1)[0]
    assert (labels[:, :6] == labels[0, 0]).all()
    assert (labels[:, 6:] == 1 - labels[0, 0]).all()


def test_half_precision_is_computed_in_float32():
    image, p = pictures((8, 9), dtype=torch.float32), soft((8, 9), 3, dtype=torch.float32).bfloat16().requires_grad_()
    value = soft_ncut(p, window_affinity(image))
    value.backward()
    torch.testing.assert_close(value.detach(), soft_ncut(p.detach().float(), window_affinity(image)))
    assert value.dtype == torch.float32
    assert p.grad.dtype == torch.bfloat16


def test_other_nodes_are_refused():
    affinity = window_affinity(pictures((6, 7)))
    for shape in [(2, 3, 7, 6), (3, 3, 6, 7), (2, 3, 42), (6, 7)]:
        with pytest.raises(UsageError, match="probabilities"):
            soft_ncut(torch.rand(shape), affinity)
    with pytest.raises(UsageError, match="float32 or float64"):
        soft_ncut(torch.ones(2, 3, 6, 7, dtype=torch.int64), affinity)
