"""Files of datasets: downloaded with pooch, verified by SHA-256 before each takes its place, not fetched again when whole."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, OutputError
from selfseg.core.files import writing
from selfseg.core.progress import Progress, Silent
from selfseg.read._decoded import DAMAGE
from selfseg.read.datasets._base import Dataset, RemoteFile
from selfseg.read.formats import decode_labels
from selfseg.read.labels import read_truths

ELSEWHERE = "or take the files from elsewhere and name their folder with --data (layout: docs/datasets.md)"
TIMEOUT = 60.0
"""Seconds without a byte after which a server counts as gone."""

CHUNK = 1 << 16

MEGABYTE = 1e6

BROKEN: tuple[type[Exception], ...] = (*DAMAGE, BadZipFile, InputError)
"""What a conversion can raise on a file that is not what it should be."""


@dataclass(frozen=True)
class Fault:
    """A file that is not as it should be: not there, of another SHA-256, or not readable."""

    path: Path
    what: Literal["missing", "differs", "unreadable"]


def array_digest(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's type (little-endian), shape and values, in hexadecimal digits."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(array.data)
    return digest.hexdigest()


def read_stored(path: Path) -> NDArray[Any]:
    """Return the array that a converted file holds. Raise `InputError` if it cannot be read."""
    if path.suffix == ".npz":
        return np.stack(read_truths(path))
    return decode_labels(path).data


def fault_of(file: RemoteFile, root: Path) -> Fault | None:
    """Return what is wrong with one file below `root`, or None."""
    path = root / file.path
    if not path.is_file():
        return Fault(path, "missing")
    try:
        if file.convert is not None:
            digest = array_digest(read_stored(path))
        else:
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except (InputError, OSError, ValueError):  # ValueError: annotators of different sizes
        return Fault(path, "unreadable")
    return None if digest == file.sha256 else Fault(path, "differs")


def verify(dataset: Dataset, data: Path | None = None, progress: Progress | None = None) -> list[Fault]:
    """Compare every file of a dataset with its SHA-256.

    Returns
    -------
    list of Fault
        One for each file that is missing, differs, or cannot be read; empty if all is as it should be. Other files in
        the folder are no fault.
    """
    progress = progress or Silent()
    root, faults = dataset.root(data), []
    progress.start(f"verify {dataset.name}", len(dataset.files))
    try:
        for done, file in enumerate(dataset.files, 1):
            fault = fault_of(file, root)
            if fault is not None:
                faults.append(fault)
            progress.update(done, {"faults": len(faults)})
    finally:
        progress.finish()
    return faults


def count_present(dataset: Dataset, data: Path | None = None) -> int:
    """Return how many of a dataset's files are there, by name alone."""
    root = dataset.root(data)
    return sum((root / file.path).is_file() for file in dataset.files)


def download(dataset: Dataset, data: Path | None = None, progress: Progress | None = None) -> Path:
    """Bring every file of a dataset that is missing or damaged into the data folder, converted and verified.

    Parameters
    ----------
    data
        The folder; None = the cache.

    Raises
    ------
    InputError
        If a file cannot be downloaded, comes incomplete, or has another SHA-256 than it should: it is not kept, and
        those that came before it are.
    OutputError
        If the folder cannot be written.
    """
    progress = progress or Silent()
    root = dataset.root(data)
    wanted = [file for file in dataset.files if fault_of(file, root) is not None]
    if not wanted:
        return root
    if dataset.bundled is not None:
        got = f"{len(wanted)} that are missing or differ, {wanted[0].path} among them"
        raise InputError(root, expected=f"the files of {dataset.name}", got=got, fix="install that package again")
    total = len(dataset.files)
    progress.start(f"download {dataset.name}", total, total - len(wanted))
    try:
        with _workspace(root) as workspace:
            for done, file in enumerate(wanted, total - len(wanted)):
                _bring(file, root, workspace, _Meter(progress, done))
                progress.update(done + 1, {})
    finally:
        progress.finish()
    return root


