"""LZW: unpacked as others packed it (imagecodecs, Pillow's libtiff), as the specification's own example says, and never beyond."""

import contextlib
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from reference.image_files import RGB, SMOOTH, VOLUME
from selfseg.core.errors import InputError
from selfseg.read import open_lazy, read_image
from selfseg.read._lzw import unpack_lzw

RNG = np.random.default_rng(0)


def packed(codes):
    """Codes of 9 bits, highest bit first."""
    bits = "".join(f"{code:09b}" for code in codes)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def test_the_example_of_the_specification():
    """TIFF 6.0, page 60: the string 7 7 7 8 8 7 7 6 6."""
    stream = packed([256, 7, 258, 8, 8, 258, 6, 6, 257])
    assert unpack_lzw(stream, 100).tolist() == [7, 7, 7, 8, 8, 7, 7, 6, 6]
    assert unpack_lzw(stream, 5).tolist() == [7, 7, 7, 8, 8]  # the first bytes only, and nothing behind them


@pytest.mark.parametrize(
    "values",
    [
        RNG.integers(0, 256, 60_000, dtype=np.uint8),  # fills the table many times
        RNG.integers(0, 3, 200_000).astype(np.uint8),  # long entries
        np.zeros(300_000, np.uint8),  # entries that end with the byte they begin with
        SMOOTH.ravel(),
        np.arange(1, dtype=np.uint8),
    ],
)
def test_what_imagecodecs_packs_is_unpacked(values):
    stream = imagecodecs.lzw_encode(values.tobytes())
    np.testing.assert_array_equal(unpack_lzw(stream, values.size), values)
    np.testing.assert_array_equal(unpack_lzw(stream, values.size + 10), values)
    np.testing.assert_array_equal(unpack_lzw(stream[:-2], values.size)[: values.size // 2], values[: values.size // 2])


def test_damaged_streams_are_refused_or_give_what_they_say():
    with pytest.raises(ValueError, match="not made yet"):
        unpack_lzw(packed([256, 7, 259]), 100)
    with pytest.raises(ValueError, match="not made yet"):
        unpack_lzw(packed([256, 258]), 100)
    with pytest.raises(ValueError, match="not made yet"):
        unpack_lzw(b"\0\1\xff\xff\xff", 100)  # of before TIFF 6.0
    for stream in (b"", b"\x80", packed([256]), packed([257]), packed([256, 257])):
        assert unpack_lzw(stream, 100).size == 0
    for _ in range(2000):
        stream = RNG.integers(0, 256, int(RNG.integers(0, 300)), dtype=np.uint8)
        with contextlib.suppress(ValueError):
            assert unpack_lzw(stream, 500).size <= 500


def packed_as_before_tiff_6(values):
    """Pack with the lowest bits first, and codes that grow once they must: by a table of strings."""
    table, bits, codes = {}, [], []

    def put(code, width):
        bits.append(f"{code:0{width}b}"[::-1])

    put(256, 9)
    string, width = b"", 9
    for value in values.tobytes():
        longer = string + bytes([value])
        if len(longer) == 1 or longer in table:
            string = longer
            continue
        put(table.get(string, string[0]), width)
        table[longer] = 258 + len(table)
        if 258 + len(table) - 1 == 1 << width:  # the decoder knows one string less
            width += 1
        if len(table) == 4096 - 258 - 2:
            codes.append(len(table))
            put(256, width)
            table, width = {}, 9
        string = bytes([value])
    put(table.get(string, string[0]), width)
    put(257, width)
    together = "".join(bits)
    together += "0" * (-len(together) % 8)
    return bytes(int(together[i : i + 8][::-1], 2) for i in range(0, len(together), 8))


@pytest.mark.parametrize("n", [1, 9, 300, 30_000])
def test_streams_of_before_tiff_6_as_libtiff_reads_them(tmp_path, n):
    values = (np.arange(n) * 7 % 23 + RNG.integers(0, 3, n)).astype(np.uint8)
    stream = packed_as_before_tiff_6(values)
    np.testing.assert_array_equal(unpack_lzw(stream, n), values)
    tifffile.imwrite(tmp_path / "a.tif", values[None], compression="lzw", photometric="minisblack", metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        tags = tif.pages[0].tags
        struct.pack_into("<I", content, tags[273].offset + 8, len(content))
        struct.pack_into("<HII", content, tags[279].offset + 2, 4, 1, len(stream))
    (tmp_path / "a.tif").write_bytes(bytes(content) + stream)
    with Picture.open(tmp_path / "a.tif") as picture:
        np.testing.assert_array_equal(np.asarray(picture), values[None])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, values[None])


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "I;16"])
def test_tiffs_of_pillow(tmp_path, mode):
    picture = Picture.fromarray(VOLUME[0]) if mode == "I;16" else Picture.fromarray(RGB).convert(mode)
    for name, compression in (("lzw.tif", "tiff_lzw"), ("plain.tif", None)):
        picture.save(tmp_path / name, compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "lzw.tif").data, read_image(tmp_path / "plain.tif").data)


@pytest.mark.parametrize(
    "options", [{}, {"predictor": True}, {"tile": (32, 48)}, {"rowsperstrip": 7, "byteorder": ">"}]
)
@pytest.mark.parametrize("data", [RGB, VOLUME, VOLUME.astype(np.float32)], ids=["rgb", "volume", "float"])
def test_tiffs_of_tifffile_whole_and_by_windows(tmp_path, data, options):
    photometric = "rgb" if data is RGB else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", data, compression="lzw", photometric=photometric, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, data)
    with open_lazy(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(
            image.window(Y=slice(3, 19), X=slice(5, 29)).data,
            data[..., 3:19, 5:29, :] if data is RGB else data[..., 3:19, 5:29],
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": None},
        {"ome": True},
        {"imagej": True},
        {"predictor": True},
        {"metadata": None, "description": "x"},
    ],
)
def test_imagecodecs_decoder_is_not_asked(tmp_path, monkeypatch, options):
    from tifffile import tifffile as module

    def refuse(*_, **__):
        raise RuntimeError("imagecodecs was asked")

    monkeypatch.setitem(module.TIFF.DECOMPRESSORS._codecs, 5, refuse)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME, compression="lzw", photometric="minisblack", **options)
    np.testing.assert_array_equal(read_image(path).data, VOLUME)
    with open_lazy(path) as image:
        np.testing.assert_array_equal(image.data[2:4], VOLUME[2:4])
    with pytest.raises(RuntimeError):  # so this is what would have been asked
        tifffile.imread(path)


def test_bits_in_the_other_order(tmp_path):
    """FillOrder 2: the bits of every byte of the stream stand the other way round."""
    options = {"compression": "lzw", "photometric": "minisblack", "rowsperstrip": 7}
    tifffile.imwrite(tmp_path / "a.tif", SMOOTH, extratags=[(65001, 3, 1, 2, True)], **options)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        struct.pack_into("<H", content, tif.pages[0].tags[65001].offset, 266)
        for offset, count in zip(tif.pages[0].dataoffsets, tif.pages[0].databytecounts, strict=True):
            turned = (int(f"{byte:08b}"[::-1], 2) for byte in content[offset : offset + count])
            content[offset : offset + count] = bytes(turned)
    (tmp_path / "a.tif").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, SMOOTH)
    with open_lazy(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.window(Y=slice(10, 30), X=slice(0, 9)).data, SMOOTH[10:30, :9])


def test_a_damaged_strip_is_one_line(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, compression="lzw")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        offset, count = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[offset + 2 : offset + count] = b"\xff" * (count - 2)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif: expected a whole image file"):
        read_image(tmp_path / "a.tif")
