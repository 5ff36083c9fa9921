"""BMP of kinds that Pillow does not know, without compression: colours of any bits, numbers of 2 bits, long palettes."""

import struct

import numpy as np
from numpy.typing import NDArray

BITFIELDS, ALPHA_BITFIELDS = 3, 6
"""Numbers of the "compression" that names which bits of a pixel are which colour."""

USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
"""Bits of red, green, blue and opacity where the file does not say them."""

HEADER = struct.Struct("<IiiHHI20x")
"""Size of the header, columns, rows (negative = from the top down), planes, bits of a pixel, compression."""

START = 14
"""Bytes before that header."""


def decode_bmp(content: bytes) -> tuple[NDArray[np.uint8], bool]:
    """Return ``[Y X 3]`` or ``[Y X 4]`` uint8, and whether the last channel is opacity.

    Raise `ValueError` if the file is cut short, or of a kind that is not read here either.
    """
    (at,) = struct.unpack_from("<I", content, 10)
    size, columns, rows, _, bits, compression = HEADER.unpack_from(content, START)
    if size < HEADER.size or compression not in (0, BITFIELDS, ALPHA_BITFIELDS) or bits not in (1, 2, 4, 8, 16, 24, 32):
        raise ValueError(f"unsupported: header of {size} bytes, compression {compression}, {bits} bits")
    stride = (columns * bits + 31) // 32 * 4
    stored = np.frombuffer(content, np.uint8, stride * abs(rows), at).reshape(abs(rows), stride)
    stored = stored if rows < 0 else stored[::-1]
    if bits <= 8:
        colours = np.frombuffer(content, np.uint8, (at - START - size) // 4 * 4, START + size).reshape(-1, 4)
        numbers = np.unpackbits(stored, axis=1).reshape(abs(rows), -1, bits) @ (1 << np.arange(bits)[::-1])
        return colours[numbers[:, :columns], 2::-1], False
    if bits == 24:
        return np.ascontiguousarray(stored[:, : 3 * columns].reshape(abs(rows), columns, 3)[..., ::-1]), False
    pixels = np.ascontiguousarray(stored).view(f"<u{bits // 8}")[:, :columns]
    masks = _masks(content, size, compression) if compression else USUAL_MASKS[bits]
    channels = [_channel(pixels, mask) for mask in masks if mask]
    if len(channels) != len(masks) and not all(masks[:3]):
        raise ValueError(f"unsupported: bits of colours {masks}")
    return np.stack(channels, -1), len(channels) == 4


def _masks(content: bytes, size: int, compression: int) -> tuple[int, ...]:
    """Return the bits of red, green, blue and opacity: part of a long header, or behind a short one."""
    red, green, blue, alpha = struct.unpack_from("<4I", content, START + HEADER.size)
    return red, green, blue, alpha if size >= HEADER.size + 16 or compression == ALPHA_BITFIELDS else 0


def _channel(pixels: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.uint8]:
    """Return the bits of a mask, spread over 0-255."""
    lowest = mask & -mask
    values = (pixels & mask).astype(np.float64) / lowest
    return np.rint(values * (255 / (mask // lowest))).astype(np.uint8)
