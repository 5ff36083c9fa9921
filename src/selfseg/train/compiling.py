"""When compiling pays: the seconds that it is expected to save against those that it takes; and the way back where it did not."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

from torch import nn

from selfseg.sample.device import Precision

SECONDS = {"cuda": 40.0, "cpu": 300.0}
"""Seconds that ``torch.compile`` is expected to take for the networks of a method, forward and backward, by kind of device.

That of a GPU is an assumption. W-Net on one thread of a busy CPU took more than 300 (2026-12-01).
"""

SHARE = 0.3
"""Share of a step that compiled networks are expected to save."""

WARM, TIMED = 3, 5
"""Steps that are not looked at, as they load kernels or compile, and then those whose time is taken."""


def compiling_pays(n_steps: int, step: float, seconds: float, share: float = SHARE) -> bool:
    """Return whether compiling is expected to save more than its `seconds`, of `n_steps` that take `step` seconds each."""
    return n_steps * step * share > seconds


class Compiling:
    """Compiles a method's networks once it is expected to pay, and looks whether it did.

    `at_once` = from the first step on, whatever it costs: what is decided by a clock may differ from run to run.
    """

    def __init__(self, precision: Precision, method: nn.Module, say: Callable[[str], None], at_once: bool) -> None:
        self.precision, self.method, self.say = precision, method, say
        self.at_once = at_once
        self._times: list[float] = []
        self._before: float | None = None
        self._decided = at_once
        if at_once:
            precision.compile(method)

    @contextlib.contextmanager
    def timing(self, n_left: int) -> Iterator[None]:
        """Take the time of a step, done within the block, with `n_left` more to come; decide where enough of them were seen."""
        begun = time.perf_counter()
        yield
        if self._decided:
            return
        self._times.append(time.perf_counter() - begun)
        if len(self._times) < WARM + TIMED:
            return
        step = statistics.median(self._times[WARM:])
        self._times.clear()
        if self._before is None:
            self._choose(step, n_left)
        else:
            self._compare(step)

    def _choose(self, step: float, n_left: int) -> None:
        saved, takes = n_left * step * SHARE, SECONDS.get(self.precision.device.type, SECONDS["cuda"])
        figures = f"{n_left} steps of {step:.3g} s are left, of which it may save {saved:.0f} s, and takes about {takes:.0f} s"
        if not compiling_pays(n_left, step, takes):
            self._decided = True
            self.say(f"networks are not compiled: {figures}")
            return
        self._before = step
        self.precision.compile(self.method)
        self.say(f"networks are compiled from now on: {figures}")

    def _compare(self, step: float) -> None:
        self._decided = True
        if self._before is None or step < self._before:
            self.say(f"compiled steps take {step:.3g} s")
            return
        self.precision.release_compiled(self.method)
        self.say(
            f"networks are not compiled any more: a step takes {step:.3g} s so, and {self._before:.3g} s otherwise"
        )
