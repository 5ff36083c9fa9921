"""Names are bytes: accents in any form pair, bytes that are no text print, exports keep names apart, a long one fails alone."""

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from conftest import blobs
from selfseg import Segmenter, evaluate
from selfseg.apps.cli import main
from selfseg.apps.studio.project import printable
from selfseg.core.errors import InputError
from selfseg.export.nnunet import case_name
from selfseg.read import Source, find_annotations, find_inputs, with_masks
from selfseg.read.labels import pair_by_name
from selfseg.segmenting.images import OwnSuperpixels

FAST = ["--method", "region_merging", "--classes", "2", "-q"]
NFC, NFD = (unicodedata.normalize(form, "Zürich é") for form in ("NFC", "NFD"))
BYTES = os.fsdecode(b"caf\xe9 #1%")


def put(folder, *names, kind="png", values=None):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        array = blobs(32, 40, seed=seed) if values is None else values
        Picture.fromarray(array).save(folder / f"{name}.{kind}")
    return folder


@pytest.mark.parametrize(("ours", "theirs"), [(NFC, NFD), (NFD, NFC), (BYTES, BYTES)])
def test_names_pair_in_every_role(tmp_path, ours, theirs):
    sources = find_inputs(put(tmp_path / "images", ours, "b"))
    halves = np.repeat([[0], [1]], 16, 0).repeat(40, 1).astype(np.uint8)
    labels = put(tmp_path / "labels", theirs, "b", values=halves)
    scribbles = put(tmp_path / "scribbles", f"{theirs}_scribble", "b", values=halves)
    truth = put(tmp_path / "truth", theirs, "b", values=halves)
    assert {Path(one.mask).name for one in with_masks(sources, labels)} == {f"{theirs}.png", "b.png"}
    assert set(find_annotations(scribbles, sources)) == {ours, "b"}
    assert OwnSuperpixels(labels)._item(ours) == labels / f"{theirs}.png"
    assert set(evaluate(put(tmp_path / "results", ours, "b", values=halves), truth).images) == {ours, "b"}
    model = Segmenter("unet", preset="fast", options={"iterations": 1})
    model.fit(sources, labels, labels_as="full", truth=truth)
    assert not model.failures_ and set(model.facts_["inputs"]) == {ours, "b"}


def test_bytes_that_are_no_text_are_written_and_printed(tmp_path, capsys):
    folder, out = put(tmp_path / "images", BYTES, "b"), tmp_path / "out"
    (folder / f"{os.fsdecode(b'bad' + bytes([255]))}.png").write_bytes(b"no picture")
    every = [word for kind in ("tiff", "ome-zarr", "nifti", "mrc", "hdf5", "numpy") for word in ("--write", kind)]
    assert main(["segment", str(folder), "-o", str(out), *FAST, "--tree", "--instances", "components", *every]) == 1
    assert r"bad\udcff.png: expected" in capsys.readouterr().err
    assert (out / "labels" / f"{BYTES}.tif").is_file()
    rows = json.loads((out / "run.json").read_text(encoding="utf-8"))["images"]
    assert {row["name"] for row in rows} == {BYTES, "b"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert r"caf\udce9 #1%" in page and 'href="instances_overlay/caf%E9%20%231%25.png"' in page
    assert r"caf\udce9 #1%,1," in (out / "classes.csv").read_text(encoding="utf-8")
    formats = [word for name in ("nnunet", "coco", "geojson", "imagej-roi", "csv") for word in ("-f", name)]
    assert main(["export", str(out), *formats, "-q"]) == 0
    assert json.loads((out / "export" / "coco.json").read_text())["images"][1]["file_name"] == f"{BYTES}.png"
    for command in (["cut", str(out), "--regions", "2", "-q"], ["instances", str(out), "-q"]):
        assert main(command) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), str(out / "labels" / "b.tif"), "--json"]) == 1  # one has no truth
    assert json.loads(capsys.readouterr().out)["failures"][0]["name"] == BYTES


def test_a_name_that_is_too_long_for_an_output_fails_alone(tmp_path, capsys):
    folder, out = put(tmp_path / "images", "a", "m" * 251, "z"), tmp_path / "out"
    assert main(["segment", str(folder), "-o", str(out), *FAST, "--write", "tiff", "--write", "nifti"]) == 1
    assert "258 bytes" in capsys.readouterr().err
    assert {path.name for path in (out / "labels").glob("*.nii.gz")} == {"a.nii.gz", "z.nii.gz"}
    assert (out / "report.html").exists() and (out / "run.json").exists()
    assert main(["segment", str(folder), "-o", str(tmp_path / "plain"), *FAST]) == 0
    assert len(list((tmp_path / "plain" / "labels").glob("*.tif"))) == 3
    assert main(["export", str(tmp_path / "plain"), "-f", "nnunet", "-f", "geojson", "-q"]) == 1
    assert len(list((tmp_path / "plain" / "export").rglob("labelsTr/*.tif"))) == 2


def test_exports_keep_names_apart_and_say_which_is_which(tmp_path):
    names = ("cell 1", "cell_1", "cell(1)", "CELL 1")
    folder, out = put(tmp_path / "images", *names), tmp_path / "out"
    put(folder, "cell_1", kind="bmp")
    assert main(["segment", str(folder), "-o", str(out), *FAST]) == 0
    assert main(["export", str(out), "-f", "nnunet", "-f", "coco", "-q"]) == 0
    told = json.loads((out / "export" / "export.json").read_text())["names"]
    cases = {path.name.removesuffix(".tif") for path in (out / "export").rglob("labelsTr/*.tif")}
    assert set(told["nnunet"].values()) == cases and len(cases) == 5
    assert len({case.casefold() for case in cases}) == 5
    coco = [one["file_name"] for one in json.loads((out / "export" / "coco.json").read_text())["images"]]
    assert sorted(coco) == sorted(path.name for path in folder.iterdir())  # the files themselves
    for image, case in told["nnunet"].items():
        ours = tifffile.imread(out / "labels" / f"{image}.tif")
        theirs = tifffile.imread(next((out / "export").rglob(f"labelsTr/{case}.tif")))
        assert np.array_equal(ours == ours[0, 0], theirs == theirs[0, 0])


def test_names_that_some_disks_take_for_one_are_told_apart(tmp_path):
    put(tmp_path, "a", NFC, NFD)
    Picture.fromarray(blobs(8, 8)).save(tmp_path / "A.PNG")
    names = [source.name for source in find_inputs(tmp_path)]
    blind = {unicodedata.normalize("NFC", name).casefold() for name in names}
    assert len(names) == len(blind) == 4
    assert case_name("a b", ["A_b", "x"]) == "a_b_2"


def test_a_file_that_could_be_of_two_inputs_is_refused():
    sources = [Source("x/a", Path("x/a.png")), Source("y/a", Path("y/a.png")), Source("b", Path("b.png"))]
    assert pair_by_name({"x/a": Path("1"), "b": Path("2")}, sources) == {"x/a": Path("1"), "b": Path("2")}
    assert pair_by_name({"masks/b": Path("2")}, sources) == {"b": Path("2")}
    with pytest.raises(InputError, match="expected one input, got 2 of that name: x/a, y/a"):
        pair_by_name({"a": Path("1")}, sources)


def test_the_studio_gets_names_that_it_can_send():
    assert printable(Source(BYTES)).name == "caf%E9 #1%" and printable(Source(NFC)).name == NFC
