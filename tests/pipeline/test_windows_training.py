"""Learning from windows of images that stay in their files: little is read, and what is learned is what the windows teach."""

import json

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image as Picture

from conftest import blobs, write_clip
from selfseg import measure
from selfseg.core.errors import InputError, Interrupted, UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Silent
from selfseg.learning.annotations import SCRIBBLES, AnnotationFiles, find_label_files
from selfseg.learning.monitor import truth_scorer
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.learning.training_set import WindowChoice, build_training_set
from selfseg.read import _lazy_array, find_inputs
from selfseg.sample import statistics
from selfseg.train.loop import Order

QUICK = {"iterations": 6, "min_epochs": 1, "n_features": 8, "n_clusters": 8, "min_classes": 1}


class Listening(Silent):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def _model(**changes):
    return Segmenter("feature_clustering", prepare="range", options=QUICK, **changes)


def _stored(path, data, axes="yxc", chunks=64):
    group = zarr.open_group(path, mode="w", zarr_format=3)
    described = [{"name": a, "type": {"t": "time", "c": "channel"}.get(a, "space")} for a in axes]
    scale = {"type": "scale", "scale": [1.0] * data.ndim}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": described, "datasets": datasets}]}
    array = group.create_array("0", shape=data.shape, chunks=[min(chunks, n) for n in data.shape], dtype=data.dtype)
    array[...] = data
    return path


@pytest.fixture
def reads(monkeypatch):
    """Number of values of each read of a file."""
    seen = []
    inner = _lazy_array.LazyArray.__getitem__

    def counted(self, index):
        found = inner(self, index)
        seen.append(found.size)
        return found

    monkeypatch.setattr(_lazy_array.LazyArray, "__getitem__", counted)
    return seen


def _same_state(a, b):
    mine, theirs = a.method_.state(), b.method_.state()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_windows_teach_what_the_same_pictures_teach(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(200, 180))
    choice = WindowChoice.parse("5:40", seed=3)
    data = build_training_set(find_inputs(path), "range", None, None, Silent(), choice)
    cut = [np.moveaxis((sample.read().array * 255).round().astype(np.uint8), 0, -1) for sample in data.samples]
    assert [picture.shape for picture in cut] == [(40, 40, 3)] * 5
    lazy = _model(seed=3).fit(path, windows="5:40")
    eager = _model(seed=3).fit(cut)
    _same_state(lazy, eager)
    assert lazy.table_ == eager.table_
    assert lazy.facts_["windows"] == {"big": 5}


def test_of_a_large_image_little_is_read(tmp_path, reads, monkeypatch):
    """A limit on memory that its pixels exceed; the reads are counted, and the classes are those of the picture."""
    monkeypatch.setitem(statistics.WINDOW_SIDE, 2, 128)
    tile = blobs(320, 320, channels=1)[..., 0]
    path = _stored(tmp_path / "huge.ome.zarr", np.tile(tile, (10, 10)), "yx", chunks=320)
    watcher = Listening()
    options = {**QUICK, "n_features": 16, "n_clusters": 16, "continuity": 1.0}
    model = Segmenter("feature_clustering", n_classes=3, prepare="range", options=options)
    model.fit(path, memory=10**6, progress=watcher)
    assert "learned from in 16 window(s) of 128 x 128" in " ".join(watcher.said)
    assert max(reads) == 128 * 128  # never more at once
    assert sum(reads) <= 17 * 128 * 128  # each window once, and the first once more to be shown: a 36th of the image
    found = model.predict(tile).labels
    for tone, label in ((tile < 70, 1), (tile > 180, 3)):
        assert (found[tone] == label).mean() > 0.95


