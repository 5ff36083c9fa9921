"""`selfseg predict --watch`: images are done as they arrive whole, into one folder; a signal ends it in good order."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image as Picture

from conftest import blobs
from selfseg.apps.cli import main
from selfseg.core.errors import UsageError
from selfseg.core.options import PredictOptions
from selfseg.learning.segmenter import Segmenter
from selfseg.learning.watching import Arrivals, watch
from selfseg.read import Source


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    Segmenter("kmeans", n_classes=3).fit(blobs()).save(folder)
    return folder


def put(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(blobs(40, 52, seed=seed)).save(path)
    return path


def rows(out: Path) -> list[str]:
    return sorted(row["name"] for row in json.loads((out / "run.json").read_text())["images"])


def test_a_file_has_arrived_when_it_stays_unchanged(tmp_path):
    time_now, file = [0.0], tmp_path / "a.png"
    arrivals = Arrivals(lambda: [Source("a", file)] if file.exists() else [], 2.0, lambda: time_now[0])

    def at(seconds):
        time_now[0] = seconds
        return [source.name for source in arrivals.ready()]

    assert at(0) == []
    file.write_bytes(b"half")
    assert at(1) == []
    file.write_bytes(b"half and more")
    assert at(2.9) == []  # it changed between
    assert at(4.8) == []
    assert at(4.9) == ["a"]
    assert at(100) == []
    file.write_bytes(b"another picture")
    assert at(101) == [] and at(103) == ["a"]


def test_an_empty_file_has_not_arrived(tmp_path):
    (tmp_path / "a.png").touch()
    assert Arrivals(lambda: [Source("a", tmp_path / "a.png")], 0.0).ready() == []


def test_images_are_done_as_they_arrive(model, tmp_path):
    place, out = tmp_path / "in", tmp_path / "in" / "results"
    put(place / "first.png")
    later = threading.Timer(1.5, lambda: put(place / "sub" / "second.png", seed=1))
    later.start()
    words = ["predict", model, place, "--watch", "--settle", "0.3", "--idle", "4", "-o", out, "-q", "--confidence-map"]
    assert main([str(word) for word in words]) == 0
    assert rows(out) == ["first", "sub/second"]
    assert (out / "labels" / "sub" / "second.tif").is_file() and (out / "confidence" / "first.tif").is_file()
    assert len((out / "classes.csv").read_text().splitlines()) == 1 + 2 * 3


def test_what_failed_is_tried_again_when_it_has_changed(model, tmp_path):
    place, out = tmp_path / "in", tmp_path / "out"
    place.mkdir()
    (place / "a.png").write_bytes(b"cut short")
    later = threading.Timer(1.5, lambda: put(place / "a.png"))
    later.start()
    failures = watch(Segmenter.load(model).fitted, [place], out, settle=0.2, idle=4)
    assert failures == [] and rows(out) == ["a"]


def test_what_stays_broken_is_a_failure(model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"cut short")
    words = ["predict", model, tmp_path / "in", "--watch", "--settle", "0", "--idle", "1", "-o", tmp_path / "out", "-q"]
    assert main([str(word) for word in words]) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to a process is a console event there")
def test_a_signal_ends_it_in_good_order_and_the_same_command_goes_on(model, tmp_path):
    place, out = tmp_path / "in", tmp_path / "out"
    put(place / "a.png")
    words = [sys.executable, "-m", "selfseg", "predict", model, place, "--watch", "--settle", "0.2", "-o", out]
    for number in range(2):
        process = subprocess.Popen([*map(str, words), "--progress", "json"], stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if " segmented, 0 failed" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 0, rest
        assert json.loads(rest.splitlines()[-1]) == {"event": "end", "exit_code": 0}
        assert rows(out) == ["a", "b"][: number + 1]
        put(place / "b.png", seed=1)


def test_a_folder_that_is_one_image_arrives_with_its_last_file(tmp_path):
    import zarr

    time_now = [0.0]
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 4), dtype="uint8")[:] = 1
    arrivals = Arrivals(lambda: [Source("a", tmp_path / "a.zarr")], 2.0, lambda: time_now[0])
    assert arrivals.ready() == []
    time_now[0] = 1.5
    (tmp_path / "a.zarr" / "more").write_bytes(b"chunk")
    assert arrivals.ready() == []
    time_now[0] = 3.0
    assert arrivals.ready() == []
    time_now[0] = 3.6
    assert [source.name for source in arrivals.ready()] == ["a"]
    shutil.rmtree(tmp_path / "a.zarr")
    assert arrivals.ready() == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--settle", "1"], "--watch beside it"),
        (["--idle", "1"], "--watch beside it"),
        (["--watch", "--sequence"], "--sequence"),
        (["--watch", "--limit", "3"], "--limit"),
        (["--watch", "--settle", "-1"], "--settle"),
        (["--watch", "--idle", "nan"], "--idle"),
    ],
)
def test_options_that_do_not_fit_are_refused(model, tmp_path, capfd, words, told):
    assert main(["predict", str(model), str(tmp_path), "-o", str(tmp_path / "out"), *words]) == 2
    assert told in capfd.readouterr().err


def test_a_file_is_no_place_to_watch(model, tmp_path):
    with pytest.raises(UsageError, match="folders or globs"):
        watch(Segmenter.load(model).fitted, [put(tmp_path / "a.png")], tmp_path / "out", PredictOptions())
    assert not list(tmp_path.glob("out/*"))
