"""PNG, JPEG, BMP, WebP and the first frame of GIF with Pillow; 16-bit colour PNG, which it cuts, with imagecodecs."""

import math
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import DecompressionBombError
from PIL.Image import Image as Picture
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from selfseg.core.errors import InputError
from selfseg.read.arrays import DAMAGE, MAX_DEFLATE, Decoded, check_size, damaged, decoding, opaque, orient, quiet

# The classes are used directly, not through `PIL.Image.open`: its limit on pixels is a setting of the whole process,
# and refuses honest large pictures. `check_size` takes its place.
SIGNATURES: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"GIF8", GifImageFile),
    (b"BM", BmpImageFile),
    (b"RIFF", WebPImageFile),
)

MODES = {"PA": "RGBA", "RGBa": "RGBA", "La": "LA"} | dict.fromkeys(("CMYK", "YCbCr", "HSV", "LAB", "RGBX"), "RGB")
"""What a Pillow mode is turned into; modes that are not named stay."""

PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ORIENTATION_TAG = 274

# A GIF's frames meet Pillow's own limit after all.
DAMAGED_PICTURE: tuple[type[Exception], ...] = (*DAMAGE, DecompressionBombError)


def open_file(path: Path, max_bytes: int | None, as_labels: bool) -> Decoded:
    """Read one picture.

    Palettes become RGB (grey if all their colours are), CMYK becomes RGB, 1-bit becomes uint8 of 0 and 255, alpha
    becomes `valid`, and the EXIF orientation is applied. 8 and 16-bit integers keep their values.

    As labels, palette indices stay indices, and small bit depths are not spread over 0-255. Raise `InputError` if the
    file is empty, is no picture, is damaged, or is too large.
    """
    with path.open("rb") as file:
        header = file.read(64)
        opener = _opener(path, header)
        try:
            picture = _open(opener, file)
            _check_declared(path, picture, header, max_bytes)
            return _pixels(picture, file, header, as_labels)
        except DAMAGED_PICTURE as error:
            raise damaged(path, str(error)) from error


def _opener(path: Path, header: bytes) -> type[ImageFile]:
    for signature, opener in SIGNATURES:
        if header.startswith(signature):
            return opener
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
    check_size(path, (height, width, bands), itemsize, path.stat().st_size, max_bytes, ratio)


def _pixels(picture: ImageFile, file: BinaryIO, header: bytes, as_labels: bool) -> Decoded:
    bits, samples = _png_bits(header) if isinstance(picture, PngImageFile) else (8, 1)
    if bits == 16 and samples > 1:
        file.seek(0)
        array = imagecodecs.png_decode(file.read())
        has_alpha = array.shape[-1] in (2, 4)  # also where one colour is marked as transparent
        turned = picture.info.get("exif") is not None
    else:
        array, has_alpha = _with_pillow(picture, bits, as_labels)
        turned = True
    if turned:
        array = orient(array, _orientation(picture))
    valid = None
    if has_alpha:
        valid, array = opaque(array[..., -1]), array[..., :-1]
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return Decoded(np.ascontiguousarray(array), "YX" if array.ndim == 2 else "YXC", valid=valid)


def _with_pillow(picture: Picture, bits: int, as_labels: bool) -> tuple[NDArray[Any], bool]:
    """Return ``[Y X]`` or ``[Y X C]``, alpha still in it, and whether the last channel is alpha."""
    picture.load()
    converted: Any = picture
    if picture.mode == "P" and as_labels:
        pass
    elif picture.mode in ("P", "L", "RGB") and picture.has_transparency_data:
        converted = picture.convert("LA" if picture.mode == "L" else "RGBA")
    elif picture.mode == "P":
        converted = picture.convert("L" if _is_grey(picture) else "RGB")
    elif picture.mode in MODES:
        converted = picture.convert(MODES[picture.mode])
    array = np.array(converted)
    if array.dtype == bool:
        array = array.astype(np.uint8) if as_labels else array.astype(np.uint8) * np.uint8(255)
    elif as_labels and bits < 8 and picture.mode == "L":
        array = array // (255 // (2**bits - 1))
    elif bits == 16:
        array = array.astype(np.uint16)  # older Pillow holds 16-bit grey in 32 bits
    return array.astype(array.dtype.newbyteorder("="), copy=False), converted.mode in ("LA", "RGBA")


def _is_grey(picture: Picture) -> bool:
    palette = picture.getpalette("RGB") or []
    return palette[0::3] == palette[1::3] == palette[2::3]


def _orientation(picture: Picture) -> int:
    try:
        with quiet("PIL"):
            return int(picture.getexif().get(ORIENTATION_TAG, 1))
    except DAMAGE:
        return 1  # the pixels are whole; only the note on how the camera was held is not


def decode_picture(picture: Picture, source: str, as_labels: bool = False) -> Decoded:
    """Return the pixels of a picture that Pillow holds, in the way of `open_file`. Raise `InputError` if they cannot be decoded."""
    with decoding(Path(source), *DAMAGED_PICTURE):
        array, has_alpha = _with_pillow(picture, 16 if picture.mode.startswith("I;16") else 8, as_labels)
        array = orient(array, _orientation(picture))
    valid = opaque(array[..., -1]) if has_alpha else None
    array = array[..., :-1] if has_alpha else array
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    return Decoded(np.ascontiguousarray(array), "YX" if array.ndim == 2 else "YXC", valid=valid)
