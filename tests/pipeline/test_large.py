"""Prediction block by block: equal to the whole, restartable with the same bytes, series and volumes, one line of error."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import blobs
from in_parts import QUICK, Killed, KilledAfter, contents, predict_large, stored
from selfseg.core.errors import OutputError
from selfseg.export.ome_zarr import storing
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.feature_clustering import FeatureClustering
from selfseg.read import find_inputs, open_lazy, read_image
from selfseg.segmenting import executors
from selfseg.segmenting.images import Settings, fits_in_memory
from selfseg.segmenting.sinks import ZarrSink
from selfseg.tiling import tiles

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture(scope="module")
def model():
    return Segmenter("feature_clustering", prepare="range", options=QUICK).fit(blobs(90, 80))


@pytest.fixture
def image(tmp_path):
    return stored(tmp_path / "photo.zarr", blobs(200, 170, seed=5), "YXC")


def test_blocks_are_the_whole(model, image, tmp_path):
    watcher = KilledAfter()
    result = predict_large(model, image, tmp_path / "out", memory=1, progress=watcher)
    whole = model.predict(blobs(200, 170, seed=5))
    np.testing.assert_array_equal(result.labels[:], whole.labels)
    assert len(watcher.seen) > 8
    assert [(area.id, area.pixels) for area in result.areas] == [
        (item.id, int((whole.labels == item.id).sum())) for item in model.table_.classes
    ]
    assert not list((tmp_path / "out" / "labels").glob("*.blocks"))
    read = read_image(result.path)
    assert (read.axes, read.data.dtype) == ("YX", np.uint8)
    np.testing.assert_array_equal(read.data, whole.labels)


@pytest.mark.parametrize("steps", ["size=60,range", "rescale=0.5:0.7,minmax", "rescale=1.5,range"])
def test_blocks_are_the_whole_where_the_size_changes(image, tmp_path, steps):
    model = Segmenter("feature_clustering", prepare=steps, options=QUICK).fit(blobs(90, 80))
    result = predict_large(model, image, tmp_path / "out", memory=1)
    whole = model.predict(blobs(200, 170, seed=5))
    # sums in another order: where two classes are equally likely, either may win
    assert (result.labels[:] == whole.labels).mean() > 0.9999


@pytest.mark.parametrize("n_blocks", [1, 4, 9])
def test_a_killed_prediction_goes_on_and_ends_with_the_same_bytes(model, image, tmp_path, n_blocks, monkeypatch):
    predict_large(model, image, tmp_path / "straight", memory=1)
    with pytest.raises(Killed):
        predict_large(model, image, tmp_path / "killed", memory=1, progress=KilledAfter(n_blocks))
    assert (tmp_path / "killed" / "labels" / "photo.blocks").is_file()
    calls = []
    assign = FeatureClustering.assign
    monkeypatch.setattr(
        FeatureClustering, "assign", lambda self, images, memos=None: calls.append(1) or assign(self, images)
    )
    whole = KilledAfter()
    predict_large(model, image, tmp_path / "killed", memory=10**12, progress=whole)  # more memory now: the same blocks
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
    calls_again = len(calls)
    calls.clear()
    predict_large(model, image, tmp_path / "third", memory=1)
    assert calls_again == len(calls) - n_blocks


def test_another_model_or_image_begins_anew(model, image, tmp_path):
    with pytest.raises(Killed):
        predict_large(model, image, tmp_path, memory=1, progress=KilledAfter(3))
    other = Segmenter("feature_clustering", prepare="range", seed=1, options=QUICK).fit(blobs(90, 80))
    watcher = KilledAfter()
    result = predict_large(other, image, tmp_path, memory=1, progress=watcher)
    np.testing.assert_array_equal(result.labels[:], other.predict(blobs(200, 170, seed=5)).labels)


def test_a_line_of_the_log_that_was_cut_short_does_not_count(model, image, tmp_path):
    with pytest.raises(Killed):
        predict_large(model, image, tmp_path, memory=1, progress=KilledAfter(4))
    log = tmp_path / "labels" / "photo.blocks"
    log.write_bytes(log.read_bytes() + b"1")  # of "11\n"
    result = predict_large(model, image, tmp_path, memory=1)
    np.testing.assert_array_equal(result.labels[:], model.predict(blobs(200, 170, seed=5)).labels)


def test_a_method_that_wants_the_whole_image_is_blended_alike_in_parts(tmp_path, monkeypatch):
    monkeypatch.setitem(tiles.BLEND, 2, 16)
    options = {"iterations": 3, "width": 4, "depth": 2, "n_clusters": 4}
    model = Segmenter("wnet", prepare="range", options=options).fit(blobs(60, 70))
    data = blobs(100, 90, seed=3)
    result = predict_large(model, stored(tmp_path / "a.zarr", data, "YXC"), tmp_path, memory=1)
    parts = model.predict_image(read_image(tmp_path / "a.zarr", "YXC"), Settings(memory=1))
    assert (result.labels[:] == parts.labels).mean() > 0.999  # sums in another order


def test_series_and_volumes(tmp_path):
    series = np.stack([blobs(70, 60, seed=i) for i in range(2)])
    model = Segmenter("feature_clustering", prepare="range", options=QUICK).fit(series[0])
    result = predict_large(model, stored(tmp_path / "t.zarr", series, "TYXC"), tmp_path, memory=1)
    assert result.labels.shape == (2, 70, 60)
    for frame in range(2):
        np.testing.assert_array_equal(result.labels[frame], model.predict(series[frame]).labels)
    volume = np.repeat(blobs(30, 28)[None, :, :, 0], 20, axis=0)
    model = Segmenter("feature_clustering", prepare="range", options=QUICK).fit(volume)
    result = predict_large(model, stored(tmp_path / "z.zarr", volume, "ZYX"), tmp_path, memory=1)
    assert (result.image.axes, result.preview()[1].shape) == ("ZYX", (30, 28))
    np.testing.assert_array_equal(result.labels[:], model.predict(volume).labels)


def test_a_2d_model_takes_a_volume_slice_by_slice(model, tmp_path):
    volume = np.stack([blobs(70, 60, seed=i) for i in range(5)])
    stored(tmp_path / "v.zarr", volume, "ZYXC")
    assert predict(model, tmp_path / "v.zarr", tmp_path / "parts", axes="ZYXC", memory=1) == []
    found = read_image(tmp_path / "parts" / "labels" / "v.zarr")
    assert found.axes == "ZYX"
    for number, plane in enumerate(found.data):
        np.testing.assert_array_equal(plane, model.predict(volume[number]).labels)
    with pytest.raises(Killed):
        predict_large(model, open_lazy(tmp_path / "v.zarr", "ZYXC"), tmp_path / "k", memory=1, progress=KilledAfter(3))
    predict_large(model, open_lazy(tmp_path / "v.zarr", "ZYXC", "v"), tmp_path / "k", memory=1)
    assert contents(tmp_path / "k" / "labels") == contents(tmp_path / "parts" / "labels")


def test_pixels_without_data_are_ignored(tmp_path):
    data = blobs(80, 70, channels=1)[..., 0].astype(np.float32)
    model = Segmenter("feature_clustering", prepare="minmax", options=QUICK).fit(data)
    data[30:40, 20:25] = np.nan
    result = predict_large(model, stored(tmp_path / "n.zarr", data, "YX"), tmp_path, memory=1)
    np.testing.assert_array_equal(result.labels[:] == 0, np.isnan(data))


def test_predict_takes_large_images_in_parts_and_the_rest_as_ever(model, image, tmp_path):
    small = tmp_path / "small.npy"
    np.save(small, blobs(20, 22))
    inputs = [tmp_path / "photo.zarr", small]
    (source, *_) = find_inputs(inputs)
    assert fits_in_memory(model.fitted, source.open("YXC"), None)
    assert predict(model, inputs, tmp_path / "out", axes="YXC", memory=1) == []
    out = tmp_path / "out"
    assert (out / "labels" / "photo.zarr").is_dir()
    assert (out / "overlay" / "photo.png").is_file()
    rows = json.loads((out / "run.json").read_text())["images"]
    assert {(row["name"], row["axes"]) for row in rows} == {("photo", "YXC"), ("small", "YXC")}
    assert "photo" in (out / "report.html").read_text()


def test_a_full_disk_is_one_line_and_the_prediction_goes_on_later(model, image, tmp_path, monkeypatch):
    write = ZarrSink.write
    left = [3]

    def full(self, region, labels, probabilities):
        left[0] -= 1
        if left[0] < 0:
            with storing(self.path):
                raise OSError(28, "No space left on device")
        write(self, region, labels, probabilities)

    monkeypatch.setattr(ZarrSink, "write", full)
    with pytest.raises(OutputError, match="No space left on device; make room"):
        predict_large(model, image, tmp_path, memory=1)
    left[0] = 10**9
    watcher = KilledAfter()
    result = predict_large(model, image, tmp_path, memory=1, progress=watcher)
    n_blocks = len(watcher.seen)
    np.testing.assert_array_equal(result.labels[:], model.predict(blobs(200, 170, seed=5)).labels)
    watcher.seen.clear()
    predict_large(model, image, tmp_path, memory=1, progress=watcher)
    assert n_blocks == len(watcher.seen) - 3


def test_freed_memory_is_given_back_near_the_limit_only(model, image, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(executors, "give_back_memory", lambda: given.append(1))
    monkeypatch.setattr(executors, "resident_memory", lambda: 10**11)
    for memory, expected in ((10**12, 0), (10**11, 1)):  # far above what this process takes
        predict_large(model, image, tmp_path / str(memory), memory=memory)
        assert len(given) == expected  # of one block


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing(tmp_path):
    """The command itself, killed three times on its way; then left alone."""
    data = blobs(1500, 1400, seed=5)
    stored(tmp_path / "photo.zarr", data, "YXC")
    model = Segmenter("feature_clustering", prepare="range", options={**QUICK, "n_features": 32}).fit(blobs(90, 80))
    model.save(tmp_path / "model")
    words = ["predict", tmp_path / "model", tmp_path / "photo.zarr", "--axes", "YXC", "--memory", "1MB", "--quiet"]

    def start(out):
        return subprocess.Popen([sys.executable, "-m", "selfseg", *map(str, words), "-o", str(out)])

    assert start(tmp_path / "straight").wait() == 0
    log = tmp_path / "killed" / "labels" / "photo.blocks"
    done = 1
    for _ in range(3):
        process = start(tmp_path / "killed")
        while process.poll() is None and not (log.is_file() and len(log.read_bytes().splitlines()) > done + 2):
            time.sleep(0.01)
        process.kill()
        process.wait()
        done = len(log.read_bytes().splitlines()) if log.is_file() else done
    assert start(tmp_path / "killed").wait() == 0
    name = Path("labels") / "photo.zarr"
    assert contents(tmp_path / "killed" / name) == contents(tmp_path / "straight" / name)
