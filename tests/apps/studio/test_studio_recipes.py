"""What is copied out of the page runs as it stands, and gives the labels that the page shows."""

import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from selfseg.apps.studio.editing import edits_of, write_edits
from selfseg.apps.studio.exports import as_command, as_python
from selfseg.apps.studio.results import find_result
from selfseg.apps.studio.runs import Spec

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(project, run):
    """The spec, the edits and their file, after a merge, a name and another level."""
    for operation in (
        {"op": "merge", "source": 3, "target": 1},
        {"op": "rename", "id": 1, "name": "it's land"},
        {"op": "level", "level": 4.0},
    ):
        project.log.do(run.id, operation)
    return Spec.read(run.folder), edits_of(project, run), write_edits(project, run)


def check(out, run, edits):
    for name in ("photo0", "photo1"):
        shown = edits.labels(find_result(run.folder, name, 0).leaves())
        assert np.array_equal(tifffile.imread(out / "labels" / f"{name}.tif"), shown), name
        assert set(np.unique(shown)) <= {1, 2}
    assert "it's land" in (out / "classes.json").read_text(encoding="utf-8")


def do(words, folder):
    done = subprocess.run(words, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_copied_python_runs(run, recipe, tmp_path):
    spec, edits, _ = recipe
    do([sys.executable, "-c", as_python(spec, run.model, edits)], tmp_path)
    check(tmp_path / "out", run, edits)


def test_the_copied_commands_run(run, recipe, tmp_path):
    spec, edits, path = recipe
    for line in as_command(spec, run.model, edits, path).splitlines():
        program, *words = shlex.split(line)
        assert program == "selfseg"
        do([sys.executable, "-m", "selfseg", *words], tmp_path)
    check(tmp_path / "out", run, edits)
