"""When networks are compiled: the seconds saved against those it takes, decided by a clock; and the way back."""

import pytest
import torch
from torch import nn

from selfseg.train import compiling
from selfseg.train.compiling import SHARE, TIMED, WARM, Compiling, compiling_pays


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def perf_counter(self):
        return self.now


class Noted:
    """Stands for `Precision`: notes what is done with the networks."""

    device = torch.device("cuda")

    def __init__(self):
        self.done = []

    def compile(self, method):
        self.done.append("compiled")

    def release_compiled(self, method):
        self.done.append("released")


def run(monkeypatch, n_steps, before, after, at_once=False):
    """What is done and said in a run whose steps take `before` seconds, and `after` once compiled."""
    clock, precision, said = Clock(), Noted(), []
    monkeypatch.setattr(compiling, "time", clock)
    one = Compiling(precision, nn.Module(), said.append, at_once)
    for done in range(1, n_steps + 1):
        with one.timing(n_steps - done):
            clock.now += after if "compiled" in precision.done else before
    return precision.done, said


def test_the_rule():
    assert compiling_pays(1000, 50 / 1000 / SHARE * 1.01, seconds=50)
    assert not compiling_pays(1000, 50 / 1000 / SHARE * 0.99, seconds=50)
    assert compiling_pays(100, 1.0, seconds=9, share=0.1)


@pytest.mark.parametrize(
    ("n_steps", "before", "after", "done", "said"),
    [
        (5, 100.0, 1.0, [], ()),  # over before the time of a step is known
        (40, 0.1, 0.01, [], ("not compiled: 32 steps of 0.1 s are left",)),
        (5000, 0.1, 0.05, ["compiled"], ("compiled from now on: 4992 steps", "compiled steps take 0.05 s")),
        (5000, 0.1, 0.12, ["compiled", "released"], ("from now on", "a step takes 0.12 s so, and 0.1 s otherwise")),
    ],
)
def test_networks_are_compiled_where_it_pays_and_stay_so_if_it_did(monkeypatch, n_steps, before, after, done, said):
    found, lines = run(monkeypatch, n_steps, before, after)
    assert found == done
    assert len(lines) == len(said)
    assert all(words in line for words, line in zip(said, lines, strict=True))


def test_in_a_fixed_order_no_clock_decides(monkeypatch):
    assert run(monkeypatch, WARM + TIMED + 50, 0.001, 1.0, at_once=True) == (["compiled"], [])
