"""The method that CONTRIBUTING.md shows is a whole one: found by an entry point, described, fitted, stored and loaded."""

import importlib.util
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import ROOT, blobs
from selfseg.learning.segmenter import Segmenter
from selfseg.methods import base


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The class of the example, which other packages would offer by an entry point."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.S)[1]
    (tmp_path / "colour_means.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("colour_means", tmp_path / "colour_means.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "colour_means", module)
    spec.loader.exec_module(module)
    point = SimpleNamespace(name="colour_means", load=lambda: module.ColourMeans)
    monkeypatch.setattr(base, "entry_points", lambda group: [point])
    return module.ColourMeans


def test_the_example_is_a_method(example, tmp_path):
    assert "colour_means" in base.method_names() and "base" not in base.method_names()
    assert all(info.description for info in example.Config.model_fields.values())
    model = Segmenter("colour_means", n_classes=3, seed=1).fit([blobs(seed=1), blobs(seed=2)])
    assert model.facts_["steps"] == example.Config().iterations
    labels = model.predict(blobs(seed=3)).labels
    assert set(np.unique(labels)) == {1, 2, 3}
    model.save(tmp_path / "model")
    assert np.array_equal(Segmenter.load(tmp_path / "model").predict(blobs(seed=3)).labels, labels)
