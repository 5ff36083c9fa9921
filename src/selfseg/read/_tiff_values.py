"""Meaning of the samples of a TIFF page: no data, opacity, palettes, colour spaces. Each page is read by its own tags."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.read._no_data import no_data_value, without_data
from selfseg.read.arrays import cmyk_to_rgb

NO_DATA_TAG = 42113
PHOTOMETRIC_TAG, INK_SET_TAG, DECODE_TAG = 262, 332, 433
COEFFICIENTS_TAG, REFERENCE_TAG = 529, 532

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB, ITULAB, LOGL, LOGLUV = (
    0, 1, 2, 3, 5, 6, 8, 9, 10, 32844, 32845,
)  # fmt: skip

COLOUR_FILTER = 32803

ASSOCIATED, UNASSOCIATED = 1, 2
"""Kinds of alpha among the extra samples: colours are stored times their opacity, or as they are."""

TO_RGB = frozenset((6, 7, 33007, 34892, 50001, 50002, 52546, 34933, 22610, 34934))
"""Compressions whose decoder turns YCbCr into RGB by itself: JPEG, WebP, JPEG XL, PNG and JPEG XR."""

OLD_JPEG = 6

ITU_RANGES = (0.0, 100.0, -85.0, 85.0, -75.0, 125.0)
"""Values that the smallest and largest number of each sample stand for in ITULab (RFC 3949, tag Decode)."""

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the brightness, unless the file has its own (TIFF 6.0, section 21)."""


