"""A sample of the faults of `tests/faults.py`: some writes of three commands, each failing in four ways."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are repeated in forks")
def test_a_write_that_fails_breaks_nothing():
    words = ["--only", "fit", "predict", "cut", "--stride", "53", "--shift", "0", "--minutes", "3"]
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(TESTS / "faults.py"), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " 0 wrong" in done.stdout and "the time was over" not in done.stdout
