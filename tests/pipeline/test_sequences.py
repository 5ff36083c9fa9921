"""Sequences from files to files: frames chosen, learned from, segmented, scored; a clip that is damaged in any way."""

import json
import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

import selfseg
from conftest import blobs, write_clip
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.core.options import FitOptions
from selfseg.export.sequences import LabelStack, VideoFile
from selfseg.learning.run import predict
from selfseg.read import read_image
from selfseg.read.frames import Frames
from selfseg.read.video import VideoFrames
from selfseg.segmenting.frames import segment_sequence

METHOD = {"method": "region_merging", "preset": "fast", "options": {"superpixel_size": 30.0}, "n_classes": 2}


class Watcher:
    """A progress that keeps what it was told."""

    def __init__(self):
        self.said, self.figures = [], []

    def start(self, task, total, done=0):
        self.figures.append((task, total))

    def update(self, done, values):
        self.figures.append((done, dict(values)))

    def finish(self):
        pass

    def say(self, message):
        self.said.append(message)


def fitted(inputs, **how):
    return selfseg.Segmenter(**METHOD).fit(inputs, **how)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "bar.mkv", 12, codec="ffv1", pixels="bgr0")


@pytest.fixture(scope="module")
def model(clip):
    return fitted(clip, frames=[0, 11])


def test_chosen_frames_are_learned_from_and_noted(clip, model):
    assert model.facts_["sequence"] == {"kind": "frames", "chosen": {"bar": [0, 11]}}
    assert model.facts_["n_images"] == 2 and set(model.facts_["inputs"]) == {"bar_f0000", "bar_f0011"}
    watcher = Watcher()
    automatic = fitted(clip, n_frames=3, progress=watcher)
    assert len(automatic.facts_["sequence"]["chosen"]["bar"]) == 3
    assert any("learning from 3 of 12" in line for line in watcher.said)
    assert fitted(clip).facts_["n_images"] == 4
    with pytest.raises(InputError, match="frame number from 0 to 11, got 12"):
        fitted(clip, frames=[0, 12])


def test_of_a_long_clip_only_some_frames_are_looked_at(clip, monkeypatch):
    monkeypatch.setattr("selfseg.learning.training_set.MOST", 4)
    assert all(number % 3 == 0 for number in fitted(clip, n_frames=2).facts_["sequence"]["chosen"]["bar"])


def test_a_clip_of_other_channels_is_refused_at_once(model, tmp_path):
    grey = np.zeros((5, 20, 30), np.uint8)
    path = write_clip(tmp_path / "grey.mkv", pictures=grey, codec="ffv1", pixels="gray")
    failures = predict(model, path, tmp_path / "out")
    assert len(failures) == 1 and "3 channel(s) in 2D" in failures[0][1]
    assert not (tmp_path / "out" / "labels").exists()


def test_a_clip_becomes_labels_videos_and_a_flicker_score(clip, model, tmp_path):
    watcher = Watcher()
    assert predict(model, clip, tmp_path, progress=watcher) == []
    labels = read_image(tmp_path / "labels" / "bar.tif")
    assert labels.axes == "TYX" and labels.data.shape == (12, 64, 96) and labels.data.dtype == np.uint8
    for number, frame in enumerate(VideoFrames(clip).frames()):
        np.testing.assert_array_equal(labels.data[number], model.predict_image(frame).labels)
        bar = frame.data[..., 1] > 128
        assert (labels.data[number][bar] == 2).all() and (labels.data[number][~bar] == 1).mean() > 0.8
    overlay = VideoFrames(tmp_path / "video" / "bar_overlay.mp4")
    assert overlay.n_frames == 12 and overlay.fps == pytest.approx(24) and overlay.frame(3).data.shape == (64, 96, 3)
    colours = np.array([item.rgba[:3] for item in model.table_.classes], np.uint8)
    classes = read_image(tmp_path / "video" / "bar_classes.mkv").data
    np.testing.assert_array_equal(classes, colours[labels.data - 1])
    row = json.loads((tmp_path / "run.json").read_text())["images"][0]
    frames = read_image(clip).data.astype(int)
    stayed = (np.abs(np.diff(frames, axis=0)) <= 0.02 * 255).all(-1)
    share = (np.diff(labels.data.astype(int), axis=0) != 0)[stayed].mean()
    assert row["frames"] == row["labelled"] == 12 and row["flicker"] == pytest.approx(share, abs=1e-6) and share > 0
    assert any(f"flicker: {row['flicker']:.2%}" in line and "frames/s" in line for line in watcher.said)
    assert any("frames/s" in values for _, values in watcher.figures if isinstance(values, dict))
    assert "bar_overlay.mp4" in (tmp_path / "report.html").read_text()


