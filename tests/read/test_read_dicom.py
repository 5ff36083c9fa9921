"""DICOM: series ordered by place, values in their unit, and segmentations that fit their source."""

import numpy as np
import pytest

from selfseg.core.classes import ClassTable, SegmentClass, class_colours
from selfseg.core.errors import InputError
from selfseg.export.labels import LabelWriter
from selfseg.read import find_inputs, open_lazy, read_image
from selfseg.read.labels import read_labels

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset  # noqa: E402
from pydicom.uid import RLELossless  # noqa: E402

from reference.image_files import FRAME, ORIENTATION, SERIES, STUDY, dataset  # noqa: E402

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 3000, (5, 20, 30), dtype=np.uint16)


def save(path, one):
    path.parent.mkdir(parents=True, exist_ok=True)
    one.save_as(path, enforce_file_format=True)
    return path


def series(folder, volume=VOLUME, gap=2.5, **changes):
    """Slices whose names and numbers say nothing of their order."""
    for i in RNG.permutation(len(volume)):
        corner = (-10.0, -20.0, 5.0 + gap * float(i))
        save(folder / f"{RNG.integers(10**9)}.dcm", dataset(volume[i], corner, int(RNG.integers(999)), **changes))
    return folder


def test_a_folder_is_one_volume_in_the_order_of_places(tmp_path):
    folder = series(tmp_path / "scan")
    image = read_image(folder)
    assert (image.axes, image.spacing, image.unit, image.name) == ("ZYX", (2.5, 0.5, 0.25), "millimeter", "scan")
    assert image.data.dtype == np.int32 and not image.guessed_axes
    np.testing.assert_array_equal(image.data, VOLUME.astype(int) - 1024)
    # from DICOM's left, back, top to NIfTI's right, front, top
    expected = [[-0.25, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 2.5, 5], [0, 0, 0, 1]]
    np.testing.assert_allclose(image.meta["affine"], expected)
    with open_lazy(folder) as lazy:
        np.testing.assert_array_equal(lazy.data[2], image.data[2])


def test_inputs_are_found_as_series(tmp_path):
    series(tmp_path / "a" / "scan")
    assert [source.name for source in find_inputs(tmp_path)] == ["a/scan"]
    assert [source.name for source in find_inputs(tmp_path / "a" / "scan")] == ["scan"]
    assert len(find_inputs(tmp_path)[0].fingerprint()) == 64
    series(tmp_path / "a" / "scan", series="1.2.3")
    found = find_inputs(tmp_path)
    assert sorted(source.name for source in found) == sorted([f"a/scan_{SERIES}", "a/scan_1.2.3"])
    assert all(source.read().data.shape == VOLUME.shape for source in found)
    with pytest.raises(InputError, match=r"one series, got 2: .*choose one: .*scan:/1\.2"):
        read_image(tmp_path / "a" / "scan")
    save(tmp_path / "single" / "x.dcm", dataset(VOLUME[0], ImagePositionPatient=None))
    save(tmp_path / "single" / "y.dcm", dataset(VOLUME[1], ImagePositionPatient=None))
    assert [source.name for source in find_inputs(tmp_path / "single")] == ["x", "y"]
    image = find_inputs(tmp_path / "single")[1].read()
    assert image.axes == "YX" and image.spacing == (0.5, 0.25)


@pytest.mark.parametrize(
    ("values", "factors", "dtype", "expected"),
    [
        (VOLUME[0], (1, -1024), np.int32, VOLUME[0].astype(int) - 1024),
        (VOLUME[0], (None, None), np.uint16, VOLUME[0]),
        (VOLUME[0], (0.5, 3), np.float32, VOLUME[0] * 0.5 + 3),
        ((VOLUME[0].astype(int) - 1500).astype(np.int16), (2, 1), np.int32, (VOLUME[0].astype(int) - 1500) * 2 + 1),
    ],
)
def test_values_are_those_of_slope_and_intercept(tmp_path, values, factors, dtype, expected):
    one = dataset(values, RescaleSlope=factors[0], RescaleIntercept=factors[1])
    image = read_image(save(tmp_path / "a.dcm", one))
    assert image.data.dtype == dtype
    np.testing.assert_allclose(image.data, expected)


def test_light_is_a_larger_number_and_padding_is_nothing(tmp_path):
    plane = VOLUME[0].astype(np.uint8)
    one = dataset(plane, PhotometricInterpretation="MONOCHROME1", RescaleSlope=None, RescaleIntercept=None)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.dcm", one)).data, 255 - plane)
    padded = dataset(VOLUME[0], PixelPaddingValue=int(VOLUME[0, 0, 0]))
    image = read_image(save(tmp_path / "b.dcm", padded))
    np.testing.assert_array_equal(image.valid, VOLUME[0] != VOLUME[0, 0, 0])


def test_colours_and_packed_pixels(tmp_path):
    colour = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    plain = {"RescaleSlope": None, "RescaleIntercept": None}
    image = read_image(save(tmp_path / "a.dcm", dataset(colour, **plain)))
    assert image.axes == "YXC"
    np.testing.assert_array_equal(image.data, colour)
    packed = dataset(VOLUME[0], **plain)
    packed.compress(RLELossless)
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.dcm", packed)).data, VOLUME[0])


def test_frames_of_one_file(tmp_path):
    several = dataset(VOLUME[0], NumberOfFrames=5, RescaleSlope=None, RescaleIntercept=None, PixelData=VOLUME.tobytes())
    image = read_image(save(tmp_path / "a.dcm", several))
    assert image.axes == "ZYX" and image.guessed_axes
    np.testing.assert_array_equal(image.data, VOLUME)
    several.FrameTime = 40
    image = read_image(save(tmp_path / "b.dcm", several))
    assert image.axes == "TYX" and not image.guessed_axes and image.meta["interval"] == 0.04


