"""Prediction block by block: equal to the whole, restartable with the same bytes, series and volumes, one line of error."""

import csv
import hashlib
import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zarr

from conftest import blobs
from selfseg.core.errors import OutputError, UsageError
from selfseg.core.progress import Silent
from selfseg.export.label_zarr import storing
from selfseg.methods.feature_clustering import FeatureClustering
from selfseg.pipeline import Segmenter, block_plan, large, predict
from selfseg.pipeline.block_work import Target
from selfseg.pipeline.instances import ObjectOptions
from selfseg.pipeline.large import open_if_large, predict_large
from selfseg.pipeline.segmenting import How
from selfseg.predict import blocks, tilewise
from selfseg.read import find_inputs, read_image
from selfseg.read.lazy import open_lazy
from selfseg.sample.prepare import Preparation
from selfseg.sample.windowed import prepare_windowed

QUICK = {"iterations": 5, "n_features": 8, "n_classes": 8}


class Killed(BaseException):
    """What stands for a kill: nothing catches it."""


class KilledAfter(Silent):
    """Counts finished blocks, and dies after some of them."""

    def __init__(self, n_blocks=10**9):
        self.left, self.seen, self.total = n_blocks, [], 0

    def start(self, task, total, done=0):
        self.total = total

    def update(self, done, values):
        self.seen.append(done)
        assert values["Mpx/s"] > 0
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    for module in (large, block_plan):
        monkeypatch.setattr(module, "CHUNK", {2: 32, 3: 8})
    for module in (tilewise, block_plan):
        monkeypatch.setattr(module, "SMALLEST_TILE", 64**2)


@pytest.fixture(scope="module")
def model():
    return Segmenter("feature_clustering", prepare="range", options=QUICK).fit(blobs(90, 80))


def _stored(path, data, axes):
    array = zarr.create_array(path, shape=data.shape, chunks=(32,) * data.ndim, dtype=data.dtype)
    array[...] = data
    return open_lazy(path, axes)


@pytest.fixture
def image(tmp_path):
    return _stored(tmp_path / "photo.zarr", blobs(200, 170, seed=5), "YXC")


def _digest(folder: Path):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


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
    monkeypatch.setattr(FeatureClustering, "assign", lambda self, images: calls.append(1) or assign(self, images))
    whole = KilledAfter()
    predict_large(model, image, tmp_path / "killed", memory=10**12, progress=whole)  # more memory now: the same blocks
    assert _digest(tmp_path / "killed") == _digest(tmp_path / "straight")
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
    monkeypatch.setitem(tilewise.BLEND, 2, 16)
    options = {"iterations": 3, "width": 4, "depth": 2, "n_segments": 4}
    model = Segmenter("wnet", prepare="range", options=options).fit(blobs(60, 70))
    data = blobs(100, 90, seed=3)
    result = predict_large(model, _stored(tmp_path / "a.zarr", data, "YXC"), tmp_path, memory=1)
    parts = model.predict_image(read_image(tmp_path / "a.zarr", "YXC"), How(memory=1))
    assert (result.labels[:] == parts.labels).mean() > 0.999  # sums in another order


def test_series_and_volumes(tmp_path):
    series = np.stack([blobs(70, 60, seed=i) for i in range(2)])
    model = Segmenter("feature_clustering", prepare="range", options=QUICK).fit(series[0])
    result = predict_large(model, _stored(tmp_path / "t.zarr", series, "TYXC"), tmp_path, memory=1)
    assert result.labels.shape == (2, 70, 60)
    for frame in range(2):
        np.testing.assert_array_equal(result.labels[frame], model.predict(series[frame]).labels)
    volume = np.repeat(blobs(30, 28)[None, :, :, 0], 20, axis=0)
    model = Segmenter("feature_clustering", prepare="range", options=QUICK).fit(volume)
    result = predict_large(model, _stored(tmp_path / "z.zarr", volume, "ZYX"), tmp_path, memory=1)
    assert (result.image.axes, result.preview.labels.shape) == ("ZYX", (30, 28))
    np.testing.assert_array_equal(result.labels[:], model.predict(volume).labels)


