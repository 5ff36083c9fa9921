"""The window's extent, its scale from the image, what is refused; and the float32 kernels against float64."""

import random

import pytest
import torch

from selfseg.core.errors import UsageError
from selfseg.kernels import window_products
from selfseg.losses import soft_ncut, window_affinity


def neighbours(image_shape, at, **options):
    """How many pixels have a weight to the one at `at`, itself included."""
    affinity = window_affinity(torch.zeros(1, 1, *image_shape, dtype=torch.float64), sigma_space=1e6, **options)
    return round(float(affinity.degrees(torch.float64)[0][at]))


def test_the_ball_is_open_and_ends_at_the_border():
    assert neighbours((21, 21), (10, 10)) == 69  # |X| < 5, not <= 5, which is 81
    assert neighbours((21, 21), (10, 10), radius=5.001) == 81
    assert neighbours((21, 21), (0, 0)) == 22
    assert neighbours((13, 13, 13), (6, 6, 6), radius=5.0) == 485
    assert neighbours((13, 13, 13), (6, 6, 6), radius=3.0) == 93
    assert neighbours((9, 9), (4, 4), radius=1.0) == 1
    assert neighbours((9, 9, 9), (4, 4, 4), radius=2.5, spacing=(2.0, 1.0, 1.0)) == 21 + 2 * 9


def test_intensities_fall_by_the_length_of_the_vector():
    image = torch.tensor([[[[0.0, 3.0]], [[0.0, 4.0]]]], dtype=torch.float64)
    affinity = window_affinity(image, sigma_intensity=5.0, sigma_space=2.0)
    expected = 1 + torch.tensor(-1 - 0.25, dtype=torch.float64).exp()
    torch.testing.assert_close(affinity.degrees(torch.float64), expected.expand(1, 1, 2))


def test_automatic_sigma_is_three_median_steps():
    image = torch.zeros(3, 1, 2, 4)
    image[0, 0] = torch.tensor([[0.0, 1, 3, 7], [0, 1, 3, 7]])  # steps 1, 2, 4 twice; 0 four times
    image[1, 0] = torch.tensor([[0.0, 5, 10, 15], [6, 11, 16, 21]])  # 5 six times, 6 four times
    sigma = window_affinity(image, sigma_intensity="auto").sigma_intensity.tolist()
    assert sigma == pytest.approx([3 * 1, 3 * 5, 1])
    image[0, 0] = torch.tensor([[0.0, 0, 0, 7], [0, 0, 0, 7]])  # half of the steps are 0: the mean, 14 / 10
    valid = torch.ones(3, 2, 4, dtype=torch.bool)
    valid[1, 1] = False
    sigma = window_affinity(image, sigma_intensity="auto", valid=valid).sigma_intensity.tolist()
    assert sigma == pytest.approx([3 * 1.4, 3 * 5, 1])


CASES = {
    "odd sides": ((2, 3, 19, 37), 7, 5.0),
    "one block": ((1, 1, 3, 16), 4, 5.0),
    "small": ((3, 2, 2, 3), 2, 5.0),
    "one column": ((1, 1, 40, 1), 3, 5.0),
    "wide window": ((1, 1, 30, 50), 3, 21.0),
    "no window": ((1, 1, 9, 9), 3, 1.0),
    "volume": ((2, 1, 6, 7, 18), 4, 3.0),
    "flat volume": ((1, 2, 1, 9, 20), 5, 3.0),
    "two rows": ((1, 1, 7, 2, 20), 6, 3.0),
    "rows apart": ((1, 1, 9, 1, 20), 6, 3.0),
}


