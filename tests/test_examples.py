"""Examples in docstrings run, and every public name has one."""

import doctest
import importlib
import inspect
import pydoc
import re
import sys
from pathlib import Path

import pytest

import selfseg

LISTED = ("selfseg", "selfseg.losses", "selfseg.measure", "selfseg.methods", "selfseg.nets", "selfseg.read")
"""Packages whose ``__all__`` lists the public names."""

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
"""Pages whose ``:::`` lines name further parts that are documented for use alone."""


def public():
    """Return the public functions and classes, by the name under which they are imported or documented."""
    names = [f"{package}.{name}" for package in LISTED for name in importlib.import_module(package).__all__]
    for page in sorted(REFERENCE.glob("*.md")):
        names += re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    found = {name: pydoc.locate(name) for name in names}
    assert None not in found.values(), [name for name, value in found.items() if value is None]
    return {name: value for name, value in found.items() if inspect.isroutine(value) or inspect.isclass(value)}


PUBLIC = {name: value for name, value in public().items() if value.__module__.startswith("selfseg")}


@pytest.mark.parametrize("name", PUBLIC)
def test_example_runs(name):
    value = PUBLIC[name]
    module = sys.modules[value.__module__]
    tests = doctest.DocTestFinder(recurse=False).find(value, name, module=module, globs={})
    tests = [test for test in tests if test.examples]
    assert tests, f"{name} has no example"
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    for test in tests:
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


def test_modules_do_not_hide_public_functions():
    """A module named like a public function of its package replaces it once it is imported."""
    for package in LISTED[1:]:
        home = importlib.import_module(package)
        for name in home.__all__:
            assert not inspect.ismodule(getattr(home, name)), f"{package}.{name}"
    assert not inspect.ismodule(selfseg.segment)
