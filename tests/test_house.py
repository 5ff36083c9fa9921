"""The shape of the house: how deep the rooms made of the pipeline are, how long files may be, and that methods are found by name."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import selfseg

SOURCE = Path(selfseg.__file__).parent
ROOMS = ("results", "segmenting", "learning", "evaluation")
MOST_LEVELS = 6
MOST_LINES = 560


def imports_within(room):
    """The modules of a room that each of its modules imports, at any place in its text."""
    found = {}
    for path in (SOURCE / room).glob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"selfseg.{room}."):
                names.add(node.module.rsplit(".", 1)[1])
        found[path.stem] = names
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_at_most_six_import_levels_deep(room):
    graph = imports_within(room)

    @cache
    def depth(name):
        return 1 + max((depth(other) for other in graph.get(name, ())), default=0)

    assert graph
    assert max(depth(name) for name in graph) <= MOST_LEVELS


EXAMPLES = re.compile(r'\n\n +Examples\n +-{8}\n.*?\n *(?=""")', re.DOTALL)


def test_files_are_as_long_as_their_concept():
    """Examples in docstrings do not count."""
    long = {
        path.relative_to(SOURCE).as_posix(): lines
        for path in SOURCE.rglob("*.py")
        if (lines := len(EXAMPLES.sub("", path.read_text(encoding="utf-8")).splitlines())) > MOST_LINES
    }
    assert not long


def test_compiled_kernels_are_kept_by_our_own_cache_only():
    """Numba's own fails where nothing can be written, and mixes up signatures that two processes store at once."""
    named = [path.name for path in SOURCE.rglob("*.py") if "cache=True" in path.read_text(encoding="utf-8")]
    assert named == []
