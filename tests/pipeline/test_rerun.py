"""A second run into the same folder: its results are those of the second run alone, and what a person put there stays."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from conftest import blobs
from selfseg import Segmenter
from selfseg.apps.cli import main
from selfseg.core.files import NOTES, Manifest
from selfseg.read import find_inputs
from selfseg.results.folder import FOLDERS, RunFolder

FAST = ["--method", "region_merging", "-q"]


@pytest.fixture
def pictures(tmp_path):
    for number, name in enumerate(("A/a0", "A/a1", "B/b0")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Picture.fromarray(blobs(48, 56, seed=number)).save(path)
    return tmp_path


def files(folder, *without):
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.startswith(without))


def test_nothing_of_the_first_run_counts_as_a_result_of_the_second(pictures, capsys):
    out = pictures / "out"
    first = ["segment", str(pictures / "A"), "-o", str(out), *FAST, "--tree", "--instances", "components"]
    assert main([*first, "--write", "tiff", "--write", "numpy"]) == 0
    assert main(["cut", str(out), "--regions", "3", "-q"]) == 0
    assert main(["export", str(out), "-f", "coco", "-f", "geojson", "-f", "nnunet", "-f", "csv", "-q"]) == 0
    listed = json.loads((out / "run.json").read_text())["files"]
    assert {"cut/a0.tif", "export/geojson/a1.geojson", "export/coco.json", "instances.csv", "tree/a0.npz"} <= {*listed}
    assert set(listed) == set(files(out, "model/")) - {"run.json"}
    (out / "labels" / "mine.txt").write_text("a person's")
    shutil.copy(out / "labels" / "a1.tif", out / "labels" / "a1 by hand.tif")
    tifffile.imwrite(out / "labels" / "a0.tif", np.ones((48, 56), np.uint8))  # corrected by hand

    assert main(["segment", str(pictures / "B"), "-o", str(out), *FAST[:-1]]) == 0
    assert "labels/a0.tif was changed since an earlier run wrote it" in " ".join(capsys.readouterr().err.split())
    kept = {"labels/mine.txt", "labels/a1 by hand.tif", "labels/a0.tif"}
    expected = {"labels/b0.tif", "overlay/b0.png", "classes.json", "classes.csv", "report.html", "run.json"}
    assert set(files(out, "model/", "pictures/")) == kept | expected
    (out / "labels" / "a1 by hand.tif").unlink()
    assert main(["export", str(out), "-f", "coco", "-q"]) == 0
    assert [one["file_name"] for one in json.loads((out / "export/coco.json").read_text())["images"]] == ["b0.png"]
    assert list(RunFolder(out)._labels) == ["b0"]
    assert not (out / NOTES).exists()


def test_a_file_of_a_person_is_the_fault_of_one_input(pictures, capsys):
    out = pictures / "out"
    (out / "labels").mkdir(parents=True)
    (out / "labels" / "a0.tif").write_text("a person's")
    assert main(["segment", str(pictures / "A"), "-o", str(out), *FAST]) == 1
    assert "labels/a0.tif: expected no file of yours in this place" in " ".join(capsys.readouterr().err.split())
    assert (out / "labels" / "a0.tif").read_text() == "a person's" and (out / "labels" / "a1.tif").is_file()
    (out / "report.html").unlink()
    (out / "report.html").write_text("a person's")
    begun = (out / "model" / "training.json").stat().st_mtime_ns
    assert main(["segment", str(pictures / "A"), "-o", str(out), *FAST]) == 1
    assert "report.html" in capsys.readouterr().err
    assert (out / "model" / "training.json").stat().st_mtime_ns == begun  # found before anything is learned


def test_results_saved_from_python_are_known_too(pictures):
    model = Segmenter("region_merging").fit(pictures / "A")
    for _ in range(2):
        model.predict(pictures / "A" / "a0.png").save(pictures / "A" / "out")
    assert [source.name for source in find_inputs(pictures / "A")] == ["a0", "a1"]
    assert main(["export", str(pictures / "A" / "out"), "-f", "csv", "-q"]) == 0


def test_a_folder_that_is_input_and_output_at_once(pictures):
    for _ in range(2):
        assert main(["segment", str(pictures / "A"), "-o", str(pictures / "A"), *FAST]) == 0
        rows = json.loads((pictures / "A" / "run.json").read_text())["images"]
        assert [row["name"] for row in rows] == ["a0", "a1"]


def test_a_run_that_was_stopped_leaves_only_its_own_results(pictures):
    out = pictures / "out"
    assert main(["segment", str(pictures / "A"), "-o", str(out), *FAST]) == 0
    manifest = Manifest(out)
    manifest.begin()  # as a second run does, which is killed after its first image
    with manifest:
        Segmenter.load(out / "model").predict(pictures / "B" / "b0.png").save(out)
    assert list(RunFolder(out)._labels) == ["b0"]
    assert main(["predict", str(out / "model"), str(pictures / "B"), "-o", str(out), "-q"]) == 0
    assert list(RunFolder(out)._labels) == ["b0"] and not (out / "labels" / "a0.tif").exists()


def test_a_model_folder_that_is_learned_into_again(pictures):
    model = pictures / "model"
    fit = ["fit", str(pictures / "A"), "-o", str(model), "-q", "--method"]
    assert main([*fit, "feature_clustering", "--set", "iterations=3", "--preview-every", "0"]) == 0
    assert list((model / "previews").glob("*.png"))
    (model / "notes.txt").write_text("a person's")
    assert main([*fit, "region_merging"]) == 0
    assert not (model / "previews").exists() and (model / "notes.txt").exists()
    assert set(json.loads((model / "training.json").read_text())["files"]) == set(files(model)) - {
        "notes.txt",
        "training.json",
    }
    assert main(["edit", str(model), "--name", "1=ground", "-q"]) == 0
    assert main([*fit, "region_merging"]) == 0  # what `edit` wrote is selfseg's too


def test_a_report_shows_the_learning_of_its_own_model_alone(pictures):
    out = pictures / "out"
    learn = ["segment", str(pictures / "A"), "-o", str(out), "-q", "--method", "feature_clustering"]
    assert main([*learn, "--set", "iterations=5"]) == 0
    assert (out / "pictures" / "curves.svg").exists()
    assert main(["fit", str(pictures / "B"), "-o", str(pictures / "other"), *FAST]) == 0
    assert main(["predict", str(pictures / "other"), str(pictures / "B"), "-o", str(out), "-q"]) == 0
    assert not (out / "pictures" / "curves.svg").exists()
    assert (out / "model" / "model.safetensors").exists()  # it may be the user's only copy


def test_an_export_elsewhere_replaces_what_it_wrote_before(pictures):
    dest = pictures / "dest"
    for name in ("A", "B"):
        assert main(["segment", str(pictures / name), "-o", str(pictures / f"out{name}"), *FAST]) == 0
        assert main(["export", str(pictures / f"out{name}"), "-f", "geojson", "-o", str(dest), "-q"]) == 0
    assert files(dest) == ["export.json", "geojson/b0.geojson"]
    assert json.loads((dest / "export.json").read_text())["names"] == {"geojson": {"b0": "geojson/b0.geojson"}}


def test_what_a_killed_command_left_is_cleared_by_the_next(pictures):
    out = pictures / "out"
    assert main(["segment", str(pictures / "A"), "-o", str(out), *FAST, "--tree"]) == 0

    def left(name):
        path = out / name / ".a0.unfinished-12345678.tif"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
        return path

    for command, names in {
        ("cut", str(out), "--regions", "3"): ("cut",),
        ("edit", str(out / "model"), "--name", "1=one"): ("model",),
        ("predict", str(out / "model"), str(pictures / "A"), "-o", str(out)): FOLDERS,
    }.items():
        files = [left(name) for name in names]
        assert main([*command, "-q"]) == 0
        assert not any(file.exists() for file in files), command
