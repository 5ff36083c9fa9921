"""OME-Zarr: by the rules of the validator, opened by ome-zarr-py and napari's reader, image and labels on one grid."""

import json
from pathlib import Path

import numpy as np
import pytest

from selfseg.core.classes import ClassTable, SegmentClass, class_colours
from selfseg.core.image import Image
from selfseg.export.labels import LabelWriter
from selfseg.read import open_lazy, read_image
from selfseg.read.labels import read_labels

zarr = pytest.importorskip("zarr")
RNG = np.random.default_rng(0)
TABLE = ClassTable(tuple(SegmentClass(i, f"class {i}", class_colours(3)[i - 1], 0.3, 0.1, (i - 1,)) for i in (1, 2, 3)))
SHAPES = {
    "YX": (700, 1100),
    "YXC": (600, 530, 3),
    "ZYX": (5, 640, 520),
    "TCYX": (2, 2, 70, 80),
    "TZYXC": (2, 3, 40, 50, 2),
}
VERSIONS = ("0.5", "0.4")


def image_of(axes, **changes):
    steps = {"Z": 2.0, "Y": 0.5, "X": 0.25}
    data = RNG.integers(0, 60_000, SHAPES[axes], dtype=np.uint16)
    channels = tuple(f"stain {i}" for i in range(data.shape[axes.index("C")])) if "C" in axes else ()
    spacing = tuple(steps[a] for a in axes if a in steps)
    return Image(
        data, axes, spacing, "micrometer", channels, meta={"offset": {"Z": 0.0, "Y": 100.0, "X": 30.0}}, **changes
    )


def labels_of(image):
    shape = [n for n, letter in zip(image.data.shape, image.axes, strict=True) if letter != "C"]
    return RNG.integers(0, 4, shape)


def written(folder, image, labels, ngff, table=TABLE):
    return LabelWriter(("ome-zarr",), ngff).write(folder, "cell", labels, image, table)[0]


@pytest.mark.parametrize("ngff", VERSIONS)
@pytest.mark.parametrize("axes", SHAPES)
def test_the_reference_models_accept_image_and_labels(tmp_path, axes, ngff):
    pytest.importorskip("ome_zarr_models")
    from ome_zarr_models import v04, v05
    from pydantic_zarr import v2

    models = v05 if ngff == "0.5" else v04
    for model in (
        v04.Labels,
        v04.Image,
        v04.ImageLabel,
    ):  # named for type checkers alone there; newer pydantic wants to see them
        model.model_rebuild(_types_namespace={"GroupSpec": v2.GroupSpec, "ArraySpec": v2.ArraySpec})
    image = image_of(axes)
    path = written(tmp_path, image, labels_of(image), ngff)
    root = models.Image.from_zarr(zarr.open_group(path, mode="r"))
    label = models.ImageLabel.from_zarr(zarr.open_group(path / "labels" / "classes", mode="r"))
    described = label.ome_attributes if ngff == "0.5" else label.attributes
    assert [row.label_value for row in described.image_label.colors] == [1, 2, 3]
    assert [row.rgba for row in described.image_label.colors] == [item.rgba for item in TABLE.classes]
    named = [row.model_dump() for row in described.image_label.properties]
    assert [row["name"] for row in named] == ["class 1", "class 2", "class 3"]
    attributes = dict(zarr.open_group(path / "labels", mode="r").attrs)
    assert (attributes["ome"] if ngff == "0.5" else attributes)["labels"] == ["classes"]
    levels = [(root.ome_attributes if ngff == "0.5" else root.attributes).multiscales[0], described.multiscales[0]]
    assert len(levels[0].datasets) == len(
        levels[1].datasets
    )  # the text of the format asks for as many labels as images


@pytest.mark.parametrize("ngff", VERSIONS)
@pytest.mark.parametrize("axes", SHAPES)
def test_ome_zarr_py_reads_image_and_labels(tmp_path, axes, ngff):
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    image = image_of(axes)
    labels = labels_of(image)
    path = written(tmp_path, image, labels, ngff)
    nodes = list(Reader(parse_url(path))())
    assert len(nodes) >= 2
    order = "".join(letter for letter in "TCZYX" if letter in axes)
    np.testing.assert_array_equal(nodes[0].data[0], image.data.transpose([axes.index(letter) for letter in order]))
    ours = next(node for node in nodes if node.zarr.basename() == "classes")
    np.testing.assert_array_equal(ours.data[0], labels)
    colours = ours.metadata["color"]
    assert {number: [round(255 * value) for value in colours[number]] for number in (1, 2, 3)} == {
        item.id: list(item.rgba) for item in TABLE.classes
    }


