import pytest
import torch

from selfseg.nets.unet import Module, UNet, UNetShape, cut_back, mirror_pad

PAPER = UNetShape(separable=True)


@pytest.mark.parametrize(("k", "encoder", "decoder"), [(4, 6.13, 6.13), (20, 6.13, 6.14), (64, 6.13, 6.17)])
def test_the_network_of_the_paper_has_its_size(k, encoder, decoder):
    """Millions of parameters of each half, with biases and batch norms, for three channels (Xia & Kulis 2017, figure 1)."""
    for net, wanted in ((UNet(3, k, PAPER), encoder), (UNet(k, 3, PAPER), decoder)):
        assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(wanted, abs=0.006)


def test_the_paper_has_46_convolutional_layers():
    kinds = {"plain": 0, "depthwise": 0, "point": 0, "transposed": 0, "modules": 0}
    for net in (UNet(3, 20, PAPER), UNet(20, 3, PAPER)):
        for module in net.modules():
            kinds["modules"] += isinstance(module, Module)
            if isinstance(module, torch.nn.ConvTranspose2d):
                kinds["transposed"] += 1
            elif isinstance(module, torch.nn.Conv2d):
                name = "point" if module.kernel_size == (1, 1) else "depthwise" if module.groups > 1 else "plain"
                kinds[name] += 1
    # 18 modules of two convolutions; modules 1, 9, 10, 18 plain, 14 separable; 8 up-convolutions; 2 final 1x1.
    assert kinds == {"plain": 8, "depthwise": 28, "point": 28 + 2, "transposed": 8, "modules": 18}
    assert kinds["plain"] + kinds["depthwise"] + kinds["transposed"] + 2 == 46


def test_relu_stands_before_the_norm_in_the_paper():
    names = [type(layer).__name__ for layer in Module(3, 8, PAPER, separable=True).layers]
    assert names == ["Conv2d", "Conv2d", "ReLU", "BatchNorm2d"] * 2
    other = UNetShape(norm_last=False, dropout=0.5)
    assert [type(layer).__name__ for layer in Module(3, 8, other, False).layers][1:3] == ["BatchNorm2d", "ReLU"]
    assert isinstance(Module(3, 8, other, False).layers[-1], torch.nn.Dropout)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (16, 33), (3, 40)])
@pytest.mark.parametrize("up", ["transposed", "transposed3", "linear"])
def test_any_size_comes_back(shape, up):
    net = UNet(2, 5, UNetShape(width=4, depth=3, norm="group", up=up, separable=True)).eval()
    assert net(torch.rand(2, 2, *shape)).shape == (2, 5, *shape)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_volumes(norm):
    net = UNet(1, 3, UNetShape(width=4, depth=2, n_dims=3, norm=norm))
    assert net(torch.rand(1, 1, 5, 9, 8)).shape == (1, 3, 5, 9, 8)


def test_mirroring_repeats_the_outermost_pixel_and_turns_again():
    row = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
    assert mirror_pad(row, 8)[0, 0, 0].tolist() == [1, 2, 3, 3, 2, 1, 1, 2]
    assert mirror_pad(row, 8).shape == (1, 1, 8, 8)
    assert torch.equal(cut_back(mirror_pad(row, 8), (1, 3)), row)
    assert mirror_pad(torch.zeros(1, 1, 8, 4), 4).shape == (1, 1, 8, 4)


def test_interpolation_and_the_point_convolution_commute():
    """The cheap order gives what the usual order, interpolation first, gives."""
    net = UNet(3, 2, UNetShape(width=4, depth=1, up="linear"))
    step, x = net.ups[0], torch.rand(1, 8, 6, 6)
    usual = step.layer(torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
    torch.testing.assert_close(step(x, torch.zeros(1, 4, 12, 12))[:, 4:], usual)
