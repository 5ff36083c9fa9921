"""LZW strips and tiles of a TIFF through our own decoder: imagecodecs' may end the process on damaged ones (`EXPERIMENTS.md`)."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tifffile

LZW = 5
"""TIFF's number of the compression."""

LOWEST_BIT_FIRST = 2

CHANGED = ("compression", "fillorder", "hash", "decode")
"""What a page is told otherwise for a moment, and what it works out from that."""


def decode_lzw_safely(pages: Iterable[Any]) -> None:
    """Let pages that are LZW be decoded as unpacked ones are, after they have been unpacked with checks.

    What undoes the predictor and the packing of bits stays tifffile's.

    Parameters
    ----------
    pages
        Pages of a series. Frames are decoded by their key frame, which must be among them.
    """
    for page in pages:
        if isinstance(page, tifffile.TiffPage) and int(page.compression) == LZW:
            page.__dict__["decode"] = _checked(page)


def _checked(page: tifffile.TiffPage) -> Callable[..., Any]:
    """Return what tifffile's `TiffPage.decode` is, a function of a segment's bytes and its number."""
    from selfseg.read._lzw import unpack_lzw

    plain = _decoder_of_unpacked(page)
    reversed_bits = page.fillorder == LOWEST_BIT_FIRST
    itemsize = np.dtype(page.dtype).itemsize

    def decode(data: bytes | None, index: int, /, **how: Any) -> Any:
        if data is None:
            return plain(None, index, **how)
        if reversed_bits:
            data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
        shape = plain(None, index)[2]
        return plain(unpack_lzw(data, math.prod(shape) * itemsize), index, **how)

    return decode


def _decoder_of_unpacked(page: tifffile.TiffPage) -> Callable[..., Any]:
    """Return the decoder that the page would have if its segments were not packed."""
    stored: dict[str, Any] = {name: page.__dict__[name] for name in CHANGED if name in page.__dict__}
    kind = hash(("unpacked", page.hash))  # tifffile keeps one decoder for all pages of a hash
    page.__dict__.pop("decode", None)
    page.__dict__.update(compression=1, fillorder=1, hash=kind)
    try:
        return page.decode
    finally:
        for name in ("decode", "hash"):
            page.__dict__.pop(name, None)
        page.__dict__.update(stored)
