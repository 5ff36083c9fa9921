"""NIfTI: orientation, spacing, types, damage, and the message where nibabel is missing."""

import gzip
import itertools
import sys

import numpy as np
import pytest

from selfseg.core.errors import InputError
from selfseg.read import find_inputs, read_image
from selfseg.read.labels import read_labels

nibabel = pytest.importorskip("nibabel")
RNG = np.random.default_rng(0)
WORLD = RNG.integers(0, 500, (4, 5, 6), dtype=np.int16)  # [right front up]


def save(path, array, affine=None, units="mm", kind=nibabel.Nifti1Image):
    image = kind(array, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units(units)
    nibabel.save(image, path)
    return path


def stored(order, flips):
    """The same body stored with its axes in another order and direction: array, and the affine that says so."""
    sizes = (1.0, 2.0, 5.0)
    array, affine = WORLD.transpose(order), np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world, flip) in enumerate(zip(order, flips, strict=True)):
        affine[world, axis] = -sizes[world] if flip else sizes[world]
        if flip:
            array = np.flip(array, axis)
            affine[world, 3] = sizes[world] * (WORLD.shape[world] - 1)
    return array, affine


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_every_storage_of_a_body_is_read_alike(tmp_path, order):
    for flips in itertools.product((False, True), repeat=3):
        image = read_image(save(tmp_path / "brain.nii.gz", *stored(order, flips)))
        assert image.axes == "ZYX" and image.data.dtype == np.int16 and not image.guessed_axes
        np.testing.assert_array_equal(image.data, WORLD.transpose(2, 1, 0))
        assert image.spacing == (5.0, 2.0, 1.0) and image.unit == "millimeter" and image.name == "brain"


def test_an_oblique_volume_takes_the_closest_axes_and_is_not_resampled(tmp_path):
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.0, 2.0, 5.0])
    image = read_image(save(tmp_path / "a.nii", WORLD, affine))
    np.testing.assert_array_equal(image.data, WORLD.transpose(2, 1, 0))
    np.testing.assert_allclose(image.spacing, (5, 2, 1), rtol=1e-6)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i2", "<i2", ">i2", "f4", ">f8"])
def test_types_keep_their_values_in_both_versions_and_byte_orders(tmp_path, kind, dtype):
    array = (WORLD % 100).astype(dtype)
    header = kind.header_class(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(dtype)
    nibabel.save(kind(array, np.eye(4), header), tmp_path / "a.nii")
    image = read_image(tmp_path / "a.nii")
    assert image.data.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(image.data, (WORLD % 100).transpose(2, 1, 0))


def scaled(path, slope, intercept):
    """Write WORLD as int16 with a scale in its header, which nibabel would apply itself."""
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(slope, intercept)
    with path.open("wb") as file:
        image.header["vox_offset"], image.header["magic"] = 352, b"n+1"
        image.header.write_to(file)
        file.write(bytes(352 - file.tell()) + WORLD.tobytes("F"))
    return path


def test_a_scale_in_the_header_gives_floats(tmp_path):
    got = read_image(scaled(tmp_path / "a.nii", 0.5, 3)).data
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, WORLD.transpose(2, 1, 0) * 0.5 + 3)


def test_values_that_a_scale_takes_beyond_float32_do_not_count(tmp_path):
    image = read_image(scaled(tmp_path / "a.nii", 1e37, 0))
    beyond = WORLD.transpose(2, 1, 0) * 1e37 > np.finfo(np.float32).max
    assert beyond.any() and not beyond.all()
    np.testing.assert_array_equal(np.isinf(image.data), beyond)
    np.testing.assert_array_equal(image.valid, ~beyond)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 5), "YX"), ((4, 5, 1), "YX"), ((4, 5, 6, 3), "TZYX"), ((4, 5, 1, 3), "TYX"), ((4, 5, 6, 1, 2), "ZYXC")],
)
def test_axes_by_the_number_of_dimensions(tmp_path, shape, axes):
    array = RNG.integers(0, 99, shape, dtype=np.uint8)
    image = read_image(save(tmp_path / "a.nii.gz", array))
    letters = dict(zip("XYZTC", shape, strict=False))
    assert image.axes == axes and image.data.shape == tuple(letters[letter] for letter in axes)
    where = {letter: 1 for letter in letters}
    index = tuple(where[letter] for letter in axes)
    full = tuple(0 if size == 1 else 1 for size in shape)
    assert image.data[index] == array[full]


@pytest.mark.parametrize(("units", "name"), [("mm", "millimeter"), ("micron", "micrometer"), ("unknown", "pixel")])
def test_units(tmp_path, units, name):
    assert read_image(save(tmp_path / "a.nii", WORLD, units=units)).unit == name


