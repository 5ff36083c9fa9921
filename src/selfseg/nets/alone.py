"""Work shared by threads, in each of which torch computes alone."""

import threading
from collections.abc import Callable
from typing import Any

import torch

from selfseg.core.threads import run_shared

_thread = threading.local()


def run_alone(work: Callable[[int, int], Any], n: int) -> list[Any]:
    """Run ``work(start, stop)`` over shares of ``range(n)``, and return the results in order.

    Inside `work`, torch uses the thread that it is called from and no other: many small matrix products then need no meeting of
    threads, which costs little on an idle machine and ten times the products on a busy one.
    """
    threads = torch.get_num_threads()

    def settled(start: int, stop: int) -> Any:
        if threading.current_thread() is not threading.main_thread() and not getattr(_thread, "settled", False):
            torch.set_num_threads(1)
            _thread.settled = True
        with torch.no_grad():
            return work(start, stop)

    try:
        return run_shared(settled, n, parts=threads)
    finally:
        if torch.get_num_threads() == threads:
            torch.set_num_threads(threads)  # new threads take over the last number set anywhere
