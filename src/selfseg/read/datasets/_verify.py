"""Is what lies on disk what it should be? SHA-256 of bytes, or of decoded arrays."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.progress import Progress, Silent
from selfseg.read.datasets._base import Dataset, RemoteFile
from selfseg.read.formats import decode_labels
from selfseg.read.labels import read_truths


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
    """Return the array that a converted file holds.

    Raises
    ------
    InputError
        If it cannot be read.
    """
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

    Parameters
    ----------
    dataset
        The dataset.
    data
        The data folder; None = the cache.
    progress
        Listener.

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