def test_a_shrunk_image_is_read_in_bands(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(statistics, "WINDOW", 2000)
    data = blobs(300, 240)
    watcher = Listening()
    options = {**QUICK, "prepare": "size=40,range"}
    path = _stored(tmp_path / "a.ome.zarr", data)
    model = Segmenter("feature_clustering", options=options).fit(path, windows=2, progress=watcher)
    assert max(reads) <= 40 * 240 * 3  # no more than a few rows at once
    assert "1 window(s) of 40 x 32" in watcher.said[0]
    assert "shrunk 8 times" in watcher.said[1]
    eager = Segmenter("feature_clustering", options=options).fit(data)
    assert (model.predict(data).labels == eager.predict(data).labels).mean() > 0.99  # sums in another order


def test_resumed_is_straight_whatever_memory_there_is_then(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(120, 120))
    how = {"checkpoint_every": 0, "preview_every": 1e9}
    _model().fit(path, memory=1, out=tmp_path / "straight", **how)
    asked = []

    def pause():
        asked.append(1)
        return Order.PAUSE if len(asked) == 3 else Order.GO

    with pytest.raises(Interrupted):
        _model().fit(path, memory=1, out=tmp_path / "paused", control=pause, **how)
    _model().fit(path, memory=10**12, out=tmp_path / "paused", resume=True, **how)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "paused")]
    assert weights[0] == weights[1]
    assert json.loads((tmp_path / "paused" / "training.json").read_text())["windows"] == {"big": 1}


def test_another_image_in_the_windows_is_not_resumed(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(120, 120))
    how = {"checkpoint_every": 0, "preview_every": 1e9, "windows": "4:32"}
    with pytest.raises(Interrupted):
        _model().fit(path, out=tmp_path / "m", control=lambda: Order.PAUSE, **how)
    _stored(path, blobs(120, 120, seed=9))
    with pytest.raises(UsageError, match="inputs"):
        _model().fit(path, out=tmp_path / "m", resume=True, **how)


def test_pages_of_a_tiff_and_volumes(tmp_path, reads):
    series = np.stack([blobs(60, 60, seed=t) for t in range(5)])
    tifffile.imwrite(tmp_path / "t.tif", series, photometric="rgb", metadata={"axes": "TYXS"}, ome=True)
    model = _model().fit(tmp_path / "t.tif", windows="3:32", axes="TYXC")
    assert model.facts_["n_images"] == 3
    assert max(reads) <= 60 * 60 * 3
    volume = np.repeat(blobs(48, 44)[None, :, :, 0], 40, axis=0)
    tifffile.imwrite(tmp_path / "z.tif", volume)
    reads.clear()
    model = _model().fit(tmp_path / "z.tif", windows="4:16", axes="ZYX")
    assert (model.method_.n_dims, model.facts_["n_images"]) == (3, 4)
    assert max(reads) == 16**3


def test_small_and_large_images_together(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(120, 120))
    Picture.fromarray(blobs(30, 34)).save(tmp_path / "small.png")
    watcher = Listening()
    data = build_training_set(
        find_inputs([path, tmp_path / "small.png"]), "percentile=1:99:global", None, None, watcher, WindowChoice(3, 32)
    )
    assert [item.name for item in data.items] == ["big", "big", "big", "small"]
    assert data.windows == {"big": 3}  # what is packed as a whole is read as a whole
    assert data.preparation.fitted is not None
    assert data.first[1].array.shape == (3, 32, 32)
    assert data.first[0].data.dtype == np.uint8


@pytest.mark.parametrize("method", ["wnet", "sp_wnet", "deep_kmeans", "region_merging"])
def test_every_method_learns_from_windows(tmp_path, method):
    small = {"iterations": 2, "pretrain_iterations": 2, "width": 4, "depth": 2, "n_clusters": 3, "n_superpixels": 30}
    path = _stored(tmp_path / "big.ome.zarr", blobs(150, 140))
    known = Segmenter(method).config().model_dump()
    options = {name: value for name, value in small.items() if name in known}
    model = Segmenter(method, options=options, prepare="range").fit(path, windows="2:48")
    assert model.facts_["n_images"] == 2
    assert model.predict(blobs(60, 50)).labels.max() <= len(model.table_)