def test_a_folder_is_a_sequence_if_the_model_learned_from_frames_or_the_user_says_so(model, clip, tmp_path):
    folder = tmp_path / "shots"
    folder.mkdir()
    for number, frame in enumerate(VideoFrames(clip).frames()):
        Picture.fromarray(frame.data).save(folder / f"{number:02d}.png")
    predict(model, folder, tmp_path / "a")
    names = {path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*.*")}
    assert {"labels/00.tif", "labels/11.tif", "video/shots_labels.tif", "video/shots_overlay.mp4"} <= names
    assert not [name for name in names if name.startswith("overlay")]
    stack = read_image(tmp_path / "a" / "video" / "shots_labels.tif").data
    np.testing.assert_array_equal(stack[5], tifffile.imread(tmp_path / "a" / "labels" / "05.tif"))
    predict(model, folder, tmp_path / "b", sequence=False)
    assert (tmp_path / "b" / "overlay" / "05.png").is_file() and not (tmp_path / "b" / "video").exists()
    single = fitted(folder / "00.png")
    predict(single, folder, tmp_path / "c")
    assert not (tmp_path / "c" / "video").exists()
    predict(single, folder, tmp_path / "d", sequence=True, link=True)
    assert json.loads((tmp_path / "d" / "run.json").read_text())["images"][0]["linked"] is True
    chosen = fitted(folder, n_frames=2)
    assert chosen.facts_["n_images"] == 2 and chosen.facts_["sequence"]["kind"] == "frames"


def test_what_fails_is_named_and_the_rest_is_done(model, clip, tmp_path):
    folder = tmp_path / "shots"
    folder.mkdir()
    frames = [frame.data for frame in VideoFrames(clip).frames()][:6]
    for number, frame in enumerate(frames):
        Picture.fromarray(frame if number != 4 else frame[:-2]).save(folder / f"{number}.png")
    for number in (0, 2):
        (folder / f"{number}.png").write_bytes(b"\x89PNG broken")
    failures = predict(model, folder, tmp_path / "out")
    assert [name for name, _ in failures] == ["0", "2", "4"]
    stack = read_image(tmp_path / "out" / "video" / "shots_labels.tif").data
    assert stack.shape == (6, 64, 96) and [bool(page.any()) for page in stack] == [
        False,
        True,
        False,
        True,
        False,
        True,
    ]
    overlay = VideoFrames(tmp_path / "out" / "video" / "shots_overlay.mp4")
    assert overlay.n_frames == 6 and np.ptp(overlay.frame(2).data) < 8
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert facts["images"][0]["labelled"] == 3 and len(facts["failures"]) == 3


def test_a_clip_that_ends_early_leaves_what_was_there(model, clip, tmp_path):
    whole = clip.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "text.mp4").write_text("no video")
    failures = dict(predict(model, tmp_path, tmp_path / "out"))
    assert set(failures) == {"cut", "text"} and "ends early" in failures["cut"]
    stack = read_image(tmp_path / "out" / "labels" / "cut.tif").data
    assert 4 < len(stack) < 11 and stack.all()
    assert VideoFrames(tmp_path / "out" / "video" / "cut_overlay.mp4").n_frames == len(stack)
    assert fitted([tmp_path / "cut.mkv", tmp_path / "text.mp4"]).failures_[0][0] == "text"
    with pytest.raises(InputError, match=r"text\.mp4"):
        fitted(tmp_path / "text.mp4")


def test_files_are_usable_when_the_run_is_stopped(tmp_path, model):
    page, picture = np.ones((8, 10), np.uint8), np.full((8, 10, 3), 90, np.uint8)
    with (
        pytest.raises(KeyboardInterrupt),
        LabelStack(tmp_path / "a.tif", model.table_, n_pages=9) as stack,
        VideoFile(tmp_path / "a") as video,
    ):
        for _ in range(3):
            stack.add(page)
            video.add(picture)
        raise KeyboardInterrupt
    assert read_image(tmp_path / "a.tif").data.shape == (3, 8, 10)
    assert VideoFrames(tmp_path / "a.mp4").n_frames == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.tif"]


