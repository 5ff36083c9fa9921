import pytest
import torch

from selfseg.core.errors import UsageError
from selfseg.losses import area_too_large, area_too_small


def probabilities(logits):
    return torch.softmax(logits, dim=1)


def shares(q):
    """a_k as a loop over pixels, q [B K Y X]."""
    b, k, y, x = q.shape
    return [
        sum(q[i, c, j, m].item() for i in range(b) for j in range(y) for m in range(x)) / (b * y * x) for c in range(k)
    ]


def logits(seed=0):
    # Cluster 0 is wide, cluster 3 never wins.
    draw = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (draw + torch.tensor([2.0, 0.0, 0.0, -9.0]).reshape(1, 4, 1, 1)).requires_grad_()


def test_too_large_is_its_equation():
    q = probabilities(logits())
    expected = sum(max(a - 0.4, 0) ** 2 / 0.4**2 for a in shares(q))
    assert expected > 0
    assert area_too_large(q, 0.4).item() == pytest.approx(expected, abs=1e-12)


def test_too_small_is_its_equation():
    q = probabilities(logits())
    live = set(q.argmax(1).unique().tolist())
    assert 3 not in live
    expected = sum(max(0.5 - a, 0) ** 2 / 0.5**2 for k, a in enumerate(shares(q)) if k in live)
    assert expected > 0
    assert area_too_small(q, 0.5).item() == pytest.approx(expected, abs=1e-12)
    assert area_too_small(q, 0.5, grow=False).item() == pytest.approx(-expected, abs=1e-12)


@pytest.mark.parametrize("term", [lambda q: area_too_large(q, 0.4), lambda q: area_too_small(q, 0.5)])
def test_area_terms_have_the_gradient_of_their_value(term):
    assert torch.autograd.gradcheck(lambda r: term(probabilities(r)), (logits(),))
    start = logits()
    term(probabilities(start)).backward()
    assert start.grad.abs().sum() > 1e-3


def test_the_origins_form_has_no_gradient():
    r = logits()
    areas = torch.bincount(r.argmax(dim=1).reshape(-1), minlength=4)
    too_large = areas.max() / (4 * 3 * 5)
    too_small = 1 - areas[areas > 0].min() / (4 * 3 * 5)
    assert not too_large.requires_grad
    assert not too_small.requires_grad


def test_descent_on_too_large_shrinks_the_widest():
    r = logits()
    before = max(shares(probabilities(r)))
    area_too_large(probabilities(r), 0.4).backward()
    assert max(shares(probabilities(r.detach() - 5 * r.grad))) < before


def test_masked_area_is_the_area_of_the_rest():
    r = logits()
    valid = torch.ones(2, 3, 5, dtype=torch.bool)
    valid[:, :, 3:] = False
    q = probabilities(r)
    cut = q[..., :3]
    torch.testing.assert_close(area_too_large(q, 0.4, valid), area_too_large(cut, 0.4))
    torch.testing.assert_close(area_too_small(q, 0.5, valid), area_too_small(cut, 0.5))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_is_above_0_and_at_most_1(share):
    with pytest.raises(UsageError, match="maximum"):
        area_too_large(probabilities(logits()), share)
    with pytest.raises(UsageError, match="minimum"):
        area_too_small(probabilities(logits()), share)
