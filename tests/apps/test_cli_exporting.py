"""`--instances`, `selfseg instances` and `selfseg export` as a user meets them."""

import csv
import json

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from selfseg.apps.cli import main


def run(*words) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Bright discs on a dark ground, segmented with objects: two that touch, and one alone."""
    folder = tmp_path_factory.mktemp("cells")
    y, x = np.mgrid[:64, :96]
    discs = [(y - cy) ** 2 + (x - cx) ** 2 <= 11**2 for cy, cx in ((20, 20), (20, 39), (45, 70))]
    picture = np.where(discs[0] | discs[1] | discs[2], 200, 30) + np.random.default_rng(0).normal(0, 4, y.shape)
    (folder / "in").mkdir()
    Pillow.fromarray(picture.astype(np.uint8)).save(folder / "in" / "cells.png")
    words = ("--method", "region_merging", "--preset", "cells", "--classes", 2, "--instances", "watershed", "--quiet")
    assert run("segment", folder / "in", "-o", folder / "out", *words) == 0
    return folder / "out"


def test_segment_counts_and_measures_objects(out):
    with (out / "instances.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert all(abs(float(row["equivalent_diameter"]) - 22) < 2 for row in rows)
    assert all(float(row["mean_intensity"]) > 180 for row in rows)
    assert tifffile.imread(out / "instances" / "cells.tif").max() == 3


def test_instances_can_be_found_again_with_other_options(out, capfd):
    assert run("instances", out, "--kind", "components") == 0
    assert "2 objects" in capfd.readouterr().err
    assert run("instances", out, "--of", "2", "--min-size", 10, "--quiet") == 0
    assert tifffile.imread(out / "instances" / "cells.tif").max() == 3


def test_export_writes_several_formats(out, tmp_path, capfd):
    words = ("--format", "coco", "-f", "geojson", "-f", "imagej-roi", "-f", "nnunet", "-f", "csv")
    assert run("export", out, *words, "-o", tmp_path / "dest") == 0
    assert capfd.readouterr().err.count("is written") == 5
    assert {path.name for path in (tmp_path / "dest").iterdir()} == {
        "export.json",
        "coco.json",
        "geojson",
        "imagej-roi",
        "Dataset501_out",
        "regions.csv",
    }
    assert len(json.loads((tmp_path / "dest" / "coco.json").read_text())["annotations"]) == 3


def test_memory_is_given_in_words_and_a_large_image_goes_in_parts(out, tmp_path, capfd):
    picture = np.asarray(Pillow.open(out.parent / "in" / "cells.png"))
    np.save(tmp_path / "big.npy", np.tile(picture, (4, 4)))
    words = ("--set", "iterations=4", "--set", "n_features=8", "--set", "n_clusters=8", "--preset", "full", "--quiet")
    assert run("fit", out.parent / "in", "-o", tmp_path / "model", *words) == 0
    capfd.readouterr()
    command = ("predict", tmp_path / "model", tmp_path / "big.npy", "-o", tmp_path / "out")
    assert run(*command, "--memory", "1MB") == 0
    assert "predicted in parts" in capfd.readouterr().err
    assert (tmp_path / "out" / "labels" / "big.zarr" / "zarr.json").is_file()
    assert run(*command, "--memory", "much") == 2
    assert "2GB" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("export", "OUT"), "--format"),
        (("export", "OUT", "-f", "shapefile"), "nnunet, coco"),
        (("export", "OUT", "-f", "coco", "--from", "dreams"), "--from"),
        (("export", "OUT", "-f", "nnunet", "--background", "sky"), "class 1"),
        (("export", "OUT", "-f", "nnunet", "--dataset", "cells"), "Dataset501_cells"),
        (("instances", "OUT", "--kind", "magic"), "components or watershed"),
        (("instances", "OUT", "--of", "sky"), "class 1"),
        (("segment", "OUT", "-o", "OUT", "--instances", "magic"), "components or watershed"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(words, told, out, tmp_path, capfd):
    assert run(*(out if word == "OUT" else word for word in words), "--quiet") == 2
    err = capfd.readouterr().err.strip()
    assert told in err
    assert err.count("\n") == 0


def test_a_foreign_folder_is_named(tmp_path, capfd):
    assert run("export", tmp_path, "-f", "coco", "--quiet") == 1
    assert "labels/ and classes.json" in capfd.readouterr().err