class _Meter:
    """What pooch takes for a progress bar: tells the listener how much of the present file has come."""

    def __init__(self, progress: Progress, done: int) -> None:
        self.total = 0  # pooch sets it to the bytes that the server announces, 0 where it does not
        self._progress, self._done, self._received = progress, done, 0

    def update(self, n_bytes: int) -> None:
        """Count bytes that have come."""
        self._received += n_bytes
        self._progress.update(self._done, {"MB": self._received / MEGABYTE})

    def reset(self) -> None:
        """Begin anew."""
        self._received = 0

    def close(self) -> None:
        """Nothing is to be closed."""


@contextlib.contextmanager
def _workspace(root: Path) -> Iterator[Path]:
    """Yield a folder inside `root` for what is not finished, and remove it however the work ends."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".download-", dir=root))
    except OSError as error:
        got, fix = error.strerror or str(error), "choose a writable place with -o"
        raise OutputError(root, expected="a folder that can be written", got=got, fix=fix) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bring(file: RemoteFile, root: Path, workspace: Path, meter: _Meter) -> None:
    """Put one file in its place."""
    known = file.sha256 if file.convert is None else None
    parts = [_retrieve(url, workspace, known, meter) for url in file.urls]
    if file.convert is None:
        with writing(root / file.path) as temporary:
            shutil.copyfile(parts[0], temporary)
        parts[0].unlink()
        return
    try:
        array = file.convert(parts)
    except BROKEN as error:
        fix = f"try again later, {ELSEWHERE}"
        raise InputError(file.url, expected=f"{file.path} in it", got=str(error), fix=fix) from error
    if array_digest(array) != file.sha256:
        raise _changed(file.url, file.path)
    with writing(root / file.path) as temporary:
        _store(array, temporary)


def _retrieve(url: str, folder: Path, sha256: str | None, meter: _Meter) -> Path:
    """Download one file into `folder`, or return it if it is there already."""
    import pooch
    import requests

    name = f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{PurePosixPath(urlsplit(url).path).name}"
    pooch.get_logger().setLevel("ERROR")
    meter.reset()
    downloader: Any = pooch.HTTPDownloader(progressbar=meter, chunk_size=CHUNK, timeout=TIMEOUT)
    try:
        known = None if sha256 is None else f"sha256:{sha256}"
        return Path(pooch.retrieve(url, known, fname=name, path=folder, downloader=downloader))
    except requests.exceptions.HTTPError as error:
        got = f"HTTP {error.response.status_code} ({error.response.reason})"
        fix = f"try again later, {ELSEWHERE}"
    except requests.exceptions.ChunkedEncodingError:
        got, fix = "a part of it: the connection broke", "run the same command again: files that are whole are kept"
    except requests.exceptions.RequestException:
        got, fix = "no connection", f"check the network and run the same command again, {ELSEWHERE}"
    except OSError as error:
        got, fix = error.strerror or str(error), "free some space or choose another place with -o"
        raise OutputError(folder.parent, expected="room for a download", got=got, fix=fix) from error
    except ValueError as error:  # what pooch raises for another hash
        raise _changed(url, name.partition("-")[2]) from error
    raise InputError(url, expected="a download", got=got, fix=fix)


def _changed(url: str, what: str) -> InputError:
    fix = f"the origin may have changed, or a proxy answered for it: try again later, {ELSEWHERE}"
    return InputError(url, expected=f"{what} of the known SHA-256", got="other content", fix=fix)


def _store(array: NDArray[Any], path: Path) -> None:
    """Write an array by the suffix of its path: annotators as NPZ, stacks as TIFF, pictures as PNG, all compressed."""
    if path.suffix == ".npz":
        np.savez_compressed(path, segmentations=array)
    elif path.suffix == ".tif":
        import tifffile

        tifffile.imwrite(path, array, compression="zlib", photometric="minisblack", metadata={"axes": "ZYX"})
    else:
        import imagecodecs

        path.write_bytes(imagecodecs.png_encode(array))
