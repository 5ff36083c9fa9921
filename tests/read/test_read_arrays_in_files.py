"""HDF5, MRC and NumPy as others write them; which array of a file is meant; and nothing is ever unpickled."""

import base64
import json
import struct
import sys
import zipfile

import numpy as np
import pytest

from selfseg.core.errors import InputError
from selfseg.read import find_inputs, open_lazy, read_image
from selfseg.read.labels import read_labels, read_truths

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 200, (4, 20, 30), dtype=np.uint8)


@pytest.fixture
def h5(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exported/raw"] = VOLUME
        file["exported/time"] = np.arange(4.0)
        file["note"] = "text"
    return tmp_path / "a.h5"


def test_the_only_dataset_of_an_hdf5_file(h5):
    image = read_image(h5)
    np.testing.assert_array_equal(image.data, VOLUME)
    assert (image.axes, image.guessed_axes, image.unit, image.name) == ("ZYX", True, "pixel", "a")


def test_one_of_several_datasets_is_chosen_by_its_address(h5):
    import h5py

    with h5py.File(h5, "a") as file:
        file["other"] = VOLUME[0].astype(np.float32)
    with pytest.raises(
        InputError, match=r"one dataset .*got 2: /exported/raw, /other; choose one: .*a\.h5:/exported/raw"
    ):
        read_image(h5)
    with pytest.raises(InputError, match=r"a\.h5:/gone: expected a dataset 'gone', got 2"):
        read_image(f"{h5}:/gone")
    image = read_image(f"{h5}:/other")
    assert image.data.dtype == np.float32 and image.name == "a_other" and image.axes == "YX"
    assert read_image(f"{h5}:/exported").data.shape == VOLUME.shape  # the only one in that group
    (source,) = find_inputs(f"{h5}:/exported/raw")
    assert source.name == "a_exported_raw" and len(source.fingerprint()) == 64
    np.testing.assert_array_equal(source.read().data, VOLUME)
    assert source.fingerprint() != find_inputs(f"{h5}:/other")[0].fingerprint()
    np.testing.assert_array_equal(read_labels(f"{h5}:/exported/raw"), VOLUME)
    with pytest.raises(InputError, match="no such file"):
        find_inputs("gone.h5:/raw")


def test_axes_and_pixel_sizes_as_others_write_them(h5):
    import h5py

    with h5py.File(h5, "a") as file:
        labelled = file.create_dataset("labelled", data=VOLUME)
        for dimension, label in zip(labelled.dims, "tyx", strict=True):
            dimension.label = label
        tagged = file.create_dataset("tagged", data=VOLUME[..., :3])  # as ilastik and vigra do
        tagged.attrs["axistags"] = json.dumps({"axes": [{"key": key, "typeFlags": 2} for key in "yxc"]})
        sized = file.create_dataset("sized", data=VOLUME)
        sized.attrs["element_size_um"] = (3.0, 0.5, 0.25)
        wrong = file.create_dataset("wrong", data=VOLUME)
        wrong.attrs["axistags"], wrong.attrs["element_size_um"] = "{", (1.0, np.nan, 0.0)
    assert read_image(f"{h5}:/labelled").axes == "TYX"
    image = read_image(f"{h5}:/tagged")
    assert image.axes == "YXC" and not image.guessed_axes
    image = read_image(f"{h5}:/sized")
    assert image.spacing == (3.0, 0.5, 0.25) and image.unit == "micrometer"
    image = read_image(f"{h5}:/wrong")
    assert image.axes == "ZYX" and image.guessed_axes and image.spacing == (1.0, 1.0, 1.0)


def test_hdf5_types_that_are_no_image(h5):
    import h5py

    with h5py.File(h5, "w") as file:
        file["complex"] = VOLUME.astype(complex)
        file["line"] = np.arange(9)
    with pytest.raises(InputError, match="one dataset of two axes or more, got none"):
        read_image(h5)
    with pytest.raises(InputError, match="real numbers, got values of type complex128"):
        read_image(f"{h5}:/complex")


def test_an_hdf5_file_that_declares_what_it_does_not_hold(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", (10**6, 10**6, 100), "u1", chunks=(1000, 1000, 1), compression="gzip")
    with pytest.raises(InputError, match=r"at most .* GB of pixels, got 1000000 x"):
        read_image(tmp_path / "a.h5")
    with open_lazy(tmp_path / "a.h5") as image:
        assert image.data[5, :3, 7].tolist() == [0, 0, 0]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("raw", (60_000, 60_000), "u1", chunks=(60_000, 60_000), compression="gzip")
    from selfseg.read import arrays

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "memory_limit", lambda: 10**9)
        with pytest.raises(InputError, match=r"chunks of at most 1\.0 GB, got 3\.6 GB"):
            open_lazy(tmp_path / "b.h5")


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4", ">i2", ">f4"])
def test_mrc_as_mrcfile_writes_it(tmp_path, dtype):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data((VOLUME % 100).astype(dtype))
        file.set_volume()
        file.voxel_size = (1.5, 2.5, 3.5)
        file.header.origin = (10, 20, 30)
        file.nstart = (1, 2, 3)
    image = read_image(tmp_path / "a.mrc")
    assert (image.axes, image.unit, image.guessed_axes) == ("ZYX", "angstrom", False)
    np.testing.assert_allclose(image.spacing, (3.5, 2.5, 1.5), rtol=1e-6)
    np.testing.assert_array_equal(image.data, VOLUME % 100)
    assert image.data.dtype == np.dtype(dtype).newbyteorder("=")
    assert image.meta["mrc"] == {"origin": (10.0, 20.0, 30.0), "start": (1, 2, 3)}


def test_mrc_images_stacks_and_series(tmp_path):
    mrcfile = pytest.importorskip("mrcfile")
    for name, data, set_kind, axes, guessed in (
        ("image", VOLUME[0].astype(np.int16), None, "YX", False),
        ("stack", VOLUME.astype(np.int16), "set_image_stack", "ZYX", True),
        ("series", np.stack([VOLUME] * 3).astype(np.int16), None, "TZYX", False),
    ):
        with mrcfile.new(tmp_path / f"{name}.mrc") as file:
            file.set_data(data)
            if set_kind:
                getattr(file, set_kind)()
        image = read_image(tmp_path / f"{name}.mrc")
        assert (image.axes, image.guessed_axes) == (axes, guessed)
        np.testing.assert_array_equal(image.data, data)


def test_mrc_axes_may_be_stored_in_any_order(tmp_path):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(tmp_path / "a.map") as file:
        file.set_data(VOLUME.transpose(2, 0, 1).astype(np.int16).copy())  # sections X, rows Z, columns Y
        file.set_volume()
        file.header.maps, file.header.mapr, file.header.mapc = 1, 3, 2
    np.testing.assert_array_equal(read_image(tmp_path / "a.map").data, VOLUME)


def test_bytes_of_imod_are_unsigned_and_complex_maps_are_refused(tmp_path):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(tmp_path / "a.rec") as file:
        file.set_data(VOLUME.view(np.int8))
        file.set_volume()
    assert read_image(tmp_path / "a.rec").data.dtype == np.int8
    content = bytearray((tmp_path / "a.rec").read_bytes())
    content[152:156] = (1146047817).to_bytes(4, "little")  # IMOD's stamp, its flags are 0
    (tmp_path / "a.rec").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.rec").data, VOLUME)
    with mrcfile.new(tmp_path / "c.mrc") as file:
        file.set_data(VOLUME.astype(np.complex64))
    with pytest.raises(InputError, match="an MRC file of mode 0, 1, 2, 6, 12, got mode 4"):
        read_image(tmp_path / "c.mrc")


def test_an_mrc_header_of_absurd_size_allocates_nothing(tmp_path):
    mrcfile = pytest.importorskip("mrcfile")
    mrcfile.write(tmp_path / "a.mrc", VOLUME.astype(np.int16))
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    for sizes in ((2**31 - 1,) * 3, (-5, 20, 4), (0, 0, 0)):
        content[:12] = np.array(sizes, "<i4").tobytes()
        (tmp_path / "a.mrc").write_bytes(content)
        with pytest.raises(InputError, match=rf"4800 bytes for {sizes[2]} x {sizes[1]} x {sizes[0]} values"):
            read_image(tmp_path / "a.mrc")


def test_mrc_label_maps_of_floats_are_integers_as_labels(tmp_path):
    mrcfile = pytest.importorskip("mrcfile")
    mrcfile.write(tmp_path / "a.mrc", VOLUME.astype(np.float32))
    labels = read_labels(tmp_path / "a.mrc")
    assert labels.dtype.kind == "i"
    np.testing.assert_array_equal(labels, VOLUME)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["?", "<u2", ">u2", "f2", "f8", "i8"])
