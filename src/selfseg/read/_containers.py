"""Video files that end before their last part does: Matroska and WebM, AVI, MP4 and MOV, whose parts say how long they are."""

from pathlib import Path
from typing import BinaryIO

EBML = b"\x1a\x45\xdf\xa3"
"""First bytes of Matroska and WebM."""

BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"uuid", b"sidx", b"styp", b"mfra"))
"""Parts that an MP4 or MOV file consists of; anything else behind them is none of it."""

SLACK = 8
"""Bytes by which writers of AVI miscount their own files."""


def is_cut(path: Path) -> bool:
    """Tell whether bytes are missing at the end of a file. Parts of unknown length, and other containers, tell nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head.startswith(EBML):
            return _matroska_end(file) > size
        if head.startswith(b"RIFF"):
            return _riff_end(file, size) > size + SLACK
        return head[4:8] in BOXES and _boxes_end(file, size) > size


def _matroska_end(file: BinaryIO) -> int:
    """Return where the segment behind the header ends; 0 = it does not say, as in a live recording."""
    for last in (False, True):
        _number(file, keep_marker=True)  # the element's name
        length = _number(file)
        if length is None:
            return 0
        if last:
            return file.tell() + length
        file.seek(length, 1)
    return 0


def _number(file: BinaryIO, keep_marker: bool = False) -> int | None:
    """Read a number of variable length (RFC 8794, section 4); None = unknown, all bits set."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    n = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(n - 1))
    rest = (1 << 7 * n) - 1
    if keep_marker:
        return value
    return None if value & rest == rest else value & rest


def _riff_end(file: BinaryIO, size: int) -> int:
    """Return where the last of the chunks ends that follow each other: long AVI files have several; 0 = one has no length."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        if file.read(4) != b"RIFF":
            return at
        length = int.from_bytes(file.read(4), "little")
        if length in (0, 0xFFFFFFFF):
            return 0
        at += 8 + length + length % 2
    return at


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Return where the last of the boxes ends (ISO 14496-12, section 4.2)."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = int.from_bytes(file.read(4)), file.read(4)
        if kind not in BOXES or not length:  # 0 = to the end
            return at
        at += int.from_bytes(file.read(8)) if length == 1 else length
    return at
