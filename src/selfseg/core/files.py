"""Files that are whole or absent: written aside in the same folder, flushed to disk, then renamed."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from selfseg.core.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a full disk, a user's share of it that is used up, and a file above the largest size."""

MARK = ".unfinished-"
"""Part of the name of every file that is being written."""


def _failure(path: Path, error: OSError) -> OutputError:
    fix = (
        "free some space or choose another place with -o" if error.errno in FULL else "choose a writable place with -o"
    )
    reason = error.strerror or str(error)
    return OutputError(path, expected="a file that can be written", got=reason, fix=fix)


@contextlib.contextmanager
def telling_failures(path: Path | str) -> Iterator[None]:
    """Turn what the system says against writing into one line, for files that are written piece by piece.

    Raise `OutputError` if the folder cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise _failure(Path(path), error) from error


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, remove it when it does not.

    The temporary name keeps the suffix of `path`, since some writers choose a format by it. Raise `OutputError` if the
    folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    temporary, handle = None, -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _reserve(path)
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _failure(path, error) from error
    finally:
        _release(handle)
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _reserve(path: Path) -> tuple[Path, int]:
    """Make an empty file with a hidden name beside `path`; return it and the handle of its lock."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}{MARK}", suffix=path.suffix, dir=path.parent)
        handle = _hold(handle)
        if Path(name).exists():  # else it was cleared away before it was locked
            return Path(name), handle
        _release(handle)


def _hold(handle: int, wait: bool = True) -> int:
    """Lock an open file or folder for as long as this process lives, however it ends; return the handle, to be kept open.

    -1 if it could not be locked, and was closed: another process holds it (if not to `wait`), or there are no such locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        os.close(handle)
        return -1
    return handle


def _release(handle: int) -> None:
    if handle >= 0:
        os.close(handle)


def clear_unfinished(folder: Path | str, below: Sequence[str] = ()) -> None:
    """Remove what killed processes have left of files that they were writing; not what a living one is writing.

    Look in `folder` itself, and through all of the folders `below` in it, but for zarr folders.
    """
    found = list(Path(folder).glob(f".*{MARK}*"))
    for name in below:
        for place, folders, files in os.walk(Path(folder) / name):
            found += [Path(place) / each for each in (*folders, *files) if each.startswith(".") and MARK in each]
            folders[:] = [each for each in folders if not each.endswith(".zarr")]
    for path in found:
        with contextlib.suppress(OSError):
            handle = _hold(os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR), wait=False)
            try:
                if handle >= 0:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                _release(handle)


@contextlib.contextmanager
def writing_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path`; put it in place of `path` when the block ends well, else remove it.

    Raise `OutputError` if the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    temporary, handle = None, -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.stem}{MARK}", suffix=path.suffix, dir=path.parent))
        handle = -1 if fcntl is None else _hold(os.open(temporary, os.O_RDONLY))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        _take_place(temporary, path)
    except OSError as error:
        raise _failure(path, error) from error
    finally:
        _release(handle)
        if temporary is not None:
            remove_folder(temporary)


def remove_folder(path: Path) -> None:
    """Remove a folder, although threads of the library that failed may still be writing into it."""
    for _ in range(100):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.05)


def _take_place(new: Path, path: Path) -> None:
    """Rename a folder to a name that another may have: a folder cannot be renamed over one that is not empty."""
    if not path.is_symlink() and path.is_dir():
        old = Path(tempfile.mkdtemp(prefix=f".{path.stem}{MARK}", suffix=".old", dir=path.parent))
        path.replace(old)
        new.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
        new.replace(path)


def remove(path: Path | str) -> None:
    """Remove a file if it is there. Raise `OutputError` if it is there and cannot be removed."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise _failure(Path(path), error) from error


def keep_file(path: Path | str, copy: Path | str) -> None:
    """Keep a file, which will be replaced, under a second name; without copying its bytes where the disk allows it.

    Raise `OutputError` if the second name cannot be made.
    """
    path, copy = Path(path), Path(copy)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        try:
            copy.hardlink_to(path)
        except OSError:  # a file system without links
            shutil.copyfile(path, copy)
    except OSError as error:
        raise _failure(copy, error) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path | str, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write plain values as indented JSON with a final line break, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
