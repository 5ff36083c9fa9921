import numpy as np
import pytest
import torch

from selfseg.core.errors import UsageError
from selfseg.nets.region_pool import region_map, region_mean, region_votes, spread


def superpixels(shape=(9, 11), n=7, seed=0):
    labels = np.random.default_rng(seed).integers(0, n, shape)
    labels[0, :3] = -1
    labels[labels == 2] = 3  # one label is not used
    return labels


def means_by_loop(features, labels, n):
    """The mean over each superpixel, pixel by pixel."""
    out = torch.zeros(*features.shape[:2], n, dtype=torch.float64)
    for r in range(n):
        where = [tuple(p) for p in np.argwhere(labels == r)]
        for b in range(len(features)):
            for k in range(features.shape[1]):
                if where:
                    out[b, k, r] = sum(features[(b, k, *p)].double() for p in where) / len(where)
    return out


@pytest.mark.parametrize("shape", [(9, 11), (4, 5, 6)])
def test_means_are_those_of_a_loop_and_the_gradient_is_right(shape):
    labels = superpixels(shape)
    regions = region_map(labels, 7)
    features = torch.randn(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(
        region_mean(features, regions), means_by_loop(features, labels, 7), rtol=1e-10, atol=1e-10
    )
    assert torch.autograd.gradcheck(lambda x: region_mean(x, regions), features)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("shape", "channels"), [((9, 11), 3), ((90, 70), 8), ((4, 5, 6), 3)])
def test_kernels_agree_with_float64_in_both_layouts(shape, channels, last):
    labels = superpixels(shape, 40)
    regions = region_map(labels, 40)
    plain = torch.randn(2, channels, *shape)
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[len(shape)] if last else torch.contiguous_format
    features = plain.clone(memory_format=layout).requires_grad_()
    weights = torch.randn(2, channels, 40)
    (region_mean(features, regions) * weights).sum().backward()
    exact = plain.double().requires_grad_()
    expected = region_mean(exact, regions)
    (expected * weights).sum().backward()
    torch.testing.assert_close(region_mean(features, regions), expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features.grad, exact.grad.float(), rtol=1e-5, atol=1e-7)
    assert (features.grad[:, :, torch.from_numpy(labels < 0)] == 0).all()


def test_what_lies_outside_may_hold_anything():
    labels = superpixels()
    features = torch.randn(1, 3, 9, 11)
    before = region_mean(features, region_map(labels, 7))
    features[:, :, torch.from_numpy(labels < 0)] = torch.nan
    torch.testing.assert_close(region_mean(features, region_map(labels, 7)), before)


def test_spread_gives_each_pixel_its_superpixels_value():
    labels = superpixels()
    values = torch.randn(2, 3, 7)
    out = spread(values, region_map(labels, 7), outside=-5.0)
    for place in np.ndindex(labels.shape):
        wanted = values[:, :, labels[place]] if labels[place] >= 0 else torch.full((2, 3), -5.0)
        assert torch.equal(out[(..., *place)], wanted)


def test_labels_by_mean_and_by_majority():
    labels = np.array([[0, 0, 0, 1, -1]])
    features = torch.zeros(1, 2, 1, 5)
    features[0, 0] = torch.tensor([[9.0, 0, 0, 1, 9]])
    features[0, 1] = torch.tensor([[0.0, 1, 1, 0, 0]])  # in superpixel 0 the mean says 0, two of three pixels say 1
    regions = region_map(labels)
    assert region_mean(features, regions).argmax(1).tolist() == [[0, 0]]
    assert region_votes(features, regions).argmax(1).tolist() == [[1, 0]]
    assert region_votes(features, regions).tolist() == [[[1, 1], [2, 0]]]


def test_wrong_superpixels_are_refused():
    with pytest.raises(UsageError, match="integers"):
        region_map(np.zeros((3, 3)))
    with pytest.raises(UsageError, match="at most 3"):
        region_map(superpixels(), 4)
    with pytest.raises(UsageError, match="this image's superpixels"):
        region_mean(torch.zeros(1, 2, 3, 3), region_map(superpixels()))
