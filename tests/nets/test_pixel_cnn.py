import numpy as np
import pytest
import torch

from reference import clustering_loops as loops
from selfseg.nets import PixelCNN


def net(*args, seed=0, dtype=torch.float64, **kwargs):
    torch.manual_seed(seed)
    model = PixelCNN(*args, **kwargs).to(dtype)
    with torch.no_grad():  # norms that do something
        for norm in [*model.norms, model.head_norm]:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
    return model


def picture(*shape, seed=0, dtype=torch.float64):
    return torch.tensor(np.random.default_rng(seed).random(shape), dtype=dtype)


def ragged(model, x, valid):
    """The network as loops: x [B C Y X] -> [B K Y X], statistics pooled over the valid pixels."""
    values, counted = x.numpy().transpose(0, 2, 3, 1), valid.numpy()
    array = lambda t: t.detach().double().numpy()  # noqa: E731
    for conv, norm in zip(model.convs, model.norms, strict=True):
        values = np.maximum(loops.convolve(values, counted, array(conv.weight), array(conv.bias)), 0)
        values = loops.normalise(values, counted, array(norm.weight), array(norm.bias))
    head, norm = model.head, model.head_norm
    out = values @ array(head.weight)[:, :, 0, 0].T + array(head.bias)
    return loops.normalise(out, counted, array(norm.weight), array(norm.bias)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(("n_convolutions", "count"), [(1, 13_300), (2, 103_600), (3, 193_900)])
def test_parameter_counts_of_the_paper(n_convolutions, count):
    model = PixelCNN(3, 100, 100, n_convolutions)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.context == n_convolutions


@pytest.mark.parametrize("n_convolutions", [1, 2])
def test_response_is_the_network_as_loops(n_convolutions):
    model = net(2, 4, 3, n_convolutions)
    x, valid = picture(2, 2, 5, 6), torch.ones(2, 5, 6, dtype=torch.bool)
    np.testing.assert_allclose(model(x).detach().numpy(), ragged(model, x, valid), atol=1e-10)


def test_two_sizes_in_one_padded_batch_are_the_ragged_computation():
    model = net(2, 4, 3, 2)
    x, valid = picture(2, 2, 6, 7), torch.ones(2, 6, 7, dtype=torch.bool)
    valid[1, 4:] = False
    valid[1, :, 5:] = False
    x[1, :, 4:] = torch.nan
    response = model(x, valid)
    np.testing.assert_allclose(response.detach().numpy(), ragged(model, x, valid), atol=1e-10)
    assert response[1, :, 4:].abs().max() == 0


def test_padding_does_not_reach_any_gradient():
    model = net(2, 4, 3, 2)
    x, valid = picture(1, 2, 6, 7), torch.zeros(1, 6, 7, dtype=torch.bool)
    valid[:, :4, :5] = True
    weights = picture(1, 3, 6, 7, seed=1)
    gradients = []
    for images, mask, w in ((x, valid, weights), (x[..., :4, :5], None, weights[..., :4, :5])):
        model.zero_grad()
        (model(images, mask) * w).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for padded, alone in zip(*gradients, strict=True):
        torch.testing.assert_close(padded, alone, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_calibrated_evaluation_is_training_on_one_image(dtype, masked):
    model = net(3, 8, 6, 3, dtype=dtype)
    x = picture(1, 3, 9, 11, dtype=dtype)
    valid = None
    if masked:
        valid = torch.ones(1, 9, 11, dtype=torch.bool)
        valid[:, 6:, :4] = False
    trained = model(x, valid)
    model.calibrate(lambda: [(x, valid)])
    assert model.training
    frozen = model.eval()(x, valid)
    torch.testing.assert_close(frozen, trained, atol=1e-5, rtol=1e-5)


def test_calibration_pools_all_images():
    model = net(2, 4, 3, 2)
    parts = [picture(1, 2, 5, 6, seed=s) for s in range(3)]
    whole = torch.cat(parts)
    trained = model(whole)
    model.calibrate(lambda: ((part, None) for part in parts))
    torch.testing.assert_close(model.eval()(whole), trained)


def test_volumes():
    model = net(1, 4, 3, 2, n_dims=3)
    x = picture(1, 1, 4, 5, 6)
    response = model(x)
    assert response.shape == (1, 3, 4, 5, 6)
    axes = (0, 2, 3, 4)
    torch.testing.assert_close(response.mean(axes), model.head_norm.bias)
    # A volume of one slice whose kernels have only their middle plane is an image.
    flat = net(1, 4, 3, 2)
    with torch.no_grad():
        for conv, conv3 in zip([*flat.convs, flat.head], [*model.convs, model.head], strict=True):
            middle = conv3.weight[:, :, conv3.weight.shape[2] // 2].clone()
            conv.weight.copy_(middle)
            conv.bias.copy_(conv3.bias)
        for norm, norm3 in zip([*flat.norms, flat.head_norm], [*model.norms, model.head_norm], strict=True):
            norm.load_state_dict(norm3.state_dict())
    torch.testing.assert_close(model(x[:, :, :1])[:, :, 0], flat(x[:, :, 0]))


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3, 1, 7), (1, 3, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiny_and_flat_images_stay_finite(shape, dtype):
    model = net(3, 5, 4, 2, dtype=dtype)
    x = torch.full(shape, 0.5, dtype=dtype)
    response = model(x)
    response.square().sum().backward()
    assert torch.isfinite(response).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
