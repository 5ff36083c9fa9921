import numpy as np
import pytest
import torch

from selfseg.losses.deep_clustering import centre_distances, nearest_distance, sharpened_divergence, student_t


def drawn(b=2, f=3, k=4, size=(3, 5)):
    draw = torch.Generator().manual_seed(0)
    return torch.randn(b, f, *size, generator=draw), torch.randn(k, f, generator=draw)


@pytest.mark.parametrize("size", [(3, 5), (2, 3, 4)])
def test_distances_are_those_of_the_loop(size):
    features, centres = drawn(size=size)
    found = centre_distances(features, centres)
    for place in np.ndindex(2, *size):
        row = features[(place[0], slice(None), *place[1:])]
        for k in range(4):
            wanted = sum((float(row[f]) - float(centres[k, f])) ** 2 for f in range(3)) / 3
            assert float(found[(place[0], k, *place[1:])]) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("by_size", [False, True])
def test_nearest_distance_is_that_of_the_loop(by_size):
    features, centres = drawn()
    labels = centre_distances(features, centres).argmin(1)
    weights = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(1))
    weights[0, 0] = 0
    total, mass, sizes = 0.0, 0.0, [0.0] * 4
    for place in np.ndindex(2, 3, 5):
        sizes[int(labels[place])] += float(weights[place])
    for place in np.ndindex(2, 3, 5):
        k, weight = int(labels[place]), float(weights[place])
        weight = weight / sizes[k] if by_size and weight else weight
        row = features[place[0], :, place[1], place[2]]
        total += weight * sum((float(row[f]) - float(centres[k, f])) ** 2 for f in range(3)) / 3
        mass += weight
    found = nearest_distance(features, centres, labels, weights, by_size)
    assert float(found) == pytest.approx(total / mass, rel=1e-5)


def test_pixels_without_weight_do_not_matter_and_centres_get_no_gradient():
    features, centres = drawn()
    labels, weights = centre_distances(features, centres).argmin(1), torch.ones(2, 3, 5)
    weights[1] = 0
    spoilt = features.clone()
    spoilt[1] = torch.nan
    spoilt.requires_grad_()
    moving = centres.clone().requires_grad_()
    loss = nearest_distance(spoilt, moving, labels, weights)
    assert torch.equal(loss, nearest_distance(features, centres, labels, weights))
    loss.backward()
    assert moving.grad is None and torch.isfinite(spoilt.grad).all() and float(spoilt.grad[1].abs().sum()) == 0
    assert float(nearest_distance(features, centres, labels, torch.zeros(2, 3, 5))) == 0


def test_student_t_is_equation_1_of_dec():
    """q_k = (1 + d_k / alpha)^-((alpha + 1) / 2) / sum of the same."""
    distances = torch.tensor([0.5, 2.0, 7.0]).reshape(1, 3, 1, 1)
    for alpha, spread in ((1.0, 1.0), (3.0, 0.5)):
        raw = [(1 + d / (alpha * spread)) ** (-(alpha + 1) / 2) for d in (0.5, 2.0, 7.0)]
        found = student_t(distances, spread, alpha).flatten().tolist()
        assert found == pytest.approx([value / sum(raw) for value in raw], rel=1e-5)


def test_sharpened_divergence_is_equations_2_and_3_of_dec():
    q = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    q = q / q.sum(1, keepdim=True)
    valid = torch.tensor([[[True, True], [False, True]]])
    pixels = [q[0, :, y, x].tolist() for y, x in ((0, 0), (0, 1), (1, 1))]
    share = [sum(pixel[k] for pixel in pixels) for k in range(3)]
    total = 0.0
    for pixel in pixels:
        raw = [pixel[k] ** 2 / share[k] for k in range(3)]
        for k in range(3):
            p = raw[k] / sum(raw)
            total += p * np.log(p / pixel[k])
    assert float(sharpened_divergence(q, valid)) == pytest.approx(total / 3, rel=1e-4)
