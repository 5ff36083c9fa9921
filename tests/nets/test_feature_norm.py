import pytest
import torch

from selfseg.nets.feature_norm import FeatureNorm


def made(scale, features=3):
    norm = FeatureNorm(features, scale)
    norm.settle(torch.randn(500, features, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3, 9]) + 5)
    return norm


def drawn(seed=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 8, 9, generator=draw) * torch.tensor([1.0, 3, 9]).reshape(1, 3, 1, 1) + 5


def test_settled_rows_have_the_variance_that_was_asked_for():
    rows = torch.randn(4000, 3) * torch.tensor([1.0, 3, 9]) + 5
    for scale, wanted in (("each", [1, 1, 1]), ("total", [3 / 91, 27 / 91, 243 / 91])):
        norm = FeatureNorm(3, scale)
        norm.settle(rows)
        scaled = norm.of_rows(rows)
        assert scaled.var(0).tolist() == pytest.approx(wanted, rel=0.1)
        assert scaled.mean(0).abs().max() < 1e-4
        torch.testing.assert_close(norm.to_raw(scaled), rows, rtol=1e-4, atol=1e-4)
    assert torch.equal(FeatureNorm(3, "none").of_rows(rows), rows)


@pytest.mark.parametrize("scale", ["each", "total"])
def test_values_while_learning_are_those_at_prediction(scale):
    norm, x = made(scale), drawn()
    learning = norm(x.clone().requires_grad_())
    torch.testing.assert_close(learning, norm.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", ["each", "total"])
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
