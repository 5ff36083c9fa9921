"""The search of a folder: links are followed, what selfseg wrote is no input, and what is passed over is counted in one line."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.core.errors import InputError
from selfseg.core.files import Manifest, write_json, write_text
from selfseg.read import find_inputs
from selfseg.read.labels import find_labels


def put(*paths):
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(np.full((3, 4), number, np.uint8)).save(path)


def found(place):
    lines = []
    return [source.name for source in find_inputs(place, say=lines.append)], lines


def test_what_is_passed_over_is_counted_by_kind_in_one_line(tmp_path):
    put(tmp_path / "a.png", tmp_path / "a_scribble.png", tmp_path / ".thumb.png")
    for name in ("notes.txt", "more.txt", "README", "table.csv"):
        (tmp_path / name).write_text("text")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "old").symlink_to("gone")
    names, (line,) = found(tmp_path)
    assert names == ["a"] and line.startswith(f"{tmp_path}: passed over 1 hidden, ")
    for kind in (
        "4 of unknown suffix (2 .txt, 1 without, 1 .csv)",
        "1 dead links (old)",
        "1 that are no ordinary files (pipe.png)",
        "1 scribbles",
    ):
        assert kind in line
    (tmp_path / "a.png").unlink()
    (tmp_path / "a_scribble.png").unlink()
    with pytest.raises(InputError, match=r"got none, but .*4 of unknown suffix"):
        find_inputs(tmp_path)


def test_links_are_followed_and_loops_end(tmp_path):
    put(tmp_path / "real" / "x.png", tmp_path / "data" / "y.png")
    (tmp_path / "data" / "linked").symlink_to("../real")
    (tmp_path / "real" / "back").symlink_to("..")
    (tmp_path / "real" / "data").symlink_to("../data")
    names, (line,) = found(tmp_path / "data")
    assert {"linked/x", "y"} <= {*names} and "links that lead back" in line
    assert len(names) < 10
    for i in range(4):
        (tmp_path / "frames").mkdir(exist_ok=True)
        (tmp_path / "frames" / f"f{i}.png").symlink_to("../real/x.png")
    assert found(tmp_path / "frames") == (["f0", "f1", "f2", "f3"], [])
    assert found(f"{tmp_path}/frames/*.png")[0] == ["f0", "f1", "f2", "f3"]
    assert "linked/x" in found(f"{tmp_path}/data/**/*.png")[0]


def test_a_dead_link_to_a_picture_is_a_missing_input(tmp_path):
    put(tmp_path / "a.png")
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    a, broken = find_inputs(tmp_path)
    assert a.read().data.shape == (3, 4)
    with pytest.raises(InputError, match=r"broken\.png: expected an image file, got a symbolic link to nowhere\.png"):
        broken.read()
    with pytest.raises(InputError, match="symbolic link"):
        find_inputs(tmp_path / "broken.png")


def test_a_folder_that_may_not_be_opened_is_named_and_the_rest_is_taken(tmp_path, monkeypatch):
    put(tmp_path / "a.png", tmp_path / "secret" / "b.png")
    scan = os.scandir

    def scandir(top):
        if Path(top).name == "secret":
            raise PermissionError(13, "Permission denied", str(top))
        return scan(top)

    monkeypatch.setattr(os, "scandir", scandir)
    names, (line,) = found(tmp_path)
    assert names == ["a"] and "1 folders that cannot be looked into (secret: Permission denied)" in line


@pytest.fixture
def pictures(tmp_path):
    """Return a folder of pictures with all that selfseg makes in it."""
    put(tmp_path / "a.png", tmp_path / "b.png")
    put(tmp_path / "model" / "previews" / "step-1.png", tmp_path / "a.studio" / "uploads" / "u.png")
    put(tmp_path / "bench" / "labels" / "x.png")
    (tmp_path / "bench" / "rows").mkdir()
    for name in ("model/config.json", "bench/results.json", "a.studio/project.json"):
        write_json(tmp_path / name, {"selfseg": "1"})
    for name in ("model/model.safetensors", "a.studio/events.jsonl"):
        (tmp_path / name).write_bytes(b"")
    manifest = Manifest(tmp_path / "out")
    manifest.begin()
    with manifest:
        for name in ("labels/a.png", "overlay/a.png"):
            write_text(tmp_path / "out" / name, "ours")
    manifest.settle({"selfseg": "1"})
    put(tmp_path / "out" / "mine.png")
    return tmp_path


def test_what_selfseg_made_is_passed_over_and_what_a_person_put_there_is_taken(pictures):
    names, (line,) = found(pictures)
    assert names == ["a", "b", "out/mine"]
    for kind in (
        "2 that selfseg wrote (2 out)",
        "1 model folder of selfseg (model)",
        "1 studio project of selfseg (a.studio)",
        "1 benchmark of selfseg (bench)",
    ):
        assert kind in line
    assert found(f"{pictures}/**/*.png")[0] == names
    shell = [str(path) for path in sorted(pictures.iterdir())]  # as a shell writes out *
    assert found(shell)[0] == ["a", "b", "mine"]
    assert found(pictures / "a.studio" / "uploads")[0] == ["u"]
    assert found([pictures / "a.png", pictures / "out" / "labels" / "a.png"]) == (
        ["a"],
        [f"inputs: passed over 1 a file of selfseg ({pictures / 'out' / 'labels' / 'a.png'})"],
    )


@pytest.mark.parametrize("place", ["model", "a.studio", "bench", "out/labels", "out/labels/a.png", "out/overlay/*.png"])
def test_what_selfseg_made_is_refused_alone(pictures, place):
    with pytest.raises(InputError, match=r"of selfseg|that selfseg wrote"):
        find_inputs(str(pictures / place))


def test_labels_of_a_run_are_labels(pictures):
    assert find_labels(pictures / "out" / "labels") == {"a": pictures / "out" / "labels" / "a.png"}


def test_a_folder_that_a_run_wrote_into_beside_the_pictures(pictures):
    manifest = Manifest(pictures)
    manifest.begin()
    with manifest:
        write_text(pictures / "labels" / "a.png", "ours")
    assert found(pictures)[0] == ["a", "b", "out/mine"]  # by its notes
    manifest.settle({"selfseg": "1"})
    assert found(pictures)[0] == ["a", "b", "out/mine"]
