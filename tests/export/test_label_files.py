"""Labels in every format: read back equal by another library and by our own reader, on the same grid."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from selfseg.core.classes import ClassTable, SegmentClass, class_colours
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.export.labels import FORMATS, LabelWriter
from selfseg.read import read_image
from selfseg.read.labels import find_labels, read_labels

NAMES = ("nucleus", "cytoplasm\nof it", "Zellwand")
TABLE = ClassTable(
    tuple(SegmentClass(i + 1, name, class_colours(3)[i], 0.3, 0.1 * i, (i,)) for i, name in enumerate(NAMES))
)
RNG = np.random.default_rng(0)
SHAPES = {"YX": (21, 34), "ZYX": (5, 21, 34), "TYX": (4, 21, 34), "TZYX": (3, 5, 21, 34)}
PLAIN = [kind for kind in FORMATS if kind != "dicom-seg"]


def image_of(axes, unit="micrometer", **changes):
    spacing = {"Z": 2.5, "Y": 0.5, "X": 0.25}
    data = RNG.integers(0, 256, SHAPES[axes], dtype=np.uint8)
    return Image(data, axes, tuple(spacing[a] for a in axes if a in spacing), unit, name="cell", **changes)


def labels_of(image, most=3):
    labels = RNG.integers(0, most + 1, image.data.shape)
    labels.flat[0] = most
    return labels


def written(folder, kind, image, labels, table=TABLE, ngff="0.5"):
    (path,) = LabelWriter((kind,), ngff).write(folder, "sub/cell", labels, image, table)
    assert path == folder / f"sub/cell{FORMATS[kind].suffix}"
    assert [item.name for item in path.parent.iterdir()] == [path.name]  # nothing is left aside
    return path


@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("kind", PLAIN)
def test_our_own_reader_finds_the_same_labels_on_the_same_grid(tmp_path, kind, axes):
    image = image_of(axes)
    labels = labels_of(image)
    path = written(tmp_path, kind, image, labels)
    read = read_labels(path)
    assert read.dtype.kind in "iu"
    np.testing.assert_array_equal(read, labels)
    assert find_labels(tmp_path) == {"sub/cell": path}
    if kind == "ome-zarr":
        path = path / "labels" / "classes"
    again = read_image(path)
    spacing = image.spacing
    if kind == "mrc":
        spacing = tuple(step * 1e4 for step in spacing)
    np.testing.assert_allclose(again.spacing, spacing, rtol=1e-6)
    assert again.unit == ("angstrom" if kind == "mrc" else "micrometer") and again.axes == axes
    assert again.guessed_axes == (kind == "nifti" and "T" in axes)  # no interval says that its fourth axis is time


@pytest.mark.parametrize("most", [1, 127, 128, 255, 256, 40_000, 70_000])
@pytest.mark.parametrize("kind", PLAIN)
def test_many_regions(tmp_path, kind, most):
    image = image_of("YX")
    labels = labels_of(image, most)
    np.testing.assert_array_equal(read_labels(written(tmp_path, kind, image, labels, None)), labels)


@pytest.mark.parametrize("kind", ["tiff", "nifti", "mrc", "numpy"])
def test_equal_input_gives_equal_bytes(tmp_path, kind):
    image = image_of("ZYX")
    labels = labels_of(image)
    first, second = (written(tmp_path / name, kind, image, labels) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_mistakes_are_found_before_anything_is_computed(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"--write: expected one of tiff, ome-zarr, .* got 'png'"):
        LabelWriter(("tiff", "png"))
    with pytest.raises(UsageError, match=r"--ngff: expected 0\.5 or 0\.4"):
        LabelWriter(("ome-zarr",), "0.3")
    monkeypatch.setattr("selfseg.export.labels.find_spec", lambda name: None if name == "zarr" else find_spec(name))
    with pytest.raises(UsageError, match=r"--write ome-zarr: .*pip install 'selfseg\[zarr\]'"):
        LabelWriter(("ome-zarr",))
    with pytest.raises(InputError, match="expected a DICOM input for --write dicom-seg"):
        LabelWriter(("dicom-seg",)).write(tmp_path, "a", np.ones((21, 34), int), image_of("YX"))
    for kind, most in (("mrc", 2**24 + 1), ("nifti", 2**31)):
        with pytest.raises(UsageError, match="ids"):
            LabelWriter((kind,)).write(tmp_path, "a", np.full((21, 34), most), image_of("YX"))
    assert not list(tmp_path.rglob("*.*"))


def test_mrc_as_mrcfile_reads_it(tmp_path):
    mrcfile = pytest.importorskip("mrcfile")
    image = image_of("ZYX", "nanometer", meta={"offset": {"Z": 1.0, "Y": 2.0, "X": 3.0}})
    labels = labels_of(image)
    path = written(tmp_path, "mrc", image, labels)
    assert mrcfile.validate(path)
    with mrcfile.open(path) as file:
        np.testing.assert_array_equal(file.data, labels)
        assert file.is_volume() and file.data.dtype == np.int8
        np.testing.assert_allclose(file.voxel_size.tolist(), (2.5, 5.0, 25.0))
        assert file.header.origin.tolist() == (30.0, 20.0, 10.0)
        assert [text.strip() for text in file.get_labels()] == [
            "labels by selfseg", "1 = nucleus", "2 = cytoplasm of it", "3 = Zellwand",
        ]  # fmt: skip
    series = image_of("TZYX")
    with mrcfile.open(written(tmp_path / "s", "mrc", series, labels_of(series))) as file:
        assert file.is_volume_stack() and file.data.shape == SHAPES["TZYX"]


def test_hdf5_as_h5py_reads_it(tmp_path):
    h5py = pytest.importorskip("h5py")
    image = image_of("ZYX", "nanometer")
    labels = labels_of(image)
    with h5py.File(written(tmp_path, "hdf5", image, labels)) as file:
        data = file["labels"]
        np.testing.assert_array_equal(data[:], labels)
        assert data.dtype == np.uint8 and [dim.label for dim in data.dims] == ["z", "y", "x"]
        np.testing.assert_allclose(data.attrs["element_size_um"], (0.0025, 0.0005, 0.00025))
        assert list(data.attrs["class_names"]) == list(NAMES) and list(data.attrs["class_ids"]) == [1, 2, 3]


def test_npz_as_numpy_reads_it(tmp_path):
    image = image_of("ZYX")
    labels = labels_of(image)
    with np.load(written(tmp_path, "numpy", image, labels), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["labels"], labels)
        assert str(file["axes"]) == "ZYX" and str(file["unit"]) == "micrometer"
        assert file["spacing"].tolist() == [2.5, 0.5, 0.25] and file["class_names"].tolist() == list(NAMES)


@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_nifti_labels_lie_on_the_very_grid_of_the_image(tmp_path, turn, flips):
    nibabel = pytest.importorskip("nibabel")
    angle = 0.3
    oblique = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = oblique[:, list(turn)] * np.array([0.7, 1.3, 2.9]) * flips
    affine[:3, 3] = 0.1, -7.3, 1 / 3
    data = RNG.integers(0, 999, (6, 7, 8), dtype=np.int16)
    source = nibabel.Nifti1Image(data, affine)
    source.header.set_qform(affine, code="scanner")
    source.header.set_sform(affine, code="mni")
    source.header.set_xyzt_units("mm", "sec")
    nibabel.save(source, tmp_path / "in.nii.gz")
    image = read_image(tmp_path / "in.nii.gz")
    labels = (image.data > 500).astype(np.uint8) + 1
    path = written(tmp_path / "out", "nifti", image, labels)
    original, result = nibabel.load(tmp_path / "in.nii.gz"), nibabel.load(path)
    np.testing.assert_array_equal(result.get_fdata(), (data > 500) + 1)  # in the order in which the file stores it
    assert result.get_data_dtype() == np.uint8
    for name in (
        "srow_x",
        "srow_y",
        "srow_z",
        "quatern_b",
        "quatern_c",
        "quatern_d",
        "qoffset_x",
        "pixdim",
        "xyzt_units",
    ):
        assert original.header[name].tobytes() == result.header[name].tobytes()
    assert (result.affine == original.affine).all()
    assert (result.header["sform_code"], result.header["qform_code"]) == (4, 1)
    assert result.header.get_intent()[0] == "label"
    assert b"2 = cytoplasm of it" in result.header.extensions[0].get_content()


def test_nifti_of_other_images_takes_spacing_and_offset(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = image_of("ZYX", "nanometer", meta={"offset": {"Z": 100.0, "Y": 200.0, "X": 300.0}})
    result = nibabel.load(written(tmp_path, "nifti", image, labels_of(image)))
    np.testing.assert_allclose(np.diag(result.affine), (0.00025, 0.0005, 0.0025, 1), rtol=1e-6)
    np.testing.assert_allclose(result.affine[:3, 3], (0.3, 0.2, 0.1), rtol=1e-6)
    assert result.header.get_xyzt_units()[0] == "micron"


def test_an_output_is_replaced_whole(tmp_path):
    pytest.importorskip("zarr")
    image = image_of("YX")
    written(tmp_path, "ome-zarr", image, labels_of(image))
    (tmp_path / "sub/cell.ome.zarr/stray").write_text("old")
    path = written(tmp_path, "ome-zarr", image, np.full((21, 34), 2))
    assert not (path / "stray").exists() and set(read_labels(path).ravel()) == {2}
    assert json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["version"] == "0.5"