def test_an_enhanced_file_says_where_each_frame_lies(tmp_path):
    plain = {
        "RescaleSlope": None,
        "RescaleIntercept": None,
        "ImagePositionPatient": None,
        "ImageOrientationPatient": None,
    }
    several = dataset(VOLUME[0], NumberOfFrames=5, PixelSpacing=None, SliceThickness=None, **plain)
    order = [3, 0, 4, 1, 2]
    several.PixelData = VOLUME[order].tobytes()
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.25], 9.0
    orientation.ImageOrientationPatient = list(ORIENTATION)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    several.SharedFunctionalGroupsSequence, groups = [shared], []
    for i in order:
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0.0, 0.0, 3.0 * i]
        group.PlanePositionSequence = [position]
        groups.append(group)
    several.PerFrameFunctionalGroupsSequence = groups
    image = read_image(save(tmp_path / "a.dcm", several))
    assert image.axes == "ZYX" and image.spacing == (3.0, 0.5, 0.25)
    np.testing.assert_array_equal(image.data, VOLUME)


def test_slices_that_do_not_make_a_volume_are_named(tmp_path):
    folder = series(tmp_path / "gap")
    for path in folder.iterdir():
        if pydicom.dcmread(path).ImagePositionPatient[2] == 7.5:
            path.unlink()
    with pytest.raises(InputError, match=r"evenly spaced slices, got gaps of 2\.5 to 5 mm"):
        read_image(folder)
    with pytest.raises(InputError, match="one slice at a place, got several"):
        read_image(series(series(tmp_path / "twice")))
    folder = series(tmp_path / "sizes")
    save(folder / "other.dcm", dataset(VOLUME[0, :10], (-10.0, -20.0, 17.5)))
    with pytest.raises(InputError, match="slices of one size and type, got 10 x 30, 16 bit, 20 x 30"):
        read_image(folder)
    folder = series(tmp_path / "turned")
    save(folder / "other.dcm", dataset(VOLUME[0], (-10.0, -20.0, 17.5), ImageOrientationPatient=[0, 1, 0, 0, 0, 1]))
    with pytest.raises(InputError, match="parallel slices"):
        read_image(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="got a folder"):
        read_image(tmp_path / "empty")


@pytest.mark.parametrize("gap", [2.5, 0.8])
def test_a_segmentation_fits_its_source(tmp_path, gap):
    highdicom = pytest.importorskip("highdicom")
    folder = series(tmp_path / "scan", gap=gap)
    image = read_image(folder)
    labels = (image.data > 0).astype(np.uint8) + (image.data > 1000)
    table = ClassTable(
        tuple(
            SegmentClass(i, name, class_colours(2)[i - 1], 0.5, 0.1, (i - 1,))
            for i, name in ((1, "dark"), (2, "light"))
        )
    )
    (path,) = LabelWriter(("dicom-seg",)).write(tmp_path / "out", "scan", labels, image, table)
    seg = highdicom.seg.segread(path)
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["dark", "light"]
    for item, wanted in zip(seg.SegmentSequence, table.classes, strict=True):
        colour = highdicom.color.CIELabColor.from_dicom_value(item.RecommendedDisplayCIELabValue)
        np.testing.assert_allclose(colour.to_rgb(), wanted.rgba[:3], atol=2)
    assert seg.PatientID == "1" and seg.StudyInstanceUID == STUDY and seg.FrameOfReferenceUID == FRAME
    by_source = {pydicom.dcmread(one).SOPInstanceUID: pydicom.dcmread(one) for one in folder.iterdir()}
    for uid, source in by_source.items():
        plane = round((float(source.ImagePositionPatient[2]) - 5.0) / gap)
        found = seg.get_pixels_by_source_instance([uid], combine_segments=True, assert_missing_frames_are_empty=True)
        np.testing.assert_array_equal(found[0], labels[plane])
    np.testing.assert_array_equal(read_labels(path), labels)
    with pytest.raises(InputError, match="a DICOM segmentation"):
        read_image(path)
    (again,) = LabelWriter(("dicom-seg",)).write(tmp_path / "again", "scan", labels, image, table)
    assert pydicom.dcmread(again).SOPInstanceUID == seg.SOPInstanceUID
    save(folder / "seg.dcm", pydicom.dcmread(path))  # beside the slices, it is none of them
    np.testing.assert_array_equal(read_image(folder).data, image.data)
    assert [source.name for source in find_inputs(folder)] == ["scan"]


def test_dicom_to_nifti_keeps_the_place_in_the_patient(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = read_image(series(tmp_path / "scan"))
    (path,) = LabelWriter(("nifti",)).write(tmp_path, "a", (image.data > 0).astype(np.uint8), image)
    result = nibabel.load(path)
    np.testing.assert_allclose(result.affine, image.meta["affine"], atol=1e-6)
    np.testing.assert_array_equal(result.get_fdata(), (image.data > 0).transpose(2, 1, 0))


def test_a_false_number_of_frames_is_refused_at_once(tmp_path):
    for frames, size in ((2**31 - 1, 20), (2**20, 20), (1, 60_000)):
        one = dataset(VOLUME[0], NumberOfFrames=frames, Rows=size, Columns=size)
        with pytest.raises(InputError, match=r"frames in|plausible image size"):
            read_image(save(tmp_path / "a.dcm", one))
