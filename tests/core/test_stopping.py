"""SIGINT and SIGTERM: noted between two steps, raised elsewhere, and never taken from whoever handled them before."""

import os
import signal
import threading

import pytest

from selfseg.core.errors import Interrupted
from selfseg.core.machine import PREEMPTED, Preempted, noting_stops, raising_sigterm


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", PREEMPTED), (signal.SIGINT, "SIGINT", 130)]
)
def test_a_signal_is_noted_and_stops_where_it_is_looked_for(number, name, code):
    with noting_stops() as stop:
        stop.check(str)
        send(number)
        with pytest.raises(Interrupted, match=f"by {name} after step 3") as caught:
            stop.check(lambda who: f"by {who} after step 3")
    assert caught.value.exit_code == code


def test_the_second_signal_acts_at_once():
    with noting_stops() as stop:
        send(signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_sigterm_is_raised_like_ctrl_c_and_unfinished_files_are_put_away(tmp_path):
    from selfseg.core.files import writing

    with pytest.raises(Preempted), raising_sigterm(), writing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        send(signal.SIGTERM)
    assert not list(tmp_path.iterdir())


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noting_stops() as stop:
            send(signal.SIGINT)
            assert stop.signal is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_as_they_were():
    def mine(*_):
        raise AssertionError

    before = signal.getsignal(signal.SIGTERM)
    try:
        for handler in (signal.SIG_DFL, signal.SIG_IGN, mine):
            signal.signal(signal.SIGTERM, handler)
            with raising_sigterm(), noting_stops():
                pass
            assert signal.getsignal(signal.SIGTERM) is handler
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with raising_sigterm():
            send(signal.SIGTERM)  # ignored, as whoever started the process wished
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_thread_notes_nothing_and_changes_nothing():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with raising_sigterm(), noting_stops() as stop:
            seen.append((stop.signal, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
