"""Pictures: what comes out of PNG, JPEG and their like."""

import struct
import warnings
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageOps

from selfseg.core.errors import InputError, UsageError
from selfseg.read import read_image
from selfseg.read.arrays import orient

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (11, 17), dtype=np.uint8)
RGB = RNG.integers(0, 256, (11, 17, 3), dtype=np.uint8)


def save(folder, picture, name="a.png", **options):
    picture.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".gif"])
def test_lossless_grey_and_colour_keep_every_value(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    if suffix != ".webp":
        image = read_image(save(tmp_path, Picture.fromarray(GREY), f"grey{suffix}"))
        assert image.axes == "YX" and image.data.dtype == np.uint8
        np.testing.assert_array_equal(image.data, GREY)
    if suffix != ".gif":
        image = read_image(save(tmp_path, Picture.fromarray(RGB), f"rgb{suffix}", **options))
        assert image.axes == "YXC" and not image.guessed_axes
        np.testing.assert_array_equal(image.data, RGB)


def test_jpeg_is_close_and_named(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    image = read_image(save(tmp_path, Picture.fromarray(smooth), "photo 1.JPG", quality=95))
    assert image.name == "photo 1" and image.source.endswith("photo 1.JPG") and image.valid is None
    assert np.abs(image.data.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png_keeps_16_bits(tmp_path, channels):
    data = RNG.integers(1, 65536, (9, 8, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(data[..., 0] if channels == 1 else data))
    image = read_image(tmp_path / "a.png")
    assert image.data.dtype == np.uint16
    np.testing.assert_array_equal(image.channels_last(), data[..., : min(channels, 3)])


def test_alpha_becomes_valid_and_an_opaque_one_nothing(tmp_path):
    alpha = np.full((11, 17), 255, np.uint8)
    opaque = np.dstack([RGB, alpha])
    assert read_image(save(tmp_path, Picture.fromarray(opaque))).valid is None
    alpha[2, 3], alpha[4, 5] = 0, 1
    for data, want, name in ((np.dstack([RGB, alpha]), RGB, "rgba.png"), (np.dstack([GREY, alpha]), GREY, "la.png")):
        image = read_image(save(tmp_path, Picture.fromarray(data), name))
        assert image.valid.sum() == 11 * 17 - 1 and not image.valid[2, 3]
        np.testing.assert_array_equal(image.data[alpha > 0], want[alpha > 0])


def test_palettes_become_rgb_and_a_transparent_index_not_valid(tmp_path):
    indices = (np.arange(12, dtype=np.uint8) % 3).reshape(3, 4)
    colours = np.array([[10, 20, 30], [200, 0, 5], [7, 8, 250]], np.uint8)
    picture = Picture.fromarray(indices).convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette(colours.ravel().tolist())
    np.testing.assert_array_equal(read_image(save(tmp_path, picture)).data, colours[indices])
    image = read_image(save(tmp_path, picture, "t.png", transparency=1))
    np.testing.assert_array_equal(image.valid, indices != 1)
    np.testing.assert_array_equal(image.data[indices != 1], colours[indices][indices != 1])


def test_one_bit_is_0_and_255(tmp_path):
    image = read_image(save(tmp_path, Picture.fromarray(GREY > 99)))
    assert image.data.dtype == np.uint8
    np.testing.assert_array_equal(image.data, np.where(GREY > 99, 255, 0))


def test_cmyk_jpeg_is_rgb(tmp_path):
    flat = np.zeros((16, 16, 3), np.uint8) + np.array([200, 100, 30], np.uint8)
    image = read_image(save(tmp_path, Picture.fromarray(flat).convert("CMYK"), "a.jpg", quality=100))
    assert image.axes == "YXC" and np.abs(image.data.astype(int) - flat).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(tmp_path, orientation):
    exif = Picture.Exif()
    exif[274] = orientation
    path = save(tmp_path, Picture.fromarray(RGB), exif=exif)
    with Picture.open(path) as picture:
        want = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_image(path).data, want)
    np.testing.assert_array_equal(orient(RGB, orientation), want)


def test_orientation_of_16_bit_colour(tmp_path):
    data = RNG.integers(0, 65536, (4, 6, 3), dtype=np.uint16)
    exif = Picture.Exif()
    exif[274] = 6
    block = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    encoded = imagecodecs.png_encode(data)
    chunk = struct.pack(">I", len(block) - 4) + block + struct.pack(">I", zlib.crc32(block))
    (tmp_path / "a.png").write_bytes(encoded[:33] + chunk + encoded[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").data, np.rot90(data, -1))


def test_the_frames_of_a_gif_are_time_points(tmp_path):
    frames = [Picture.fromarray(np.full((5, 6), value, np.uint8)) for value in (10, 200)]
    path = save(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    image = read_image(path)
    assert image.axes == "TYX" and (image.data[0] == 10).all() and (image.data[1] == 200).all()


def test_one_pixel(tmp_path):
    assert read_image(save(tmp_path, Picture.fromarray(GREY[:1, :1]))).data.shape == (1, 1)


def test_contents_count_more_than_a_wrong_suffix(tmp_path):
    path = save(tmp_path, Picture.fromarray(RGB), "a.png").rename(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(path).data, RGB)


def test_large_pictures_pass_without_a_warning(tmp_path):
    path = save(tmp_path, Picture.new("1", (20000, 10000)))  # Pillow's own limit warns from 89 million pixels on
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).data.shape == (10000, 20000)
    with pytest.raises(InputError, match=r"at most 1\.0 MB of pixels, got 10000 x 20000 x 1 values"):
        read_image(path, max_bytes=1_000_000)


def test_axes_are_checked(tmp_path):
    path = save(tmp_path, Picture.fromarray(RGB))
    assert read_image(path, axes="zyx").axes == "ZYX"
    with pytest.raises(InputError, match=r"a\.png: expected 2 axes \(YX\), got 3 axes of 11 x 17 x 3"):
        read_image(path, axes="YX")
    with pytest.raises(UsageError, match="axes"):
        read_image(path, axes="QYX")


def raw_png(bits, colour, rows, *extra):
    """Build a PNG out of rows of bytes, for kinds that the usual writers do not make."""
    header = struct.pack(">IIBBBBB", 2, len(rows), bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", data), (b"IEND", b"")]
    packed = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_16_bit_grey_with_alpha_and_16_bit_colour_with_a_transparent_one(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(
        raw_png(16, 4, [struct.pack(">4H", 1000, 65535, 2000, 0), struct.pack(">4H", 3000, 9, 4000, 65535)])
    )
    image = read_image(path)
    assert image.axes == "YX" and image.data.tolist() == [[1000, 2000], [3000, 4000]]
    assert image.valid.tolist() == [[True, False], [True, True]]
    key = (b"tRNS", struct.pack(">3H", 4, 5, 6))
    path.write_bytes(raw_png(16, 2, [struct.pack(">6H", 1, 2, 3, 4, 5, 6)], key))
    image = read_image(path)
    assert image.axes == "YXC" and image.data.tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert image.valid is not None and image.valid.tolist() == [[True, False]]
