"""Wild values and deep images through whole runs; an image that is nearly one class is remarked upon."""

import json

import numpy as np
import pytest
import tifffile

import selfseg
from selfseg.methods.base import build_config, find_method, method_names
from selfseg.sample.prepare import Preparation


def board(wild=False, side=16, n=128):
    """Return a checkerboard of 3000 and 3400 with noise 40, and its fields."""
    fields = np.add(*(np.indices((n, n)) // side)) % 2
    data = (3000 + 400 * fields + np.random.default_rng(0).normal(0, 40, (n, n))).astype(np.uint16)
    if wild:
        data[9, 9] = 65535
    return data, fields


@pytest.mark.parametrize("wild", [False, True])
def test_a_deep_checkerboard_has_two_classes(wild):
    data, fields = board(wild)
    labels = selfseg.segment(data, "region_merging", n_classes=2, seed=0).labels
    assert np.mean((labels == 2) == fields) > 0.97


@pytest.mark.parametrize("method", method_names())
def test_no_method_and_no_preset_sees_the_wild_value_alone(method):
    data, _ = board(wild=True, n=256)
    for preset in {"default", *find_method(method).presets} - {"flair"}:  # half of a FLAIR volume is ground
        steps = build_config(method, preset).prepare.replace("border=10,", "")
        prepared = Preparation.parse(steps).fit([selfseg.Image(data, "YX")]).apply(selfseg.Image(data, "YX")).array
        assert np.percentile(prepared, 90) - np.percentile(prepared, 10) > 0.3, (preset, steps)


def test_it_is_said_where_one_class_takes_nearly_all(tmp_path, capsys):
    from selfseg.apps.cli import main

    flat = np.random.default_rng(0).integers(100, 104, (64, 64)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "flat.tif", flat)
    model = selfseg.fit(flat, "region_merging", seed=0)
    with pytest.warns(UserWarning, match=r"class 1 takes 100.0% of the image.*--classes 2"):
        model.predict(flat)
    assert main(["segment", str(tmp_path / "flat.tif"), "-o", str(tmp_path / "out"), "--method", "region_merging"]) == 0
    assert "flat: class 1 takes 100.0% of the image" in " ".join("".join(capsys.readouterr()).split())
    assert "takes 100.0% of the image" in (tmp_path / "out/report.html").read_text()
    assert "takes 100.0%" in json.loads((tmp_path / "out/run.json").read_text())["images"][0]["remark"]


def test_one_class_that_was_asked_for_is_not_remarked_upon(recwarn):
    data, _ = board()
    selfseg.segment(data, "region_merging", n_classes=1, seed=0)
    selfseg.segment(data, "region_merging", n_classes=2, seed=0)
    assert not [one for one in recwarn if "of the image" in str(one.message)]


def test_the_first_look_of_the_studio_sees_two_classes(tmp_path):
    from selfseg.apps.studio import runs, worker

    tifffile.imwrite(tmp_path / "board.tif", board(wild=True, n=256)[0])
    run = tmp_path / "run"
    run.mkdir()
    look = {"prepare": runs.FIRST_PREPARE, "otherwise": runs.FIRST_OTHERWISE}
    runs.Spec("first look", inputs=(str(tmp_path / "board.tif"),), **look).save(run)
    assert worker.main(run) == 0
    shares = [row["area_share"] for row in json.loads((run / "model/classes.json").read_text())]
    assert len(shares) == 2 and max(shares) < 0.6
    tifffile.imwrite(tmp_path / "flat.tif", np.full((64, 64), 7, np.uint8))
    other = tmp_path / "other"
    other.mkdir()
    runs.Spec("first look", inputs=(str(tmp_path / "flat.tif"),), **look).save(other)
    assert worker.main(other) == 0
    assert any("of the image" in note for note in json.loads((other / "status.json").read_text())["notes"])
