"""Headers that cannot be true, images without a pixel, and axes that have no meaning: for every format, one line and no memory."""

import gzip
import io
import struct
import tracemalloc
import zlib

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Picture
from pydicom import dcmread

from reference.damage import WHOLE, outcome, some_of, write
from reference.image_files import RGB, dataset
from selfseg.core.errors import InputError
from selfseg.read import open_lazy, read_image

MOST = 300 << 20
"""Bytes that a reader may take over a small file of absurd size: what is plausible is decoded (`PLAUSIBLE`), and then refused."""


def nifti(shape, second=False):
    content = bytearray(
        (nibabel.Nifti2Image if second else nibabel.Nifti1Image)(np.zeros((4, 5, 6), np.uint8), np.eye(4)).to_bytes()
    )
    struct.pack_into("<4q" if second else "<4h", content, 16 if second else 40, len(shape), *shape)
    return bytes(content)


def mrc(*sizes):
    content = bytearray(WHOLE["a.mrc"])
    struct.pack_into("<3i", content, 0, *sizes)
    return bytes(content)


def npy(shape, kind="|u1"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(1000)


def npz(shape):
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("raw.npy", npy(shape))
    return buffer.getvalue()


def hdf5(shape):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset(
            "raw", shape=shape, dtype="u1", chunks=None if 0 in shape else tuple(min(n, 64) for n in shape)
        )
    return buffer.getvalue()


def dicom(**changes):
    one = dcmread(io.BytesIO(WHOLE["a.dcm"]))
    for name, value in changes.items():
        setattr(one, name, value)
    buffer = io.BytesIO()
    one.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def zarr_array(path, shape, **options):
    zarr.create_array(path, shape=shape, chunks=tuple(min(max(n, 1), 64) for n in shape), dtype="u1", **options)
    return path


def webp():
    content = bytearray(WHOLE["a.webp"])
    at = content.index(b"VP8L") + 9
    struct.pack_into("<I", content, at, (16383 << 14 | 16383) | (struct.unpack_from("<I", content, at)[0] & 0xF0000000))
    return bytes(content)


HUGE = {
    "a.nii": nifti((32767, 32767, 32767)),
    "second.nii": nifti((2**40, 2**40, 2**40), second=True),
    "a.nii.gz": gzip.compress(nifti((32767, 32767, 32767))),
    "a.mrc": mrc(2**31 - 1, 2**31 - 1, 2**31 - 1),
    "a.npy": npy((10**9, 10**9)),
    "over.npy": npy((2**62, 4)),
    "a.npz": npz((10**9, 10**9)),
    "a.h5": hdf5((10**6, 10**6, 10**6)),
    "a.dcm": dicom(Rows=65535, Columns=65535),
    "frames.dcm": dicom(NumberOfFrames=2**31 - 1),
    "a.webp": webp(),
    "a.zarr": (10**6, 10**6, 10**6),
}

NO_PIXEL = {
    "a.nii": nifti((0, 5, 6)),
    "a.mrc": mrc(30, 20, 0),
    "negative.mrc": mrc(30, -20, 5),
    "a.npy": npy((0, 5)),
    "a.npz": npz((0, 5)),
    "a.h5": hdf5((0, 5)),
    "a.dcm": dicom(Rows=0),
    "frames.dcm": dicom(NumberOfFrames=0, Rows=0),
    "a.tif": b"II*\0" + bytes(4),
    "big.tif": b"II+\0\x08\0\0\0" + bytes(8),
    "a.png": WHOLE["a.png"][:16]
    + struct.pack(">II", 0, 0)
    + WHOLE["a.png"][24:29]
    + struct.pack(">I", zlib.crc32(WHOLE["a.png"][12:16] + struct.pack(">II", 0, 0) + WHOLE["a.png"][24:29]))
    + WHOLE["a.png"][33:],
    "a.bmp": WHOLE["a.bmp"][:18] + struct.pack("<ii", 0, 0) + WHOLE["a.bmp"][26:],
    "a.gif": WHOLE["a.gif"][:13] + b";",
    "a.zarr": (0, 5),
}

NO_MEANING = {
    "six.npy": npy((2, 2, 2, 2, 2, 2)),
    "one.npy": npy((50,)),
    "six.npz": npz((2, 2, 2, 2, 2, 2)),
    "six.h5": hdf5((2, 2, 2, 2, 2, 2)),
    "one.h5": hdf5((50,)),
    "six.zarr": (2, 2, 2, 2, 2, 2),
    "one.zarr": (50,),
}


def made(folder, name, content):
    return zarr_array(folder / name, content) if isinstance(content, tuple) else write(folder, name, content)


def corner(path):
    with open_lazy(path) as image:
        return image.window(Z=7, Y=slice(0, 20), X=slice(0, 20))


@pytest.mark.parametrize("read", [read_image, some_of])
@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in ("HUGE", "NO_PIXEL") for name in globals()[group]]
)
def test_one_line_and_no_memory(tmp_path, caplog, capfd, group, name, read):
    path = made(tmp_path, name, globals()[group][name])
    sparse = group == "HUGE" and read is some_of and name in ("a.h5", "a.zarr")
    tracemalloc.start()
    try:
        got = outcome(path, caplog, corner if sparse else read)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if sparse:  # chunks that were never written are zeros, as these formats say: a corner of it can be read
        assert not got.data.any()
    else:
        assert isinstance(got, str), f"{name} was read"
    assert peak < MOST
    assert not caplog.records and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NO_MEANING)
def test_axes_without_a_meaning(tmp_path, caplog, name):
    path = made(tmp_path, name, NO_MEANING[name])
    for read in (read_image, open_lazy):
        assert isinstance(outcome(path, caplog, read), str), name


def test_tiff_axes_that_nobody_knows_are_guessed_or_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "q.tif", np.zeros((2, 3, 8, 9), np.uint8), photometric="minisblack", metadata={"axes": "QRYX"}
    )
    image = read_image(tmp_path / "q.tif")
    assert image.axes == "TZYX" and image.guessed_axes
    data = np.zeros((2, 2, 2, 2, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "six.tif", data, photometric="minisblack", metadata={"axes": "QRIAYX"})
    with pytest.raises(InputError, match=r"six\.tif"):
        read_image(tmp_path / "six.tif")


def test_parts_of_different_sizes(tmp_path):
    """DICOM slices, arrays of an NPZ, datasets of an HDF5 file, named; frames of a GIF are shown on one canvas."""
    folder = tmp_path / "series"
    folder.mkdir()
    for number, plane in enumerate(
        (np.zeros((8, 9), np.uint16), np.zeros((8, 9), np.uint16), np.zeros((5, 6), np.uint16))
    ):
        one = dataset(plane, (0.0, 0.0, float(number)), number)
        one.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    np.savez(tmp_path / "a.npz", a=np.zeros((5, 6)), b=np.zeros((7, 8)))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"], file["b"] = np.zeros((5, 6)), np.zeros((7, 8))
    with tifffile.TiffWriter(tmp_path / "a.tif", ome=True) as tif:
        tif.write(np.zeros((8, 9), np.uint8), metadata={"axes": "YX"})
        tif.write(np.zeros((5, 6), np.uint8), metadata={"axes": "YX"})
    for name in ("series", "a.npz", "a.h5", "a.tif"):
        for read in (read_image, open_lazy):
            with pytest.raises(InputError) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value) and name in str(caught.value)
    frames = [Picture.fromarray(RGB), Picture.fromarray(RGB[:20])]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").data.shape == (2, 40, 50, 3)
