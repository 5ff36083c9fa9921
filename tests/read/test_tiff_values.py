"""Values of TIFF pages: no data, masks, palettes, colour spaces, opacity; whole, by windows, and as libtiff sees them."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from PIL import ImageCms

from selfseg.core.errors import InputError
from selfseg.read import open_lazy, read_image
from selfseg.read._no_data import no_data_value

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:37, :53]
SMOOTH = np.stack([ROWS * 6, COLUMNS * 4, 255 - COLUMNS * 3], -1).astype(np.uint8)  # [37 53 3]

SHORT, LONG, RATIONAL = "H", "I", "2I"


def raw_tiff(path, shape, samples, segments, tags=(), bits=8, photometric=1, compression=1, planar=1, rows=None):
    """Write a TIFF of strips tag by tag, for kinds that the usual writers do not make."""
    content, offsets = b"II*\0" + bytes(4), []
    for segment in segments:
        offsets.append(len(content))
        content += segment + bytes(len(segment) % 2)
    entries = {
        256: (LONG, [shape[1]]), 257: (LONG, [shape[0]]), 258: (SHORT, [bits] * samples), 259: (SHORT, [compression]),
        262: (SHORT, [photometric]), 273: (LONG, offsets), 277: (SHORT, [samples]), 278: (LONG, [rows or shape[0]]),
        279: (LONG, [len(segment) for segment in segments]), 284: (SHORT, [planar]), **dict(tags),
    }  # fmt: skip
    entries = {code: entry for code, entry in sorted(entries.items()) if entry is not None}
    at = len(content)
    directory, beyond = struct.pack("<H", len(entries)), b""
    end = at + 2 + 12 * len(entries) + 4
    for code, (kind, values) in entries.items():
        packed = struct.pack(f"<{len(values) * 2}I" if kind == RATIONAL else f"<{len(values)}{kind}", *np.ravel(values))
        number = {SHORT: 3, LONG: 4, RATIONAL: 5}[kind]
        directory += struct.pack("<HHI", code, number, len(values))
        directory += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", end + len(beyond))
        beyond += packed if len(packed) > 4 else b""
    path.write_bytes(content[:4] + struct.pack("<I", at) + content[8:] + directory + bytes(4) + beyond)
    return path


def libtiff(path):
    return imagecodecs.tiff_decode(path.read_bytes(), asrgb=True)[..., :3]


def whole_and_windows(path):
    """Read a file whole, hold windows of it against that, and return it."""
    image = read_image(path)
    with open_lazy(path) as lazy:
        assert (lazy.axes, lazy.data.shape, lazy.data.dtype) == (image.axes, image.data.shape, image.data.dtype)
        for ranges in (slice(0, 2), slice(1, 9)), (slice(5, 20), slice(0, 3)), (slice(30, 37), slice(40, 53)):
            place = {"Y": ranges[0], "X": ranges[1]}
            window = lazy.window(**place)
            index = tuple(place.get(letter, slice(None)) for letter in image.axes)
            np.testing.assert_array_equal(window.data, image.data[index])
            shown = np.ones(image.data.shape, bool)[..., 0] if image.axes == "YXC" else np.ones(image.data.shape, bool)
            if image.valid is not None:
                spatial = tuple(part for part, letter in zip(index, image.axes, strict=True) if letter != "C")
                shown = image.valid[spatial]
                assert shown.all() if window.valid is None else np.array_equal(window.valid, shown)
    return image


# No data


@pytest.mark.parametrize(
    ("text", "dtype", "value"),
    [
        ("0", "u1", 0), ("255.0", "u1", 255), ("256", "u1", None), ("-9999", "u1", None), ("nan", "u2", None),
        ("-32768.0", "i2", -32768), ("-32769", "i2", None), (" 7 ", "u1", 7), ("7\0", "u1", 7), ("1e2", "u1", 100),
        ("2.55E+02", "u1", 255), ("0.5", "u1", None), ("0,0", "i2", 0), ("", "u1", None), ("none", "u1", None),
        ("inf", "u1", None), ("1e400", "f8", None), ("1e999999999", "u2", None), ("1.#QNAN", "u1", None),
        ("9223372036854775807", "i8", 2**63 - 1), ("18446744073709551615", "u8", 2**64 - 1),
        ("-3.4028234663852886e+38", "f4", np.finfo("f4").min), ("-3.40282347e+38", "f4", np.finfo("f4").min),
        ("-1.7976931348623157e+308", "f4", None), ("-1.7976931348623157e+308", "f8", np.finfo("f8").min),
        ("-9999 -9999 -9999", "f4", np.float32(-9999)), ("0 255", "u1", None), ("1", "?", 1), ("2", "?", None),
        (b"-9999", "i2", -9999), (-9999.0, "i2", -9999), ((0.0, 0.0), "u1", 0), ("65504", "f2", np.float16(65504)),
        ("nan", "f4", None),
    ],
)  # fmt: skip
def test_a_mark_for_no_data_is_the_value_that_it_names_or_none(text, dtype, value):
    assert no_data_value(text, dtype) == value


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
@pytest.mark.parametrize("text", ["-9999", "255.0", "nan", "-3.4028234663852886e+38", "1e5"])
def test_exactly_the_pixels_of_the_marked_value_are_not_valid(tmp_path, dtype, text):
    data = (SMOOTH[..., 0] % 100 + 1).astype(dtype)
    data[3] = 0
    value = no_data_value(text, dtype)
    if value is not None:
        data[5, 7:9] = value
    tifffile.imwrite(tmp_path / "a.tif", data, extratags=[(42113, 2, 0, text, True)], rowsperstrip=5)
    image = whole_and_windows(tmp_path / "a.tif")
    hidden = [] if image.valid is None else np.argwhere(~image.valid).tolist()
    assert hidden == ([] if value is None else [[5, 7], [5, 8]])
    np.testing.assert_array_equal(image.data, data)


def test_no_data_of_one_bit_of_floats_and_of_colours(tmp_path):
    bits = SMOOTH[..., 0] > 100
    tifffile.imwrite(tmp_path / "a.tif", bits, photometric="minisblack", extratags=[(42113, 2, 0, "0", True)])
    np.testing.assert_array_equal(whole_and_windows(tmp_path / "a.tif").valid, bits)
    floats = SMOOTH[..., 0].astype(np.float32)
    floats[1, 1:3] = np.nextafter(np.float32(-9999.9), np.float32(0)), -9999
    tifffile.imwrite(tmp_path / "a.tif", floats, extratags=[(42113, 2, 0, "-9999.9", True)])
    assert np.argwhere(~whole_and_windows(tmp_path / "a.tif").valid).tolist() == [[1, 1]]
    colours = SMOOTH.copy()
    colours[2, 2], colours[2, 3] = 0, (0, 0, 9)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", extratags=[(42113, 2, 0, "0", True)])
    hidden = (colours == 0).all(-1)
    image = whole_and_windows(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.valid, ~hidden)
    assert image.valid.flags.writeable and open_lazy(tmp_path / "a.tif").window().valid.flags.writeable


def test_opacity_does_not_count_as_a_colour_beside_no_data(tmp_path):
    data = np.dstack([SMOOTH + 1 - (SMOOTH == 255), np.full(SMOOTH.shape[:2], 255, np.uint8)])
    data[4, 4] = (0, 0, 0, 255)
    data[5, 5, 3] = 0
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"], "extratags": [(42113, 2, 0, "0", True)]}
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    assert np.argwhere(~whole_and_windows(tmp_path / "a.tif").valid).tolist() == [[4, 4], [5, 5]]


def test_tiles_that_were_left_out_are_no_data(tmp_path):
    data = np.full((48, 64), 9, np.uint8)
    tags = [(42113, 2, 0, "255.0", True)]
    tifffile.imwrite(tmp_path / "a.tif", data, tile=(16, 16), compression="zlib", extratags=tags, metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        counts, offsets = (tif.pages[0].tags[code] for code in (325, 324))
        for tag in counts, offsets:
            size = struct.calcsize("<" + {3: "H", 4: "I"}[tag.dtype])
            content[tag.valueoffset + 2 * size : tag.valueoffset + 3 * size] = bytes(size)
    (tmp_path / "a.tif").write_bytes(content)
    image = read_image(tmp_path / "a.tif")
    expected = np.ones((48, 64), bool)
    expected[:16, 32:48] = False
    np.testing.assert_array_equal(image.valid, expected)
    with open_lazy(tmp_path / "a.tif") as lazy:
        assert not lazy.window(Y=slice(0, 5), X=slice(33, 40)).valid.any()


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "zlib"}])
def test_a_mask_page_as_gdal_keeps_it(tmp_path, options):
    mask = SMOOTH[..., 0] > 60
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(SMOOTH, photometric="rgb", metadata=None, **options)
        tif.write(mask, photometric="mask", subfiletype=4, metadata=None, compression=options.get("compression"))
    image = whole_and_windows(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.data, SMOOTH)
    np.testing.assert_array_equal(image.valid, mask)


def test_no_data_holds_for_all_levels_of_a_pyramid(tmp_path):
    data = np.full((64, 64), 7, np.uint8)
    data[:32] = 255
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tags = [(42113, 2, 0, "255", True)]
        tif.write(data, subifds=1, extratags=tags, tile=(16, 16), photometric="minisblack")
        tif.write(data[::2, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack")
    for level in (0, 1):
        with open_lazy(tmp_path / "a.tif", level=level) as image:
            np.testing.assert_array_equal(image.window().valid, data[:: 2**level, :: 2**level] == 7)


# Palettes


def palette_image(bits, table, numbers, path, **options):
    packed = (numbers[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
    rows = np.packbits(packed.reshape(len(numbers), -1), axis=1)
    content = numbers.astype("<u2").tobytes() if bits == 16 else rows.tobytes()
    return raw_tiff(
        path, numbers.shape, 1, [content], {320: (SHORT, table.T.ravel().tolist())}, bits, photometric=3, **options
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_palettes_of_all_depths(tmp_path, bits):
    table = RNG.integers(0, 65536, (2**bits, 3))
    table[0] = 65535
    numbers = RNG.integers(0, 2**bits, (37, 53))
    path = palette_image(bits, table, numbers, tmp_path / "a.tif")
    image = whole_and_windows(path)
    np.testing.assert_array_equal(image.data, (table // 256)[numbers])
    if bits < 16:
        np.testing.assert_array_equal(image.data, np.asarray(Picture.open(path).convert("RGB")))


def test_each_page_has_its_own_palette(tmp_path):
    tables = RNG.integers(0, 65536, (3, 3, 256), dtype=np.uint16)
    numbers = RNG.integers(0, 256, (3, 37, 53), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for table, page in zip(tables, numbers, strict=True):
            tif.write(page, photometric="palette", colormap=table, metadata=None)
    image = whole_and_windows(tmp_path / "a.tif")
    assert image.axes == "ZYXC"
    for table, page, values in zip(tables, numbers, image.data, strict=True):
        np.testing.assert_array_equal(values, (table >> 8).T[page])
    with open_lazy(tmp_path / "a.tif") as lazy:
        np.testing.assert_array_equal(lazy.data[1:, 3:5, 7:9], image.data[1:, 3:5, 7:9])


@pytest.mark.parametrize(("kind", "masked"), [(2, True), (1, True), (0, False)])
def test_palette_with_a_sample_more(tmp_path, kind, masked):
    table = RNG.integers(0, 65536, (256, 3))
    data = RNG.integers(0, 3, (37, 53, 2), dtype=np.uint8)
    tags = {320: (SHORT, table.T.ravel().tolist()), 338: (SHORT, [kind])}
    path = raw_tiff(tmp_path / "a.tif", data.shape, 2, [data.tobytes()], tags, photometric=3)
    image = whole_and_windows(path)
    np.testing.assert_array_equal(image.data, (table // 256)[data[..., 0]])
    assert (image.valid is not None) == masked
    if masked:
        np.testing.assert_array_equal(image.valid, data[..., 1] > 0)


# Colour spaces


def ycbcr_of(rgb, luma=(0.299, 0.587, 0.114), top=255):
    """TIFF 6.0, section 21, as a loop over pixels."""
    out = np.empty(rgb.shape)
    half = (top + 1) // 2
    for place in np.ndindex(rgb.shape[:2]):
        r, g, b = rgb[place].astype(float)
        y = luma[0] * r + luma[1] * g + luma[2] * b
        cb, cr = (b - y) / (2 - 2 * luma[2]), (r - y) / (2 - 2 * luma[0])
        out[place] = y, cb + half, cr + half
    return np.rint(out).clip(0, top)


def units(ycbcr, across, down):
    """Data units of a strip: a block of brightnesses, then one Cb and one Cr."""
    out = []
    rows, columns = ycbcr.shape[:2]
    for y in range(0, rows, down):
        for x in range(0, columns, across):
            block = [
                ycbcr[min(y + j, rows - 1), min(x + i, columns - 1), 0] for j in range(down) for i in range(across)
            ]
            out += [*block, ycbcr[y, x, 1], ycbcr[y, x, 2]]
    return np.array(out)


@pytest.mark.parametrize("steps", [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2), (4, 4)])
@pytest.mark.parametrize("compression", [1, 8, 5])
def test_ycbcr_with_fewer_colours_than_brightnesses_as_libtiff_reads_it(tmp_path, steps, compression):
    ycbcr = ycbcr_of(SMOOTH).astype(np.uint8)
    strips = [units(ycbcr[i : i + 8], *steps).astype(np.uint8).tobytes() for i in range(0, 37, 8)]
    packers = {1: bytes, 8: imagecodecs.zlib_encode, 5: imagecodecs.lzw_encode}
    strips = [packers[compression](strip) for strip in strips]
    path = raw_tiff(
        tmp_path / "a.tif", (37, 53), 3, strips, {530: (SHORT, steps)}, photometric=6, compression=compression, rows=8
    )
    image = whole_and_windows(path)
    assert np.abs(image.data.astype(int) - libtiff(path)).max() <= 1
    if steps == (1, 1):
        assert np.abs(image.data.astype(int) - SMOOTH).max() <= 2


def test_ycbcr_with_other_weights_and_black_and_white(tmp_path):
    luma = (0.2126, 0.7152, 0.0722)
    ycbcr = ycbcr_of(SMOOTH, luma)
    scaled = ycbcr * [219 / 255, 224 / 254, 224 / 254] + [16, 128 - 128 * 224 / 254, 128 - 128 * 224 / 254]
    tags = {
        529: (RATIONAL, [(int(1e4 * share), 10000) for share in luma]),
        530: (SHORT, (1, 1)),
        532: (RATIONAL, [(value, 1) for value in (16, 235, 128, 240, 128, 240)]),
    }
    content = np.rint(scaled).astype(np.uint8).tobytes()
    image = whole_and_windows(raw_tiff(tmp_path / "a.tif", (37, 53), 3, [content], tags, photometric=6))
    assert np.abs(image.data.astype(int) - SMOOTH).max() <= 4
    assert np.abs(image.data.astype(int) - libtiff(tmp_path / "a.tif")).max() <= 3  # which cuts to integers midway


def test_ycbcr_in_planes_of_one_size_and_of_two(tmp_path):
    ycbcr = ycbcr_of(SMOOTH).astype(np.uint8)
    planes = [np.ascontiguousarray(ycbcr[..., i]).tobytes() for i in range(3)]
    path = raw_tiff(tmp_path / "a.tif", (37, 53), 3, planes, {530: (SHORT, (1, 1))}, photometric=6, planar=2)
    image = whole_and_windows(path)
    assert image.axes == "CYX" and np.abs(image.channels_last().astype(int) - libtiff(path)).max() <= 1
    planes[1:] = [np.ascontiguousarray(ycbcr[::2, ::2, i]).tobytes() for i in (1, 2)]
    path = raw_tiff(tmp_path / "b.tif", (37, 53), 3, planes, {530: (SHORT, (2, 2))}, photometric=6, planar=2)
    found = whole_and_windows(path).channels_last().astype(int)
    strips = [units(ycbcr, 2, 2).astype(np.uint8).tobytes()]
    together = raw_tiff(tmp_path / "c.tif", (37, 53), 3, strips, {530: (SHORT, (2, 2))}, photometric=6)
    np.testing.assert_array_equal(found, read_image(together).data)


def test_ycbcr_of_16_bits_and_without_the_tag_of_its_steps(tmp_path):
    deep = SMOOTH.astype(np.uint16) * 257
    content = ycbcr_of(deep, top=65535).astype("<u2").tobytes()
    image = whole_and_windows(raw_tiff(tmp_path / "a.tif", (37, 53), 3, [content], bits=16, photometric=6))
    assert image.data.dtype == np.uint16 and np.abs(image.data.astype(int) - deep).max() <= 2


def test_ycbcr_with_a_predictor_over_fewer_colours_is_refused(tmp_path):
    tags = {530: (SHORT, (2, 2)), 317: (SHORT, [2])}
    content = imagecodecs.zlib_encode(units(ycbcr_of(SMOOTH), 2, 2).astype(np.uint8).tobytes())
    path = raw_tiff(tmp_path / "a.tif", (37, 53), 3, [content], tags, photometric=6, compression=8)
    with pytest.raises(InputError, match="YCbCr of 8 bits, spread"):
        read_image(path)


def lab_of(rgb):
    """L*, a*, b* of sRGB by the profiles of Little CMS, as ``[Y X 3]`` floats."""
    space = ImageCms.createProfile("LAB")
    stored = np.asarray(
        ImageCms.profileToProfile(Picture.fromarray(rgb), ImageCms.createProfile("sRGB"), space, outputMode="LAB")
    )
    return np.stack([stored[..., 0] / 2.55, stored[..., 1].view(np.int8), stored[..., 2].view(np.int8)], -1)


LABS = {
    "CIELab": (8, 8, lambda lab: np.concatenate([lab[..., :1] * 2.55, lab[..., 1:] % 256], -1)),
    "CIELab of 16 bits": (8, 16, lambda lab: np.concatenate([lab[..., :1] * 655.35, lab[..., 1:] * 256 % 65536], -1)),
    "ICCLab": (9, 8, lambda lab: np.concatenate([lab[..., :1] * 2.55, lab[..., 1:] + 128], -1)),
    "ICCLab of 16 bits": (9, 16, lambda lab: np.concatenate([lab[..., :1] * 652.8, (lab[..., 1:] + 128) * 256], -1)),
    "ITULab": (10, 8, lambda lab: (lab - [0, -85, -75]) * [2.55, 1.5, 1.275]),
}


@pytest.mark.parametrize("name", LABS)
@pytest.mark.parametrize("planar", [False, True])
def test_lab_is_rgb(tmp_path, name, planar):
    kind, bits, encoded = LABS[name]
    soft = (SMOOTH // 3 + 80).astype(np.uint8)  # colours that all of the encodings can hold
    values = np.rint(encoded(lab_of(soft))).astype(f"<u{bits // 8}")
    segments = [np.ascontiguousarray(values[..., i]).tobytes() for i in range(3)] if planar else [values.tobytes()]
    path = raw_tiff(tmp_path / "a.tif", (37, 53), 3, segments, bits=bits, photometric=kind, planar=2 if planar else 1)
    image = whole_and_windows(path)
    found = image.channels_last() / (257 if bits == 16 else 1)
    assert image.data.dtype == values.dtype.newbyteorder("=") and np.abs(found - soft).max() <= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", [False, True])
def test_cmyk_of_both_depths_and_further_inks(tmp_path, dtype, planar):
    ink = RNG.integers(0, np.iinfo(dtype).max, (37, 53, 5), dtype=dtype)
    top = int(np.iinfo(dtype).max)
    for n, extra in ((4, []), (5, ["unspecified"])):
        data = np.ascontiguousarray(np.moveaxis(ink[..., :n], -1, 0)) if planar else ink[..., :n]
        config = "separate" if planar else "contig"
        tifffile.imwrite(tmp_path / "a.tif", data, photometric="separated", planarconfig=config, extrasamples=extra)
        found = whole_and_windows(tmp_path / "a.tif").channels_last()
        light = 1 - ink / top
        np.testing.assert_allclose(found[..., :3], top * light[..., :3] * light[..., 3:4], atol=0.51)
        np.testing.assert_array_equal(found[..., 3:], ink[..., 4:n])


def test_other_inks_than_cmyk_stay(tmp_path):
    ink = RNG.integers(0, 256, (37, 53, 4), dtype=np.uint8)
    path = raw_tiff(tmp_path / "a.tif", (37, 53), 4, [ink.tobytes()], {332: (SHORT, [2])}, photometric=5)
    np.testing.assert_array_equal(whole_and_windows(path).data, ink)


@pytest.mark.parametrize(("kind", "samples", "name"), [(6, 3, "YCbCr"), (8, 3, "CIELab"), (5, 4, "CMYK")])
def test_colour_spaces_of_floats_are_refused_by_their_name(tmp_path, kind, samples, name):
    content = np.zeros((37, 53, samples), "<f4").tobytes()
    tags = {339: (SHORT, [3] * samples), 530: (SHORT, (1, 1))}
    path = raw_tiff(tmp_path / "a.tif", (37, 53), samples, [content], tags, bits=32, photometric=kind)
    with pytest.raises(InputError, match=f"got {name} of type float32"):
        open_lazy(path)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_white_is_zero_of_all_depths(tmp_path, bits):
    numbers = RNG.integers(0, 2**bits, (37, 53))
    packed = (numbers[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
    rows = np.packbits(packed.reshape(len(numbers), -1), axis=1)
    content = numbers.astype("<u2").tobytes() if bits == 16 else rows.tobytes()
    image = whole_and_windows(raw_tiff(tmp_path / "a.tif", (37, 53), 1, [content], bits=bits, photometric=0))
    np.testing.assert_array_equal(image.data, (2**bits - 1 - numbers) * (255 // (2**bits - 1) if bits < 8 else 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("samples", [1, 3])
def test_colours_that_are_stored_times_their_opacity_are_freed_from_it(tmp_path, dtype, samples):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    colours = (SMOOTH[..., :samples] / 255 * top).astype(dtype)
    alpha = (np.linspace(0, 1, 53) * top).astype(dtype) + np.zeros((37, 1), dtype)
    stored = (colours.astype(float) * alpha[..., None] / top).astype(dtype)
    kind = "rgb" if samples == 3 else "minisblack"
    data = np.concatenate([stored, alpha[..., None]], -1)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric=kind, extrasamples=["assocalpha"], planarconfig="contig")
    image = whole_and_windows(tmp_path / "a.tif")
    clear = alpha > top / 2
    difference = np.abs(image.channels_last().astype(float) - colours)[clear] / top
    assert difference.max() <= 2.1 / 255 and (image.valid == (alpha > 0)).all()


# Pages and strips


def test_pages_whose_strips_differ_are_a_stack(tmp_path):
    pages = RNG.integers(0, 256, (4, 37, 53), dtype=np.uint8)
    options = ({"rowsperstrip": 5}, {"rowsperstrip": 37}, {"tile": (16, 16)}, {"compression": "zlib"})
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page, option in zip(pages, options, strict=True):
            tif.write(page, metadata=None, photometric="minisblack", **option)
    image = whole_and_windows(tmp_path / "a.tif")
    assert image.axes == "ZYX" and image.guessed_axes
    np.testing.assert_array_equal(image.data, pages)


def test_pages_of_one_size_and_other_types_are_told_apart_in_the_message(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for dtype in ("u1", "f4"):
            tif.write(SMOOTH[..., 0].astype(dtype), metadata=None)
    with pytest.raises(InputError, match=r"expected one image of 37 x 53, got 2 images \(37 x 53 uint8 minisblack, "):
        read_image(tmp_path / "a.tif")


def test_images_inside_a_page_are_no_images_of_their_own(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(SMOOTH, photometric="rgb", subifds=1)
        tif.write(SMOOTH[::2, ::2], photometric="rgb")  # without the mark of a smaller copy
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, SMOOTH)


@pytest.mark.parametrize("bits", [1, 8])
@pytest.mark.parametrize("counts", [None, (LONG, [0] * 5), (LONG, [10**6] * 5)])
def test_strips_without_their_bytes_or_with_too_many(tmp_path, bits, counts):
    grey = SMOOTH[..., 1] > 100 if bits == 1 else SMOOTH[..., 1]
    packed = np.packbits(grey, axis=1) if bits == 1 else grey
    strips = [packed[i : i + 8].tobytes() for i in range(0, 37, 8)]
    path = raw_tiff(tmp_path / "a.tif", (37, 53), 1, strips, {279: counts}, bits=bits, rows=8)
    np.testing.assert_array_equal(whole_and_windows(path).data, np.where(grey, 255, 0) if bits == 1 else grey)


def test_packed_strips_without_their_bytes(tmp_path):
    strips = [imagecodecs.zlib_encode(SMOOTH[i : i + 8, :, 1].tobytes()) for i in range(0, 37, 8)]
    path = raw_tiff(tmp_path / "a.tif", (37, 53), 1, strips, {279: None}, rows=8, compression=8)
    np.testing.assert_array_equal(whole_and_windows(path).data, SMOOTH[..., 1])


def test_jpeg_of_before_1995_is_read_as_libtiff_does(tmp_path):
    buffer = io.BytesIO()
    Picture.fromarray(SMOOTH).save(buffer, "JPEG", quality=95, subsampling=2)
    jpeg = buffer.getvalue()
    tags = {513: (LONG, [8]), 514: (LONG, [len(jpeg)]), 512: (SHORT, [1]), 530: (SHORT, (2, 2))}
    path = raw_tiff(tmp_path / "a.tif", (37, 53), 3, [jpeg], tags, photometric=6, compression=6)
    image = whole_and_windows(path)
    assert image.axes == "YXC" and np.abs(image.data.astype(int) - libtiff(path)).max() <= 1
    assert np.abs(image.data.astype(int) - SMOOTH).mean() < 3


@pytest.mark.parametrize(("number", "name"), [(32809, "THUNDERSCAN"), (34676, "SGILOG"), (9999, "number 9999")])
def test_a_compression_that_nobody_here_reads_is_named(tmp_path, number, name):
    path = raw_tiff(tmp_path / "a.tif", (37, 53), 1, [bytes(300)], compression=number)
    with pytest.raises(InputError, match=f"a TIFF compression that can be read, got .*{name}"):
        open_lazy(path)


# Aborted acquisitions, and time


def aborted(path, data, axes, n_pages, **options):
    """Write the first pages of a stack under OME metadata that list all of it, as an acquisition that was stopped leaves them."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, data, ome=True, metadata={"axes": axes})
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as tif:
        description = tif.pages[0].description
    with tifffile.TiffWriter(path) as tif:
        for i, page in enumerate(data.reshape(-1, *data.shape[-2:])[:n_pages]):
            tif.write(page, description=description if i == 0 else None, metadata=None, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
@pytest.mark.parametrize(
    ("shape", "axes", "n_pages", "kept"),
    [
        ((6, 2), "TC", 12, ((6, 2), "TCYX")),
        ((6, 2), "TC", 7, ((3, 2), "TCYX")),  # the fourth time point lacks a channel
        ((6,), "T", 4, ((4,), "TYX")),
        ((6,), "Z", 4, ((4,), "ZYX")),
        ((6, 4), "TZ", 3, ((3,), "ZYX")),  # no time point is whole: slices of the first
        ((6, 4), "TZ", 9, ((2, 4), "TZYX")),
    ],
)
def test_an_aborted_acquisition_gives_the_frames_that_exist_with_a_line(tmp_path, options, shape, axes, n_pages, kept):
    data = RNG.integers(1, 255, (*shape, 20, 30), dtype=np.uint8)
    path = aborted(tmp_path / "a.ome.tif", data, axes + "YX", n_pages, **options)
    image = read_image(path)
    sizes, letters = kept
    assert image.axes == letters and image.data.shape == (*sizes, 20, 30)
    want = data[0] if len(sizes) < len(shape) else data
    np.testing.assert_array_equal(image.data, want[: sizes[0]])
    missing = int(np.prod(shape)) - n_pages
    assert [f"{missing} of the {np.prod(shape)} pages" in line for line in image.notes] == [True] * bool(missing)
    with open_lazy(path) as lazy:
        np.testing.assert_array_equal(lazy.data[1, ..., 3:9, 4:7], image.data[1, ..., 3:9, 4:7])
        assert lazy.notes == image.notes


@pytest.mark.parametrize(
    ("metadata", "seconds"),
    [
        ({"finterval": 2.5}, 2.5),
        ({"finterval": 3, "tunit": "min"}, 180),
        ({"fps": 4}, 0.25),
        ({}, None),
        ({"finterval": 0}, None),
    ],
)
def test_the_interval_of_imagej_reaches_the_image(tmp_path, metadata, seconds):
    data = RNG.integers(0, 255, (3, 20, 30), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "TYX", **metadata})
    assert read_image(tmp_path / "a.tif").meta.get("interval") == seconds


def test_the_interval_of_ome_reaches_the_image(tmp_path):
    metadata = {"axes": "TYX", "TimeIncrement": 250, "TimeIncrementUnit": "ms"}
    tifffile.imwrite(tmp_path / "a.ome.tif", RNG.integers(0, 9, (3, 20, 30), dtype=np.uint8), metadata=metadata)
    assert read_image(tmp_path / "a.ome.tif").meta["interval"] == 0.25
