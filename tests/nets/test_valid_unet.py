import math

import numpy as np
import pytest
import torch
from torch import nn

from selfseg.nets.unet import POOL, UNet, UNetShape, cut_back, cut_middle, he_init, mean_over_symmetries, mirror_frame

PAPER = UNetShape(norm="none", padded=False)
VALID = {depth: UNetShape(width=2, depth=depth, norm="none", padded=False) for depth in (1, 2, 3)}


@pytest.mark.parametrize(("channels", "wanted"), [(1, 31_030_658), (3, 31_031_810)])
def test_the_published_network_has_its_number_of_parameters(channels, wanted):
    with torch.device("meta"):
        net = UNet(channels, 2, PAPER)
    assert sum(parameter.numel() for parameter in net.parameters()) == wanted


def test_the_published_network_has_23_convolutional_layers():
    with torch.device("meta"):
        net = UNet(1, 2, PAPER)
    assert sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in net.modules()) == 23


def test_572_pixels_become_388():
    """Figure 1 of the paper."""
    net = UNet(1, 2, UNetShape(width=2, norm="none", padded=False))
    assert net(torch.rand(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert (net.margin, net.response_side(388), net.response_side(387), net.response_side(389)) == (92, 388, 388, 404)


@pytest.mark.parametrize("depth", VALID)
@pytest.mark.parametrize("size", [(1, 1), (5, 31), (40, 23)])
def test_any_size_is_framed_so_that_each_pixel_is_answered(depth, size):
    net = UNet(1, 3, VALID[depth])
    answer = net(net.frame(torch.rand(2, 1, *size)))
    assert answer.shape[2] >= size[0] and answer.shape[3] >= size[1]
    assert cut_back(answer, size).shape == (2, 3, *size)


def test_volumes_without_padding():
    net = UNet(1, 2, UNetShape(width=2, depth=1, n_dims=3, norm="none", padded=False))
    assert cut_back(net(net.frame(torch.rand(1, 1, 5, 9, 8))), (5, 9, 8)).shape == (1, 2, 5, 9, 8)


def test_a_shift_of_the_pooling_grid_shifts_the_answer_of_the_valid_network():
    """No zeros are ever seen: away from the frame the answer depends on the pixels alone."""
    net = UNet(1, 2, VALID[2]).eval()
    image = torch.rand(1, 1, 80, 80)
    whole, part = net(net.frame(image)), net(net.frame(image[..., 4:, 8:]))
    inner = (..., slice(net.margin, 40), slice(net.margin, 40))
    torch.testing.assert_close(part[inner], whole[..., 4:, 8:][inner])


@pytest.mark.parametrize("up", ["transposed", "linear"])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_response_depends_on_what_is_beyond_its_reach(up, padded, depth, monkeypatch):
    """With positive weights no ReLU is dead, and a mean instead of a maximum lets every pixel through that can be."""
    monkeypatch.setitem(POOL, 2, torch.nn.functional.avg_pool2d)
    net = UNet(1, 1, UNetShape(width=2, depth=depth, norm="none", padded=padded, up=up)).double()
    for parameter in net.parameters():
        parameter.data.abs_().add_(0.1)
    side = 4 * net.reach
    image = torch.rand(1, 1, side, 2 * net.multiple, dtype=torch.float64, requires_grad=True)
    middle, widest = side // 2, 0
    for at in range(middle, middle + net.multiple):
        answer = cut_back(net(net.frame(image)), image.shape[2:])
        (gradient,) = torch.autograd.grad(answer[0, 0, at].sum(), image)
        seen = gradient[0, 0].abs().sum(1).nonzero().flatten()
        widest = max(widest, at - int(seen.min()), int(seen.max()) - at)
    assert 0 < widest <= net.reach
    assert widest >= net.reach / 2  # the bound is not idle


def test_mirrors_on_both_sides():
    row = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 3)
    assert mirror_frame(row, 4, [2])[0, 0].tolist() == [3, 3, 2, 1, 1, 2, 3, 3, 2]
    wanted = np.pad(np.arange(5.0), (7, 9), mode="symmetric")
    assert mirror_frame(torch.arange(5.0).reshape(1, 1, 5), 7, [9])[0, 0].tolist() == wanted.tolist()
    assert cut_middle(row, (1,))[0, 0].tolist() == [2.0]


@pytest.mark.parametrize("n_dims", [2, 3])
def test_he_initialisation_counts_the_inputs_of_one_output(n_dims):
    """sqrt(2 / N): N = 9 x 64 = 576 in the paper's own example; a 2x2 transposed convolution of stride 2 sums one pixel a channel."""
    torch.manual_seed(0)
    net = UNet(1, 2, UNetShape(width=64 if n_dims == 2 else 16, depth=2, n_dims=n_dims, norm="none"))
    he_init(net)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            wanted = math.sqrt(2 / (layer.in_channels * layer.kernel_size[0] ** n_dims))
        elif isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d):
            wanted = math.sqrt(2 / layer.in_channels)
        else:
            continue
        if layer.weight.numel() > 2000:
            assert float(layer.weight.std().detach()) == pytest.approx(wanted, rel=0.05)
        assert not bool(layer.bias.any())
    second = net.down[0].layers[2]
    assert float(second.weight.std().detach()) == pytest.approx(math.sqrt(2 / second.weight[0].numel()), rel=0.05)


def test_responses_keep_their_variance_through_the_layers():
    torch.manual_seed(0)
    net = UNet(4, 32, UNetShape(width=32, depth=2, norm="none"))
    he_init(net)
    spread = float(net(torch.randn(1, 4, 64, 64)).detach().std())
    assert 0.3 < spread < 5


def test_dropout_stands_at_the_end_of_the_contracting_path():
    torch.manual_seed(0)
    seen = {}
    net = UNet(1, 2, UNetShape(width=2, depth=3, norm="none", bottom_dropout=0.9)).train()
    inputs = [*net.down[1:], net.ups[0]]
    for number, module in enumerate(inputs):
        module.register_forward_pre_hook(lambda _, given, number=number: seen.update({number: given[0]}))
    net(torch.rand(1, 1, 64, 64))
    zeros = {number: float((value == 0).float().mean()) for number, value in seen.items()}
    assert zeros[2] > 0.5 and zeros[3] > 0.8  # what comes out of the last two contracting modules
    still = net.eval()(torch.ones(1, 1, 16, 16))
    assert torch.equal(still, net(torch.ones(1, 1, 16, 16)))


def test_the_mean_over_symmetries_commutes_with_them():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3)
    image = torch.rand(1, 2, 9, 12)
    mean = mean_over_symmetries(layer, image)
    assert mean.shape == layer(image).shape
    for quarters in range(4):
        for flip in ([], [-1], [-2]):
            turned = torch.rot90(image.flip(flip), quarters, (-2, -1))
            torch.testing.assert_close(
                mean_over_symmetries(layer, turned), torch.rot90(mean.flip(flip), quarters, (-2, -1))
            )
    assert not torch.allclose(mean, layer(image))
