"""Worker processes that die: the job that kills them is named, the others are done."""

import os
import signal

import pytest

from selfseg.benchmark.runner import DIED, in_processes


def square(number):
    """A job: 3 kills its process, as a system does that is out of memory; 5 is wrong."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        raise ValueError("five is\nrefused")
    return {"square": number**2}


def term(number):
    os.kill(os.getpid(), signal.SIGTERM)
    return {"alive": number}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_a_job_that_kills_its_process_costs_itself_alone(workers):
    outcomes = dict(in_processes(list(range(7)), workers, square))
    assert outcomes == {
        **{number: {"square": number**2} for number in (0, 1, 2, 4, 6)},
        3: DIED,
        5: "ValueError: five is refused",
    }


@pytest.mark.slow
def test_a_worker_leaves_sigterm_to_who_handed_out_the_jobs():
    assert dict(in_processes([1, 2], 2, term)) == {1: {"alive": 1}, 2: {"alive": 2}}
