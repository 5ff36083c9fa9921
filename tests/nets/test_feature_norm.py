import pytest
import torch

from selfseg.nets.norms import FeatureNorm


def made(scale, features=3):
    norm = FeatureNorm(features, scale)
    norm.add_effect(torch.randn(1, features, 30, 30, generator=torch.Generator().manual_seed(9)) * 2, None)
    norm.settle(
        torch.randn(500, features, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3, 9]) + 5,
        turn=True,
    )
    return norm


def drawn(seed=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 8, 9, generator=draw) * torch.tensor([1.0, 3, 9]).reshape(1, 3, 1, 1) + 5


def test_settled_rows_have_the_variance_that_was_asked_for():
    rows = torch.randn(4000, 3) * torch.tensor([1.0, 3, 9]) + 5
    for scale, wanted in (("each", [1, 1, 1]), ("total", [3 / 91, 27 / 91, 243 / 91])):
        norm = FeatureNorm(3, scale)
        norm.settle(rows)
        scaled = norm(rows)
        assert scaled.var(0).tolist() == pytest.approx(wanted, rel=0.1)
        assert scaled.mean(0).abs().max() < 1e-4
        before = norm.mean.clone(), norm.variance.clone()
        norm.settle(3 * rows + 1)
        torch.testing.assert_close(norm.rescaled(scaled, *before), norm(rows), rtol=1e-4, atol=1e-4)
    assert torch.equal(FeatureNorm(3, "none")(rows), rows)


def test_a_distance_by_effect_is_the_change_of_what_a_linear_decoder_rebuilds():
    """Two features that cancel each other and one that is not read: |z - z'|^2 is |D (z - z')|^2 up to one factor."""
    draw = torch.Generator().manual_seed(0)
    decoder = torch.tensor([[1.0, -1.0, 0.5, 0.0], [0.0, 0.0, 2.0, 0.0]])
    norm, rows = FeatureNorm(4, "effect"), torch.randn(3000, 4, generator=draw)
    for _ in range(40):
        signs = torch.randint(0, 2, (2, 500), generator=draw) * 2.0 - 1
        norm.add_effect((decoder.T @ signs)[None, :, :, None], None)
    norm.settle(rows, turn=True)
    z, image = norm(rows), rows @ decoder.T
    ratio = (z[1:] - z[:-1]).square().sum(1) / (image[1:] - image[:-1]).square().sum(1)
    assert float(ratio.std() / ratio.mean()) < 0.05
    assert float(norm(rows + torch.tensor([5.0, 5.0, 0.0, 9.0])).sub(z).abs().max()) < 1e-2 * float(z.abs().max())
    assert float(z.square().mean()) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("scale", ["effect", "each", "total"])
def test_values_while_learning_are_those_at_prediction(scale):
    norm, x = made(scale), drawn()
    learning = norm(x.clone().requires_grad_())
    torch.testing.assert_close(learning, norm.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", ["effect", "each", "total"])
def test_no_loss_can_gain_by_shrinking_or_shifting_the_features(scale):
    norm, x = made(scale), drawn().requires_grad_()
    valid = torch.rand(2, 8, 9, generator=torch.Generator().manual_seed(2)) > 0.3
    goal = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(3))
    ((norm(x, valid) - goal).square() * valid[:, None]).sum().backward()
    middle = x.detach().movedim(1, -1)[valid].mean(0).reshape(1, 3, 1, 1)
    along_scale = (x.grad * (x.detach() - middle) * valid[:, None]).sum()
    along_shift = x.grad.sum((0, 2, 3))
    size = x.grad.abs().sum()
    assert abs(float(along_scale)) < 1e-4 * float(size)
    assert float(along_shift.abs().max()) < 1e-4 * float(size)


def test_without_a_scale_shrinking_does_gain():
    norm, x = made("none"), drawn().requires_grad_()
    norm(x).square().sum().backward()
    assert float((x.grad * x.detach()).sum()) > 0


def test_following_batches_comes_to_their_statistics():
    norm = FeatureNorm(3, "each")
    for seed in range(200):
        norm.follow(drawn(seed), None, pace=0.05)
    assert norm.mean.tolist() == pytest.approx([5, 5, 5], abs=0.6)
    assert norm.variance.sqrt().tolist() == pytest.approx([1, 3, 9], rel=0.1)
    before = norm.mean.clone()
    norm.follow(drawn(), torch.zeros(2, 8, 9, dtype=torch.bool))
    assert torch.equal(norm.mean, before)
