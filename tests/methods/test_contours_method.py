"""The method contours: superpixels of the oriented watershed, the default for images in 2D, a preset of region merging before."""

import json

import numpy as np
import pytest
import torch

import selfseg
from conftest import blobs
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.core.options import FitOptions
from selfseg.learning.default_method import choose_method
from selfseg.learning.segmenter import Segmenter
from selfseg.methods import build_config
from selfseg.methods.contours import Contours
from selfseg.read import find_inputs
from selfseg.regions.contours import contour_strength
from selfseg.regions.watershed import oriented_watershed


def test_the_superpixels_are_those_of_the_oriented_watershed():
    method = Contours(build_config("contours"), 3)
    image = torch.from_numpy(np.moveaxis(blobs(48, 64, 3), -1, 0) / 255).float()
    superpixels, tree, _ = method.segments(image)
    expected, graph = oriented_watershed(contour_strength(np.moveaxis(image.numpy(), 0, -1)))
    np.testing.assert_array_equal(superpixels, expected)
    assert tree.n_leaves == graph.n_regions
    valid = torch.ones(image.shape[1:], dtype=torch.bool)
    valid[:, :5] = False
    np.testing.assert_array_equal(method.segments(image, valid)[0] >= 0, valid.numpy())


def test_volumes_are_refused_with_the_method_that_takes_them():
    with pytest.raises(
        UsageError, match=r"method contours: expected images in 2 dimensions, got 3; cut volumes into slices"
    ):
        Contours(build_config("contours"), 3, n_dims=3)


def test_fine_and_coarse_have_more_and_fewer_regions():
    image = torch.from_numpy(np.moveaxis(blobs(96, 128, 3), -1, 0) / 255).float()
    counts = {}
    for preset in ("fine", "default", "coarse"):
        method = Contours(build_config("contours", preset), 3)
        counts[preset] = method.segments(image)[1].cut(level=method.config.level).max() + 1
    assert counts["fine"] > counts["default"] >= counts["coarse"]


@pytest.mark.parametrize(
    "before",
    [
        {"preset": "contours"},
        {"options": {"boundaries": "contours", "level": 0.84, "size_power": 0.15, "difference_power": 0.5}},
    ],
)
def test_the_preset_of_region_merging_is_this_method(before):
    image = Image(blobs(32, 40, 3), "YXC")
    old, new = Segmenter("region_merging", **before).fit(image), Segmenter("contours").fit(image)
    assert old.model_.name == "contours" and old.method == "contours"
    np.testing.assert_array_equal(old.predict(image).labels, new.predict(image).labels)


def test_region_merging_still_takes_its_old_option_for_gradients():
    model = Segmenter("region_merging", options={"boundaries": "gradient"}).fit(Image(blobs(32, 40, 3), "YXC"))
    assert model.model_.name == "region_merging"


@pytest.mark.parametrize(
    ("shape", "axes", "options", "method", "reason"),
    [
        ((40, 48), "YX", {}, "contours", "an image in 2D"),
        ((40, 48, 3), "YXC", {}, "contours", "an image in 2D"),
        ((6, 40, 48), "ZYX", {}, "feature_clustering", "volume"),
        ((6, 40, 48), "TYX", {}, "feature_clustering", "sequence"),
        ((6, 40, 48), "ZYX", {"slices": "z"}, "feature_clustering", "slices"),
        ((40, 48), "YX", {"scribbles": "s.png"}, "feature_clustering", "annotations"),
        ((40, 48), "YX", {"labels": "s.png"}, "feature_clustering", "annotations"),
        ((400, 480), "YX", {"memory": "1MB"}, "feature_clustering", "memory"),
    ],
)
def test_the_default_follows_from_the_inputs(shape, axes, options, method, reason):
    sources = find_inputs(Image(np.zeros(shape, np.uint8), axes))
    found, why = choose_method(sources, FitOptions(**options))
    assert found == method and reason in why


def test_options_of_the_learned_default_choose_it():
    sources = find_inputs(np.zeros((40, 48), np.uint8))
    assert choose_method(sources, FitOptions(), "paper")[0] == "feature_clustering"
    assert choose_method(sources, FitOptions(), own={"iterations": 5})[0] == "feature_clustering"
    assert choose_method(sources, FitOptions(), own={"level": 0.5})[0] == "contours"


def test_the_choice_is_printed_and_stored(tmp_path):
    lines = []

    class Lines(selfseg.core.progress.Silent):
        def say(self, message):
            lines.append(message)

    model = selfseg.fit(blobs(32, 40, 3), out=tmp_path, progress=Lines())
    assert model.method == "auto" and model.model_.name == "contours"
    assert any(line.startswith("method contours: an image in 2D") for line in lines)
    assert json.loads((tmp_path / "config.json").read_text())["method"] == "contours"
    assert selfseg.load(tmp_path).method == "contours"