def compare(image, p, radius, valid=None, spacing=None):
    """Check value, gradient and W p of float32 against float64."""
    p = p.detach().requires_grad_()
    exact = p.detach().double().contiguous().requires_grad_()
    affinity, truth = (window_affinity(i, radius, 10.0, 3.0, spacing, valid) for i in (image, image.double()))
    value, expected = soft_ncut(p, affinity), soft_ncut(exact, truth)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.detach().double(), expected.detach(), rtol=0, atol=2e-6)
    assert float((p.grad - exact.grad).norm() / exact.grad.norm()) < 2e-6
    torch.testing.assert_close(affinity.apply(p.detach()).double(), truth.apply(exact.detach()), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        affinity.degrees(torch.float32).double(), truth.degrees(torch.float64), rtol=1e-5, atol=0
    )


def maps(shape, n_classes, seed=0):
    draw = torch.Generator().manual_seed(seed)
    image = 100 + 30 * torch.rand(shape, generator=draw)
    return image, torch.randn(shape[0], n_classes, *shape[2:], generator=draw).softmax(1)


@pytest.mark.parametrize("shape, n_classes, radius", CASES.values(), ids=CASES)
@pytest.mark.parametrize("threads", ["1", "2", "7"])
def test_kernels_agree_with_float64(shape, n_classes, radius, threads, monkeypatch):
    monkeypatch.setenv("SELFSEG_THREADS", threads)
    monkeypatch.setattr(window_products, "MIN_PARALLEL_PAIRS", 0)
    monkeypatch.setattr(window_products, "MIN_PARALLEL_SIZE", 0)
    image, p = maps(shape, n_classes)
    compare(image, p, radius)
    valid = torch.rand(shape[0], *shape[2:], generator=torch.Generator().manual_seed(2)) > 0.3
    valid[(slice(None), *(0 for _ in shape[2:]))] = True
    compare(image, p, radius, valid)


@pytest.mark.parametrize("seed", range(20))
def test_shapes_and_windows_at_random(seed):
    pick = random.Random(seed)
    sizes = [pick.choice([1, 2, 3, 5, 8]) for _ in range(pick.choice([1, 2]))] + [pick.choice([1, 5, 15, 16, 17, 33])]
    spacing = tuple(pick.choice([0.5, 1.0, 2.3]) for _ in sizes)
    image, p = maps((pick.choice([1, 2]), pick.choice([1, 2, 3, 4]), *sizes), pick.randint(1, 12), seed)
    compare(image, p, pick.choice([1.5, 3.0, 5.0]), spacing=spacing)


@pytest.mark.parametrize("n_classes", range(1, 18))
def test_any_number_of_classes(n_classes):
    compare(*maps((1, 1, 11, 21), n_classes), 5.0)


@pytest.mark.parametrize("shape", [(2, 1, 9, 20), (2, 1, 3, 5, 9)])
def test_any_order_in_memory(shape):
    image, p = maps(shape, 5)
    last = torch.channels_last if p.ndim == 4 else torch.channels_last_3d
    kept = p.contiguous(memory_format=last)
    compare(image, kept, 3.0)
    compare(image.contiguous(memory_format=last), kept, 3.0)
    compare(image.transpose(-1, -2), p.transpose(-1, -2), 3.0)


def test_large_values_keep_their_differences():
    image, p = maps((1, 1, 20, 20), 3)
    compare(image.round() + 60000, p, 5.0)


def test_nan_is_not_hidden():
    image, p = maps((1, 1, 20, 20), 3)
    p[0, 1, 5, 5] = torch.nan
    assert torch.isnan(soft_ncut(p, window_affinity(image)))


WRONG = {
    "image": {"image": torch.rand(3, 8, 8)},
    "valid": {"valid": torch.ones(1, 8, 7, dtype=torch.bool)},
    "spacing": {"spacing": (1.0,)},
    "largest spacing": {"spacing": (1.0, float("inf"))},
    "radius": {"radius": 0.0},
    "sigma_space": {"sigma_space": float("nan")},
    "sigma_intensity": {"sigma_intensity": -1.0},
    "finite values": {"image": torch.full((1, 1, 8, 8), float("nan"))},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name):
    with pytest.raises(UsageError, match=name):
        window_affinity(**{"image": torch.rand(1, 3, 8, 8), **WRONG[name]})
