import errno
import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import selfseg
from conftest import blobs
from selfseg.apps.cli import main
from selfseg.core import files

QUICK = ["--method", "region_merging", "--set", "superpixel_size=40", "--classes", "4", "--quiet"]


def run(*words) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "photos" / "sub"
    folder.mkdir(parents=True)
    for seed in (1, 2):
        Pillow.fromarray(blobs(seed=seed)).save(folder / f"p{seed}.png")
    assert run("segment", tmp_path / "photos", "-o", tmp_path / "out", *QUICK) == 0
    return tmp_path / "out"


def labels(out, name="sub/p1"):
    return tifffile.imread(out / "labels" / f"{name}.tif")


def test_merging_in_an_output_folder_does_its_images_again(out):
    before, table = labels(out), json.loads((out / "classes.json").read_text())
    assert run("edit", out, "--merge", "1+2", "--name", "2=ground", "--quiet") == 0
    rows = json.loads((out / "classes.json").read_text())
    assert len(rows) == 3 and [row["id"] for row in rows] == [1, 2, 3]
    ground = next(row for row in rows if row["name"] == "ground")
    assert sorted(ground["sources"]) == sorted(table[0]["sources"] + table[1]["sources"])
    # Sums of probabilities decide: what was of either is of both, and little else joins.
    was = np.isin(before, (1, 2))
    assert (labels(out)[was] == ground["id"]).all()
    assert json.loads((out / "run.json").read_text())["cleaning"] == "none"


def test_an_edit_that_fails_can_be_given_again(out, tmp_path, monkeypatch):
    words = ("--merge", "1+2", "--name", "3=light", "--remove-objects", "9", "--quiet")
    whole, reserve, table = tmp_path / "whole", files._reserve, (out / "model" / "classes.json").read_bytes()
    shutil.copytree(out, whole)
    assert run("edit", whole, *words) == 0
    for name in ("out/classes.csv", "model/README.md", "model/classes.json"):

        def fails(path, name=name):
            if f"{path.parent.name}/{path.name}" == name:
                raise OSError(errno.ENOSPC, "No space left on device")
            return reserve(path)

        with monkeypatch.context() as patch:
            patch.setattr(files, "_reserve", fails)
            assert run("edit", out, *words) == 1
        assert (out / "model" / "classes.json").read_bytes() == table
    assert run("edit", out, *words) == 0
    assert (out / "model" / "classes.json").read_bytes() == (whole / "model" / "classes.json").read_bytes()
    assert np.array_equal(labels(out), labels(whole))


def test_what_is_edited_is_repeated_at_later_predictions(out, tmp_path):
    assert run("edit", out / "model", "--remove-objects", "5000", "--fill-holes", "9", "-o", tmp_path / "m", "-q") == 0
    assert (labels(out) > 0).all() and len(np.unique(labels(out))) > 1  # a model folder: no images are done again
    model = selfseg.load(tmp_path / "m")
    assert model.clean == "objects:5000,holes:9"
    assert len(np.unique(model.predict(blobs(seed=3)).labels)) == 1
    assert run("predict", tmp_path / "m", tmp_path / "photos", "-o", tmp_path / "n", "--clean", "none", "-q") == 0
    assert np.array_equal(labels(tmp_path / "n"), labels(out))
    # One value is changed, the other stays.
    assert run("edit", tmp_path / "m", "--remove-objects", "0", "-q") == 0
    assert selfseg.load(tmp_path / "m").clean == "holes:9"


def test_numbers_are_drawn_when_asked_for(out, tmp_path):
    plain = (out / "overlay" / "sub" / "p1.png").read_bytes()
    assert run("predict", out / "model", tmp_path / "photos", "-o", tmp_path / "n", "--numbers", "-q") == 0
    assert (tmp_path / "n" / "overlay" / "sub" / "p1.png").read_bytes() != plain
    assert np.array_equal(labels(tmp_path / "n"), labels(out))


@pytest.mark.parametrize(
    "words", [("--merge", "1"), ("--merge", "1+9"), ("--merge", "a+b"), ("--name", "x"), ("--name", "9=x")]
)
def test_mistakes_are_one_line_and_change_nothing(out, words, capsys):
    before = (out / "model" / "classes.json").read_bytes()
    assert run("edit", out, *words, "-q") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (out / "model" / "classes.json").read_bytes() == before


def test_confidence_of_a_cleaned_label_is_that_of_the_label(out):
    result = selfseg.load(out / "model").set_params(clean="objects:5000").predict(blobs(seed=1))
    k = int(result.labels[0, 0])
    np.testing.assert_allclose(result.confidence, result.probabilities[k - 1])
