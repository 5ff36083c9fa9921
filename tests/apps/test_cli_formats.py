"""Formats at the command line: what is read is found, what is asked for is written, and a mistake is one line."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from conftest import blobs
from reference.image_files import dataset
from selfseg.apps.cli import main
from selfseg.learning.run import load
from selfseg.read.labels import read_labels

QUICK = ["--set", "iterations=5", "--set", "n_features=8", "--set", "n_clusters=8", "--quiet"]


def run(*words) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of one grey channel."""
    folder = tmp_path_factory.mktemp("grey")
    Pillow.fromarray(blobs(channels=1)[..., 0]).save(folder / "a.png")
    assert run("fit", folder / "a.png", "-o", folder / "model", *QUICK) == 0
    return folder / "model"


@pytest.fixture
def inputs(tmp_path):
    """The same picture as NIfTI, zarr, HDF5, NumPy, MRC and PNG."""
    import h5py
    import mrcfile
    import nibabel
    import zarr

    picture, folder = blobs(channels=1)[..., 0], tmp_path / "in"
    folder.mkdir()
    affine = np.diag([-0.5, -0.25, 3.0, 1.0])
    stored = picture.T[::-1, ::-1, None]  # as the affine says, so that it stands as the others do
    nibabel.save(nibabel.Nifti1Image(stored, affine), folder / "nifti.nii.gz")
    zarr.create_array(folder / "plain.zarr", data=picture)
    with h5py.File(folder / "hdf.h5", "w") as file:
        file["raw"] = picture
    np.save(folder / "numpy.npy", picture)
    mrcfile.write(folder / "mrc.mrc", picture.astype(np.int16))  # MRC has no unsigned byte: other values, other labels
    Pillow.fromarray(picture).save(folder / "png.png")
    return folder


def test_the_same_picture_in_five_formats_gets_the_same_labels_in_four(model, inputs, tmp_path):
    out = tmp_path / "out"
    formats = ("tiff", "ome-zarr", "nifti", "numpy")
    flags = [word for kind in formats for word in ("--write", kind)]
    assert run("predict", model, inputs, "-o", out, *flags, "--ngff", "0.4", "--quiet") == 0
    names = ("hdf", "nifti", "numpy", "plain", "png")
    expected = tifffile.imread(out / "labels" / "png.tif")
    assert len(np.unique(expected)) > 1
    for name in names:
        for suffix in (".tif", ".ome.zarr", ".nii.gz", ".npz"):
            np.testing.assert_array_equal(read_labels(out / "labels" / f"{name}{suffix}"), expected)
        assert (out / "overlay" / f"{name}.png").is_file()
    assert json.loads((out / "labels" / "png.ome.zarr" / ".zattrs").read_text())["multiscales"][0]["version"] == "0.4"
    facts = json.loads((out / "run.json").read_text())
    assert facts["written"] == list(formats) and len(facts["images"]) == 6
    assert not [path for path in (out / "labels").iterdir() if path.name.startswith(".")]


def test_labels_in_other_formats_are_evaluated(model, inputs, tmp_path, capsys):
    assert run("predict", model, inputs / "png.png", "-o", tmp_path / "a", "--write", "ome-zarr", "--quiet") == 0
    assert run("predict", model, inputs / "png.png", "-o", tmp_path / "b", "--write", "hdf5", "--quiet") == 0
    capsys.readouterr()
    assert run("evaluate", tmp_path / "a", tmp_path / "b" / "labels", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert "1.0" in json.dumps(report)


def test_a_place_inside_a_file_is_an_input(model, inputs, tmp_path):
    assert run("predict", model, f"{inputs}/hdf.h5:/raw", "-o", tmp_path / "out", "--quiet") == 0
    assert (tmp_path / "out" / "labels" / "hdf_raw.tif").is_file()


def test_single_inputs_give_single_results(model, inputs):
    fitted = load(model)
    for where in (inputs / "plain.zarr", f"{inputs}/hdf.h5:/raw", inputs / "png.png"):
        assert fitted.predict(where).labels.shape == (40, 52)
    assert len(fitted.predict(inputs)) == 6


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--write", "jpeg"], "--write: expected one of tiff, ome-zarr"),
        (["--write", "ome-zarr", "--ngff", "0.6"], "--ngff: expected 0.5 or 0.4"),
    ],
)
def test_a_wrong_format_is_found_before_the_learning(inputs, tmp_path, capsys, flags, words):
    assert run("segment", inputs / "png.png", "-o", tmp_path / "out", *flags, *QUICK) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_dicom_series_in_and_a_segmentation_out_and_what_cannot_be_is_named(model, inputs, tmp_path, capsys):
    import highdicom

    series = tmp_path / "in2" / "scan"
    series.mkdir(parents=True)
    plain = {"RescaleSlope": None, "RescaleIntercept": None}
    one = dataset(blobs(channels=1)[..., 0], **plain)
    one.save_as(series / "x.dcm", enforce_file_format=True)
    Pillow.open(inputs / "png.png").save(tmp_path / "in2" / "a.png")
    flags = ("--write", "dicom-seg", "--quiet")
    assert run("predict", model, tmp_path / "in2", "-o", tmp_path / "out", *flags) == 1
    assert "a.png: expected a DICOM input for --write dicom-seg" in capsys.readouterr().err
    seg = highdicom.seg.segread(tmp_path / "out" / "labels" / "scan" / "x.dcm")
    assert seg.Modality == "SEG" and seg.SourceImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
    np.testing.assert_array_equal(
        np.squeeze(read_labels(tmp_path / "out" / "labels" / "scan" / "x.dcm")),
        load(model).predict(series / "x.dcm").labels,
    )
    assert not (tmp_path / "out" / "labels" / "a.dcm").exists()
    assert len(json.loads((tmp_path / "out" / "run.json").read_text())["failures"]) == 1
