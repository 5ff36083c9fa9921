"""Sums over a batch that is shared: values and gradients are those of the whole batch in one place."""

import threading

import pytest
import torch

from conftest import shared_in_threads
from selfseg.sample.shared_batch import (
    in_turn,
    is_shared,
    largest,
    own_weight,
    sharing,
    total,
    total_mean,
    total_moments,
)


def parts_of(x, sizes):
    return [part.clone().requires_grad_() for part in x.split(sizes)]


def test_alone_nothing_is_summed():
    x = torch.arange(3.0)
    assert total(x) is x
    assert own_weight(7) == 1.0
    assert largest([3, 4]) == [3, 4]
    assert not is_shared()
    before = torch.get_rng_state()
    with in_turn():
        pass
    assert torch.equal(before, torch.get_rng_state())


def test_a_function_of_totals_has_the_gradient_of_the_whole():
    x = torch.randn(7, 3, dtype=torch.float64)
    whole = x.clone().requires_grad_()
    wanted = whole.exp().sum(0).log().square().sum()
    wanted.backward()
    parts = parts_of(x, [2, 4, 1])

    def work(rank):
        value = total(parts[rank].exp().sum(0)).log().square().sum()
        value.backward()
        return value.detach()

    for value in shared_in_threads(work, 3):
        torch.testing.assert_close(value, wanted.detach())
    # the loop takes the mean over three processes, of which each has the whole loss
    torch.testing.assert_close(torch.cat([part.grad for part in parts]) / 3, whole.grad)


@pytest.mark.parametrize("sizes", [[3, 3], [5, 1]])
def test_the_mean_of_weighted_means_is_the_mean(sizes):
    x = torch.randn(6, dtype=torch.float64)
    parts = x.split(sizes)
    means = shared_in_threads(lambda rank: parts[rank].mean() * own_weight(sizes[rank]))
    torch.testing.assert_close(sum(means) / 2, x.mean())


def test_what_is_empty_counts_nowhere_and_gets_no_gradient():
    x = [torch.ones(2, requires_grad=True), torch.full((2,), 9.0, requires_grad=True)]

    def work(rank):
        value = total(x[rank]).square().sum() + x[rank].sum() * own_weight(2)
        value.backward()
        return float(value.detach())

    assert shared_in_threads(work, empty=(1,)) == [2 + 4, 2]
    assert torch.equal(x[1].grad, torch.zeros(2))
    torch.testing.assert_close(x[0].grad / 2, torch.full((2,), 2.0 + 1.0))


def test_moments_and_means_are_those_of_all_values():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) + 100
    whole = x.double().clone().requires_grad_()
    variance, mean = torch.var_mean(whole, 0, correction=0)
    (variance * torch.arange(4) + mean).sum().backward()
    parts = parts_of(x, [13, 37])

    def work(rank):
        v, m = torch.var_mean(parts[rank], 0, correction=0)
        m, v, n = total_moments(m, v, len(parts[rank]))
        assert int(n) == len(x)
        (v * torch.arange(4) + m).sum().backward()
        return m.detach(), v.detach(), total_mean(parts[rank].detach().mean(0), len(parts[rank]))

    for m, v, again in shared_in_threads(work):
        torch.testing.assert_close(m.double(), mean.detach(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(v.double(), variance.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(again, m, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        torch.cat([p.grad for p in parts]).double() / 2, whole.grad, rtol=1e-4, atol=1e-5
    )  # of 100, float32 keeps 8e-6


def test_the_largest_of_all():
    assert shared_in_threads(lambda rank: largest([rank, 5 - rank])) == [[1, 5]] * 2


@pytest.mark.parametrize(("draws", "empty"), [([2, 3], ()), ([2, 3], (1,)), ([0, 1], ()), ([1, 2], (0, 1))])
def test_draws_in_turn_are_those_of_one_process(draws, empty, monkeypatch):
    """Each thread has a generator, as each process has."""
    counted = [0 if rank in empty else n for rank, n in enumerate(draws)]
    alone = torch.Generator().manual_seed(5)
    wanted = [float(torch.rand((), generator=alone)) for _ in range(sum(counted) + 1)]
    own = threading.local()
    monkeypatch.setattr(torch, "get_rng_state", lambda: own.generator.get_state())
    monkeypatch.setattr(torch, "set_rng_state", lambda state: own.generator.set_state(state))

    def work(rank):
        own.generator = torch.Generator().manual_seed(5)
        with in_turn():
            drawn = [float(torch.rand((), generator=own.generator)) for _ in range(draws[rank])]
        return drawn, float(torch.rand((), generator=own.generator))

    found = shared_in_threads(work, empty=empty)
    used = [value for rank, (values, _) in enumerate(found) if rank not in empty for value in values]
    assert used == wanted[: sum(counted)]
    assert [after for _, after in found] == [wanted[-1]] * len(draws)


def test_sharing_ends_with_its_block():
    def work(rank):
        with sharing(None):
            inside = is_shared()
        return inside, is_shared()

    assert shared_in_threads(work) == [(False, True)] * 2
