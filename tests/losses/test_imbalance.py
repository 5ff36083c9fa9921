import math

import pytest
import torch

from selfseg.losses.area import imbalance


def test_the_equation_as_a_loop():
    torch.manual_seed(0)
    q = torch.randn(2, 4, 3, 5, dtype=torch.float64).softmax(1).requires_grad_()
    valid = torch.rand(2, 3, 5) > 0.3
    pixels = [q[b, :, y, x] for b in range(2) for y in range(3) for x in range(5) if valid[b, y, x]]
    expected = 1.0
    for k in range(4):
        share = sum(float(pixel[k]) for pixel in pixels) / len(pixels)
        expected += share * math.log(share) / math.log(4)
    assert float(imbalance(q, valid)) == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda p: imbalance(p, valid), q)


def test_equal_shares_give_0_and_one_cluster_alone_1():
    assert float(imbalance(torch.full((1, 5, 4, 4), 0.2))) == pytest.approx(0, abs=1e-6)
    alone = torch.zeros(1, 5, 4, 4)
    alone[:, 2] = 1
    assert float(imbalance(alone)) == pytest.approx(1, abs=1e-6)
    assert torch.isfinite(imbalance(torch.ones(1, 1, 2, 2)))
