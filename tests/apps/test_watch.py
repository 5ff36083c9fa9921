"""`selfseg predict --watch`: images are done as they arrive whole, into one folder; a signal ends it in good order."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image as Picture

from conftest import blobs
from selfseg.apps.cli import main
from selfseg.core.errors import UsageError
from selfseg.core.options import PredictOptions
from selfseg.core.progress import Silent
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


def start(model, place, out, *words):
    command = [sys.executable, "-m", "selfseg", "predict", model, place, "--watch", "--settle", "0.2", "-o", out]
    return subprocess.Popen([*map(str, (*command, *words)), "--progress", "json"], stderr=subprocess.PIPE, text=True)


WORDS = ("--instances", "components", "--confidence-map")


@pytest.fixture(scope="module")
def killed(model, tmp_path_factory):
    """A watch that was killed after two of eight images or more, and one that was not, both started again until all is done."""
    folder = tmp_path_factory.mktemp("killed")
    for seed in range(8):
        put(folder / "in" / "sub" / f"{seed}.png", seed)
    process = start(model, folder / "in", folder / "out", *WORDS)
    journal = folder / "out" / "watched.jsonl"
    while not journal.is_file() or len(journal.read_text().splitlines()) < 3:
        time.sleep(0.02)
    process.kill()
    process.wait(60)
    process.stderr.close()
    n_done = len(journal.read_text().splitlines()) - 1
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "labels").rglob("[!.]*.tif")}
    again = start(model, folder / "in", folder / "out", *WORDS, "--idle", "2")
    events = [json.loads(line) for line in again.stderr.read().splitlines()]
    assert again.wait(60) == 0
    assert main([str(w) for w in ("predict", model, folder / "in", "-o", folder / "straight", "-q", *WORDS)]) == 0
    return folder, n_done, before, events


def test_after_a_kill_only_what_was_not_done_is_done(killed):
    folder, n_done, before, events = killed
    assert 2 <= n_done < 8, "the process was to be killed between images"
    assert any(one.get("message") == f"{n_done} images are done already" for one in events)
    same = [path for path, when in before.items() if path.stat().st_mtime_ns == when]
    assert n_done <= len(same) <= len(before) <= n_done + 1
    assert rows(folder / "out") == [f"sub/{seed}" for seed in range(8)]
    assert events[-1] == {"event": "end", "exit_code": 0}


@pytest.mark.parametrize("name", ["classes.csv", "instances.csv"])
def test_after_a_kill_the_tables_are_those_of_one_run(killed, name):
    folder = killed[0]
    assert sorted((folder / "out" / name).read_text().splitlines()) == sorted(
        (folder / "straight" / name).read_text().splitlines()
    )


def test_after_a_kill_all_files_are_the_runs_own(killed):
    out, straight = killed[0] / "out", killed[0] / "straight"
    files = json.loads((out / "run.json").read_text())["files"]
    assert files.keys() - {"watched.jsonl"} == json.loads((straight / "run.json").read_text())["files"].keys()
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {*files, "run.json"}
    assert (out / "report.html").read_text().count("data:image") > 8


def test_another_model_begins_anew(killed, tmp_path):
    folder = killed[0]
    Segmenter("kmeans", n_classes=2).fit(blobs()).save(tmp_path / "other")
    told = []

    class Listening(Silent):
        def say(self, message):
            told.append(message)

    assert (
        watch(
            Segmenter.load(tmp_path / "other").fitted,
            [folder / "in"],
            folder / "out",
            settle=0,
            idle=1,
            progress=Listening(),
        )
        == []
    )
    assert "model or options have changed: all images are segmented anew" in told
    assert len((folder / "out" / "classes.csv").read_text().splitlines()) == 1 + 8 * 2
    assert not (folder / "out" / "confidence").exists()


def test_started_again_a_lost_file_is_made_anew_and_a_moved_folder_is_known(model, tmp_path):
    fitted, place, out = Segmenter.load(model).fitted, tmp_path / "in", tmp_path / "out"
    for seed in range(3):
        put(place / f"{seed}.png", seed)
    assert watch(fitted, [place], out, settle=0, idle=1) == []
    first = (out / "labels" / "0.tif").stat().st_mtime_ns
    (out / "labels" / "1.tif").unlink()
    place = place.rename(tmp_path / "moved")
    put(place / "2.png", seed=9)  # another picture by the name of one that is done
    (failure,) = watch(fitted, [place], out, settle=0, idle=1)
    assert (out / "labels" / "1.tif").is_file() and (out / "labels" / "0.tif").stat().st_mtime_ns == first
    assert failure[0] == "2" and "a name of its own" in failure[1]
    assert rows(out) == ["0", "1", "2"]


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
