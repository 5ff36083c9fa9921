"""DICOM of every kind that scanners, slides and discs hold: told by its content, values as the standard defines them."""

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.core.errors import InputError
from selfseg.read import find_inputs, read_image
from selfseg.read.formats import format_of

pydicom = pytest.importorskip("pydicom")
from pydicom import uid  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402

from reference.image_files import dataset  # noqa: E402

RNG = np.random.default_rng(0)
PLANE = RNG.integers(0, 4000, (20, 30), dtype=np.uint16)
PLAIN = {"RescaleSlope": None, "RescaleIntercept": None}


def save(path, one, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    one.save_as(path, **(how or {"enforce_file_format": True}))
    return path


def values(path, one):
    return read_image(save(path, one)).data


def test_content_counts_before_the_suffix_and_before_a_tiff_preamble(tmp_path):
    one = dataset(PLANE, **PLAIN)
    one.preamble = b"II*\0" + bytes(124)
    for name in ("a.dcm", "IM00001", "1.2.840.17", "scan.CT", "scan.tif", "a.png"):
        np.testing.assert_array_equal(values(tmp_path / name, one), PLANE)
    with pytest.raises(InputError, match="got no suffix"):
        (tmp_path / "README").write_text("text")
        read_image(tmp_path / "README")


def test_a_folder_of_files_without_a_suffix_is_a_series(tmp_path):
    for number in range(6):
        for name in (f"IM{number:05d}", f"../uids/1.2.3.{number}", f"../odd/{number}.MAG"):
            save(tmp_path / "ct" / name, dataset(PLANE + number, (0.0, 0.0, 3.0 * number), number))
    (tmp_path / "ct" / "README").write_text("text")
    (tmp_path / "ct" / "VERSION.txt").write_text("text")
    Picture.fromarray(PLANE.astype(np.uint8)).save(tmp_path / "picture", "PNG")
    assert [source.name for source in find_inputs(tmp_path)] == ["ct", "odd", "picture", "uids"]
    for name in ("ct", "odd", "uids"):
        image = read_image(tmp_path / name)
        assert image.axes == "ZYX" and image.spacing == (3.0, 0.5, 0.25)
        np.testing.assert_array_equal(image.data[4], PLANE.astype(int) + 4 - 1024)
    assert find_inputs(f"{tmp_path}/ct/IM*")[0].name == "ct" and read_image(tmp_path / "ct" / "IM00002").axes == "YX"


def test_a_suffix_of_letters_is_believed_unless_the_file_is_dicom(tmp_path):
    Picture.fromarray(PLANE.astype(np.uint8)).save(tmp_path / "raw.nef", "TIFF")
    Picture.fromarray(PLANE.astype(np.uint8)).save(tmp_path / "scan.0007", "TIFF")
    assert format_of(tmp_path / "raw.nef") is None and format_of(tmp_path / "scan.0007") == "tiff"


@pytest.mark.parametrize(
    ("syntax", "implicit", "little"),
    [
        (uid.ImplicitVRLittleEndian, True, True),
        (uid.ExplicitVRLittleEndian, False, True),
        (uid.ExplicitVRBigEndian, False, False),
    ],
)
def test_old_files_without_preamble_and_head(tmp_path, syntax, implicit, little):
    one = dataset(PLANE, **PLAIN, PixelData=PLANE.astype(PLANE.dtype.newbyteorder("<" if little else ">")).tobytes())
    one["PixelData"].VR = "OW"
    del one.file_meta
    path = save(tmp_path / "a.dcm", one, implicit_vr=implicit, little_endian=little)
    assert b"DICM" not in path.read_bytes()[:200]
    np.testing.assert_array_equal(read_image(path).data, PLANE)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_modality_table_is_looked_up(tmp_path, depth):
    table = RNG.permutation(200).astype(np.uint16)
    one, item = dataset(PLANE, **PLAIN), Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [200, 1000, depth], "US"
    item.LUTData = table.tolist()
    item["LUTData"].VR = item["LUTDescriptor"].VR = "US"
    one.ModalityLUTSequence = [item]
    expected = np.array([[table[min(max(int(v) - 1000, 0), 199)] for v in row] for row in PLANE])
    np.testing.assert_array_equal(values(tmp_path / "a.dcm", one), expected)


def test_padding_may_be_a_range_and_light_may_be_signed(tmp_path):
    image = read_image(save(tmp_path / "a.dcm", dataset(PLANE, PixelPaddingValue=100, PixelPaddingRangeLimit=900)))
    np.testing.assert_array_equal(image.valid, (PLANE < 100) | (PLANE > 900))
    signed = PLANE.astype(np.int16) - 2000
    one = dataset(signed, PhotometricInterpretation="MONOCHROME1", **PLAIN)
    np.testing.assert_array_equal(values(tmp_path / "b.dcm", one), -1 - signed)


def test_planes_of_a_dose_have_their_scale_and_places(tmp_path):
    planes = RNG.integers(0, 2**31, (4, 20, 30), dtype=np.uint32)
    one = dataset(planes[0], Modality="RTDOSE", NumberOfFrames=4, PixelData=planes.tobytes(), **PLAIN)
    one.DoseGridScaling, one.GridFrameOffsetVector = 1e-6, [0, 4, 8, 12]
    image = read_image(save(tmp_path / "a.dcm", one))
    assert image.axes == "ZYX" and not image.guessed_axes and image.spacing == (4.0, 0.5, 0.25)
    np.testing.assert_allclose(image.data, planes * 1e-6, rtol=1e-6)


def slide(tiles, size, places=None, **changes):
    one = dataset(tiles[0], Modality="SM", NumberOfFrames=len(tiles), PixelData=tiles.tobytes(), **PLAIN)
    del one.ImagePositionPatient, one.ImageOrientationPatient
    one.TotalPixelMatrixRows, one.TotalPixelMatrixColumns = size
    one.DimensionOrganizationType = "TILED_FULL" if places is None else "TILED_SPARSE"
    groups = []
    for row, column in places or ():
        group, place = Dataset(), Dataset()
        place.RowPositionInTotalImagePixelMatrix, place.ColumnPositionInTotalImagePixelMatrix = row + 1, column + 1
        group.PlanePositionSlideSequence = [place]
        groups.append(group)
    if groups:
        one.PerFrameFunctionalGroupsSequence = groups
    for name, value in changes.items():
        setattr(one, name, value)
    return one


@pytest.mark.parametrize("colours", [(), (3,)])
def test_tiles_of_a_slide_are_put_together(tmp_path, colours):
    whole = RNG.integers(0, 256, (25, 34, *colours), dtype=np.uint8)
    padded = np.zeros((30, 36, *colours), np.uint8)
    padded[:25, :34] = whole
    places = [(row, column) for row in (0, 10, 20) for column in (0, 12, 24)]
    tiles = np.stack([padded[row : row + 10, column : column + 12] for row, column in places])
    image = read_image(save(tmp_path / "a.dcm", slide(tiles, (25, 34))))
    assert image.axes == "YXC"[: 2 + len(colours)] and image.spacing == (0.5, 0.25) and image.valid is None
    np.testing.assert_array_equal(image.data, whole)
    some = [7, 2, 0, 4]
    image = read_image(save(tmp_path / "b.dcm", slide(tiles[some], (25, 34), [places[i] for i in some])))
    filled = np.zeros((30, 36), bool)
    for i in some:
        filled[places[i][0] : places[i][0] + 10, places[i][1] : places[i][1] + 12] = True
    np.testing.assert_array_equal(image.valid, filled[:25, :34])
    np.testing.assert_array_equal(image.data[image.valid], whole[filled[:25, :34]])
    with pytest.raises(InputError, match="one tile at a place, 9 for a slide of 25 x 34, got 8 frames"):
        read_image(save(tmp_path / "c.dcm", slide(tiles[:8], (25, 34))))
    with pytest.raises(InputError, match="got 2 frames"):  # two focal planes
        read_image(save(tmp_path / "d.dcm", slide(tiles[:2], (25, 34), [(0, 0), (0, 0)])))
    with pytest.raises(InputError, match="beyond the slide"):
        read_image(save(tmp_path / "e.dcm", slide(tiles[:2], (25, 34), [(0, 0), (40, 0)])))
    with pytest.raises(InputError, match="at most"):
        read_image(save(tmp_path / "f.dcm", slide(tiles[:2], (2**20, 2**20), [(0, 0), (10, 0)])))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (uid.BasicTextSRStorage, "Basic Text SR"),
        (uid.ColorPaletteStorage, "Color Palette"),
        (uid.RTStructureSetStorage, "RT Structure Set"),
        (uid.MediaStorageDirectoryStorage, "Media Storage Directory"),
    ],
)
def test_what_has_no_pixels_is_called_by_its_name(tmp_path, kind, name):
    one = dataset(PLANE)
    for element in ("Rows", "Columns", "PixelData"):
        delattr(one, element)
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = kind
    with pytest.raises(InputError, match=f"a DICOM object without pixels.*{name}"):
        read_image(save(tmp_path / "a.dcm", one))
    save(tmp_path / "b.dcm", dataset(PLANE))
    assert [source.name for source in find_inputs(tmp_path)] == ["b"]


