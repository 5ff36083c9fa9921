"""Sequences on the command line: the flags reach what they are for, and mistakes end with one line and exit code 2."""

import json

import pytest
import tifffile
from PIL import Image as Picture

from conftest import write_clip
from selfseg.apps.cli import main
from selfseg.read import read_image
from selfseg.read.video import VideoFrames

FIT = ["--method", "region_merging", "--preset", "fast", "--classes", 2, "--set", "superpixel_size=30"]


def run(*words) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "bar.mkv", 8, codec="ffv1", pixels="bgr0")


def test_fit_and_predict_a_clip(clip, tmp_path, capsys):
    assert run("fit", clip, *FIT, "--frames", "0,7", "-o", tmp_path / "m") == 0
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["training"]["sequence"]["chosen"] == {"bar": [0, 7]}
    assert run("predict", tmp_path / "m", clip, "-o", tmp_path / "out", "--link") == 0
    assert "flicker: " in capsys.readouterr().err
    row = json.loads((tmp_path / "out" / "run.json").read_text())["images"][0]
    assert row["linked"] is True and row["frames"] == 8
    assert run("segment", clip, *FIT, "--n-frames", 2, "-o", tmp_path / "both", "-q") == 0
    assert read_image(tmp_path / "both" / "labels" / "bar.tif").data.shape == (8, 64, 96)


def test_a_folder_with_and_without_sequence(clip, tmp_path):
    for number, frame in enumerate(VideoFrames(clip).frames()):
        (tmp_path / "shots").mkdir(exist_ok=True)
        Picture.fromarray(frame.data).save(tmp_path / "shots" / f"{number}.png")
    assert run("fit", tmp_path / "shots", *FIT, "--n-frames", 2, "-o", tmp_path / "m", "-q") == 0
    for flags, video in (([], True), (["--no-sequence"], False), (["--sequence"], True)):
        out = tmp_path / "".join(["out", *flags])
        assert run("predict", tmp_path / "m", tmp_path / "shots", "-o", out, "-q", *flags) == 0
        assert (out / "video" / "shots_overlay.mp4").is_file() is video
        assert (out / "overlay" / "3.png").is_file() is not video


def test_slices_of_a_volume(clip, tmp_path):
    assert run("fit", clip, *FIT, "--axes", "ZYXC", "--frames", "1,3", "-o", tmp_path / "m", "-q") == 0
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["training"]["sequence"] == {"kind": "slices", "chosen": {"bar Z": [1, 3]}}
    volume = read_image(clip).data[..., 1]
    tifffile.imwrite(tmp_path / "v.tif", volume)
    assert run("fit", tmp_path / "v.tif", *FIT, "--axes", "TYX", "--frames", "1,3", "-o", tmp_path / "t", "-q") == 0
    assert run("predict", tmp_path / "t", tmp_path / "v.tif", "--axes", "TYX", "-o", tmp_path / "t", "-q") == 0
    assert read_image(tmp_path / "t" / "labels" / "v.tif").axes == "TYX"
    assert run("fit", tmp_path / "v.tif", *FIT, "--slices", "z", "--frames", "1,3", "-o", tmp_path / "m", "-q") == 0
    for slices in ("z", "all"):
        out = tmp_path / slices
        assert run("predict", tmp_path / "m", tmp_path / "v.tif", "--slices", slices, "-o", out, "-q") == 0
        assert read_image(out / "labels" / "v.tif").data.shape == volume.shape


@pytest.mark.parametrize(
    "words", [["--frames", "1;2"], ["--frames", "1", "--n-frames", "2"], ["--n-frames", "0"], ["--slices", "t"]]
)
def test_mistakes_end_in_one_line(clip, tmp_path, capsys, words):
    assert run("fit", clip, *FIT, *words, "-o", tmp_path / "m", "-q") == 2
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0 and words[0] in told
