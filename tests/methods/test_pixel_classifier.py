"""The pixel classifier: its filters against loops and closed forms, strokes against tones, fit and predict by hand."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch

import selfseg
from selfseg import Segmenter, load
from selfseg.methods.base import build_config
from selfseg.methods.pixel_classifier import PixelClassifier, eigenvalues, mixture
from selfseg.nets.backbones import on_grid
from selfseg.regions.pixel_forest import PixelForest


def method(channels=1, dims=2, **options):
    return PixelClassifier(build_config("pixel_classifier", n_classes=2, **options), channels, dims)


@pytest.mark.parametrize("n", [2, 3])
def test_eigenvalues_are_those_of_numpy(n):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(40, n, n)).astype(np.float32)
    whole = whole + whole.transpose(0, 2, 1)
    whole[0], whole[1] = np.eye(n), 0  # all alike, and nothing
    upper = {(i, j): whole[:, i, j] for i in range(n) for j in range(i, n)}
    expected = np.linalg.eigvalsh(whole.astype(np.float64))[:, ::-1]
    np.testing.assert_allclose(np.stack(eigenvalues(upper), 1), expected, atol=2e-5)


def test_features_of_a_parabola_are_its_derivatives():
    """Of x² + 3y² the Hessian is diag(6, 2) everywhere, and the slope at (y, x) is (6y, 2x): a Gaussian changes neither."""
    y, x = np.mgrid[-30:31, -30:31].astype(np.float32)
    found = method(scales=(1.0,)).features((x * x + 3 * y * y)[None])
    value, smooth, slope, high, low, *_ = found[:, 30 + 4, 30 + 3]
    assert value == 9 + 48
    assert smooth - value == pytest.approx(1 + 3, rel=0.03)  # the Gaussian adds its variance times half the Laplacian
    assert slope == pytest.approx(np.hypot(24, 6), rel=1e-4)
    assert (high, low) == pytest.approx((6, 2), rel=1e-3)


def test_features_in_a_volume_know_the_distance_of_slices():
    z, _, _ = np.mgrid[:40, :30, :30].astype(np.float32)
    near, far = (method(1, 3, spacing=(s, 1, 1), scales=(1.0,)).features(z[None])[2, 20, 15, 15] for s in (1, 4))
    assert (near, far) == (pytest.approx(1, rel=1e-4), pytest.approx(0.25, rel=1e-4))


def test_parts_have_the_features_of_the_whole():
    rng = np.random.default_rng(0)
    one = method(2, scales=(1.0, 2.0))
    image = rng.normal(size=(2, 70, 80)).astype(np.float32)
    reach = one.context
    part = one.features(image[:, : 40 + reach, : 30 + reach])[:, :40, :30]
    np.testing.assert_allclose(part, one.features(image)[:, :40, :30], atol=1e-6)


def test_a_forest_of_classes_is_the_mean_of_its_trees():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 4)).astype(np.float32)
    classes = (values[:, 0] > 0).astype(int) + (values[:, 1] > 0.5)
    forest = PixelForest.of_classes(values, classes, seed=1, n_trees=5, depth=4)
    expected = np.zeros((3, 300))
    for pixel, row in enumerate(values):
        for root in forest.roots:
            node = root
            while forest.features[node] >= 0:
                node = forest.children[node, int(row[forest.features[node]] > forest.thresholds[node])]
            expected[:, pixel] += forest.shares[node] / 5
    np.testing.assert_allclose(forest.evaluate_classes(values.T.copy()), expected, atol=1e-6)


def test_rare_strokes_count_as_much_as_long_ones():
    rng = np.random.default_rng(0)
    one = method(n_trees=40)
    values = np.zeros((1010, one.n_features), np.float32)
    values[:, 0] = np.append(rng.normal(0, 1, 1000), rng.normal(3, 1, 10))
    one.learn(values, np.append(np.zeros(1000, int), np.ones(10, int)))
    middle = np.zeros((one.n_features, 1), np.float32)
    middle[0] = 2.4
    assert one.classify(middle)[1, 0] > 0.5  # nearer to the rare ones; by their number alone it would be the others


def test_strokes_teach_by_the_command_line_and_the_model_segments_others(tmp_path):
    rng = np.random.default_rng(0)
    stripes = np.arange(96)[None] // 3 % 2 * 60.0
    textures = np.where(np.arange(96)[:, None] < 48, stripes, 30.0)  # the same mean: only a filter tells them apart
    for name in ("a", "b"):
        (tmp_path / "images").mkdir(exist_ok=True)
        picture = np.clip(80 + textures + rng.normal(0, 6, (96, 96)), 0, 255).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", picture)
    marks = np.full((96, 96), 255, np.uint8)
    marks[20:23, 10:60], marks[70:73, 10:60] = 2, 1
    (tmp_path / "strokes").mkdir()
    tifffile.imwrite(tmp_path / "strokes" / "a_scribble.tif", marks)
    words = [sys.executable, "-m", "selfseg", "fit", str(tmp_path / "images"), "--method", "pixel_classifier"]
    subprocess.run([*words, "--scribbles", str(tmp_path / "strokes"), "-o", str(tmp_path / "model"), "-q"], check=True)
    predict = [sys.executable, "-m", "selfseg", "predict", str(tmp_path / "model"), str(tmp_path / "images")]
    subprocess.run([*predict, "-o", str(tmp_path / "out"), "-q"], check=True)
    for name in ("a", "b"):
        labels = tifffile.imread(tmp_path / "out" / "labels" / f"{name}.tif")
        assert (labels[:42] == 2).mean() > 0.95 and (labels[54:] == 1).mean() > 0.95  # the values are the labels
    model = selfseg.load(tmp_path / "model")
    state = model.method_.state()
    state["forest_children"][0] = 10**6
    with pytest.raises((RuntimeError, ValueError)):
        model.method_.restore(state)
    assert not torch.isnan(state["forest_shares"]).any()


def test_the_networks_maps_stand_beside_the_filters_mixed_and_interpolated():
    image = np.random.default_rng(0).random((3, 40, 52)).astype(np.float32)
    plain, both = method(3), method(3, network="efficientnet-lite0", n_mixtures=5)
    assert both.n_features == plain.n_features + 15 and len(both.config.network_sha256) == 64
    found = both.features(image)
    np.testing.assert_array_equal(found[: plain.n_features], plain.features(image))
    maps = both.frozen.maps(torch.from_numpy(image))[-3:]
    row = plain.n_features
    for mix, one in zip(both.mixtures, maps, strict=True):
        for weights in mix:  # a mixture is a sum over channels, and between cells all is linear
            wanted = sum(
                float(w) * on_grid([channel[None].float()], (40, 52), 1)[0]
                for w, channel in zip(weights, one, strict=True)
            )
            np.testing.assert_allclose(found[row], wanted.numpy(), atol=2e-2)
            row += 1
    again = mixture(5, 112)
    assert torch.equal(again, mixture(5, 112)) and abs(float(again.square().mean()) * 112 - 1) < 0.2


def test_strokes_with_a_network_are_learned_saved_and_loaded(tmp_path):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, :48], picture[:, 48:] = (200, 40, 40), (40, 160, 60)
    marks = np.full((64, 96), 255, np.uint8)
    marks[20:22, 8:30], marks[40:42, 60:90] = 1, 2
    model = Segmenter("pixel_classifier", preset="network", seed=0).fit(picture, scribbles=marks)
    labels = model.predict(picture).labels
    assert (labels[:, :40] == labels[20, 10]).all() and (labels[:, 56:] == labels[40, 80]).all()
    assert "efficientnet-lite0" in model.method_.relies_on
    model.save(tmp_path / "model")
    assert np.array_equal(load(tmp_path / "model").predict(picture).labels, labels)