def test_masks_that_are_stored_as_floats_are_integers_as_labels(tmp_path):
    mask = (WORLD > 250).astype(np.float32)
    labels = read_labels(save(tmp_path / "m.nii.gz", mask))
    assert labels.dtype.kind == "i"
    np.testing.assert_array_equal(labels, mask.transpose(2, 1, 0))
    with pytest.raises(InputError, match="integers"):
        read_labels(save(tmp_path / "p.nii.gz", mask * 0.5))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_files_are_refused_at_every_tenth(tmp_path, name):
    content = save(tmp_path / name, RNG.integers(0, 9999, (8, 9, 10), dtype=np.uint16)).read_bytes()
    for tenth in range(10):
        (tmp_path / name).write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(InputError) as error:
            read_image(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_a_flipped_bit_in_a_packed_file_is_noticed(tmp_path):
    path = save(tmp_path / "a.nii.gz", RNG.integers(0, 9999, (8, 9, 10), dtype=np.uint16))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.nii\.gz.*damaged"):
        read_image(path)


def test_a_header_that_declares_too_much_is_refused_before_it_is_allocated(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((30000, 30000, 30000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(2000)))
    with pytest.raises(InputError, match="plausible image size"):
        read_image(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"at most 0\.0 MB"):
        read_image(save(tmp_path / "b.nii", WORLD), max_bytes=100)


def test_other_voxels_and_other_files_are_named(tmp_path):
    with pytest.raises(InputError, match="real numbers"):
        read_image(save(tmp_path / "c.nii", WORLD.astype(np.complex64)))
    (tmp_path / "text.nii").write_text("no volume at all " * 100)
    with pytest.raises(InputError, match=r"text\.nii"):
        read_image(tmp_path / "text.nii")


def test_a_header_that_can_be_mended_is_read_without_a_word(tmp_path, caplog):
    path = save(tmp_path / "a.nii", WORLD)
    content = bytearray(path.read_bytes())
    content[80:84] = np.float32(-3).tobytes()  # pixdim[1]
    path.write_bytes(content)
    assert read_image(path).spacing == (1.0, 1.0, 1.0)  # those of its affine
    assert not caplog.records
    nibabel.Nifti1Header(bytes(content[:348]))
    assert "pixdim" in caplog.text  # it would have said so


TURNED = np.array([[0, -2.0, 0, 7], [3.0, 0, 0, 8], [0, 0, 4.0, 9], [0, 0, 0, 1]])


@pytest.mark.parametrize(("sform", "qform"), itertools.product((0, 1, 2), repeat=2))
def test_sizes_and_directions_are_those_of_the_affine_in_force(tmp_path, sform, qform):
    image = nibabel.Nifti1Image(WORLD, None)
    image.header["pixdim"][1:4] = (1, 1, 1)
    image.header.set_qform(TURNED, code=qform)
    image.header["pixdim"][1:4] = (5, 6, 7)  # which changes what the qform says, and not the sform
    image.header.set_sform(np.diag([9.0, 8.0, 7.0, 1.0]), code=sform)
    nibabel.save(image, tmp_path / "a.nii")
    theirs = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii"))
    ours = read_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(ours.data, np.asarray(theirs.dataobj).T)
    np.testing.assert_allclose(ours.spacing[::-1], nibabel.affines.voxel_sizes(theirs.affine), rtol=1e-6)
    np.testing.assert_allclose(ours.meta["affine"], theirs.affine, atol=1e-5)
    if sform:
        assert ours.spacing == (7.0, 8.0, 9.0)


@pytest.mark.parametrize("broken", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1, 0, 1])])
def test_an_affine_that_is_none_gives_way_to_the_next(tmp_path, broken):
    image = nibabel.Nifti1Image(WORLD, None)
    image.header.set_qform(np.diag([2.0, 3.0, 4.0, 1.0]), code=1)
    image.header["sform_code"] = 1
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[name] = broken[row]
    content = bytearray(image.header.binaryblock) + bytes(4) + WORLD.tobytes(order="F")
    content[108:112] = np.float32(352).tobytes()
    content[344:348] = b"n+1\0"
    (tmp_path / "a.nii").write_bytes(content)
    ours = read_image(tmp_path / "a.nii")
    assert ours.spacing == (4.0, 3.0, 2.0)
    np.testing.assert_array_equal(ours.data, WORLD.T)


@pytest.mark.parametrize(
    ("step", "unit", "n", "interval", "guessed"),
    [
        (2.5, "sec", 4, 2.5, False),
        (2500, "msec", 4, 2.5, False),
        (1, "sec", 4, 1, True),
        (1, "sec", 30, 1, False),
        (0, "sec", 4, None, True),
        (1, "unknown", 4, None, True),
        (1, "hz", 4, None, True),
    ],
)
def test_a_fourth_axis_that_may_be_modalities_is_a_guess(tmp_path, step, unit, n, interval, guessed):
    image = nibabel.Nifti1Image(np.stack([WORLD] * n, -1), np.eye(4))
    image.header["pixdim"][4] = step
    image.header.set_xyzt_units("mm", unit)
    nibabel.save(image, tmp_path / "a.nii")
    found = read_image(tmp_path / "a.nii")
    assert found.axes == "TZYX" and found.guessed_axes == guessed and found.meta.get("interval") == interval
    assert bool(found.remarks) == guessed
    assert read_image(tmp_path / "a.nii", axes="CZYX").remarks == ()


def test_without_nibabel_the_message_names_the_extra(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii", WORLD)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r"pip install 'selfseg\[nifti\]'"):
        read_image(path)


def test_folders_find_volumes_and_name_them_without_both_suffixes(tmp_path):
    save(tmp_path / "one.nii.gz", WORLD)
    save(tmp_path / "two.nii", WORLD)
    assert [source.name for source in find_inputs(tmp_path)] == ["one", "two"]
