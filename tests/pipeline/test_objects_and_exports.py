"""Objects and exports of a folder of results, and of a single result: what is written, and what is said where it cannot be."""

import csv
import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.export.labels import write_classes, write_labels
from selfseg.read import Source
from selfseg.results.exporting import FORMATS, export_folder, export_result, instances
from selfseg.results.folder import RunFolder
from selfseg.results.instances import ObjectOptions
from selfseg.results.result import Result

TABLE = ClassTable(
    tuple(
        SegmentClass(i, name, (10 * i, 20, 30, 255), share, 0.1 * i, (i - 1,))
        for i, name, share in ((1, "ground", 0.8), (2, "cell", 0.15), (3, "dirt", 0.05))
    )
)


def _labels(n_cells):
    labels = np.ones((30, 40), np.uint8)
    for i in range(n_cells):
        labels[4:10, 3 + 9 * i : 9 + 9 * i] = 2
    labels[20:22, 5:9] = 3
    labels[29, 39] = 0
    return labels


@pytest.fixture
def folder(tmp_path):
    """A folder as a run leaves it: two images in micrometres, two and three cells, one speck of dirt each."""
    out, photos = tmp_path / "out", tmp_path / "photos"
    rows = []
    for name, n_cells in (("a", 2), ("deep/b", 3)):
        labels = _labels(n_cells)
        write_labels(out / "labels" / f"{name}.tif", labels, TABLE, (0.5, 0.5), "micrometer")
        path = photos / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.where(labels == 2, 100, 7).astype(np.uint8)
        tifffile.imwrite(path, pixels, imagej=True, resolution=(2, 2), metadata={"unit": "micron", "axes": "YX"})
        facts = {"name": name, "source": str(path), "axes": "YX", "sha256": Source(name, path).fingerprint()}
        rows.append(facts)
    write_classes(out / "classes.json", TABLE)
    (out / "run.json").write_text(json.dumps({"images": rows}))
    return out


def _rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_objects_of_a_folder_are_counted_and_measured(folder):
    found, failures = instances(folder)
    assert (found, failures) == (7, [])
    rows = _rows(folder / "instances.csv")
    assert [row["image"] for row in rows] == ["a"] * 3 + ["deep/b"] * 4
    first = rows[0]
    assert (first["id"], first["class_id"], first["class"]) == ("1", "2", "cell")
    assert (first["pixels"], float(first["size"]), first["size_unit"]) == ("36", 9.0, "micrometer²")
    assert (float(first["centroid_y"]), float(first["centroid_x"]), first["unit"]) == (3.5, 3.0, "micrometer")
    assert float(first["mean_intensity"]) == 100.0
    assert rows[2]["class"] == "dirt"
    labels = tifffile.imread(folder / "instances" / "deep" / "b.tif")
    assert labels.max() == 4
    assert (folder / "instances_overlay" / "a.png").is_file()


def test_objects_of_chosen_classes(folder):
    assert instances(folder, ObjectOptions(of=("dirt",)))[0] == 2
    assert instances(folder, ObjectOptions(of=("2", 3), min_size=9))[0] == 5
    with pytest.raises(UsageError, match="1 \\(ground\\), 2 \\(cell\\), 3 \\(dirt\\)"):
        instances(folder, ObjectOptions(of=("nucleus",)))
    with pytest.raises(UsageError, match="components or watershed"):
        ObjectOptions("magic")


def test_without_the_images_there_are_no_intensities_and_that_is_said(folder):
    shutil.rmtree(folder.parent / "photos" / "deep")
    told = []

    class Listener:
        def start(self, task, total, done=0): ...
        def update(self, done, values): ...
        def finish(self): ...
        def say(self, message):
            told.append(message)

    found, failures = instances(folder, progress=Listener())
    assert (found, failures) == (7, [])
    first, *lines = told
    (line,) = (one for one in lines if "intensities" in one)
    assert sum("objects, median area" in one for one in lines) == len(lines) - 1
    assert first == "watershed of cell, dirt"
    assert "--images" in line
    rows = _rows(folder / "instances.csv")
    assert rows[0]["mean_intensity"] == "100"
    assert rows[-1]["mean_intensity"] == ""


def test_images_that_changed_are_not_measured(folder):
    Pillow.fromarray(np.zeros((30, 40), np.uint8)).save(folder.parent / "photos" / "a.tif")
    (item, *_) = RunFolder(folder).read([])
    with pytest.raises(InputError, match="other content"):
        item.image()


def test_images_that_have_moved_are_found_by_name(folder):
    (folder.parent / "photos").rename(folder.parent / "elsewhere")
    items = list(RunFolder(folder, folder.parent / "elsewhere").read([]))
    assert [item.image().data.max() for item in items] == [100, 100]


