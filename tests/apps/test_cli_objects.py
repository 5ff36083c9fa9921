"""`selfseg segment --method objects`: objects are written, counted and shown without being asked for, and measured again later."""

import csv
import json

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from selfseg.apps.cli import main
from selfseg.methods.objects import Objects


def field(seed):
    y, x = np.mgrid[:96, :110]
    image = np.full((96, 110), 40.0)
    places = [(20, 20), (20, 60), (50, 90), (70, 30), (75, 70)][seed:]
    for k, (cy, cx) in enumerate(places):
        image[(y - cy) ** 2 + (x - cx) ** 2 < 81] = 120 + 20 * k
    return np.clip(image + np.random.default_rng(seed).normal(0, 3, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nuclei")
    (folder / "in").mkdir()
    for seed in (0, 1):
        Picture.fromarray(field(seed)).save(folder / "in" / f"field{seed}.png")
    out = folder / "out"
    assert main(["segment", str(folder / "in"), "--method", "objects", "-o", str(out)]) == 0
    return out


def rows_of(out):
    with (out / "instances.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_objects_are_written_and_counted_without_further_flags(run):
    assert [row["image"] for row in rows_of(run)] == ["field0"] * 5 + ["field1"] * 4
    assert {row["class"] for row in rows_of(run)} == {"object"}
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert facts["instances"] == "own"
    assert [image["objects"]["n"] for image in facts["images"]] == [5, 4]
    density = facts["images"][0]["objects"]["density"]
    assert density == pytest.approx(5 * 10_000 / (96 * 110))
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "5 objects, median area" in report and "4 objects, median area" in report
    for name in ("field0", "field1"):
        assert (run / "instances_overlay" / f"{name}.png").is_file()
        ids = tifffile.imread(run / "instances" / f"{name}.tif")
        labels = tifffile.imread(run / "labels" / f"{name}.tif")
        assert ((ids > 0) == (labels == 2)).all()


def test_they_are_measured_again_and_not_searched_for_again(run, capsys, monkeypatch):
    monkeypatch.setattr(Objects, "objects", lambda *_: pytest.fail("searched for again"))
    before = [row["size"] for row in rows_of(run) if row["image"] == "field0"]
    assert main(["instances", str(run), "--min-size", "100"]) == 0
    assert [row["size"] for row in rows_of(run) if row["image"] == "field0"] == before
    assert main(["instances", str(run), "--kind", "watershed"]) == 0
    assert len([row for row in rows_of(run) if row["image"] == "field0"]) == 5
    assert main(["instances", str(run), "--kind", "own"]) == 2  # they are those of the watershed now
    assert "expected components or watershed" in capsys.readouterr().err


def test_they_can_be_left_out_and_classes_have_no_own_ones(run, tmp_path, capsys):
    model, picture = str(run / "model"), str(run.parent / "in" / "field0.png")
    assert main(["predict", model, picture, "-o", str(tmp_path / "out"), "--instances", "none"]) == 0
    assert not (tmp_path / "out" / "instances.csv").exists()
    command = ["segment", picture, "--method", "region_merging", "-o", str(tmp_path / "flat"), "--instances", "own"]
    assert main(command) == 2
    assert "components or watershed" in capsys.readouterr().err
