"""The chain of a TIFF's pages: each says where the next one is."""

import struct
from pathlib import Path

import tifffile

from selfseg.read._decoded import damaged

MOST_TAGS = 4096
"""A page that claims more is not followed; tifffile refuses it."""


def check_chain(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse a file whose pages lead back to one before: tifffile would follow them without end.

    Where the chain breaks off, tifffile says so.

    Raises
    ------
    InputError
        If the pages lead in a circle.
    """
    tiff, handle = tif.tiff, tif.filehandle
    seen = set[int]()
    try:
        handle.seek(8 if tiff.version == 43 else 4)
        offset = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize))[0]
        while offset and offset not in seen:
            seen.add(offset)
            handle.seek(offset)
            n_tags = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))[0]
            if n_tags > MOST_TAGS:
                return
            handle.seek(offset + tiff.tagnosize + n_tags * tiff.tagsize)
            offset = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize))[0]
    except (struct.error, OSError, ValueError, OverflowError):
        return
    if offset:
        raise damaged(path, f"its {len(seen)} pages lead in a circle")
