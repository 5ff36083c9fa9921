"""Tutorials run from top to bottom, and what they show is stored in them. `make tutorials` stores it anew."""

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image as Picture

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
MOST_BYTES = 400_000
"""Size of a tutorial with its pictures."""


def executed(path, folder):
    """Return a tutorial after running each cell in `folder`; a cell that fails raises."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, record_timing=False, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def store(path):
    """Run a tutorial and write its outputs into it: pictures as JPEG, without warnings and paths."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(path, folder)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            png = output.get("data", {}).pop("image/png", None)
            if png is not None:
                picture, small = Picture.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
                picture.save(small, "JPEG", quality=85, optimize=True)
                output.data = {"image/jpeg": base64.b64encode(small.getvalue()).decode()}
                output.metadata = {}
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path, tmp_path):
    executed(path, tmp_path)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_shows_its_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "make tutorials"
    assert any("image/jpeg" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert path.stat().st_size < MOST_BYTES
    assert not re.search(
        r"(?:/tmp/|/home/|/root/|C:\\\\)", re.sub(r'"image/jpeg": "[^"]*"', "", path.read_text("utf-8"))
    )


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_links_of_tutorials_lead_somewhere(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)\s:]+)\)", text):
        assert (path.parent / target).exists(), target


def test_there_are_tutorials():
    assert len(TUTORIALS) >= 8


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore"
    wanted = [Path(word).resolve() for word in sys.argv[1:]]
    for tutorial in wanted or TUTORIALS:
        store(tutorial)
