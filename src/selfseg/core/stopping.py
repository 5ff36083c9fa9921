"""Stopping in good order: Ctrl-C, and SIGTERM, by which a cluster says that it will take the machine away.

Long work that can be gone on with notes a signal (`noting_stops`) and stops between two steps; all other work ends at once, by an
exception that puts unfinished files away (`raising_sigterm`). Exit codes: 130 after Ctrl-C, `PREEMPTED` after SIGTERM.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from selfseg.core.errors import Interrupted

PREEMPTED = 75
"""Exit code after SIGTERM: EX_TEMPFAIL of sysexits.h, "try again later", so that a scheduler can put the job into its queue again."""

STOPS = (signal.SIGINT, signal.SIGTERM)


class Preempted(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C is, from a scheduler."""


@dataclass
class Stop:
    """The stop signal that came, if one did."""

    signal: int | None = None

    def check(self, say: Callable[[str], str]) -> None:
        """Raise `Interrupted` with the exit code of the signal if one came; `say` makes the message of the signal's name."""
        if self.signal is not None:
            raise interruption(say(signal.Signals(self.signal).name), self.signal == signal.SIGTERM)


def interruption(message: str, preempted: bool) -> Interrupted:
    """Return the error that ends a program in good order, after SIGTERM or else after Ctrl-C or an order."""
    error = Interrupted(message)
    if preempted:
        error.exit_code = PREEMPTED
    return error


@contextlib.contextmanager
def noting_stops() -> Iterator[Stop]:
    """Note the first SIGINT or SIGTERM, so that work is not cut in the middle of a step; the second acts at once.

    Signals reach the main thread only: in another one nothing is noted. A signal that the process was told to ignore stays ignored.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN}

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        _handle(before)

    _handle(dict.fromkeys(before, note))
    try:
        yield stop
    finally:
        _handle(before)


@contextlib.contextmanager
def raising_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Preempted`, as SIGINT raises `KeyboardInterrupt`, unless the process was told to ignore it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Preempted

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _handle(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None:  # None: set by something that is not Python, and cannot be set again
            signal.signal(number, handler)