def test_a_picture_of_the_screen_beside_a_series_does_not_part_it(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.dcm", dataset(PLANE + number, (0.0, 0.0, 3.0 * number), number))
    screen = dataset(PLANE[:10].astype(np.uint8), number=9, series="1.2.9", **PLAIN)
    del screen.ImagePositionPatient
    save(tmp_path / "z.dcm", screen)
    assert read_image(tmp_path).data.shape == (3, 20, 30)
    assert [source.read().data.ndim for source in find_inputs(tmp_path)] == [3, 2]


PACKED = [
    (uid.JPEGLosslessSV1, lambda plane: imagecodecs.ljpeg_encode(plane, bitspersample=16)),
    (uid.HTJ2KLossless, lambda plane: imagecodecs.htj2k_encode(plane, reversible=True)),
]


@pytest.mark.parametrize(("syntax", "encode"), PACKED)
def test_packed_pixels_are_unpacked_by_an_extra_that_the_refusal_names(tmp_path, monkeypatch, syntax, encode):
    one = dataset(PLANE, **PLAIN)
    one.PixelData = encapsulate([encode(PLANE)])
    one["PixelData"].is_undefined_length = True
    one.file_meta.TransferSyntaxUID = syntax
    path = save(tmp_path / "a.dcm", one)
    if pytest.importorskip("libjpeg") and pytest.importorskip("openjpeg"):
        np.testing.assert_array_equal(read_image(path).data, PLANE)

    def missing(*_, **__):
        raise RuntimeError("missing dependencies")

    monkeypatch.setattr("pydicom.pixels.pixel_array", missing)
    monkeypatch.setattr("selfseg.read.dicom.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"got .*JPEG.*pip install 'selfseg\[dicom-packed\]', or convert"):
        read_image(path)
