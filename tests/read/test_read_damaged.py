"""Bad input: one clear line each, before anything large is allocated, and never a crash."""

import io
import shutil
import struct
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from reference.damage import WHOLE, flipped, outcome, some_of, write
from reference.image_files import VOLUME, tiff
from selfseg.core.errors import InputError
from selfseg.read import open_lazy, read_image


@pytest.mark.parametrize("name", WHOLE)
def test_truncated_files_are_refused_at_every_tenth(tmp_path, caplog, capfd, name):
    whole = outcome(write(tmp_path, name, WHOLE[name]), caplog)
    assert not isinstance(whole, str), whole
    for tenth in range(10):
        got = outcome(write(tmp_path, name, WHOLE[name][: len(WHOLE[name]) * tenth // 10]), caplog)
        assert isinstance(got, str), f"{name} cut to {tenth}/10 was read"
    assert not caplog.records and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", WHOLE)
def test_flipped_bytes_never_crash(tmp_path, caplog, capfd, name):
    rng = np.random.default_rng(sum(name.encode()))
    for attempt in range(15 if name == "labelled.h5" else 60):  # a process for each, which takes its time
        path = write(tmp_path, name, flipped(WHOLE[name], attempt, rng))
        got = outcome(path, caplog, some_of if attempt % 4 == 3 else read_image)
        assert isinstance(got, str) or got.data.size > 0
    assert not caplog.records and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz", ".mrc", ".h5", ".npy", ".npz", ".dcm"])
@pytest.mark.parametrize("name", ["a.jpg", "stack.tif", "a.nii", "a.mrc", "a.h5", "a.npy", "a.npz", "a.dcm"])
def test_a_wrong_suffix_is_seen_through_or_one_line(tmp_path, caplog, name, suffix):
    got = outcome(write(tmp_path, f"wrong{suffix}", WHOLE[name]), caplog)
    if name in ("a.jpg", "stack.tif", "a.h5", "a.npy", "a.dcm"):  # these tell by their first bytes what they are
        assert not isinstance(got, str), got
        np.testing.assert_array_equal(got.data, read_image(write(tmp_path, name, WHOLE[name])).data)
    elif Path(name).suffix != suffix and (name, suffix) not in (("a.nii", ".nii.gz"), ("a.npz", ".npy")):
        assert isinstance(got, str)


def png_header(width, height, bits=8, colour=2):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(600))
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_header(width, height):
    content = bytearray(WHOLE["a.jpg"])
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def tiff_header(width, height, **options):
    content = bytearray(tiff(np.zeros((16, 16), np.uint8), metadata=None, **options))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as tif:
        tags = tif.pages[0].tags
        for code, value in ((256, width), (257, height), (278, height)):
            struct.pack_into("<HI", content, tags[code].offset + 2, 4, 1)
            struct.pack_into("<I", content, tags[code].offset + 8, value)
    return bytes(content)


BOMBS = {
    "a.png": png_header(50_000, 50_000),
    "bits.png": png_header(50_000, 50_000, bits=1, colour=0),
    "deep.png": png_header(50_000, 50_000, bits=16, colour=6),
    "a.jpg": jpeg_header(50_000, 50_000),
    "a.bmp": WHOLE["a.bmp"][:18] + struct.pack("<ii", 50_000, 50_000) + WHOLE["a.bmp"][26:1000],
    "a.gif": WHOLE["a.gif"][:6] + struct.pack("<HH", 50_000, 50_000) + WHOLE["a.gif"][10:1000],
    "a.tif": tiff_header(50_000, 50_000),
    "zlib.tif": tiff_header(50_000, 50_000, compression="zlib"),
    "huge.tif": tiff_header(2**32 - 1, 2**32 - 1),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_false_size_is_refused_before_anything_is_allocated(tmp_path, monkeypatch, name):
    def refuse(*_, **__):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    monkeypatch.setattr("imagecodecs.png_decode", refuse)
    monkeypatch.setattr("tifffile.TiffPageSeries.asarray", refuse)
    with pytest.raises(InputError, match=r"plausible image size.* which cannot hold them"):
        read_image(write(tmp_path, name, BOMBS[name]))


def test_an_honest_bomb_is_held_against_the_memory(tmp_path):
    path = write(tmp_path, "a.png", imagecodecs.png_encode(np.zeros((9000, 9000), np.uint8), level=9))
    assert path.stat().st_size < 200_000
    assert read_image(path).data.shape == (9000, 9000)
    with pytest.raises(InputError, match=r"at most 10\.0 MB of pixels"):
        read_image(path, max_bytes=10_000_000)


def test_text_called_png(tmp_path):
    with pytest.raises(InputError, match=r"expected a PNG, JPEG, BMP, WebP or GIF picture, got a file that starts"):
        read_image(write(tmp_path, "notes.png", b"Dear diary, today I renamed a file"))
    with pytest.raises(InputError, match=r"notes\.tif: expected a whole image file"):
        read_image(write(tmp_path, "notes.tif", b"Dear diary, today I renamed a file"))


@pytest.mark.parametrize("suffix", sorted({".nii.gz", *(Path(name).suffix for name in WHOLE)} - {".gz"}))
def test_zero_bytes(tmp_path, suffix):
    with pytest.raises(InputError, match="zero bytes"):
        read_image(write(tmp_path, f"empty{suffix}", b""))


def test_missing_folder_unknown(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png: .*no such file"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="got a folder"):
        read_image(tmp_path / "folder.png")
    for name in ("a.docx", "noname", ".png"):
        with pytest.raises(InputError, match=r"expected one of .*\.bmp .*\.tiff.* got (the|no) suffix"):
            read_image(write(tmp_path, name, b"content"))


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = write(tmp_path, "secret.png", WHOLE["a.png"])

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # not chmod, which does not bind root
    with pytest.raises(InputError, match=r"secret\.png: .*got Permission denied; check that you may read it"):
        read_image(path)


def test_a_page_chain_in_a_circle_ends(tmp_path, caplog):
    content = bytearray(tiff(np.zeros((4, 16, 16), np.uint8), photometric="minisblack", metadata=None))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as tif:
        first, last = tif.pages[0].offset, tif.pages[3].offset
    n_tags = struct.unpack_from("<H", content, last)[0]
    struct.pack_into("<I", content, last + 2 + 12 * n_tags, first)
    assert "damaged" in outcome(write(tmp_path, "a.tif", bytes(content)), caplog)


def zarr_image(path, version):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="w", zarr_format=version)
    compressor = {"compressors": None} if version == 2 else {}
    array = group.create_array("0", shape=VOLUME.shape, dtype="u2", chunks=(5, 20, 30), **compressor)
    array[:] = VOLUME
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    steps = [{"type": "scale", "scale": [3.0, 0.5, 0.25]}]
    multiscales = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}]
    group.attrs.update(
        {"ome": {"version": "0.5", "multiscales": multiscales}} if version == 3 else {"multiscales": multiscales}
    )
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_every_file_of_a_zarr_folder_may_be_cut_or_changed(tmp_path, caplog, capfd, version):
    whole = zarr_image(tmp_path / "whole.zarr", version)
    rng = np.random.default_rng(version)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert len(files) == (3 if version == 3 else 5)
    for file in files:
        content = (whole / file).read_bytes()
        for attempt in range(40):
            shutil.rmtree(tmp_path / "a.zarr", ignore_errors=True)
            shutil.copytree(whole, tmp_path / "a.zarr")
            tenth = attempt if attempt < 10 else None
            broken = content[: len(content) * tenth // 10] if tenth is not None else flipped(content, attempt, rng)
            (tmp_path / "a.zarr" / file).write_bytes(broken)
            got = outcome(tmp_path / "a.zarr", caplog, some_of if attempt % 4 == 3 else read_image)
            if tenth is not None and file.name not in (".zgroup", ".zattrs"):
                assert isinstance(got, str), f"{file} cut to {tenth}/10 was read"
            assert isinstance(got, str) or got.data.size > 0
    assert not caplog.records and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.npy", "a.h5", "a.mrc", "a.nii", "a.tif", "a.zarr"])
def test_planes_of_nan_are_not_valid_and_all_nan_is_one_line(tmp_path, name):
    """Of three planes one is NaN: it is read, and marked; three are refused."""
    import h5py
    import mrcfile
    import nibabel
    import zarr

    def save(data):
        path = tmp_path / name
        if name == "a.npy":
            np.save(path, data)
        elif name == "a.h5":
            with h5py.File(path, "w") as file:
                file["raw"] = data
        elif name == "a.mrc":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mrcfile.write(path, data, overwrite=True)
        elif name == "a.nii":
            nibabel.save(nibabel.Nifti1Image(data.T, np.eye(4)), path)
        elif name == "a.tif":
            tifffile.imwrite(path, data, photometric="minisblack")
        else:
            zarr.create_array(path, data=data, overwrite=True)
        return path

    data = np.ones((3, 8, 9), np.float32)
    data[1] = np.nan
    image = read_image(save(data))
    assert image.valid.sum() == 2 * 72 and not image.valid[1].any()
    with open_lazy(tmp_path / name) as lazy:
        assert not lazy.window(Z=1).valid.any() and lazy.window(Z=2).valid is None
    with pytest.raises(InputError, match="some finite values, got only NaN"):
        read_image(save(np.full((3, 8, 9), np.nan, np.float32)))


def test_pages_of_different_sizes_and_unknown_axes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(np.zeros((8, 9), np.uint8), photometric="minisblack", metadata=None)
        tif.write(np.zeros((5, 6), np.uint8), photometric="minisblack", metadata=None)
    with pytest.raises(InputError, match=r"pages of one size and type, got 2 images \(8 x 9, 5 x 6\)"):
        read_image(tmp_path / "a.tif")
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4, 5, 6, 7), np.uint8))
    with pytest.raises(InputError, match="2 to 4 axes"):
        read_image(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros((0, 5), np.uint8))
    for read in (read_image, open_lazy):
        with pytest.raises(InputError, match=r"a\.npy"):
            read(tmp_path / "a.npy")
    no_pages = b"II*\0" + bytes(4)
    with pytest.raises(InputError, match="it has no page"):
        read_image(write(tmp_path, "none.tif", no_pages))


@pytest.mark.parametrize("back_to", [0, 1, -1])
@pytest.mark.parametrize("big", [False, True])
def test_pages_that_lead_in_a_circle_are_refused_at_once(tmp_path, big, back_to):
    """The last page names an earlier one, or itself, as the next: a reader that follows never ends."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for _ in range(3):
            writer.write(np.zeros((8, 9), np.uint8), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tif:
        form, offsets, n_tags = tif.tiff, [page.offset for page in tif.pages], len(tif.pages[2].tags)
    content = bytearray(path.read_bytes())
    end = offsets[2] + form.tagnosize + n_tags * form.tagsize
    assert struct.unpack_from(form.offsetformat, content, end) == (0,)
    assert read_image(path).data.shape == (3, 8, 9)
    struct.pack_into(form.offsetformat, content, end, offsets[back_to])
    for read in (read_image, open_lazy):
        with pytest.raises(InputError, match="its 3 pages lead in a circle"):
            read(write(tmp_path, "a.tif", bytes(content)))
