"""Models that were stored before options were renamed (format 1) load, and give the labels that they gave then."""

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import blobs
from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.methods import build_config
from selfseg.methods.base import find_method, stored_config

STORED = Path(__file__).parent / "stored"
NAMES = sorted(folder.name for folder in STORED.iterdir() if folder.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_before_gives_the_labels_of_before(name):
    result = Segmenter.load(STORED / name, device="cpu").predict(Image(blobs(24, 32, 3, seed=7), "YXC"))
    expected = np.load(STORED / "expected.npz")
    np.testing.assert_allclose(result.probabilities[:, ::3, ::3], expected[f"{name}_probabilities"], atol=1e-4)
    assert np.array_equal(result.labels, expected[name])


def test_the_options_of_before_keep_their_meaning():
    """``n_classes`` was feature clustering's number of clusters, ``classes`` the number of classes."""
    model = Segmenter.load(STORED / "feature_clustering", device="cpu")
    assert (model.method_.config.n_clusters, model.method_.config.n_classes) == (8, 3)
    assert (model.config().n_clusters, model.config().n_classes) == (8, 3)  # what it would be fitted with again
    assert Segmenter.load(STORED / "wnet", device="cpu").config().n_clusters == 5
    assert Segmenter.load(STORED / "sp_wnet", device="cpu").config().n_clusters == 5


@pytest.mark.parametrize("name", NAMES)
def test_a_model_stored_again_is_of_the_new_format(name, tmp_path):
    Segmenter.load(STORED / name, device="cpu").save(tmp_path)
    facts = json.loads((tmp_path / "config.json").read_text())
    assert facts["format"] == 2
    assert not {"classes", "n_segments"} & {*facts["config"], *facts["params"]["options"]}
    again = Segmenter.load(tmp_path, device="cpu")
    assert again.method_.config == Segmenter.load(STORED / name, device="cpu").method_.config


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("wnet", {"classes": 3, "n_segments": 6}, {"n_classes": 3, "n_clusters": 6}),
        ("sp_wnet", {"classes": 3, "n_features": 6}, {"n_classes": 3, "n_clusters": 6}),
        ("feature_clustering", {"classes": 4}, {"n_classes": 4}),
        ("feature_clustering", {"classes": 4, "n_classes": 9}, {"n_classes": 4, "n_clusters": 9}),
        ("deep_kmeans", {"classes": 4, "n_features": 9}, {"n_classes": 4, "n_features": 9}),
    ],
)
def test_options_may_have_the_names_of_before(name, old, new):
    assert build_config(name, **old) == build_config(name, **new)
    assert Segmenter(name, options=old).config() == build_config(name, **new)
    assert Segmenter(name, n_classes=2, options=old).config() == build_config(name, **{**new, "n_classes": 2})


def test_a_whole_configuration_of_before_becomes_one_of_today():
    config = json.loads((STORED / "feature_clustering" / "config.json").read_text())["training"]["config"]
    found = stored_config(find_method("feature_clustering"), config)
    assert (found.n_clusters, found.n_classes, found.precision) == (8, 3, "float32")
