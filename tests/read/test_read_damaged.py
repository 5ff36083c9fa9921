"""Bad input: one clear line each, before anything large is allocated, and never a crash."""

import io
import logging
import struct
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from selfseg.core.errors import InputError
from selfseg.read import read_image

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(120), np.arange(160)).astype(np.uint8)


def pillow(kind, **options):
    buffer = io.BytesIO()
    Picture.fromarray(RGB).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(data=RGB, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, data, **options)
    return buffer.getvalue()


WHOLE = {
    "a.png": pillow("PNG"),
    "deep.png": imagecodecs.png_encode(RGB.astype(np.uint16) * 257),
    "a.jpg": pillow("JPEG", quality=90),
    "progressive.jpg": pillow("JPEG", progressive=True),
    "a.bmp": pillow("BMP"),
    "a.webp": pillow("WEBP", lossless=True),
    "a.gif": pillow("GIF"),
    "plain.tif": tiff(),
    "zlib.tif": tiff(compression="zlib", rowsperstrip=4),
    "stack.tif": tiff(np.stack([SMOOTH] * 5), photometric="minisblack"),
    "pages.tif": tiff(np.stack([SMOOTH] * 5), photometric="minisblack", metadata=None, compression="lzw"),
    "imagej.tif": tiff(np.stack([SMOOTH] * 5), imagej=True, metadata={"axes": "ZYX"}),
    "ome.tif": tiff(np.stack([SMOOTH] * 5), ome=True, metadata={"axes": "ZYX"}),
    "big.tif": tiff(bigtiff=True),
    "jpeg.tif": tiff(compression="jpeg"),
}


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def outcome(path, caplog):
    """Read under the strictest filters; return the image, or the one line of the error."""
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("error")
        try:
            return read_image(path)
        except InputError as error:
            line = str(error)
            assert "\n" not in line and path.name in line and len(line) < 700
            return line


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
    for attempt in range(60):
        content = bytearray(WHOLE[name])
        # Headers and directories are where a flip does most.
        places = rng.integers(0, [64, 400, len(content)][attempt % 3], 1 + attempt % 4) % len(content)
        for place in places:
            content[place] = int(rng.integers(0, 256))
        got = outcome(write(tmp_path, name, bytes(content)), caplog)
        assert isinstance(got, str) or got.data.size > 0
    assert not caplog.records and capfd.readouterr() == ("", "")


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


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif"])
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