def test_npy_as_numpy_writes_it(tmp_path, dtype, order):
    array = np.array(VOLUME > 9 if dtype == "?" else VOLUME, dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    image = read_image(tmp_path / "a.npy")
    np.testing.assert_array_equal(image.data, array * 255 if dtype == "?" else array)
    assert image.axes == "ZYX" and image.guessed_axes


def test_one_array_of_an_npz_is_chosen(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", image=VOLUME, time=np.arange(3), name=np.array("x"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.npz").data, VOLUME)
    np.savez(tmp_path / "b.npz", one=VOLUME, two=VOLUME[0])
    with pytest.raises(InputError, match=r"got 2: one, two; choose one: .*b\.npz:/one"):
        read_image(tmp_path / "b.npz")
    with pytest.raises(InputError, match=r"an array 'three', got the arrays one, two"):
        read_image(f"{tmp_path}/b.npz:/three")
    np.testing.assert_array_equal(read_image(f"{tmp_path}/b.npz:/two").data, VOLUME[0])
    np.savez(tmp_path / "c.npz", segmentations=np.stack([VOLUME, VOLUME + 1]))
    assert len(read_truths(tmp_path / "c.npz")) == 2


def test_companions_of_an_npz_that_do_not_fit_are_not_believed(tmp_path):
    np.savez(
        tmp_path / "a.npz", raw=VOLUME, axes=np.array("TYX"), spacing=np.array([2.0, 3.0]), unit=np.array("nanometer")
    )
    image = read_image(tmp_path / "a.npz")
    assert (image.axes, image.spacing, image.unit, image.guessed_axes) == ("TYX", (2.0, 3.0), "nanometer", False)
    np.savez(tmp_path / "b.npz", raw=VOLUME, axes=np.array("QYX"), spacing=np.array([1.0, -1.0, np.nan]))
    image = read_image(tmp_path / "b.npz")
    assert (image.axes, image.spacing, image.guessed_axes) == ("ZYX", (1.0, 1.0, 1.0), True)