@dataclass(frozen=True, eq=False)
class PageValues:
    """Turns the samples of a page into plain values: larger is lighter, colours are RGB, opacity and no data are a mask."""

    page: tifffile.TiffPage
    as_labels: bool
    """Values that are labels are only freed from what is no value: opacity."""
    whole: tifffile.TiffPage | None = None
    """The finest level of a pyramid of which this is a page: its tag of no data holds for all levels."""

    def __call__(self, array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str, NDArray[np.bool_]]:
        """Return plain values of the page, or of pages like it, their axes and where they are valid, which broadcasts against them.

        Samples are the axis ``S``, all of which must be there.
        """
        array = np.asarray(array).astype(array.dtype.newbyteorder("="), copy=False)
        array, alpha = self._split(array, axes)
        channels = tuple(i for i, letter in enumerate(axes) if letter in "CS")
        mask: NDArray[np.bool_] = np.ones((1,) * array.ndim, bool)
        if alpha is not None:
            mask = np.asarray((alpha > 0).all(axis=channels, keepdims=True))
        if self.no_data is not None and not self.as_labels:
            mask = mask & ~without_data(array, [self.no_data]).all(axis=channels, keepdims=True)
        if self.as_labels:
            return array, axes, mask
        array, plain_axes = self._plain(array, axes)
        mask = mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))
        if alpha is not None and self.associated:
            alpha = alpha.reshape(alpha.shape + (1,) * (array.ndim - alpha.ndim))
            array = _straight(array, alpha, self.top)
        return array, plain_axes, mask

    @cached_property
    def photometric(self) -> int:
        """How samples are to be seen; without such a tag three samples are RGB, as libtiff has it."""
        tag = int(self.page.photometric)
        if PHOTOMETRIC_TAG not in self.page.tags and tag == WHITE_IS_ZERO and self.page.samplesperpixel >= 3:
            return RGB
        return RGB if int(self.page.compression) == OLD_JPEG and tag == YCBCR else tag

    @cached_property
    def no_data(self) -> Any:
        """The value of pixels without data; None where the file marks none, or one that no pixel can have."""
        given = self.page.tags.valueof(NO_DATA_TAG)
        given = self.whole.tags.valueof(NO_DATA_TAG) if given is None and self.whole is not None else given
        return None if self.page.dtype is None else no_data_value(given, self.page.dtype)

    @cached_property
    def alpha(self) -> int | None:
        """Place of the opacity among the samples."""
        kinds = [int(kind) for kind in self.page.extrasamples]
        first = self.page.samplesperpixel - len(kinds)
        return next((first + i for i, kind in enumerate(kinds) if kind in (ASSOCIATED, UNASSOCIATED)), None)

    @property
    def note(self) -> str:
        """A line about what is left out of the values, or not done with them; empty = nothing is."""
        if self.photometric == PALETTE and self.page.extrasamples and self.alpha is None:
            return "a sample beside the numbers of its palette, which no tag explains, is left out"
        if self.photometric == COLOUR_FILTER:
            return "a camera's raw mosaic of colours, read as grey"
        return ""

    @property
    def associated(self) -> bool:
        """True if colours are stored times their opacity."""
        return ASSOCIATED in {int(kind) for kind in self.page.extrasamples} and self.photometric != PALETTE

    @property
    def masked(self) -> bool:
        """True if some pixels may be without a value."""
        return self.alpha is not None or (self.no_data is not None and not self.as_labels)

    @cached_property
    def bits(self) -> int:
        """Bits of a sample; samples of different bits are spread over all bits of their type by tifffile."""
        bits = self.page.bitspersample
        return int(bits) if isinstance(bits, int) else 8 * np.dtype(self.page.dtype).itemsize

    @cached_property
    def top(self) -> int:
        """The number that stands for full intensity, or opacity."""
        return 1 if np.dtype(self.page.dtype).kind == "f" else 255 if self.bits in (1, 2, 4) else 2**self.bits - 1

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """Colours by number, ``[N 3]``."""
        table = np.asarray(self.page.colormap).T
        # Some writers store 8-bit colours without the factor 256 that the specification asks for.
        return (table >> 8 if table.max() > 255 else table).astype(np.uint8)

    def check(self, path: Path) -> None:
        """Raise `InputError` if the page is of a kind that has no plain values here."""
        kind, dtype = self.photometric, np.dtype(self.page.dtype)
        names = {
            YCBCR: "YCbCr",
            SEPARATED: "CMYK",
            CIELAB: "CIELab",
            ICCLAB: "ICCLab",
            ITULAB: "ITULab",
            PALETTE: "palette",
        }
        strange = kind in names and dtype.kind not in "ub" and not self.as_labels
        if kind == PALETTE and self.page.colormap is None:
            raise InputError(
                path, expected="a palette", got="a palette image without one", fix="export it again as RGB"
            )
        if strange or kind in (LOGL, LOGLUV):
            got = "LogLuv" if kind in (LOGL, LOGLUV) else f"{names[kind]} of type {dtype}"
            raise InputError(path, expected="grey or RGB", got=got, fix="save it as RGB")

    def _split(self, array: NDArray[Any], axes: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Take the opacity out of the axis ``S``."""
        if "S" not in axes or self.alpha is None:
            return array, None
        where = axes.index("S")
        return np.delete(array, self.alpha, axis=where), np.take(array, [self.alpha], axis=where)

    def _plain(self, array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
        kind, unsigned = self.photometric, array.dtype.kind in "ub"
        if kind == PALETTE and unsigned:
            return self._coloured(array, axes)
        if self.bits < 8 and unsigned:
            factor = 255 // (2**self.bits - 1) if self.bits in (1, 2, 4) else 1
            array = array.astype(np.uint8) * np.uint8(factor)
        if kind == WHITE_IS_ZERO and unsigned:
            array = array.dtype.type(self.top) - array
        convert = {
            SEPARATED: self._inks,
            YCBCR: self._ycbcr,
            CIELAB: self._lab,
            ICCLAB: self._lab,
            ITULAB: self._lab,
        }.get(kind)
        n = 4 if kind == SEPARATED else 3
        if convert is None or "S" not in axes or array.shape[axes.index("S")] < n:
            return array, axes
        last = np.moveaxis(array, axes.index("S"), -1)
        colours = convert(last[..., :n])
        if last.shape[-1] > n:  # further inks or bands
            colours = np.concatenate([colours, last[..., n:]], -1)
        return np.moveaxis(colours, -1, axes.index("S")), axes

    def _coloured(self, array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
        """Look numbers up in the palette; a sample besides, which no tag explains, is filling."""
        if "S" not in axes:
            return self.palette[array.astype(np.uint16)], axes + "S"
        where = axes.index("S")
        numbers = np.take(array, 0, axis=where)
        return np.moveaxis(self.palette[numbers.astype(np.uint16)], -1, where), axes

    def _inks(self, inks: NDArray[Any]) -> NDArray[Any]:
        other = int(self.page.tags.valueof(INK_SET_TAG, default=1)) != 1
        return inks if other else cmyk_to_rgb(inks, self.top)

    def _ycbcr(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return RGB by the equations of TIFF 6.0, section 21."""
        page = self.page
        if int(page.compression) in TO_RGB and page.planarconfig == 1 and not page.extrasamples:
            return values
        red, green, blue = _numbers(page, COEFFICIENTS_TAG, LUMA)
        top, half = self.top, 2.0 ** (self.bits - 1)
        said = _numbers(page, REFERENCE_TAG, (0.0, top, half, top, half, top))
        black, white = np.array(said[0::2]), np.array(said[1::2])
        if (black == white).any() or not green:
            black, white = np.array([0.0, half, half]), np.array([top, top, top])
        y, cb, cr = np.moveaxis((values - black) * (np.array([top, half - 1, half - 1]) / (white - black)), -1, 0)
        r = cr * (2 - 2 * red) + y
        b = cb * (2 - 2 * blue) + y
        g = (y - blue * b - red * r) / green
        return np.rint(np.stack([r, g, b], -1)).clip(0, top).astype(values.dtype)

    def _lab(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return sRGB of L*a*b*, whose white is that of print, D50."""
        deep = values.dtype.itemsize > 1
        unit = 256.0 if deep else 1.0
        if self.photometric == CIELAB:  # a and b are signed
            ab = values[..., 1:].astype("i2" if deep else "i1").astype(float) / unit
            lightness = values[..., :1] * (100 / self.top)
        elif self.photometric == ICCLAB:
            ab = values[..., 1:] / unit - 128
            lightness = values[..., :1] * (100 / (65280.0 if deep else 255.0))
        else:
            low_high = np.array(_numbers(self.page, DECODE_TAG, ITU_RANGES)).reshape(3, 2)
            scaled = values * ((low_high[:, 1] - low_high[:, 0]) / self.top) + low_high[:, 0]
            lightness, ab = scaled[..., :1], scaled[..., 1:]
        lab = np.concatenate([lightness, ab], -1).astype(np.float64)
        rgb = imagecodecs.cms_transform(
            lab.reshape(1, -1, 3),
            imagecodecs.cms_profile("lab4"),
            imagecodecs.cms_profile("srgb"),
            colorspace="lab",
            outcolorspace="rgb",
            outdtype=values.dtype,
        )
        return np.asarray(rgb).reshape(values.shape)


def _straight(array: NDArray[Any], alpha: NDArray[Any], top: int) -> NDArray[Any]:
    """Return colours that were stored times their opacity as they are without it; those of no opacity stay."""
    share = np.where(alpha > 0, alpha, top).astype(float) / float(top)
    colours = np.asarray(array, float) / share
    if array.dtype.kind == "f":
        return colours.astype(array.dtype)
    return np.rint(colours).clip(0, top).astype(array.dtype)


def _numbers(page: tifffile.TiffPage, code: int, otherwise: Sequence[float]) -> list[float]:
    """Return the numbers of a tag, rational or not; `otherwise` if they are missing, or not as many, or not finite."""
    given = page.tags.valueof(code, default=None)
    values = [float(value) for value in np.ravel(np.asarray(() if given is None else given, np.float64))]
    if len(values) == 2 * len(otherwise):
        pairs = zip(values[0::2], values[1::2], strict=True)
        values = [over / under if under else math.nan for over, under in pairs]
    return values if len(values) == len(otherwise) and all(map(math.isfinite, values)) else list(otherwise)
