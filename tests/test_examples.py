"""Examples in docstrings run, and every public name has one."""

import doctest
import importlib
import inspect
import sys

import pytest

import selfseg

LISTED = ("selfseg", "selfseg.losses", "selfseg.measure", "selfseg.methods", "selfseg.nets", "selfseg.read")
"""Packages whose ``__all__`` lists the public names."""

PARTS = {
    "selfseg.export.overlay": "boundaries overlay",
    "selfseg.refine.crf": "colour_range dense_crf",
    "selfseg.refine.decide": "Cleaning decide",
    "selfseg.refine.hierarchy": "Hierarchy hierarchy",
    "selfseg.refine.steps": "parse_refinements region_probabilities",
    "selfseg.regions.contours": "contour_strength",
    "selfseg.regions.graph": "RegionGraph adjacency connected_components region_means",
    "selfseg.regions.merge_tree": "MergeTree merge",
    "selfseg.regions.slic": "slic",
    "selfseg.regions.thresholds": "otsu_thresholds",
    "selfseg.regions.watershed": "watershed",
    "selfseg.sample.k_means": "k_means",
    "selfseg.sample.steps": "parse_steps",
}
"""Parts of other packages that are documented for use alone."""


def public():
    """Return the public functions and classes, by the name under which they are imported."""
    names = [(package, name) for package in LISTED for name in importlib.import_module(package).__all__]
    names += [(module, name) for module, several in PARTS.items() for name in several.split()]
    found = {f"{module}.{name}": getattr(importlib.import_module(module), name) for module, name in names}
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