def test_a_2d_model_takes_a_volume_slice_by_slice(model, tmp_path):
    volume = np.stack([blobs(70, 60, seed=i) for i in range(5)])
    _stored(tmp_path / "v.zarr", volume, "ZYXC")
    assert predict(model, tmp_path / "v.zarr", tmp_path / "parts", axes="ZYXC", memory=1) == []
    found = read_image(tmp_path / "parts" / "labels" / "v.zarr")
    assert found.axes == "ZYX"
    for number, plane in enumerate(found.data):
        np.testing.assert_array_equal(plane, model.predict(volume[number]).labels)
    with pytest.raises(Killed):
        predict_large(model, open_lazy(tmp_path / "v.zarr", "ZYXC"), tmp_path / "k", memory=1, progress=KilledAfter(7))
    predict_large(model, open_lazy(tmp_path / "v.zarr", "ZYXC", "v"), tmp_path / "k", memory=1)
    assert _digest(tmp_path / "k" / "labels") == _digest(tmp_path / "parts" / "labels")
    for how in ({"slices": "all"}, {"tree": True}):
        ((_, message),) = predict(model, tmp_path / "v.zarr", tmp_path / "o", axes="ZYXC", memory=1, **how)
        assert "--slices z" in message


def test_pixels_without_data_are_ignored(tmp_path):
    data = blobs(80, 70, channels=1)[..., 0].astype(np.float32)
    model = Segmenter("feature_clustering", prepare="minmax", options=QUICK).fit(data)
    data[30:40, 20:25] = np.nan
    result = predict_large(model, _stored(tmp_path / "n.zarr", data, "YX"), tmp_path, memory=1)
    np.testing.assert_array_equal(result.labels[:] == 0, np.isnan(data))


def test_predict_takes_large_images_in_parts_and_the_rest_as_ever(model, image, tmp_path):
    small = tmp_path / "small.npy"
    np.save(small, blobs(20, 22))
    inputs = [tmp_path / "photo.zarr", small]
    (source, *_) = find_inputs(inputs)
    assert open_if_large(model, source, "YXC", None) is None
    assert predict(model, inputs, tmp_path / "out", axes="YXC", memory=1) == []
    out = tmp_path / "out"
    assert (out / "labels" / "photo.zarr").is_dir()
    assert (out / "overlay" / "photo.png").is_file()
    rows = json.loads((out / "run.json").read_text())["images"]
    assert {(row["name"], row["axes"]) for row in rows} == {("photo", "YXC"), ("small", "YXC")}
    assert "photo" in (out / "report.html").read_text()


