"""Maps of confidence and probabilities: float16 files beside the labels, the same in parts, after cleaning and of sequences."""

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Picture

from conftest import blobs
from in_parts import QUICK, Killed, KilledAfter, predict_large, stored
from selfseg.apps.cli import main
from selfseg.core.errors import UsageError
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.read import read_image

MAPS = {"confidence_map": True, "probability_maps": True}
HALF = 2.0**-10
"""Rounding of float16 below 1, and some."""


@pytest.fixture(scope="module")
def model():
    return Segmenter("feature_clustering", prepare="range", options=QUICK).fit(blobs(90, 80))


def chosen_by_a_loop(probabilities, labels):
    result = np.zeros(labels.shape, np.float32)
    for place in np.ndindex(labels.shape):
        if labels[place]:
            result[place] = probabilities[(labels[place] - 1, *place)]
    return result


def test_maps_are_what_python_gives(model, tmp_path):
    Picture.fromarray(blobs(40, 52, seed=2)).save(tmp_path / "photo.png")
    assert predict(model, tmp_path / "photo.png", tmp_path / "out", **MAPS) == []
    result = model.predict(tmp_path / "photo.png")
    probabilities = read_image(tmp_path / "out" / "probabilities" / "photo.tif")
    confidence = read_image(tmp_path / "out" / "confidence" / "photo.tif")
    assert (probabilities.axes, confidence.axes) == ("CYX", "YX")
    assert tifffile.imread(tmp_path / "out" / "probabilities" / "photo.tif").dtype == np.float16
    np.testing.assert_allclose(probabilities.data, result.probabilities, atol=HALF)
    np.testing.assert_allclose(confidence.data, chosen_by_a_loop(result.probabilities, result.labels), atol=HALF)
    np.testing.assert_allclose(result.confidence, chosen_by_a_loop(result.probabilities, result.labels))
    np.testing.assert_allclose(probabilities.data.sum(0), 1, atol=4 * HALF)


def test_a_second_run_without_maps_removes_them(model, tmp_path):
    Picture.fromarray(blobs(40, 52)).save(tmp_path / "photo.png")
    predict(model, tmp_path / "photo.png", tmp_path / "out", confidence_map=True)
    assert (tmp_path / "out" / "confidence" / "photo.tif").is_file()
    assert not (tmp_path / "out" / "probabilities").exists()
    predict(model, tmp_path / "photo.png", tmp_path / "out")
    assert not (tmp_path / "out" / "confidence").exists()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("clean", [None, "objects:40,holes:40"])
