import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selfseg.core.seed import derive
from selfseg.sample.augment import Augmentation, cubic_matrix, elastic_points, sample_at, view_coordinates


def identity_grid(shape):
    return torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))


def elastic_field(shape, sigma, points, seed):
    """Cubic between the points of the coarse grid, axis by axis."""
    field = elastic_points(shape, sigma, points, seed)
    for axis, size in enumerate(shape, 1):
        field = torch.tensordot(field, cubic_matrix(points, size), dims=([axis], [1])).movedim(-1, axis)
    return field


def test_coordinates_are_mirrored_then_turned_then_deformed():
    """All that is drawn, put together pixel by pixel."""
    side, how, seed = (12, 15), Augmentation(elastic=2.0, rotation=90.0, mirror=True), 11
    found = view_coordinates((40, 50), (20, 20), side, how, seed)
    plain = view_coordinates((40, 50), (20, 20), side, Augmentation(), seed)
    middle = torch.tensor([(n - 1) / 2 for n in side])
    start = plain[:, 0, 0]
    draw = torch.Generator().manual_seed(seed)
    torch.rand(2, generator=draw)
    signs = torch.where(torch.rand(2, generator=draw) < 0.5, -1.0, 1.0)
    angle = math.radians(90.0) * (2 * float(torch.rand((), generator=draw)) - 1)
    moved = elastic_field(side, 2.0, how.points, derive(seed, "elastic"))
    for y, x in np.ndindex(*side):
        dy, dx = (torch.tensor([y, x]) - middle) * signs
        turned = [math.cos(angle) * dy - math.sin(angle) * dx, math.sin(angle) * dy + math.cos(angle) * dx]
        wanted = torch.stack(turned) + middle + start + moved[:, y, x]
        torch.testing.assert_close(found[:, y, x], wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("points", "size"), [(3, 17), (3, 2), (5, 40)])
def test_cubic_interpolation_is_that_of_torch(points, size):
    """torch's bicubic interpolation, corner on corner, as the outside number."""
    coarse = torch.randn(points, points, generator=torch.Generator().manual_seed(0))
    matrix = cubic_matrix(points, size)
    wanted = F.interpolate(coarse[None, None], (size, size), mode="bicubic", align_corners=True)[0, 0]
    torch.testing.assert_close(matrix @ coarse @ matrix.T, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(matrix.sum(1), torch.ones(size))


def test_a_single_point_moves_everything_alike():
    field = elastic_field((6, 7), 3.0, 1, seed=4)
    assert float(field.std((1, 2)).max()) < 1e-6 and float(field.abs().max()) > 0


@pytest.mark.parametrize("shape", [(30, 41), (9, 30, 41)])
def test_the_corners_of_the_field_are_normal_with_the_sigma_asked_for(shape):
    corners = [slice(None, None, n - 1) for n in shape]
    draws = torch.stack([elastic_field(shape, 0.5, 3, seed)[(slice(None), *corners)] for seed in range(150)])
    assert float(draws.std()) == pytest.approx(0.5, rel=0.1)
    assert float(draws.mean()) == pytest.approx(0.0, abs=0.08)


def test_a_short_axis_is_not_folded():
    """Along each axis coordinates still grow: nothing is seen twice, however large the sigma asked for."""
    for seed in range(50):
        field = elastic_field((12, 200), 10.0, 3, seed)
        at = field + identity_grid((12, 200))
        assert float(at[0].diff(dim=0).min()) > 0 and float(at[1].diff(dim=1).min()) > 0
    assert float(field[1].abs().max()) > 2 > float(field[0].abs().max()) > 0


def test_a_field_is_smooth_and_a_function_of_its_seed():
    field = elastic_field((64, 64), 10.0, 3, seed=1)
    assert torch.equal(field, elastic_field((64, 64), 10.0, 3, seed=1))
    assert not torch.equal(field, elastic_field((64, 64), 10.0, 3, seed=2))
    steps = max(float(field.diff(dim=axis).abs().max()) for axis in (1, 2))
    assert steps < float(field.abs().max()) / 5


def linear_loop(image, at):
    """Linear interpolation pixel by pixel, mirrored beyond the border, in any number of dimensions."""
    out = np.zeros((len(image), *at.shape[1:]))
    for place in np.ndindex(*at.shape[1:]):
        point = at[(slice(None), *place)]
        low = np.floor(point).astype(int)
        for corner in itertools.product((0, 1), repeat=len(point)):
            weight, index = 1.0, []
            for axis, side in enumerate(corner):
                n = image.shape[1 + axis]
                weight *= point[axis] - low[axis] if side else 1 - (point[axis] - low[axis])
                turn = (low[axis] + side) % (2 * n)
                index.append(turn if turn < n else 2 * n - 1 - turn)
            out[(slice(None), *place)] += weight * image[(slice(None), *index)]
    return out


@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 6)])
def test_values_between_pixels_are_linear_and_mirrored_beyond_the_border(shape):
    rng = np.random.default_rng(0)
    image = rng.random((2, *shape))
    at = rng.uniform(-3, max(shape) + 3, (len(shape), *(4,) * len(shape)))
    found = sample_at(torch.from_numpy(image).float(), torch.from_numpy(at).float())
    np.testing.assert_allclose(found.numpy(), linear_loop(image, at), atol=1e-4)


def test_the_identity_gives_the_image_back_and_labels_are_never_mixed():
    image = torch.rand(3, 9, 11)
    torch.testing.assert_close(sample_at(image, identity_grid((9, 11))), image)
    labels = torch.randint(0, 2, (1, 9, 11)) * 200.0
    moved = identity_grid((9, 11)) + elastic_field((9, 11), 4.0, 3, seed=0)
    assert set(sample_at(labels, moved, nearest=True).unique().tolist()) <= {0.0, 200.0}
    one = identity_grid((9, 11)) + torch.tensor([1.0, 0.0]).reshape(2, 1, 1)
    assert torch.equal(sample_at(labels, one, nearest=True)[0, :8], labels[0, 1:])