@pytest.mark.parametrize("ngff", VERSIONS)
def test_napari_s_reader_gives_two_layers_on_one_grid(tmp_path, ngff):
    reader = pytest.importorskip("napari_ome_zarr")
    image = image_of("ZYX")
    path = written(tmp_path, image, labels_of(image), ngff)
    layers = reader.napari_get_reader(str(path))(str(path))
    kinds = {layer[2]: layer for layer in layers}
    assert set(kinds) == {"image", "labels"}
    np.testing.assert_array_equal(kinds["image"][0][0], image.data)
    np.testing.assert_allclose(kinds["image"][1]["scale"], kinds["labels"][1]["scale"])
    np.testing.assert_allclose(kinds["labels"][1]["scale"], image.spacing)


@pytest.mark.parametrize("ngff", VERSIONS)
@pytest.mark.parametrize("axes", SHAPES)
def test_our_reader_gets_back_everything(tmp_path, axes, ngff):
    image = image_of(axes)
    labels = labels_of(image)
    path = written(tmp_path, image, labels, ngff)
    again = read_image(path)
    order = "".join(letter for letter in "TCZYX" if letter in axes)
    np.testing.assert_array_equal(again.data, image.data.transpose([axes.index(letter) for letter in order]))
    assert (again.axes, again.spacing, again.unit, again.channels) == (
        order,
        image.spacing,
        "micrometer",
        image.channels,
    )
    assert again.meta["offset"] == {letter: image.meta["offset"][letter] for letter in "ZYX" if letter in axes}
    np.testing.assert_array_equal(read_labels(path), labels)


@pytest.mark.parametrize("ngff", VERSIONS)
def test_levels_are_means_and_every_second_label_where_they_say(tmp_path, ngff):
    y, x = np.mgrid[:1200, :1100].astype(np.float32)
    image = Image((y + 3 * x), "YX", (0.5, 0.25), "micrometer")
    labels = ((y // 100 + x // 100) % 3 + 1).astype(np.uint8)
    path = written(tmp_path, image, labels, ngff)
    for level in (1, 2):
        with open_lazy(path, level=level) as coarse, open_lazy(path / "labels/classes", level=level) as marks:
            assert coarse.spacing == (0.5 * 2**level, 0.25 * 2**level) == marks.spacing
            # A plane's mean over a block is its value at the block's centre: the place that the translation tells.
            rows, columns = (
                (np.arange(n) * step + start) / fine
                for n, step, start, fine in zip(
                    coarse.data.shape, coarse.spacing, coarse.meta["offset"].values(), image.spacing, strict=True
                )
            )
            np.testing.assert_allclose(coarse.data[...], rows[:, None] + 3 * columns, rtol=1e-5)
            assert "offset" not in marks.meta
            np.testing.assert_array_equal(marks.data[...], labels[:: 2**level, :: 2**level])
    assert not (path / "3").exists()


def test_colours_and_layout_of_both_versions(tmp_path):
    image = image_of("YXC")
    five, four = (written(tmp_path / ngff, image, labels_of(image), ngff) for ngff in VERSIONS)
    assert (five / "zarr.json").is_file() and not (five / ".zattrs").exists()
    assert json.loads((five / "0/zarr.json").read_text())["dimension_names"] == ["c", "y", "x"]
    attributes = json.loads((four / ".zattrs").read_text())
    assert attributes["multiscales"][0]["version"] == "0.4" and not (four / "zarr.json").exists()
    assert json.loads((four / "0/.zarray").read_text())["dimension_separator"] == "/"
    channels = attributes["omero"]["channels"]
    assert [row["color"] for row in channels] == ["FF0000", "00FF00", "0000FF"]
    low, high = np.percentile(image.data[..., 0], (1, 99))
    assert channels[0]["window"]["start"] == pytest.approx(low) and channels[0]["window"]["end"] == pytest.approx(high)


def test_nothing_is_left_when_the_disk_is_full(tmp_path, monkeypatch):
    image = image_of("TCYX")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("selfseg.export.ome_zarr.ngff_classes", full)
    from selfseg.core.errors import OutputError

    with pytest.raises(OutputError, match="No space left on device; free some space"):
        written(tmp_path, image, labels_of(image), "0.5")
    assert not list(Path(tmp_path).iterdir())