def test_maps_in_parts_are_those_of_the_whole(model, tmp_path, clean):
    image = stored(tmp_path / "photo.zarr", blobs(200, 170, seed=5), "YXC")
    model = Segmenter.load(_saved(model, tmp_path)).set_params(clean=clean)
    whole = model.predict(blobs(200, 170, seed=5))
    result = predict_large(model, image, tmp_path / "out", memory=1, maps=("confidence", "probabilities"))
    confidence = zarr.open_array(tmp_path / "out" / "confidence" / "photo.zarr" / "0")
    probabilities = read_image(tmp_path / "out" / "probabilities" / "photo.zarr")
    np.testing.assert_array_equal(result.labels[:], whole.labels)
    np.testing.assert_allclose(confidence[:], whole.confidence, atol=HALF)
    np.testing.assert_allclose(probabilities.data, whole.probabilities, atol=HALF)
    assert probabilities.axes == "CYX"
    assert not [path for path in (tmp_path / "out" / "labels").iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("clean", [None, "objects:40,holes:40"])
def test_a_killed_prediction_goes_on_with_its_maps(model, tmp_path, clean):
    image = stored(tmp_path / "photo.zarr", blobs(200, 170, seed=5), "YXC")
    model = Segmenter.load(_saved(model, tmp_path)).set_params(clean=clean)
    wanted = {"memory": 1, "maps": ("confidence",)}
    predict_large(model, image, tmp_path / "straight", **wanted)
    with pytest.raises(Killed):
        predict_large(model, image, tmp_path / "killed", progress=KilledAfter(3), **wanted)
    predict_large(model, image, tmp_path / "killed", **wanted)
    straight, killed = (
        zarr.open_array(tmp_path / place / "confidence" / "photo.zarr" / "0")[:] for place in ("straight", "killed")
    )
    np.testing.assert_array_equal(killed, straight)
    assert (straight > 0).all()


@pytest.mark.usefixtures("small_blocks")
def test_a_prediction_that_began_without_maps_begins_anew_with_them(model, tmp_path):
    image = stored(tmp_path / "photo.zarr", blobs(200, 170, seed=5), "YXC")
    with pytest.raises(Killed):
        predict_large(model, image, tmp_path / "out", memory=1, progress=KilledAfter(3))
    predict_large(model, image, tmp_path / "out", memory=1, maps=("confidence",))
    assert (zarr.open_array(tmp_path / "out" / "confidence" / "photo.zarr" / "0")[:] > 0).all()


@pytest.mark.usefixtures("small_blocks")
def test_a_series_in_parts(model, tmp_path):
    frames = np.stack([blobs(90, 100, seed=seed) for seed in (1, 2)])
    image = stored(tmp_path / "series.zarr", np.moveaxis(frames, -1, 1), "TCYX")
    predict_large(model, image, tmp_path / "out", memory=1, maps=("confidence", "probabilities"))
    probabilities = read_image(tmp_path / "out" / "probabilities" / "series.zarr")
    assert probabilities.axes == "TCYX"
    for number, frame in enumerate(frames):
        whole = model.predict(frame)
        np.testing.assert_allclose(probabilities.data[number], whole.probabilities, atol=HALF)


def test_frames_of_a_sequence_have_a_map_each(model, tmp_path):
    (tmp_path / "frames").mkdir()
    for number in range(3):
        Picture.fromarray(blobs(40, 52, seed=number)).save(tmp_path / "frames" / f"f{number}.png")
    predict(model, tmp_path / "frames", tmp_path / "out", sequence=True, **MAPS)
    assert sorted(path.name for path in (tmp_path / "out" / "confidence").iterdir()) == ["f0.tif", "f1.tif", "f2.tif"]
    last = model.predict(tmp_path / "frames" / "f2.png")
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out" / "confidence" / "f2.tif"), last.confidence, atol=HALF)


def test_pixels_that_do_not_count_have_no_confidence(model, tmp_path):
    mask = np.ones((40, 52), np.uint8)
    mask[:, :10] = 0
    Picture.fromarray(blobs(40, 52)).save(tmp_path / "photo.png")
    Picture.fromarray(mask).save(tmp_path / "mask.png")
    predict(model, tmp_path / "photo.png", tmp_path / "out", mask=tmp_path / "mask.png", confidence_map=True)
    confidence = tifffile.imread(tmp_path / "out" / "confidence" / "photo.tif")
    assert (confidence[:, :10] == 0).all() and (confidence[:, 10:] > 0).all()


def test_the_command_line_writes_them_and_refuses_edits(tmp_path, capsys):
    Picture.fromarray(blobs(40, 52)).save(tmp_path / "photo.png")
    words = ["segment", str(tmp_path / "photo.png"), "--method", "kmeans", "-q", "-o", str(tmp_path / "out")]
    assert main([*words, "--confidence-map", "--probability-maps"]) == 0
    assert (tmp_path / "out" / "probabilities" / "photo.tif").is_file()
    assert main([*words, "--confidence-map", "--edits", "edits.json"]) == 2
    assert "no maps beside it" in capsys.readouterr().err


def test_edits_and_maps_do_not_go_together(model, tmp_path):
    with pytest.raises(UsageError, match="edits"):
        predict(model, blobs(), tmp_path, edits="edits.json", probability_maps=True)


def _saved(model, tmp_path):
    model.save(tmp_path / "model")
    return tmp_path / "model"
