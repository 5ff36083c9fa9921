import numpy as np
import pytest

from selfseg.regions.metric import Scatter, discriminant_directions, scatter


def loops(labels, features):
    """The sums of the module's text, written as loops: cells of 4x4, at least 3 samples of a region in one."""
    cells = {}
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] >= 0:
                cells.setdefault((labels[y, x], y // 4, x // 4), []).append(features[y, x])
    rows = [(region, len(values), np.mean(values, 0)) for (region, _, _), values in cells.items() if len(values) >= 3]
    weight = sum(n for _, n, _ in rows)
    mean = sum(n * row for _, n, row in rows) / weight
    within = between = 0
    for region in {region for region, _, _ in rows}:
        own = [(n, row) for name, n, row in rows if name == region]
        mass = sum(n for n, _ in own)
        centre = sum(n * row for n, row in own) / mass
        within = within + sum(n * np.outer(row - centre, row - centre) for n, row in own)
        between = between + mass * np.outer(centre - mean, centre - mean)
    return weight, weight * mean, within, between


def test_the_sums_are_those_of_loops():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, (3, 4)).repeat(5, 0).repeat(3, 1)
    features = rng.normal(size=(*labels.shape, 4)) + labels[..., None]
    found = scatter(labels, features)
    weight, total, within, between = loops(labels, features)
    assert found.weight == weight
    np.testing.assert_allclose(found.total, total)
    np.testing.assert_allclose(found.within, within, atol=1e-10)
    np.testing.assert_allclose(found.between, between, atol=1e-10)


def test_the_first_direction_is_that_which_parts_regions():
    """Regions differ along one axis, and vary far more along another, within themselves."""
    rng = np.random.default_rng(1)
    labels = np.arange(6).repeat(16).reshape(1, -1).repeat(32, 0)
    noise = np.kron(rng.normal(size=(8, 24, 3)), np.ones((4, 4, 1)))
    features = noise * (1, 9, 1) + labels[..., None] * np.array([3.0, 0, 0])
    mean, directions = discriminant_directions(scatter(labels, features), 2)
    first = directions[:, 0] / np.linalg.norm(directions[:, 0])
    assert abs(first[0]) > 0.98
    projected = (features - mean) @ directions
    inside = projected - np.stack([projected[labels == k].mean(0) for k in range(6)])[labels]
    spread = inside.reshape(-1, 2).std(0)  # 1, but for the ridge, which counts most where the least variance is
    assert ((spread > 0.8) & (spread < 1.05)).all()


@pytest.mark.parametrize("shape", [(1, 1), (5, 3)])
def test_too_little_to_learn_from_gives_numbers_all_the_same(shape):
    found = scatter(np.full(shape, -1), np.ones((*shape, 2)))
    assert found.weight == 0
    mean, directions = discriminant_directions(found, 3)
    assert np.isfinite(mean).all() and np.isfinite(directions).all() and directions.shape == (2, 3)


def test_sums_of_two_images_add_up():
    rng = np.random.default_rng(2)
    one, other = (scatter(rng.integers(0, 2, (8, 8)), rng.normal(size=(8, 8, 2))) for _ in range(2))
    both = Scatter(*(getattr(one, name) + getattr(other, name) for name in vars(one)))
    assert np.isfinite(discriminant_directions(both, 2)[1]).all()
