"""Pictures of rarer kinds: every value as the format has it, transparency as libpng sees it, and files without a suffix."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.core.errors import InputError
from selfseg.read import find_inputs, open_lazy, read_image
from selfseg.read.formats import format_of
from selfseg.read.image import SIZES

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (11, 17), dtype=np.uint8)
RGB = RNG.integers(0, 256, (11, 17, 3), dtype=np.uint8)
ALPHA = np.where(np.arange(17) < 3, 0, 255).astype(np.uint8) + np.zeros((11, 1), np.uint8)


def pillow(data, kind, **options):
    buffer = io.BytesIO()
    Picture.fromarray(data).save(buffer, kind, **options)
    return buffer.getvalue()


def written(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


LOSSLESS = {
    "a.jp2": imagecodecs.jpeg2k_encode,
    "a.j2k": lambda data: imagecodecs.jpeg2k_encode(data, codecformat="j2k"),
    "a.jxl": lambda data: imagecodecs.jpegxl_encode(data, lossless=True),
    "a.tga": lambda data: pillow(data, "TGA"),
    "a.pcx": lambda data: pillow(data, "PCX"),
    "a.sgi": lambda data: pillow(data, "SGI"),
    "a.ppm": lambda data: pillow(data, "PPM"),
    "a.dib": lambda data: pillow(data, "BMP"),
}


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("data", [GREY, RGB], ids=["grey", "colour"])
def test_lossless_formats_keep_every_value_also_without_a_suffix(tmp_path, name, data):
    path = written(tmp_path, name, LOSSLESS[name](data))
    image = read_image(path)
    assert image.axes == ("YX" if data is GREY else "YXC") and image.valid is None
    np.testing.assert_array_equal(image.data, data)
    bare = path.rename(tmp_path / "IM_0001")
    if name in ("a.tga", "a.pcx", "a.sgi"):  # nothing certain in their first bytes
        assert format_of(bare) is None
    else:
        np.testing.assert_array_equal(read_image(bare).data, data)


@pytest.mark.parametrize("name", ["a.jp2", "a.j2k", "a.jxl"])
def test_sixteen_bits_stay(tmp_path, name):
    for data in (GREY.astype(np.uint16) * 200, RGB.astype(np.uint16) * 200):
        image = read_image(written(tmp_path, name, LOSSLESS[name](data)))
        assert image.data.dtype == np.uint16
        np.testing.assert_array_equal(image.data, data)


def test_alpha_of_new_formats(tmp_path):
    both = np.dstack([RGB, ALPHA])
    for name, content in (
        ("a.jp2", pillow(both, "JPEG2000")),
        ("a.jxl", imagecodecs.jpegxl_encode(both, lossless=True)),
        ("a.tga", pillow(both, "TGA")),
        ("a.avif", imagecodecs.avif_encode(both)),
    ):
        image = read_image(written(tmp_path, name, content))
        assert image.data.shape == RGB.shape
        np.testing.assert_array_equal(image.valid, ALPHA > 0)


def test_a_fourth_band_of_jpeg_2000_that_is_not_called_opacity_stays(tmp_path):
    bands = np.dstack([RGB, ALPHA])
    image = read_image(written(tmp_path, "a.jp2", imagecodecs.jpeg2k_encode(bands)))
    assert image.valid is None
    np.testing.assert_array_equal(image.data, bands)


def test_jpeg_and_webp_by_their_rarer_suffixes(tmp_path):
    content = pillow(RGB, "JPEG")
    want = np.asarray(Picture.open(io.BytesIO(content)))
    for name in ("a.jfif", "a.jpe", "a"):
        np.testing.assert_array_equal(read_image(written(tmp_path, name, content)).data, want)


@pytest.mark.parametrize(("bits", "lossless"), [(12, False), (12, True), (16, True)])
def test_jpeg_of_more_than_8_bits(tmp_path, bits, lossless):
    data = np.add.outer(np.arange(40) * 70, np.arange(60)).astype(np.uint16)
    content = imagecodecs.jpeg_encode(data, bitspersample=bits, lossless=lossless, level=100)
    image = read_image(written(tmp_path, "a.jpg", content))
    assert image.data.dtype == np.uint16 and np.abs(image.data.astype(int) - data).max() <= (0 if lossless else 8)


NETPBM = {
    b"P5\n# twelve bits\n4 2\n4095\n": np.array([[0, 1, 2, 3], [4000, 4095, 6, 7]], np.uint16),
    b"P6 2 1 65535\n": np.array([[[1, 2, 65535], [4, 5, 6]]], np.uint16),
    b"P2 2 1\n1000 # plain\n": np.array([[5, 999]], np.uint16),
    b"P3 1 1 300\n": np.array([[[300, 0, 7]]], np.uint16),
    b"Pf\n2 2\n-1.0\n": np.array([[1.5, -2], [3, 4]], np.float32),
    b"PF\n1 2\n1.0\n": np.array([[[1.5, -2, 0]], [[3, 4, 5]]], np.float32),
}


@pytest.mark.parametrize("header", NETPBM)
def test_deep_netpbm_keeps_its_values(tmp_path, header):
    want, kind = NETPBM[header], header[1:2]
    body = (want[::-1] if kind in b"fF" else want).astype(
        {b"f": "<f4", b"F": ">f4"}.get(kind, ">u2")
    )  # PFM goes from the bottom up
    content = " ".join(map(str, want.ravel())).encode() if kind in b"23" else body.tobytes()
    image = read_image(written(tmp_path, "a.pnm", header + content))
    assert image.data.dtype == want.dtype
    np.testing.assert_array_equal(image.data, want)
    if kind not in b"23":
        with pytest.raises(InputError):
            read_image(written(tmp_path, "cut.pnm", header + content[:-1]))


def test_one_bit_netpbm(tmp_path):
    assert read_image(written(tmp_path, "a.pbm", b"P1 3 1\n1 0 1")).data.tolist() == [[0, 255, 0]]


@pytest.mark.parametrize("codec", SIZES)
@pytest.mark.parametrize("shape", [(8, 8), (40, 60), (300, 512), (1000, 24), (17, 1031)])
def test_sizes_are_told_before_pixels_are_decoded(tmp_path, codec, shape):
    data = np.zeros(shape, np.uint8)
    content = getattr(imagecodecs, f"{codec}_encode")(np.dstack([data] * 3) if codec == "avif" else data)
    assert SIZES[codec](content) == shape
    if codec == "jpeg":
        return  # 8 bits are Pillow's
    suffix = {"jpeg2k": "jp2", "jpegxl": "jxl", "avif": "avif"}[codec]
    path = written(tmp_path, f"a.{suffix}", content)
    with pytest.raises(InputError, match="at most"):
        read_image(path, max_bytes=shape[0] * shape[1] - 1)


def raw_png(bits, colour, rows, columns, *extra, interlaced=0):
    """Build a PNG out of rows of bytes, for kinds that the usual writers do not make."""
    header = struct.pack(">IIBBBBB", columns, len(rows), bits, colour, 0, 0, interlaced)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", data), (b"IEND", b"")]
    packed = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("key", [0, 1, 257, 256, 3])
def test_a_grey_that_is_marked_as_transparent_as_libpng_has_it(tmp_path, bits, key):
    values = np.arange(16) % 2**bits if bits < 16 else np.arange(16) * 17 % 300
    packed = (values[:, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
    content = raw_png(bits, 0, [np.packbits(packed).tobytes()], 16, (b"tRNS", struct.pack(">H", key)))
    image = read_image(written(tmp_path, "a.png", content))
    alpha = imagecodecs.png_decode(content)[..., 1]
    assert (alpha > 0).all() if image.valid is None else np.array_equal(image.valid, alpha > 0)
    np.testing.assert_array_equal(image.data, imagecodecs.png_decode(content)[..., 0])


@pytest.mark.parametrize("key", [(1, 2, 3), (257, 2, 3), (1, 2, 4)])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_colour_that_is_marked_as_transparent_as_libpng_has_it(tmp_path, bits, key):
    row = struct.pack(">6H" if bits == 16 else ">6B", 1, 2, 3, 4, 5, 6)
    content = raw_png(bits, 2, [row], 2, (b"tRNS", struct.pack(">3H", *key)))
    image = read_image(written(tmp_path, "a.png", content))
    alpha = imagecodecs.png_decode(content)[..., 3]
    assert (alpha > 0).all() if image.valid is None else np.array_equal(image.valid, alpha > 0)
    assert image.data.tolist() == [[[1, 2, 3], [4, 5, 6]]]


@pytest.mark.parametrize("samples", [2, 3, 4])
@pytest.mark.parametrize("shape", [(11, 13), (1, 1), (2, 5), (5, 2)])
def test_interlaced_16_bits_are_read_and_nothing_is_printed(tmp_path, capfd, samples, shape):
    data = RNG.integers(1, 65536, (*shape, samples), dtype=np.uint16)
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    passes = [data[y::dy, x::dx].astype(">u2") for y, x, dy, dx in starts]
    raw = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    colour = {2: 4, 3: 2, 4: 6}[samples]
    header = struct.pack(">IIBBBBB", shape[1], shape[0], 16, colour, 0, 0, 1)
    profile = (b"iCCP", b"broken\0\0" + zlib.compress(b"no profile"))  # libpng prints a line about it
    chunks = [(b"IHDR", header), profile, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks)
    image = read_image(written(tmp_path, "a.png", b"\x89PNG\r\n\x1a\n" + b"".join(packed)))
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(image.channels_last(), data[..., : 1 if samples == 2 else 3])


def bmp(bits, masks, values, shape):
    header = struct.pack("<IiiHHIIiiII", 56, shape[1], -shape[0], 1, bits, 3, 0, 2835, 2835, 0, 0)
    body = header + struct.pack("<4I", *masks) + values
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 70) + body


@pytest.mark.parametrize("alpha", [0x0, 0xF])
def test_a_bmp_of_four_bits_a_colour(tmp_path, alpha):
    levels = RNG.integers(0, 16, (4, 6, 3), dtype=np.uint16)
    packed = alpha << 12 | levels[..., 0] << 8 | levels[..., 1] << 4 | levels[..., 2]
    content = bmp(16, (0xF00, 0xF0, 0xF, 0xF000), packed.astype("<u2").tobytes(), (4, 6))
    image = read_image(written(tmp_path, "a.bmp", content))
    np.testing.assert_array_equal(image.data, levels * 17)
    assert image.valid is None  # an alpha that is 0 everywhere was not filled in


def test_files_without_a_suffix_are_told_by_their_content(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    (tmp_path / "a.npy").rename(tmp_path / "series.0001")
    written(tmp_path, "IM-0001", pillow(GREY, "PNG"))
    written(tmp_path, "1.2.840.5", pillow(GREY, "BMP"))
    written(tmp_path, "notes", b"BM is short for bench mark; P5 is a peak")
    written(tmp_path, "README", b"read me")
    written(tmp_path, "table.csv", pillow(GREY, "PNG"))
    found = find_inputs(tmp_path)
    assert sorted(source.name for source in found) == ["1.2.840.5", "IM-0001", "series.0001"]
    for source in found:
        np.testing.assert_array_equal(source.read().data, GREY)
    np.testing.assert_array_equal(read_image(tmp_path / "table.csv").data, GREY)  # named by hand: content first


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture"),
        ("a.tif", b"8BPS\0\1", "a Photoshop file"),
        ("b", b"%PDF-1.4", "a PDF"),
        ("a.jpg", imagecodecs.jpegls_encode(GREY), "a JPEG-LS picture"),
        ("e", imagecodecs.jpegxr_encode(GREY), "a JPEG XR picture"),
        ("a.xyz", b"hello", "the suffix '.xyz'"),
        ("d", b"hello", "no suffix"),
    ],
)
def test_what_no_library_here_reads_is_refused_by_its_name(tmp_path, name, content, kind):
    with pytest.raises(InputError, match=f"got {kind}"):
        open_lazy(written(tmp_path, name, content))
