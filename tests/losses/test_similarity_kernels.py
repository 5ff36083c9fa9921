import pytest
import torch
import torch.nn.functional as F

from selfseg.losses.clustering import similarity


def by_loop(response, target, valid):
    """The cross entropy, pixel by pixel."""
    total, n = 0.0, 0
    for b in range(len(response)):
        rows = response[b].flatten(1).T
        for row, c, counted in zip(rows, target[b].flatten().tolist(), valid[b].flatten().tolist(), strict=True):
            if counted:
                total, n = total - (row[c] - row.exp().sum().log()), n + 1
    return total / n


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(7, 9), (40, 37)])
def test_value_and_gradient_against_given_labels(layout, shape):
    """The kernels take maps of any layout; a pixel that does not count has no gradient, and may have any label and value."""
    draw = torch.Generator().manual_seed(0)
    plain = torch.randn(2, 5, *shape, generator=draw)
    target = torch.randint(0, 5, (2, *shape), generator=draw)
    valid = torch.rand(2, *shape, generator=draw) > 0.2
    exact = plain.double().requires_grad_()
    expected = by_loop(exact, target, valid)
    expected.backward()
    response = plain.masked_fill(~valid[:, None], torch.nan).contiguous(memory_format=layout).requires_grad_()
    value = similarity(response, target.masked_fill(~valid, -1), valid)
    (3 * value).backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(response.grad.double(), 3 * exact.grad, rtol=1e-4, atol=1e-8)


def test_large_responses_neither_overflow_nor_lose_the_answer():
    response = torch.tensor([[900.0, -900.0, 0.0]]).view(1, 3, 1, 1)
    assert float(similarity(response, torch.zeros(1, 1, 1, dtype=torch.int64))) == pytest.approx(0, abs=1e-6)
    assert float(similarity(response, torch.ones(1, 1, 1, dtype=torch.int64))) == pytest.approx(1800)


def test_volumes_and_no_valid_pixel():
    response = torch.randn(1, 4, 3, 5, 6)
    target = torch.randint(0, 4, (1, 3, 5, 6))
    torch.testing.assert_close(similarity(response, target), F.cross_entropy(response, target), rtol=1e-5, atol=1e-6)
    assert float(similarity(response, target, torch.zeros(1, 3, 5, 6, dtype=torch.bool))) == 0
