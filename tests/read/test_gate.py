"""The gate of label images: what other programs write is understood by its role, or refused with the option that helps."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from selfseg.core.errors import InputError
from selfseg.read.arrays import Decoded
from selfseg.read.gate import NOTHING, is_lossy, through_gate
from selfseg.read.labels import read_annotations, read_labels, read_truths

IDS = np.array([[0, 1, 1], [2, 2, 0]])
ROLES = ("labels", "objects", "truth", "mask", "scribbles", "superpixels")


def gate(array, role, axes="YX", **options):
    valid = options.pop("valid", None)
    return through_gate(Decoded(np.asarray(array), axes, valid=valid), role, "a.tif", **options).data


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "i4", "i8", "f2", "f4", "f8"])
def test_whole_numbers_of_any_type_are_themselves(role, kind):
    assert gate(IDS.astype(kind), role).tolist() == IDS.tolist()
    assert gate(IDS.astype(kind), role).dtype.kind in "ui"


@pytest.mark.parametrize("role", ROLES)
def test_one_bit_is_0_and_1_and_grey_saved_as_colours_is_grey(role):
    assert gate(IDS > 0, role).tolist() == (IDS > 0).astype(int).tolist()
    assert gate(np.stack([IDS] * 3, -1), role, "YXC").tolist() == IDS.tolist()
    assert gate(np.stack([IDS] * 3), role, "CYX").tolist() == IDS.tolist()
    with pytest.raises(InputError, match="got 3 channels"):
        gate(np.stack([IDS, IDS, IDS + 1], -1), role, "YXC")


@pytest.mark.parametrize("role", ROLES)
def test_floats_that_are_no_labels_are_refused(role):
    for values, told in (([[0.0, 0.37]], "such as 0.37"), ([[0.0, np.inf]], "such as inf")):
        with pytest.raises(InputError, match=rf"{role} a\.tif: expected integers.*{told}.*threshold or round"):
            gate(values, role)
    with pytest.raises(InputError, match="neighbouring numbers above 16777216 apart; save them as uint32"):
        gate(np.array([[0, 2**24 + 2]], np.float32), role)


def test_nan_is_nothing_but_in_a_truth():
    values = np.array([[1.0, np.nan, 0.0]])
    assert gate(values, "labels").tolist() == [[1, NOTHING, 0]]
    assert gate(values, "mask").tolist() == [[1, 0, 0]]
    with pytest.raises(InputError, match=r"NaN in 1 pixels.*--ignore"):
        gate(values, "truth")


def test_transparent_and_masked_pixels_are_nothing():
    valid = np.array([[True, True, False], [True, True, True]])
    assert gate(IDS, "labels", valid=valid).tolist() == [[0, 1, NOTHING], [2, 2, 0]]
    assert (
        gate(IDS, "scribbles", valid=valid)[0, 2] == NOTHING and gate(IDS, "superpixels", valid=valid)[0, 2] == NOTHING
    )
    assert gate(IDS, "mask", valid=valid)[0, 2] == 0
    assert gate(np.ma.array(IDS, mask=~valid), "labels", valid=valid)[0, 2] == NOTHING


@pytest.mark.parametrize(
    ("role", "values", "expected"),
    [
        ("truth", [[-1, 1, 2]], [[0, 1, 2]]),
        ("mask", [[-1, 1, 2]], [[0, 1, 2]]),
        ("objects", [[-1, 1, 2]], [[0, 1, 2]]),
        ("objects", [[-1, 0, 2]], [[-1, 0, 2]]),
        ("labels", [[-1, 0, 2]], [[-1, 0, 2]]),
        ("superpixels", [[-1, 0, 2]], [[-1, 0, 2]]),
        ("scribbles", [[-1, 0, 2]], [[-1, 0, 2]]),
        ("truth", [[-1, 0, 2]], "give --ignore -1"),
        ("mask", [[-1, 0, 2]], "mark what counts by values above 0"),
        ("objects", [[-3, 0, 2]], "number them from 0"),
        ("truth", [[-7, 1, 2]], "give --ignore -7"),
    ],
)
def test_negative_values_mean_what_they_mean_in_the_role(role, values, expected):
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            gate(values, role)
    else:
        assert gate(values, role).tolist() == expected


def test_a_negative_value_to_ignore_keeps_its_meaning():
    assert gate([[-1, 0, 2]], "truth", ignore=-1).tolist() == [[-1, 0, 2]]


def test_ids_above_two_to_the_63rd_tell_regions_apart():
    values = np.where(IDS > 0, IDS.astype(np.uint64) + np.uint64(2**63), np.uint64(0))
    for role in ("objects", "truth", "superpixels", "mask"):
        assert gate(values, role).tolist() == IDS.tolist()
    with pytest.raises(InputError, match=f"up to {2**63 + 2}; give --labels-as objects"):
        gate(values, "labels")


@pytest.fixture
def disc():
    y, x = np.mgrid[:64, :64]
    return (((y - 30) ** 2 + (x - 34) ** 2 < 400) * np.uint8(255)).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.tif", "colours.jpg"])
def test_a_mask_that_jpeg_has_smeared_is_cut_at_its_middle(tmp_path, disc, name):
    path = tmp_path / name
    if name == "a.tif":
        tifffile.imwrite(path, disc, compression="jpeg", compressionargs={"level": 75})
    else:
        Picture.fromarray(np.stack([disc] * 3, -1) if name == "colours.jpg" else disc).save(path, quality=75)
    assert is_lossy(path)
    for role in ("labels", "objects", "mask", "truth"):
        found = read_labels(path, role)
        assert np.unique(found).tolist() == [0, 255]
        assert (found != disc).mean() < 0.002
    with pytest.raises(InputError, match=r"in a JPEG.*save it as PNG or TIFF"):
        read_annotations(path, (64, 64))


def test_other_labels_in_a_jpeg_are_refused(tmp_path, disc):
    Picture.fromarray(disc // 50 * 9).save(tmp_path / "a.jpg", quality=75)
    with pytest.raises(InputError, match="values in a JPEG"):
        read_labels(tmp_path / "a.jpg", "labels")
    disc.tofile(tmp_path / "a.bin")
    assert not is_lossy(tmp_path / "a.bin") and not is_lossy(tmp_path / "nothing.jpg")
    Picture.fromarray(disc).save(tmp_path / "a.png")
    Picture.fromarray(disc).save(tmp_path / "exact.webp", lossless=True)
    assert not is_lossy(tmp_path / "a.png") and not is_lossy(tmp_path / "exact.webp")


def test_scribbles_of_any_type_are_not_drawn_at_255():
    for kind, nothing in (("u1", 255), ("u2", 65535), ("i4", 255), ("i4", -1), ("f4", 255), ("f4", np.nan)):
        values = np.array([[0, 1, nothing]], kind)
        assert read_annotations(values, (1, 3)).tolist() == [[0, 1, -1]]


def test_arrays_pictures_and_several_annotators_pass_the_same_gate(tmp_path, disc):
    stream = io.BytesIO()
    Picture.fromarray(disc).save(stream, "PNG")
    assert np.array_equal(read_labels(Picture.open(stream), "mask"), disc)
    palette = Picture.fromarray((disc > 0).astype(np.uint8))
    palette.putpalette([9, 9, 9, 200, 0, 0])
    assert np.array_equal(read_labels(palette, "labels"), disc > 0)
    np.savez(tmp_path / "several.npz", segmentations=np.stack([IDS, np.where(IDS > 0, IDS, -1)]).astype(float))
    assert [one.tolist() for one in read_truths(tmp_path / "several.npz")] == [IDS.tolist(), IDS.tolist()]
