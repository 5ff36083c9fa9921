import pytest
import torch

from selfseg.nets.autoencoder import ResidualDecoder, StridedUNet
from selfseg.nets.feature_space import in_slabs


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_parameters_are_as_many_as_in_the_published_networks():
    """One channel, 64 features: 23,256 + 8,129 = 31,385, as the network for brain images has."""
    encoder, decoder = StridedUNet(1, 64), ResidualDecoder(64, 1)
    assert (count(encoder), count(decoder)) == (23256, 8129)


@pytest.mark.parametrize("size", [(1, 1), (17, 6), (5, 9, 7)])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_any_size_in_two_and_three_dimensions(size, depth):
    encoder = StridedUNet(2, 5, 4, depth, len(size), rectified=True)
    decoder = ResidualDecoder(5, 2, 4, 2, len(size), rectified=True)
    features = encoder(torch.rand(3, 2, *size))
    assert features.shape == (3, 5, *size) and (features >= 0).all()
    rebuilt = decoder(features)
    assert rebuilt.shape == (3, 2, *size) and (rebuilt >= 0).all()


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_no_pixel_beyond_the_halo_matters_and_slabs_give_what_the_whole_gives(depth):
    torch.manual_seed(0)
    net = StridedUNet(1, 3, 4, depth).double()
    image = torch.rand(1, 1, 16 * net.multiple + 3, 9, dtype=torch.float64)
    with torch.no_grad():
        whole = net(image)
        for most in (1, 4 * 9 * net.multiple, 10**9):
            torch.testing.assert_close(in_slabs(net, image, net.halo, net.multiple, most), whole)
        changed = image.clone()
        changed[:, :, 0] += 1
        reached = ((net(changed) - whole).abs().sum((0, 1, 3)) > 0).nonzero().max()
    assert 0 < int(reached) <= net.halo


def test_slabs_without_a_halo_are_not_the_whole():
    torch.manual_seed(0)
    net = StridedUNet(1, 3, 4, 1)
    image = torch.rand(1, 1, 40, 9)
    with torch.no_grad():
        assert not torch.allclose(in_slabs(net, image, 0, 2, 9 * 8), net(image))