def test_every_format_is_written_from_a_folder(folder):
    written, failures = export_folder(folder, FORMATS)
    assert failures == []
    dataset, coco, geojson, qupath, rois, table = written
    assert dataset == folder / "export" / "Dataset501_out"
    assert json.loads((dataset / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "cell": 1,
        "dirt": 2,
        "ignore": 3,
    }
    assert {path.name for path in (dataset / "labelsTr").iterdir()} == {"a.tif", "deep__b.tif"}
    facts = json.loads(coco.read_text())
    assert [image["file_name"] for image in facts["images"]] == ["a.tif", "deep/b.tif"]
    assert len(facts["annotations"]) == 1 + 2 + 1 + 1 + 3 + 1
    features = json.loads((geojson / "deep" / "b.geojson").read_text())["features"]
    assert {feature["properties"]["objectType"] for feature in features} == {"annotation"}
    assert (qupath / "deep" / "b.geojson").read_bytes() == (geojson / "deep" / "b.geojson").read_bytes()
    assert (rois / "a.zip").is_file()
    assert [row["class"] for row in _rows(table)] == ["ground", "cell", "cell", "dirt", "ground", *["cell"] * 3, "dirt"]


def test_objects_are_exported_where_there_are_any(folder, tmp_path):
    instances(folder, ObjectOptions(of=("cell",)))
    for objects, wanted in ((None, 5), (True, 5), (False, 9)):
        (path,), _ = export_folder(folder, ["coco"], tmp_path / "dest", objects=objects)
        assert len(json.loads(path.read_text())["annotations"]) == wanted


def test_the_background_of_nnunet_can_be_chosen(folder, tmp_path):
    (place,), _ = export_folder(folder, ["nnunet"], tmp_path / "Dataset042_dirt", background="dirt")
    assert place == tmp_path / "Dataset042_dirt"
    assert json.loads((place / "dataset.json").read_text())["labels"]["ground"] == 1


def test_what_cannot_be_exported_is_named_and_the_rest_is_done(folder):
    (folder / "labels" / "a.tif").write_bytes(b"II*\0 broken")
    (place,), failures = export_folder(folder, ["geojson"])
    assert [name for name, _ in failures] == ["a"]
    assert [path.name for path in place.rglob("*.geojson")] == ["b.geojson"]


def test_labels_in_several_formats_are_read_once(folder):
    for name in ("a", "deep/b"):
        np.savez(folder / "labels" / f"{name}.npz", labels=np.zeros((3, 3), np.uint8))
    items = list(RunFolder(folder).read([]))
    assert [item.labels.data.shape for item in items] == [(30, 40), (30, 40)]


def test_a_format_that_wants_the_images_says_why_it_has_none_and_the_others_are_written(folder):
    shutil.rmtree(folder.parent / "photos")
    written, failures = export_folder(folder, ["nnunet", "coco"])
    assert written == [folder / "export" / "coco.json"]
    assert [name for name, _ in failures] == ["a", "deep/b", "nnunet"]
    assert "--images" in failures[0][1]


def test_bad_requests(folder, tmp_path):
    with pytest.raises(UsageError, match="nnunet, coco, geojson, qupath, imagej-roi, csv"):
        export_folder(folder, ["shapefile"])
    with pytest.raises(UsageError, match="selfseg instances"):
        export_folder(folder, ["coco"], objects=True)
    with pytest.raises(InputError, match="OUT folder"):
        export_folder(tmp_path / "photos", ["coco"])


def test_a_series_of_two_channels_by_hand(tmp_path):
    labels = np.ones((2, 8, 9), np.uint8)
    labels[0, 1:3, 1:3] = labels[1, 4:8, 2:6] = 2
    data = np.stack([labels * 10.0, labels * 100.0], axis=1)
    data[0, 0, 1, 1] = np.nan
    valid = np.ones(labels.shape, bool)
    valid[0, 1, 1] = False
    image = Image(data, "TCYX", (2.0, 2.0), "nm", ("red", "far"), "series", valid=valid)
    probabilities = np.zeros((3, 2, 8, 9), np.float32)
    found = Result(image, labels, probabilities, TABLE).instances("components")
    assert len(found) == 2
    assert found.columns["frame"].tolist() == [0, 1]
    assert found.columns["id"].tolist() == [1, 2]
    assert found.columns["size"].tolist() == [16.0, 64.0]
    assert found.columns["mean_red"].tolist() == [20.0, 20.0]
    assert found.columns["mean_far"].tolist() == [200.0, 200.0]
    assert found.columns["centroid_x"].tolist() == [4.0, 8.0]
    np.testing.assert_array_equal(found.labels, np.where(labels == 2, np.array([1, 2])[:, None, None], 0))
    found.save(tmp_path)
    assert tifffile.imread(tmp_path / "instances" / "series.tif").shape == (2, 8, 9)


def test_a_volume_is_measured_as_a_whole():
    labels = np.ones((3, 6, 6), np.uint8)
    labels[:, 2:4, 2:4] = 2
    image = Image(labels * np.uint8(3), "ZYX", (2.0, 0.5, 0.5), "micrometer", name="v")
    found = Result(image, labels, np.zeros((3, 3, 6, 6), np.float32), TABLE).instances()
    assert found.columns["size"].tolist() == [6.0]
    assert found.columns["size_unit"].tolist() == ["micrometer³"]
    assert found.columns["centroid_z"].tolist() == [3.0]
    assert found.columns["mean_intensity"].tolist() == [6.0]


def test_a_single_result_is_exported(tmp_path):
    labels = _labels(2)
    image = Image(np.repeat(labels[..., None] * np.uint8(20), 3, axis=-1), "YXC", name="deep/one")
    result = Result(image, labels, np.zeros((3, *labels.shape), np.float32), TABLE)
    coco = json.loads(export_result(result, "coco", tmp_path, result.instances()).read_text())
    assert len(coco["annotations"]) == 3
    assert len(json.loads(export_result(result, "coco", tmp_path).read_text())["annotations"]) == 4
    for name in FORMATS:
        assert export_result(result, name, tmp_path).exists()
    assert (tmp_path / "Dataset501_selfseg" / "labelsTr" / "deep__one.tif").is_file()
    volume = Image(np.stack([image.data[..., 0]] * 2), "ZYX")
    stack = Result(volume, np.stack([labels] * 2), np.zeros((3, 2, *labels.shape), np.float32), TABLE)
    with pytest.raises(InputError, match="no volumes"):
        export_result(stack, "coco", tmp_path)