def test_equal_pictures_are_equal_bytes(tmp_path):
    pictures = [blobs(seed=seed) for seed in range(3)]
    for folder in ("a", "b"):
        for lossless in (False, True):
            with VideoFile(tmp_path / folder / str(lossless), lossless=lossless) as video:
                for picture in pictures:
                    video.add(picture)
    for name in ("False.mp4", "True.mkv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_without_pyav_pictures_are_written_in_place_of_videos(model, clip, tmp_path, monkeypatch):
    series = read_image(clip)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    watcher = Watcher()
    assert predict(model, series, tmp_path, progress=watcher) == []
    assert len(list((tmp_path / "video" / "bar_overlay").glob("*.png"))) == 12
    assert any("PyAV is missing" in line for line in watcher.said)
    with pytest.raises(InputError, match=r"selfseg\[video\]"):
        VideoFrames(clip)


def test_the_label_stack_may_be_a_bigtiff_with_the_colours_and_spacing(tmp_path, model):
    pages = np.random.default_rng(0).integers(0, 3, (3, 9, 11)).astype(np.uint8)
    for n_pages, big in ((3, False), (2**31, True)):
        with LabelStack(tmp_path / "a.tif", model.table_, (0.5, 0.25), "µm", n_pages, interval=1 / 8) as stack:
            for page in pages:
                stack.add(page)
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert tif.is_bigtiff is big and tif.series[0].axes == "TYX"
            np.testing.assert_array_equal(tif.asarray(), pages)
            assert tif.imagej_metadata["finterval"] == pytest.approx(1 / 8)
            lookup = np.reshape(tif.imagej_metadata["LUTs"], (3, 256))
            np.testing.assert_array_equal(lookup[:, 1], model.table_.classes[0].rgba[:3])
        image = read_image(tmp_path / "a.tif")
        assert image.spacing == (0.5, 0.25) and image.unit == "micrometer" and not image.guessed_axes


def test_a_flat_model_takes_a_volume_slice_by_slice(tmp_path):
    data = np.stack([blobs(32, 40, 1, seed=0)[..., 0]] * 5)
    volume = Image(data, "ZYX", (4.0, 1.0, 1.0), "nm", name="v")
    watcher = Watcher()
    model = fitted(volume, frames=[1, 3], progress=watcher)
    assert model.facts_["sequence"] == {"kind": "slices", "chosen": {"v Z": [1, 3]}} and model.method_.n_dims == 2
    assert any("slices along z" in line for line in watcher.said)
    result = model.predict(volume)
    flat = [model.predict_image(Image(plane, "YX", name="p")) for plane in data]
    np.testing.assert_array_equal(result.labels, np.stack([one.labels for one in flat]))
    along = {axis: model.predict(volume, slices=axis).probabilities for axis in "zyx"}
    mean = model.predict(volume, slices="all")
    np.testing.assert_allclose(mean.probabilities, sum(along.values()) / 3, atol=1e-6)
    assert mean.hierarchy.cut(n_regions=2).shape == data.shape
    assert predict(model, volume, tmp_path, slices="all") == []
    labels = read_image(tmp_path / "labels" / "v.tif")
    assert labels.axes == "ZYX" and labels.spacing == (4.0, 1.0, 1.0)
    assert fitted(volume, slices="all", n_frames=2).facts_["n_images"] == 6
    assert fitted(volume).method_.n_dims == 3


def test_memory_does_not_grow_with_the_number_of_frames(model, tmp_path):
    def still(number):
        return Image(np.roll(blobs(120, 160), number, axis=1), "YXC")

    peaks = []
    for n_frames in (3, 3, 15):
        tracemalloc.start()
        stills = Frames("stills", "stills", n_frames, still, lambda: "0" * 64)
        segment_sequence(model.fitted, stills, tmp_path / str(n_frames), True, Watcher())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1] and peaks[2] < 15 * 120 * 160 * 3 * 10


def test_options_that_would_do_nothing_are_refused(model, tmp_path):
    with pytest.raises(UsageError, match=r"--link: .*add --sequence"):
        predict(model, Image(blobs(), "YXC", name="p"), tmp_path, link=True)
    deep = fitted(Image(blobs(8, 40, 1).repeat(40, 2), "ZYX", name="v"))
    with pytest.raises(UsageError, match=r"--slices: .*a 3D one"):
        predict(deep, Image(np.zeros((4, 8, 8)), "ZYX", name="v"), tmp_path, slices="z")


def test_wrong_words_are_named():
    for bad in ({"frames": (1,), "n_frames": 2}, {"frames": ()}, {"frames": (-1,)}, {"n_frames": 0}, {"slices": "t"}):
        with pytest.raises(UsageError, match="expected"):
            FitOptions(**bad)
    with pytest.raises(InputError, match="a volume or several images"):
        fitted(Image(blobs(), "YXC"), n_frames=2)
