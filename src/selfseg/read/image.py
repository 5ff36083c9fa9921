"""Pictures: PNG, JPEG and their like with Pillow; what it cuts to 8 bits or does not read with imagecodecs."""

import io
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile, DibImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import DecompressionBombError
from PIL.Image import Image as Picture
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PcxImagePlugin import PcxImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.QoiImagePlugin import QoiImageFile
from PIL.SgiImagePlugin import SgiImageFile
from PIL.TgaImagePlugin import TgaImageFile
from PIL.WebPImagePlugin import WebPImageFile

from selfseg.core.errors import InputError
from selfseg.read.animation import open_animation
from selfseg.read.arrays import (
    DAMAGE,
    MAX_DEFLATE,
    Decoded,
    check_size,
    cmyk_to_rgb,
    damaged,
    decoding,
    opaque,
    orient,
    quiet,
)

# The classes are used directly, not through `PIL.Image.open`: its limit on pixels is a setting of the whole process,
# and refuses honest large pictures. `check_size` takes its place.
SIGNATURES: tuple[tuple[int, bytes, type[ImageFile] | str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    (0, b"\xff\xd8\xff", JpegImageFile),
    (0, b"GIF8", GifImageFile),
    (0, b"BM", BmpImageFile),
    (0, b"RIFF", WebPImageFile),
    (4, b"jP  \r\n\x87\n", "jpeg2k"),
    (0, b"\xff\x4f\xff\x51", "jpeg2k"),
    (4, b"JXL \r\n\x87\n", "jpegxl"),
    (0, b"\xff\x0a", "jpegxl"),
    (4, b"ftyp", "avif"),
    (0, b"qoif", QoiImageFile),
    (0, b"\x01\xda", SgiImageFile),
    *((0, b"P%d" % kind, PpmImageFile) for kind in range(1, 7)),
    (0, b"Pf", PpmImageFile),
    (0, b"PF", PpmImageFile),
)
"""Readers of pictures, by where its signature stands: a class of Pillow, or a codec of imagecodecs."""

WITHOUT_SIGNATURE: dict[str, type[ImageFile]] = {".tga": TgaImageFile, ".pcx": PcxImageFile, ".dib": DibImageFile}

MODES = {"PA": "RGBA", "RGBa": "RGBA", "La": "LA"} | dict.fromkeys(("CMYK", "YCbCr", "HSV", "LAB", "RGBX"), "RGB")
"""Pillow modes and those that they are turned into; modes that are not named stay."""

PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_START = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column and steps of the passes of an interlaced PNG (its specification, section 8.2)."""

NETPBM = re.compile(rb"P([23456Ff])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(-?[\d.]+)[^\n]*?\s")
"""Kind, columns, rows and largest value (of floats: the sign of the byte order) of a PGM, PPM or PFM."""

ORIENTATION_TAG = 274

# A GIF's frames meet Pillow's own limit after all.
DAMAGED_PICTURE: tuple[type[Exception], ...] = (*DAMAGE, DecompressionBombError)


def open_file(path: Path, max_bytes: int | None, as_labels: bool) -> Decoded:
    """Read one picture.

    Palettes become RGB (grey if all their colours are), CMYK becomes RGB, 1-bit becomes uint8 of 0 and 255, alpha and a colour
    that is marked as transparent become `valid`, and the EXIF orientation is applied. 8 and 16-bit integers keep their values.

    Of an animation (GIF, WebP, PNG) all pictures are read, as time points, one at a time.

    As labels, palette indices stay indices, and small bit depths are not spread over 0-255. Raise `InputError` if the
    file is empty, is no picture, is damaged, or is too large.
    """
    with path.open("rb") as file:
        header = file.read(1 << 16)
        opener = _opener(path, header)
        try:
            if opener is JpegImageFile and _jpeg_bits(header) > 8:
                opener = "jpeg"
            if isinstance(opener, str):
                return _with_codec(path, opener, file, max_bytes)
            if opener is PpmImageFile and (deep := _deep(header)):
                return _deep_netpbm(path, file, deep, max_bytes)
            picture = _open(opener, file)
            _check_declared(path, picture, header, max_bytes)
            if getattr(picture, "n_frames", 1) > 1:
                cut = opener is PngImageFile and header[24] == 16 and header[25] != 0  # by Pillow, to 8 bits
                return open_animation(path, partial(_open, opener), cut)
            return _pixels(picture, file, header, as_labels)
        except DAMAGED_PICTURE as error:
            if opener is BmpImageFile and "nsupported" in str(error):
                return _rare_bmp(path, file, header, max_bytes)
            raise damaged(path, str(error)) from error


def _opener(path: Path, header: bytes) -> type[ImageFile] | str:
    for at, signature, opener in SIGNATURES:
        if header[at:].startswith(signature):
            return opener
    if header and path.suffix.lower() in WITHOUT_SIGNATURE:
        return WITHOUT_SIGNATURE[path.suffix.lower()]
    raise InputError(
        path,
        expected="a PNG, JPEG, BMP, WebP or GIF picture",
        got="an empty file of zero bytes" if not header else f"a file that starts with {header[:12]!r}",
        fix="check that it is an image and not a renamed file of another kind",
    )


def _open(opener: type[ImageFile], file: BinaryIO) -> ImageFile:
    file.seek(0)
    with quiet("PIL"):
        return opener(file)


def _png_bits(header: bytes) -> tuple[int, int]:
    """Return the bits of a sample and the samples of a pixel, out of a PNG's first chunk."""
    return header[24], PNG_SAMPLES[header[25]]


def _check_declared(path: Path, picture: ImageFile, header: bytes, max_bytes: int | None) -> None:
    width, height = picture.size
    bands, itemsize = max(len(picture.getbands()), 3 if picture.mode == "P" else 1), 1
    ratio = math.inf  # WebP without loss can hold one colour in no bits at all, and its sides are at most 16383
    if isinstance(picture, PngImageFile):
        bits, samples = _png_bits(header)
        itemsize = 2 if bits == 16 else 1
        ratio = MAX_DEFLATE * bands * itemsize * 8 / (bits * samples)
    elif isinstance(picture, JpegImageFile):
        ratio = 1100  # at least one bit for each 8 x 8 block of the brightness, with colour at a quarter of its size
    elif isinstance(picture, GifImageFile):
        ratio = 2800 * bands  # LZW: 12 bits for at most 4096 pixels
    elif isinstance(picture, BmpImageFile) and picture.info.get("compression", 0) in (0, 3):
        ratio = 32  # not compressed: one bit may become one RGB pixel
    elif isinstance(picture, PpmImageFile):
        ratio = 8  # one bit may become one pixel
    elif isinstance(picture, TgaImageFile | PcxImageFile | SgiImageFile | QoiImageFile):
        ratio = 400  # run lengths: a byte or two for at most 128 pixels of 3 or 4 bytes, or for 255 of one
    check_size(path, (height, width, bands), itemsize, path.stat().st_size, max_bytes, ratio)


def _pixels(picture: ImageFile, file: BinaryIO, header: bytes, as_labels: bool) -> Decoded:
    is_png = isinstance(picture, PngImageFile)
    bits, samples = _png_bits(header) if is_png else (8, 1)
    if bits == 16 and samples > 1:
        array = _deep_png(file, header)
        has_alpha = samples in (2, 4)
        turned = picture.info.get("exif") is not None
    else:
        array, has_alpha = _with_pillow(picture, bits, as_labels, keyed=not is_png)
        turned = True
    shown = None
    if is_png and header[25] in (0, 2) and "transparency" in picture.info:
        spread = bits < 8 and not (as_labels and picture.mode == "1")
        shown = _shown(file, array, bits, 255 // (2**bits - 1) if spread else 1)
    if turned:
        array = orient(array, _orientation(picture))
        shown = None if shown is None else orient(shown, _orientation(picture))
    if as_labels and bits < 8 and array.ndim == 2 and picture.mode == "L":
        array = array // (255 // (2**bits - 1))
    return _described(array, has_alpha, shown)


def _described(array: NDArray[Any], has_alpha: bool, shown: NDArray[np.bool_] | None = None) -> Decoded:
    """Take the alpha out of ``[Y X]`` or ``[Y X C]``; `shown` is False where there is nothing."""
    valid = shown
    if has_alpha:
        valid, array = opaque(array[..., -1]), array[..., :-1]
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return Decoded(np.ascontiguousarray(array), "YX" if array.ndim == 2 else "YXC", valid=valid)


def _with_pillow(picture: Picture, bits: int, as_labels: bool, keyed: bool = True) -> tuple[NDArray[Any], bool]:
    """Return ``[Y X]`` or ``[Y X C]``, alpha still in it, and whether the last channel is alpha.

    `keyed`: a value of grey or colour that is marked as transparent becomes alpha.
    """
    picture.load()
    converted: Any = picture
    if picture.mode == "P" and as_labels:
        pass
    elif picture.has_transparency_data and (picture.mode == "P" or (keyed and picture.mode in ("L", "RGB"))):
        converted = picture.convert("LA" if picture.mode == "L" else "RGBA")
    elif picture.mode == "P":
        converted = picture.convert("L" if _is_grey(picture) else "RGB")
    elif picture.mode in MODES:
        converted = picture.convert(MODES[picture.mode])
    array = np.array(converted)
    if array.dtype == bool:
        array = array.astype(np.uint8) if as_labels else array.astype(np.uint8) * np.uint8(255)
    elif bits == 16:
        array = array.astype(np.uint16)  # older Pillow holds 16-bit grey in 32 bits
    has_alpha = converted.mode in ("LA", "RGBA")
    if isinstance(picture, BmpImageFile):
        array, has_alpha = _filled(array, has_alpha)
    return array.astype(array.dtype.newbyteorder("="), copy=False), has_alpha


def _is_grey(picture: Picture) -> bool:
    palette = picture.getpalette("RGB") or []
    return palette[0::3] == palette[1::3] == palette[2::3]


def _orientation(picture: Picture) -> int:
    try:
        with quiet("PIL"):
            return int(picture.getexif().get(ORIENTATION_TAG, 1))
    except DAMAGE:
        return 1  # the pixels are whole; only the note on how the camera was held is not


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of the chunks of a PNG."""
    file.seek(len(PNG_START))
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        content = file.read(int.from_bytes(head[:4], "big"))
        file.seek(4, io.SEEK_CUR)
        yield head[4:], content


def _shown(file: BinaryIO, array: NDArray[Any], bits: int, factor: int) -> NDArray[np.bool_] | None:
    """Return where a PNG in grey or colour has another value than the one that its chunk tRNS marks as transparent.

    Only the lowest bits of that value count, as many as a sample has (PNG specification, section 11.3.2.1); the samples of `array`
    are `factor` times those of the file.
    """
    n = 1 if array.ndim == 2 else array.shape[-1]
    content = next((content for name, content in _chunks(file) if name == b"tRNS"), b"")
    if len(content) < 2 * n:
        return None
    key = [(value & (2**bits - 1)) * factor for value in struct.unpack(f">{n}H", content[: 2 * n])]
    shown: NDArray[np.bool_] = (array.reshape(*array.shape[:2], n) != np.array(key)).any(-1)
    return None if shown.all() else shown


def _deep_png(file: BinaryIO, header: bytes) -> NDArray[np.uint16]:
    """Return the samples of a PNG of 16 bits in colour or with alpha, which Pillow cuts to 8 bits.

    libpng prints what it finds odd. So it is given the pixels alone, unpacked, and each pass of an interlaced picture by itself.
    """
    columns, rows = struct.unpack(">II", header[16:24])
    samples, interlaced = PNG_SAMPLES[header[25]], header[28] == 1
    passes = [
        (y, x, dy, dx, -(-(rows - y) // dy), -(-(columns - x) // dx))
        for y, x, dy, dx in (ADAM7 if interlaced else ((0, 0, 1, 1),))
        if y < rows and x < columns
    ]
    size = sum(n_rows * (1 + 2 * samples * n_columns) for *_, n_rows, n_columns in passes)
    packed = b"".join(content for name, content in _chunks(file) if name == b"IDAT")
    values = zlib.decompressobj().decompress(packed, size)
    if len(values) < size:
        raise ValueError(f"{len(values)} bytes for {size} of pixels")
    out = np.empty((rows, columns, samples), np.uint16)
    at = 0
    for y, x, dy, dx, n_rows, n_columns in passes:
        end = at + n_rows * (1 + 2 * samples * n_columns)
        part = imagecodecs.png_decode(_plain_png(n_columns, n_rows, header[24:26], values[at:end]))
        out[y::dy, x::dx] = part.reshape(n_rows, n_columns, samples)
        at = end
    return out


def _plain_png(columns: int, rows: int, kind: bytes, values: bytes) -> bytes:
    """Return a PNG of filtered rows, without any other chunk."""
    chunks = (
        (b"IHDR", struct.pack(">II", columns, rows) + kind + b"\0\0\0"),
        (b"IDAT", zlib.compress(values, 0)),
        (b"IEND", b""),
    )
    packed = [struct.pack(">I", len(c)) + name + c + struct.pack(">I", zlib.crc32(name + c)) for name, c in chunks]
    return PNG_START + b"".join(packed)


def _deep(header: bytes) -> re.Match[bytes] | None:
    """Return the header of a PGM, PPM or PFM of more than 8 bits."""
    found = NETPBM.match(header)
    return found if found and (found[1] in b"Ff" or 255 < float(found[4]) < 65536) else None


def _deep_netpbm(path: Path, file: BinaryIO, header: re.Match[bytes], max_bytes: int | None) -> Decoded:
    """Read a PGM, PPM or PFM of more than 8 bits, which Pillow spreads over 16 or cuts to 8; values are kept."""
    columns, rows = int(header[2]), int(header[3])
    kind = header[1]
    shape = (rows, columns, 3) if kind in b"36F" else (rows, columns)
    dtype = np.dtype(("<f4" if float(header[4]) < 0 else ">f4") if kind in b"Ff" else ">u2")
    plain = kind in b"23"
    stored = path.stat().st_size - header.end()
    check_size(path, shape, dtype.itemsize, stored, max_bytes, 1.0)
    file.seek(header.end())
    if plain:
        words = re.sub(rb"#[^\n]*", b"", file.read()).split()[: math.prod(shape)]
        array = np.array([int(word) for word in words]).astype(np.uint16)
    else:
        array = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
    array = array.reshape(shape).astype(dtype.newbyteorder("="))
    return _described(array[::-1] if kind in b"Ff" else array, False)  # PFM goes from the bottom up


def _rare_bmp(path: Path, file: BinaryIO, header: bytes, max_bytes: int | None) -> Decoded:
    """Read a BMP of a kind that Pillow does not know."""
    from selfseg.read._bmp import decode_bmp

    try:
        columns, rows = struct.unpack_from("<ii", header, 18)
        check_size(path, (abs(rows), columns, 4), 1, path.stat().st_size, max_bytes, 32)
        file.seek(0)
        array, has_alpha = decode_bmp(file.read())
    except DAMAGED_PICTURE as error:
        raise damaged(path, f"unsupported kind of BMP: {error}") from error
    return _described(*_filled(array, has_alpha))


def _filled(array: NDArray[Any], has_alpha: bool) -> tuple[NDArray[Any], bool]:
    """Take the alpha out of a BMP where it is 0 everywhere: many programs leave it so."""
    return (array[..., :-1], False) if has_alpha and not array[..., -1].any() else (array, has_alpha)


def _with_codec(path: Path, codec: str, file: BinaryIO, max_bytes: int | None) -> Decoded:
    """Read a picture with imagecodecs, after its size has been looked at. Of a sequence the first picture is read."""
    file.seek(0)
    content = file.read()
    check_size(path, SIZES[codec](content), 1, len(content), max_bytes, math.inf)
    array = getattr(imagecodecs, f"{codec}_decode")(content, **({"index": 0} if codec == "jpegxl" else {}))
    if array.ndim not in (2, 3):
        raise ValueError(f"unsupported: pixels of shape {array.shape}")
    n = array.shape[-1] if array.ndim == 3 else 1
    if codec == "jpeg" and n not in (1, 3):
        raise ValueError(f"unsupported: JPEG of {n} channels and more than 8 bits")
    has_alpha = n in (2, 4)
    if codec == "jpeg2k":
        has_alpha = has_alpha and _jp2_alpha(content)
        if n == 4 and b"colr\x01\0\0\0\0\0\x0c" in content:  # enumerated colour space 12
            array = cmyk_to_rgb(array)
    elif codec == "avif":
        array = _turned(np.delete(array, (1, 2), axis=-1) if n > 2 and _is_monochrome(content) else array, content)
    return _described(array.astype(array.dtype.newbyteorder("="), copy=False), has_alpha)


def _jp2_alpha(content: bytes) -> bool:
    """Return whether the last channel of a JPEG 2000 file is opacity, by its box cdef (ISO 15444-1, I.5.3.6)."""
    at = content.find(b"cdef")
    if at < 0:
        return False
    (n,) = struct.unpack_from(">H", content, at + 4)
    rows = [struct.unpack_from(">HHH", content, at + 6 + 6 * i) for i in range(n)]
    return any(kind in (1, 2) and channel == n - 1 for channel, kind, _ in rows)


def _jpeg_frame(content: bytes) -> tuple[int, int, int]:
    """Return bits, rows and columns out of the header of a JPEG's frame (ITU-T T.81, B.2.2)."""
    at = 2
    while len(head := content[at : at + 9]) == 9 and head[0] == 0xFF:
        if 0xC0 <= head[1] <= 0xCF and head[1] not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">BHH", head, 4)
        at += 1 if head[1] == 0xFF else 2 + int.from_bytes(head[2:4], "big")
    raise ValueError("it has no frame")


def _jpeg_bits(header: bytes) -> int:
    try:
        return _jpeg_frame(header)[0]
    except ValueError:
        return 8


def _jpeg_size(content: bytes) -> tuple[int, int]:
    _, rows, columns = _jpeg_frame(content)
    return rows, columns


def _jpeg2k_size(content: bytes) -> tuple[int, int]:
    at = content.index(b"\xff\x4f\xff\x51")
    right, bottom, left, top = struct.unpack_from(">4I", content, at + 8)
    return bottom - top, right - left


def _jpegxl_size(content: bytes) -> tuple[int, int]:
    """Return rows and columns out of the SizeHeader (ISO 18181-1, D.2): a field of bits, the lowest first."""
    box = re.search(rb"jxlc|jxlp....", content, re.DOTALL)
    at = box.end() if content[:2] != b"\xff\x0a" and box else 0
    bits, place = int.from_bytes(content[at + 2 : at + 18], "little"), 0

    def take(n: int) -> int:
        nonlocal place
        place += n
        return (bits >> (place - n)) & (2**n - 1)

    def side(small: int) -> int:
        return 8 * (1 + take(5)) if small else 1 + take((9, 13, 18, 30)[take(2)])

    small = take(1)
    rows = side(small)
    ratio = take(3)
    if not ratio:
        return rows, side(small)
    across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return rows, rows * across // down


def _is_monochrome(content: bytes) -> bool:
    """Return whether an AVIF file has no colours, by its box av1C (AV1 codec ISO media file format binding, 2.3.3)."""
    at = content.find(b"av1C")
    return at >= 0 and content[at + 6 : at + 7] != b"" and bool(content[at + 6] & 0x10)


def _turned(array: NDArray[Any], content: bytes) -> NDArray[Any]:
    """Return an AVIF upright, by its boxes irot (quarters against the clock) and imir (ISO 23008-12, 6.5.10 and 6.5.12)."""
    turns = content[content.find(b"irot") + 4] & 3 if b"irot" in content else 0
    array = np.rot90(array, turns)
    if b"imir" in content:
        array = array[:, ::-1] if content[content.find(b"imir") + 4] & 1 else array[::-1]
    return array


def _avif_size(content: bytes) -> tuple[int, int]:
    sizes = [struct.unpack_from(">II", content, found.end() + 4) for found in re.finditer(b"ispe", content)]
    columns, rows = max(sizes, key=math.prod)
    return rows, columns


SIZES: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "jpeg": _jpeg_size,
    "jpeg2k": _jpeg2k_size,
    "jpegxl": _jpegxl_size,
    "avif": _avif_size,
}
"""Rows and columns that the first bytes of a file declare, by codec."""


def decode_picture(picture: Picture, source: str, as_labels: bool = False) -> Decoded:
    """Return the pixels of a picture that Pillow holds, in the way of `open_file`. Raise `InputError` if they cannot be decoded."""
    with decoding(Path(source), *DAMAGED_PICTURE):
        array, has_alpha = _with_pillow(picture, 16 if picture.mode.startswith("I;16") else 8, as_labels)
        return _described(orient(array, _orientation(picture)), has_alpha)
