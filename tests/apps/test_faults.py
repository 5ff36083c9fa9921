"""A sample of the faults of `tests/faults.py`: some writes of a prediction and of a fit, each failing in four ways."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are repeated in forks")
@pytest.mark.parametrize(("name", "stride"), [("predict", 23), ("fit", 150)])
def test_a_write_that_fails_breaks_nothing(name, stride):
    words = [sys.executable, str(TESTS / "faults.py"), "--only", name, "--stride", str(stride), "--minutes", "3"]
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