@pytest.mark.parametrize("kind", ["components", "watershed"])
def test_objects_of_a_large_image_are_those_of_the_whole(model, image, tmp_path, kind):
    data = blobs(200, 170, seed=5)
    options = ObjectOptions(kind, of=tuple(item.id for item in model.table_.classes), min_size=3)
    assert predict(model, tmp_path / "photo.zarr", tmp_path / "parts", axes="YXC", memory=1, instances=options) == []
    whole = model.predict(data).instances(kind, of=options.of, min_size=3)
    with (tmp_path / "parts" / "instances.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(whole)
    key = ["pixels", "class_id", "y_min", "x_min", "y_max", "x_max"]
    by_place = {tuple(int(row[name]) for name in key): row for row in rows}
    for i, place in enumerate(zip(*(whole.columns[name].tolist() for name in key), strict=True)):
        row = by_place[place]
        for name in ("centroid_y", "major_axis", "mean_channel2", "std_channel1", "max_channel3"):
            assert float(row[name]) == pytest.approx(whole.columns[name][i], rel=1e-5, abs=1e-5)
    numbers = read_image(tmp_path / "parts" / "instances" / "photo.zarr").data
    np.testing.assert_array_equal(numbers > 0, whole.labels > 0)


def test_objects_of_a_series_are_refused_at_once(model, tmp_path):
    _stored(tmp_path / "t.zarr", np.stack([blobs(50, 40)] * 2), "TYXC")
    how = {"axes": "TYXC", "memory": 1, "instances": ObjectOptions("watershed")}
    ((_, message),) = predict(model, tmp_path / "t.zarr", tmp_path / "o", **how)
    assert "one by one" in message
    assert not (tmp_path / "o" / "labels").exists()  # said before the work, not after


def test_a_crf_in_parts_is_near_that_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(block_plan, "SMALLEST_TILE", 72**2)
    refine = "crf=space:5,iterations:2"
    model = Segmenter("feature_clustering", prepare="range", options=QUICK, refine=refine).fit(blobs(90, 80))
    data = blobs(120, 70, seed=5)
    image, watcher = _stored(tmp_path / "photo.zarr", data, "YXC"), KilledAfter()
    result = predict_large(model, image, tmp_path / "out", memory=1, progress=watcher)
    assert len(watcher.seen) > 3
    whole = model.predict(data)
    assert (result.labels[:] == whole.labels).mean() > 0.99
    plain = Segmenter.predict(model.set_params(refine=None), data)
    assert (whole.labels != plain.labels).mean() > 2 * (result.labels[:] != whole.labels).mean()
    # goes on with the same bytes, and not with those of another refinement
    model.set_params(refine=refine)
    with pytest.raises(Killed):
        predict_large(model, image, tmp_path / "killed", memory=1, progress=KilledAfter(3))
    predict_large(model, image, tmp_path / "killed", memory=1)
    assert _digest(tmp_path / "killed") == _digest(tmp_path / "out")


def test_a_full_disk_is_one_line_and_the_prediction_goes_on_later(model, image, tmp_path, monkeypatch):
    write = Target.write
    left = [3]

    def full(self, labels, region, values):
        left[0] -= 1
        if left[0] < 0:
            with storing(self.path):
                raise OSError(28, "No space left on device")
        write(self, labels, region, values)

    monkeypatch.setattr(Target, "write", full)
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


def test_labels_in_parts_are_ome_zarr_and_no_other_format_is_promised(model, image, tmp_path):
    how = {"axes": "YXC", "memory": 1, "write": ["nifti"]}
    ((_, message),) = predict(model, tmp_path / "photo.zarr", tmp_path / "o", **how)
    assert "OME-Zarr 0.5, got nifti" in message


def test_what_cannot_be_done_in_parts_is_said(model, image, tmp_path):
    for refine, clean, fix in (("crf,contours", None, "--refine none"), (None, "objects:20", "--clean none")):
        refined = Segmenter("feature_clustering", prepare="range", options=QUICK, refine=refine, clean=clean)
        with pytest.raises(UsageError, match=fix):
            predict_large(refined.fit(blobs(40, 40)), image, tmp_path)
    cut = Segmenter("feature_clustering", prepare="border=3,range", options=QUICK).fit(blobs(40, 40))
    with pytest.raises(UsageError, match="--prepare range"):
        predict_large(cut, image, tmp_path)
    ((name, message),) = predict(cut, tmp_path / "photo.zarr", tmp_path / "out", axes="YXC", memory=1)
    assert name == "photo"
    assert "border=3" in message


def test_freed_memory_is_given_back_near_the_limit_only(model, image, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(blocks, "give_back_memory", lambda: given.append(1))
    monkeypatch.setattr(blocks, "resident_memory", lambda: 10**9)
    for memory, expected in ((10**10, 0), (10**9, 1)):
        predict_large(model, image, tmp_path / str(memory), memory=memory)
        assert len(given) == expected  # of one block


def test_the_picture_of_a_large_image_takes_little_memory(model, tmp_path, monkeypatch):
    """Every 20th row and column of 6 megapixels is kept: the others must not stay behind it."""
    monkeypatch.setattr(large, "PREVIEW_SIDE", 150)
    empty = {"shape": (3000, 2000), "chunks": (500, 500), "dtype": "u1", "fill_value": 1}
    zarr.create_array(tmp_path / "image.zarr", **empty)
    windowed = prepare_windowed(Preparation.parse("range"), open_lazy(tmp_path / "image.zarr", "YX"))
    labels = zarr.create_array(tmp_path / "labels.zarr", **empty)
    tracemalloc.start()
    try:
        shown = large._preview(model, windowed, labels, Target(Path("labels.zarr"), "YX"), 0.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert shown.labels.shape == (150, 100)
    assert peak < 4 * 10**6


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing(tmp_path):
    """The command itself, killed three times on its way; then left alone."""
    data = blobs(1500, 1400, seed=5)
    _stored(tmp_path / "photo.zarr", data, "YXC")
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
    assert _digest(tmp_path / "killed" / name) == _digest(tmp_path / "straight" / name)
