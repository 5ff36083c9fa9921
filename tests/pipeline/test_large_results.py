"""What comes of an image in parts: objects, a CRF, pictures, formats; and what cannot be done so."""

import csv
import tracemalloc

import numpy as np
import pytest
import zarr

from conftest import blobs
from in_parts import QUICK, Killed, KilledAfter, contents, predict_large, stored
from selfseg.core.errors import UsageError
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.read import open_lazy, read_image
from selfseg.results import result as results
from selfseg.results.instances import ObjectOptions
from selfseg.results.result import Result
from selfseg.segmenting import plan

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture(scope="module")
def model():
    return Segmenter("feature_clustering", prepare="range", options=QUICK).fit(blobs(90, 80))


@pytest.fixture
def image(tmp_path):
    return stored(tmp_path / "photo.zarr", blobs(200, 170, seed=5), "YXC")


@pytest.mark.parametrize("kind", ["components", "watershed"])
def test_objects_of_a_large_image_are_those_of_the_whole(model, image, tmp_path, kind):
    data = blobs(200, 170, seed=5)
    options = ObjectOptions(kind, of=tuple(item.id for item in model.table_.classes), min_size=3)
    assert predict(model, tmp_path / "photo.zarr", tmp_path / "parts", axes="YXC", memory=1, instances=options) == []
    whole = model.predict(data).instances(kind, of=options.of, min_size=3)
    with (tmp_path / "parts" / "instances.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(whole)
    key = ["pixels", "class_id", "y_min", "x_min", "y_max", "x_max"]
    by_place = {tuple(int(row[name]) for name in key): row for row in rows}
    for i, place in enumerate(zip(*(whole.columns[name].tolist() for name in key), strict=True)):
        row = by_place[place]
        for name in ("centroid_y", "major_axis", "mean_channel2", "std_channel1", "max_channel3"):
            assert float(row[name]) == pytest.approx(whole.columns[name][i], rel=1e-5, abs=1e-5)
    numbers = read_image(tmp_path / "parts" / "instances" / "photo.zarr").data
    np.testing.assert_array_equal(numbers > 0, whole.labels > 0)


def test_objects_of_a_stored_series_are_those_in_memory(model, tmp_path):
    series = np.stack([blobs(70, 60, seed=i) for i in range(2)])
    stored(tmp_path / "t.zarr", series, "TYXC")
    options = ObjectOptions("components", of=tuple(item.id for item in model.table_.classes))
    assert predict(model, tmp_path / "t.zarr", tmp_path / "o", axes="TYXC", memory=1, instances=options) == []
    whole = model.predict_image(read_image(tmp_path / "t.zarr", "TYXC")).instances("components", of=options.of)
    np.testing.assert_array_equal(read_image(tmp_path / "o" / "instances" / "t.zarr").data, whole.labels)


def test_a_crf_in_parts_is_near_that_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SMALLEST_TILE", 72**2)
    refine = "crf=space:5,iterations:2"
    model = Segmenter("feature_clustering", prepare="range", options=QUICK, refine=refine).fit(blobs(90, 80))
    data = blobs(120, 70, seed=5)
    image, watcher = stored(tmp_path / "photo.zarr", data, "YXC"), KilledAfter()
    result = predict_large(model, image, tmp_path / "out", memory=1, progress=watcher)
    assert len(watcher.seen) > 3
    whole = model.predict(data)
    assert (result.labels[:] == whole.labels).mean() > 0.99
    plain = Segmenter.predict(model.set_params(refine=None), data)
    assert (whole.labels != plain.labels).mean() > 2 * (result.labels[:] != whole.labels).mean()
    # goes on with the same bytes, and not with those of another refinement
    model.set_params(refine=refine)
    with pytest.raises(Killed):
        predict_large(model, image, tmp_path / "killed", memory=1, progress=KilledAfter(3))
    predict_large(model, image, tmp_path / "killed", memory=1)
    assert contents(tmp_path / "killed") == contents(tmp_path / "out")


def test_labels_in_parts_are_ome_zarr_and_no_other_format_is_promised(model, image, tmp_path):
    how = {"axes": "YXC", "memory": 1, "write": ["nifti"]}
    ((_, message),) = predict(model, tmp_path / "photo.zarr", tmp_path / "o", **how)
    assert "OME-Zarr 0.5, got nifti" in message


def test_what_cannot_be_done_in_parts_is_said(model, image, tmp_path):
    refined = Segmenter("feature_clustering", prepare="range", options=QUICK, refine="crf,contours")
    with pytest.raises(UsageError, match="--refine none"):
        predict_large(refined.fit(blobs(40, 40)), image, tmp_path)
    assert not (tmp_path / "labels").exists()  # said before the work, not after


def test_the_picture_of_a_large_image_takes_little_memory(model, tmp_path, monkeypatch):
    """Every 20th row and column of 6 megapixels is kept: the others must not stay behind it."""
    monkeypatch.setattr(results, "PREVIEW_SIDE", 150)
    empty = {"shape": (3000, 2000), "chunks": (500, 500), "dtype": "u1", "fill_value": 1}
    zarr.create_array(tmp_path / "image.zarr", **empty)
    image = open_lazy(tmp_path / "image.zarr", "YX")
    labels = zarr.create_array(tmp_path / "labels.zarr", **empty)
    tracemalloc.start()
    try:
        _, shown = Result(image, labels, None, model.table_).preview()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert shown.shape == (150, 100)
    assert peak < 4 * 10**6
