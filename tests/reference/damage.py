"""Whole files, ways to damage them, and what comes of reading them under the strictest filters."""

import logging
import tempfile
import time
import warnings
from pathlib import Path

from reference.image_files import whole_files
from selfseg.core.errors import InputError
from selfseg.read import open_lazy, read_image

with tempfile.TemporaryDirectory() as scratch:
    WHOLE = whole_files(Path(scratch))

SLOWEST = 10.0
"""Seconds that a reader may take over a small damaged file."""


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def outcome(path, caplog, read=read_image):
    """Read under the strictest filters; return the image, or the one line of the error."""
    begun = time.monotonic()
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("error")
        try:
            return read(path)
        except InputError as error:
            line = str(error)
            assert "\n" not in line and path.name in line and len(line) < 700
            return line
        finally:
            assert time.monotonic() - begun < SLOWEST


def some_of(path):
    """Open lazily, and read a corner."""
    with open_lazy(path) as image:
        return image.window(Y=slice(0, 20), X=slice(0, 20))


def flipped(whole, attempt, rng):
    """Return bytes of which one to four are changed; headers and directories are where that does most."""
    content = bytearray(whole)
    for place in rng.integers(0, [64, 400, len(content)][attempt % 3], 1 + attempt % 4) % len(content):
        content[place] = int(rng.integers(0, 256))
    return bytes(content)
