import pytest
import torch

from selfseg.losses.soft_ncut import association, window_affinity


@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5)])
def test_association_is_the_sum_over_all_pairs(shape):
    torch.manual_seed(0)
    images = torch.rand(2, 1, *shape, dtype=torch.float64)
    classes = torch.rand(2, 3, *shape, dtype=torch.float64).softmax(1)
    affinity = window_affinity(images, 2.5, 0.4, 2.0)
    between, volume = association(classes, affinity)
    places = torch.cartesian_prod(*(torch.arange(n) for n in shape)).double()
    wanted, tied = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for image, p in zip(images.flatten(1), classes.flatten(2), strict=True):
        for u in range(len(places)):
            for v in range(len(places)):
                apart = float((places[u] - places[v]).square().sum())
                if apart < 2.5**2:
                    weight = torch.exp(-((image[u] - image[v]) ** 2) / 0.4**2 - apart / 2.0**2)
                    wanted += weight * torch.outer(p[:, u], p[:, v])
                    tied += weight * p[:, u]
    torch.testing.assert_close(between, wanted)
    torch.testing.assert_close(volume, tied)