def test_frames_of_a_video_are_as_ever(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    model = _model().fit(clip, n_frames=2, memory=1)
    assert (model.facts_["n_images"], model.facts_["windows"]) == (2, {})


def test_windows_that_are_no_numbers_are_refused(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(80, 80))
    for text in ("0", "4:0", "many", "4:8:2", "-1"):
        with pytest.raises(UsageError, match="--windows 16:512"):
            _model().fit(path, windows=text)


def test_a_preparation_that_cuts_and_sharpens_goes_with_windows(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(80, 80))
    steps = "border=3,unsharp=1,clahe=0.02,range"
    model = Segmenter("feature_clustering", prepare=steps, options=QUICK).fit(path, windows="4:30")
    assert model.predict(blobs(80, 80)).labels[3:-3, 3:-3].min() > 0


def test_learned_and_predicted_within_a_limit(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(220, 200))
    model = _model(n_classes=3).fit(path, windows="6:64")
    assert predict(model, path, tmp_path / "out", memory=1) == []
    labels = zarr.open_array(tmp_path / "out" / "labels" / "big.zarr" / "0", mode="r")[...]
    np.testing.assert_array_equal(labels, model.predict(blobs(220, 200)).labels)


def test_an_image_that_is_damaged_is_named(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(80, 80))
    (path / "0" / "zarr.json").write_text("{")
    with pytest.raises(InputError, match=r"big\.ome\.zarr"):
        _model().fit(path, windows=2)
    assert isinstance(WindowChoice(2).open(find_inputs(_stored(tmp_path / "b.zarr", blobs(9, 9)))[0], None), Image)


UNET = {"iterations": 4, "width": 4, "depth": 2, "patch": None, "validation": 0}


@pytest.mark.parametrize("meaning", ["full", "sparse", "objects"])
def test_windows_with_labels_teach_what_the_same_pictures_teach(tmp_path, meaning):
    path = _stored(tmp_path / "big.ome.zarr", blobs(200, 180))
    y, x = np.mgrid[:200, :180]
    labels = np.where((y - 100) ** 2 + (x - 90) ** 2 < 60**2, 7, 3 * (x >= 90)).astype(np.uint16)
    choice = WindowChoice.parse("5:40", seed=3)
    wanted = find_label_files([labels], find_inputs(path), meaning)
    data = build_training_set(find_inputs(path), "range", wanted, None, Silent(), choice)
    cut = [np.moveaxis((sample.read().array * 255).round().astype(np.uint8), 0, -1) for sample in data.samples]
    theirs = [labels[sample.region] for sample in data.samples]
    lazy = Segmenter("unet", prepare="range", options=UNET, seed=3).fit(
        path, [labels], labels_as=meaning, windows="5:40"
    )
    eager = Segmenter("unet", prepare="range", options=UNET, seed=3).fit(cut, theirs, labels_as=meaning)
    _same_state(lazy, eager)
    assert lazy.table_ == eager.table_


def test_windows_with_scribbles_come_first_and_one_for_each_of_them(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(400, 400))
    marks = np.full((400, 400), 255, np.uint8)
    marks[205:208, 200:230], marks[90:120, 40], marks[300:308, 353:378] = 4, 0, 9  # disc, left and right ground
    Picture.fromarray(marks).save(tmp_path / "marks.png")
    wanted, listening = AnnotationFiles({"big": tmp_path / "marks.png"}, SCRIBBLES), Listening()
    for n, values in ((1, 1), (4, 3)):
        choice = WindowChoice.parse(f"{n}:40", seed=1)
        data = build_training_set(find_inputs(path), "range", wanted, None, listening, choice)
        assert len(data.samples) == n
        assert (
            len(set(np.concatenate([np.unique(sample.read().annotations) for sample in data.samples])) - {-1}) >= values
        )
    assert sum("--windows 2" in said for said in listening.said) == 1  # one window has not all of them
    model = _model(seed=1).fit(path, scribbles=tmp_path / "marks.png", windows="4:40")
    assert model.facts_["windows"] == {"big": 4}
    assert model.facts_["hints_sha256"] == data.digest_annotations()


def test_labels_of_a_resized_image_are_those_of_its_windows(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(200, 180))
    y, x = np.mgrid[:200, :180]
    labels = np.where((y - 100) ** 2 + (x - 90) ** 2 < 60**2, 7, 3 * (x >= 90)).astype(np.uint16)
    wanted = find_label_files([labels], find_inputs(path), "full")
    data = build_training_set(find_inputs(path), "size=100,range", wanted, None, Silent(), WindowChoice.parse("3:24"))
    whole = build_training_set(find_inputs(path), "size=100,range", wanted, None, Silent())
    for item in data.items:
        np.testing.assert_array_equal(item.sample.read().annotations, whole.samples[0].annotations[item.region])
    fitted = Segmenter("unet", prepare="size=100,range", options=UNET).fit(path, [labels], labels_as="full", windows=2)
    assert len(fitted.table_) == 3


@pytest.mark.parametrize("steps", ["range", "size=80,range"])
def test_truth_is_scored_on_the_windows(tmp_path, steps):
    path = _stored(tmp_path / "big.ome.zarr", blobs(160, 160))
    truth = (np.mgrid[:160, :160][1] >= 70).astype(np.uint8)
    tifffile.imwrite(tmp_path / "truth.tif", truth)
    data = build_training_set(find_inputs(path), steps, None, None, Silent(), WindowChoice.parse("4:32"))
    model = Segmenter("feature_clustering", prepare=steps, options=QUICK).fit(
        path, windows="4:32", truth=tmp_path / "truth.tif"
    )
    scores = truth_scorer(tmp_path / "truth.tif", data, Silent())(model.method_)
    grid = truth if steps == "range" else truth[1::2, 1::2]
    expected = []
    for item in data.items:
        probabilities = model.method_.assign(torch.from_numpy(item.sample.read().array)[None])[0]
        expected.append(measure.covering(probabilities.argmax(0).numpy(), grid[item.region]))
    assert scores["covering"] == pytest.approx(np.mean(expected))


def test_own_superpixels_of_the_windows_are_parts_of_those_of_the_image(tmp_path):
    path = _stored(tmp_path / "big.ome.zarr", blobs(150, 140))
    own = (np.arange(150)[:, None] // 10 * 14 + np.arange(140) // 10).astype(np.int32)
    tifffile.imwrite(tmp_path / "own.tif", own)
    seen = []

    def look(method, data, step):
        seen.extend((item.region, item.sample.read().memo["superpixels"]) for item in data.items)

    options = {"iterations": 2, "width": 4, "depth": 2, "n_features": 6, "patch_sides": (8, 12)}
    model = Segmenter("sp_wnet", options=options, prepare="range").fit(
        path, windows="2:48", superpixels=tmp_path / "own.tif", preview=look, preview_every=0, truth=None
    )
    assert len(seen) == 4 and "superpixels" in model.facts_
    for region, labels in seen:
        np.testing.assert_array_equal(labels, own[region])
    result = model.predict(blobs(150, 140), superpixels=tmp_path / "own.tif")
    assert all(len(np.unique(result.labels[own == value])) == 1 for value in np.unique(own))


def test_objects_in_windows_of_floats_are_set_apart(tmp_path):
    """Windows that were read to see whether they are valid keep no annotations of that time."""
    path = _stored(tmp_path / "big.ome.zarr", blobs(80, 80).astype(np.float32))
    objects = np.repeat(np.arange(1, 11), 8)[None].repeat(80, 0).astype(np.uint16)
    wanted = find_label_files([objects], find_inputs(path), "objects")
    data = build_training_set(find_inputs(path), "range", wanted, None, Silent(), WindowChoice.parse("2:32"))
    for sample in data.samples:
        assert set(np.unique(sample.read().annotations)) == {0, 1}