class Bomb:
    """Something that would show if it were unpickled."""

    def __reduce__(self):
        return (exec, ("import sys; sys.modules['unpickled'] = sys",))


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "renamed.npy"])
def test_pickled_objects_are_refused_and_never_loaded(tmp_path, name):
    array = np.array([[Bomb(), Bomb()]], dtype=object)
    (np.savez if name.endswith("z") else np.save)(tmp_path / name, array)
    if name.startswith("renamed"):
        import pickle

        (tmp_path / name).write_bytes(pickle.dumps(array))
    for read in (read_image, open_lazy, read_labels):
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)
    assert "unpickled" not in sys.modules


def test_an_npz_that_unpacks_to_more_than_fits_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (9000, 9000)})
        member.write(bytes(9000 * 9000))
    assert path.stat().st_size < 200_000 and read_image(path).data.shape == (9000, 9000)
    from selfseg.read.formats import open_file

    with pytest.raises(InputError, match=r"at most 10\.0 MB"):
        open_file(path, max_bytes=10_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)})
        member.write(bytes(100))
    with pytest.raises(InputError, match="which cannot hold them"):
        read_image(path)


@pytest.mark.parametrize(("module", "name", "extra"), [("h5py", "a.h5", "hdf5"), ("pydicom", "a.dcm", "dicom")])
def test_what_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, module, name, extra):
    (tmp_path / name).write_bytes(bytes(200))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        InputError, match=rf"the package {module}, got none installed; pip install 'selfseg\[{extra}\]'"
    ):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os; os.abort()", "cannot be read"),
        ("import time; time.sleep(60)", "take too long"),
        ("1 / 0", "cannot be read"),
    ],
)
def test_a_process_that_dies_over_damaged_texts_costs_one_line(h5, monkeypatch, script, words):
    """HDF5 ends the process on some damaged texts; here it does so at will."""
    import h5py

    with h5py.File(h5, "a") as file:
        file["exported/raw"].attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "tyx"]})
    assert read_image(h5).axes == "TYX"
    monkeypatch.setattr("selfseg.read.hdf5.SCRIPT", script)
    monkeypatch.setattr("selfseg.read.hdf5.SECONDS", 1.0)
    for read in (read_image, open_lazy):
        with pytest.raises(InputError, match=rf"a\.h5: expected a whole image file, .*its attributes {words}"):
            read(h5)


