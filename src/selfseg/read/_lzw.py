"""LZW as TIFF has it (TIFF 6.0, section 13), unpacked with every index checked.

Each entry of the table is what was put out last, and the first byte of what comes next: so it stands in the output, one byte behind
the place where the last one began, and the table holds places and lengths only. Whatever the stream holds, nothing is read but what
has been written, and nothing is written behind the end.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.machine import compiled

CLEAR, END, FIRST = 256, 257, 258
TABLE = 4096
"""Entries of the table: codes have 9 to 12 bits."""

UNKNOWN_CODE = -1


def unpack_lzw(packed: Any, size: int) -> NDArray[np.uint8]:
    """Return the bytes of a strip or tile, at most `size`; what a writer left behind them is not looked at.

    Streams of before TIFF 6.0 have the lowest bits first, and their codes grow one code later; their first code, that clears the
    table, tells them. Raise `ValueError` if the stream is damaged.
    """
    stream = np.frombuffer(packed, np.uint8)
    old = len(stream) > 1 and stream[0] == 0 and bool(stream[1] & 1)
    out = np.zeros(size, np.uint8)
    written = _unpack(stream, out, old)
    if written == UNKNOWN_CODE:
        raise ValueError("LZW stream with a code that was not made yet")
    return out[:written]


@compiled()
def _unpack(stream, out, old):
    """Fill `out`; return how many bytes were written, or `UNKNOWN_CODE`."""
    one, none = np.uint64(1), np.uint64(0)
    starts, lengths = np.zeros(TABLE, np.uint64), np.zeros(TABLE, np.uint64)
    room, n_packed = np.uint64(len(out)), np.uint64(len(stream))
    size, at, known, width = none, none, np.uint64(FIRST), np.uint64(9)
    last_start, last_length = none, none  # length 0: nothing was put out since the table was cleared
    held, n_held = none, none
    early = none if old else one  # one code early, as TIFF 6.0 writes it
    while size < room:
        while n_held < width and at < n_packed:
            byte = np.uint64(stream[at])
            held = held | (byte << n_held) if old else (held << np.uint64(8)) | byte
            n_held += np.uint64(8)
            at += one
        if n_held < width:
            break
        n_held -= width
        mask = (one << width) - one
        code = held & mask if old else (held >> n_held) & mask
        held = held >> width if old else held
        if code == END:
            break
        if code == CLEAR:
            known, width, last_length = np.uint64(FIRST), np.uint64(9), none
            continue
        if last_length > none and known < TABLE:
            starts[known], lengths[known] = last_start, last_length + one
            known += one
            if known == (one << width) - early and width < 12:
                width += one
        if code >= known:
            return UNKNOWN_CODE
        last_start = size
        if code < CLEAR:
            out[size] = code
            last_length = one
        else:
            last_length = min(lengths[code], room - size)
            _repeat(out, starts[code], size, last_length)
        size += last_length
    return np.int64(size)


@compiled()
def _repeat(out, start, size, length):
    """Put out once more what begins at `start`; its last byte may be the first of what is put out here."""
    for i in range(length):
        out[size + i] = out[start + i]
