"""Formats, and recipes: what is copied out of the page runs as it stands, and gives the labels that the page shows."""

import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from selfseg.apps.studio.editing import edits_of, write_edits
from selfseg.apps.studio.exports import OWN_FORMATS, as_command, as_python, further_formats, label_kinds
from selfseg.apps.studio.results import find_result
from selfseg.apps.studio.runs import Spec
from selfseg.refine.edits import Edits, Merge


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


@pytest.mark.slow
def test_the_copied_python_runs(run, recipe, tmp_path):
    spec, edits, _ = recipe
    do([sys.executable, "-c", as_python(spec, run.model, edits, run.folder / "edits.json")], tmp_path)
    check(tmp_path / "out", run, edits)


@pytest.mark.slow
def test_the_copied_commands_run(run, recipe, tmp_path):
    spec, edits, path = recipe
    for line in as_command(spec, run.model, edits, path).splitlines():
        program, *words = shlex.split(line)
        assert program == "selfseg"
        do([sys.executable, "-m", "selfseg", *words], tmp_path)
    check(tmp_path / "out", run, edits)


def test_commands_name_what_differs_from_the_defaults_only(tmp_path):
    plain = Spec("a", "wnet", inputs=("my photo.png",))
    assert as_command(plain, tmp_path, Edits(), tmp_path / "e.json") == (
        "selfseg fit 'my photo.png' --method wnet -o model\nselfseg predict model 'my photo.png' -o out\n"
    )
    more = Spec(
        "a", "wnet", "fast", 4, 7, "range", options={"continuity": 0.5, "flag": True}, inputs=("a.tif",), axes="ZYX"
    )
    command = as_command(more, tmp_path, Edits(steps=(Merge(2, 1),)), tmp_path / "e.json")
    for words in (
        "--preset fast",
        "--classes 4",
        "--seed 7",
        "--prepare range",
        "--set continuity=0.5",
        "--set flag=true",
        "--axes ZYX",
    ):
        assert words in command
    assert f"--edits {tmp_path / 'e.json'}" in command
    forked = Spec("a", inputs=("a.tif",), origin={"run": "001", "step": 3})
    assert as_command(forked, tmp_path / "m", Edits(), tmp_path).startswith(f"selfseg predict {tmp_path / 'm'} a.tif")
    compile(as_python(more, tmp_path, Edits(0.5), tmp_path / "e.json"), "recipe", "exec")


def test_formats_are_those_of_the_registries():
    found = further_formats()
    assert not set(found) & set(OWN_FORMATS) and {"nnunet", "coco", "numpy"} <= set(found)
    assert "tiff" not in label_kinds() and all(title for title in found.values())
