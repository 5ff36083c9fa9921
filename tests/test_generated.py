"""Plots and contents of the documentation are those of the tables and entries as they are now: `make generated`."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)


@pytest.mark.parametrize("path", maker.generated(), ids=lambda path: path.name)
def test_what_is_generated_is_up_to_date(path):
    assert path.read_text(encoding="utf-8") == maker.generated()[path], "make generated"


def test_a_task_of_the_benchmark_is_one_screen():
    tasks = re.split(r"^## ", (DOCS / "benchmark.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(tasks) >= 7
    for task in tasks:
        widths = {line.count("|") - 1 for line in task.splitlines() if line.startswith("|")}
        assert len(task.splitlines()) <= 45 and max(widths, default=0) <= 8, task.splitlines()[0]
