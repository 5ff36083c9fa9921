"""Files that must stay as they are while they are read: else half of an image would be the old one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from selfseg.core.errors import InputError
from selfseg.read._decoded import split_address

Stamp = tuple[int, int, int]
"""Size, time of the last change and number of a file."""


def stamp_of(path: Path | str) -> Stamp | None:
    """Return what tells that a file was changed or replaced; None for a folder, or where there is none."""
    try:
        file = split_address(path)[0]
        found = file.stat()
        return None if file.is_dir() else (found.st_size, found.st_mtime_ns, found.st_ino)
    except OSError:
        return None


@contextlib.contextmanager
def unchanged(path: Path | str, before: Stamp | None = None) -> Iterator[None]:
    """Refuse what the block reads of a file that changes meanwhile, whatever else seems to be wrong with it.

    Parameters
    ----------
    path
        The file, or an address in it; of a folder nothing is known.
    before
        Its stamp when it was opened; None = now.

    Raises
    ------
    InputError
        If its stamp is another one afterwards.
    """
    before = before or stamp_of(path)
    try:
        yield
    except InputError as error:
        _compare(path, before, error)
        raise
    _compare(path, before, None)


def _compare(path: Path | str, before: Stamp | None, error: InputError | None) -> None:
    after = stamp_of(path)
    if before is None or after == before:
        return
    got = "one that was removed" if after is None else "one that was changed"
    fix = "wait until it is written or copied, then run the same command again"
    raise InputError(path, expected="a file that stays as it is while it is read", got=got, fix=fix) from error