def test_nothing_is_imported_from_where_the_user_stands(h5, tmp_path, monkeypatch):
    import h5py

    with h5py.File(h5, "a") as file:
        file["exported/raw"].attrs["unit"] = "nanometer"
        file["exported/raw"].attrs["spacing"] = (3.0, 2.0, 1.0)
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    image = read_image(h5)
    assert (image.spacing, image.unit) == ((3.0, 2.0, 1.0), "nanometer")


def marked(kind, path, data, **attributes):
    if kind == "hdf5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path / "a.h5", "w") as file:
            file.create_dataset("raw", data=data, chunks=True).attrs.update(attributes)
        return path / "a.h5"
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(path / "a.zarr", shape=data.shape, dtype=data.dtype, chunks=data.shape, fill_value=0)
    array[:] = data
    array.attrs.update({name: value.item() if hasattr(value, "item") else value for name, value in attributes.items()})
    return path / "a.zarr"


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
@pytest.mark.parametrize(
    ("dtype", "value", "hidden"),
    [("i2", np.int16(-999), True), ("f4", np.float32(1e20), True), ("u1", np.int16(-999), False), ("u2", None, False)],
)
def test_values_that_attributes_mark_as_none_are_not_valid(tmp_path, kind, dtype, value, hidden):
    data = np.arange(6 * 20 * 30).reshape(6, 20, 30).astype(dtype)
    data[0, 0, 0] = 0  # the fill value of the array itself says nothing
    if hidden:
        data[2, 3, 4:6] = value
    for name in ("_FillValue", "missing_value"):
        folder = tmp_path / name
        folder.mkdir()
        path = marked(kind, folder, data, **({} if value is None else {name: value}))
        image = read_image(path, axes="ZYX")
        expected = [[2, 3, 4], [2, 3, 5]] if hidden else []
        assert ([] if image.valid is None else np.argwhere(~image.valid).tolist()) == expected
        with open_lazy(path, axes="ZYX") as lazy:
            window = lazy.window(Z=slice(1, 4), Y=slice(2, 9))
            np.testing.assert_array_equal(window.data, data[1:4, 2:9])
            assert ([] if window.valid is None else np.argwhere(~window.valid).tolist()) == [
                [z - 1, y - 2, x] for z, y, x in expected
            ]


def test_a_fill_value_as_xarray_writes_it_into_zarr_3(tmp_path):
    data = np.ones((20, 30, 3), np.float32)
    data[4, 5], data[6, 7, 0] = -9999, -9999
    path = marked("zarr", tmp_path, data, _FillValue=base64.b64encode(struct.pack("<d", -9999.0)).decode())
    image = read_image(path, axes="YXC")
    assert np.argwhere(~image.valid).tolist() == [[4, 5]]  # where all channels are marked
