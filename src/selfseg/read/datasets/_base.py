"""Datasets, their files and items: found by file name, downloaded with pooch, verified by SHA-256."""

import contextlib
import hashlib
import importlib
import pkgutil
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, OutputError, UsageError
from selfseg.core.files import writing
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.read.arrays import DAMAGE
from selfseg.read.formats import decode_labels
from selfseg.read.labels import read_truths

Task = Literal["partition", "instances", "foreground", "lesion", "none"]
"""Kinds of truth: a partition into segments, objects one by one, two classes, lesions in a volume, or nothing."""

Convert = Callable[[list[Path]], NDArray[Any]]
"""Makes the array of one file of the layout out of the files that the origin keeps."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a dataset's folder, and where its content comes from."""

    url: str
    """Where the origin keeps it; with ``{}`` if it is made out of several files there. Empty = it comes with a package."""
    sha256: str
    """Hexadecimal SHA-256: of the file's bytes, or with `convert` of the array that the file holds (`array_digest`),
    since the same array can be stored in many ways."""
    path: str
    """Where it lies below the data folder, with ``/``."""
    parts: tuple[str, ...] = ()
    """Values for ``{}``, in order; empty = `url` is one file."""
    convert: Convert | None = None
    """Makes the array to be stored out of the downloaded files; None = the bytes are kept as they are. A file of several
    dataset files, such as an archive, is downloaded once."""

    @property
    def urls(self) -> list[str]:
        """Parts to download for this file."""
        return [self.url.replace("{}", part) for part in self.parts] or [self.url]


@dataclass(frozen=True)
class Item:
    """One image of a split with its truth. Nothing is read before it is asked for; items can be pickled."""

    name: str
    """Unique in the split; usable as a file name."""
    load_image: Callable[[], Image]
    """Returns the image."""
    load_truths: Callable[[], NDArray[np.integer]]
    """Returns ``[A *S]`` integers, one label image an annotator, A = 0 where there is no truth; raises `InputError`,
    naming the file, where it cannot be read."""
    group: str
    """The source image, slice or patient that it was cut from: a split never cuts a group."""
    kind: str = ""
    """The kind of image where a dataset has several, for example of microscopy."""


@dataclass(frozen=True)
class Dataset:
    """A dataset: one instance in a file of this folder, which has its name."""

    name: str
    title: str
    """The file's name; one line on what it is."""
    task: Task
    """Kind of its truth."""
    axes: str
    """Axes of every image."""
    licence: str
    citation: str
    homepage: str
    """Terms as the origin states them, what to cite, and where the data come from."""
    splits: tuple[str, ...]
    default_split: str
    """Names of the splits, and the one that is taken unless said otherwise."""
    n_classes: int | None
    """Classes to ask a method for; None = as many as it finds."""
    foreground: str
    """Rule without labels by which class is the object: ``""`` (none), ``"not_largest"`` (all but the largest class),
    ``"largest"``, ``"brightest"``."""
    layout: str
    """Contents that the folder must have, in words that a user can follow."""
    files: tuple[RemoteFile, ...]
    """The files that can be downloaded or verified."""
    n_images: tuple[int, ...]
    """Images of each split, in the order of `splits`, where all `files` are there."""
    find: Callable[[Path, str], list[Item]]
    """Lists the items of a split in the data folder, in an order of their own."""
    split_rule: str
    """How the splits are made, in one line."""
    bundled: Callable[[], Path] | None = None
    """Where the files come with an installed package: returns their folder."""

    def root(self, data: Path | None) -> Path:
        """Return the folder below which the paths of `files` lie: the package's, `data`, or the cache."""
        if self.bundled is not None:
            return self.bundled()
        return cache_folder() if data is None else Path(data)

    def items(self, split: str, data: Path | None = None) -> list[Item]:
        """List the images of a split that are there, without reading them.

        Parameters
        ----------
        split
            One of `splits`.
        data
            Folder with the layout of ``docs/datasets.md``; None = the cache that `download` fills. What is in the
            folder is listed, be it less or more than `files`.

        Raises
        ------
        UsageError
            If there is no such split.
        InputError
            If no image of the split is there.
        """
        if split not in self.splits:
            raise UsageError(
                f"split of {self.name}",
                expected=f"one of {', '.join(self.splits)}",
                got=repr(split),
                fix=f"see `selfseg datasets {self.name}`",
            )
        root = self.root(data)
        items = self.find(root, split)
        if not items:
            raise InputError(
                root,
                expected=f"images of {self.name}, split {split}",
                got="none",
                fix=f"run `selfseg datasets {self.name} --download`, or name a folder that holds it with --data",
            )
        return items


def cache_folder() -> Path:
    """Return the folder of this user's that downloads go to."""
    import pooch

    return Path(pooch.os_cache("selfseg")) / "datasets"


def dataset_names() -> list[str]:
    """Return the names of all datasets: the files of this folder."""
    package = importlib.import_module("selfseg.read.datasets")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def find_dataset(name: str) -> Dataset:
    """Return the dataset called `name`. Raise `UsageError` if there is no such dataset."""
    names = dataset_names()
    if name not in names:
        raise UsageError("dataset", expected=f"one of {', '.join(names)}", got=repr(name), fix="see `selfseg datasets`")
    module = importlib.import_module(f"selfseg.read.datasets.{name}")
    found: Dataset = module.DATASET
    return found


@dataclass(frozen=True)
class RegistryEntry:
    """One line of a registry: ``SHA256 PATH`` and what a dataset notes beside it, by ``KEY=VALUE``."""

    sha256: str
    path: str
    notes: dict[str, str]


def read_registry(name: str) -> Iterator[RegistryEntry]:
    """Yield the entries of ``registry/NAME.txt``; lines that start with ``#`` are comments."""
    text = (files("selfseg.read.datasets") / "registry" / f"{name}.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            sha256, path, *notes = line.split()
            yield RegistryEntry(sha256, path, dict(note.split("=", 1) for note in notes))


def stacked_truths(path: Path) -> NDArray[Any]:
    """Return the truth of one image, ``[A *S]`` integers, as the file has them.

    Raise `InputError` if the file is missing or no label image, or its annotators' images differ in size.
    """
    truths = read_truths(path)
    shapes = {truth.shape for truth in truths}
    if len(shapes) != 1:
        raise InputError(
            f"labels {path}",
            expected="annotators of one size",
            got=f"{len(shapes)} sizes" if shapes else "no annotator",
            fix="check the file",
        )
    return np.stack(truths)


def binary_truth(path: Path) -> NDArray[np.uint8]:
    """Return the truth of one image whose values are 0 and anything above: ``[1 *S]`` uint8 of 0 and 1.

    Raise `InputError` as for `stacked_truths`, and if there are several annotators.
    """
    truths = stacked_truths(path)
    if len(truths) > 1:
        raise InputError(f"labels {path}", expected="one mask", got=f"{len(truths)} annotators", fix="check the file")
    return (truths > 0).astype(np.uint8)


ELSEWHERE = "or take the files from elsewhere and name their folder with --data (layout: docs/datasets.md)"
TIMEOUT = 60.0
"""Seconds without a byte after which a server counts as gone."""

CHUNK = 1 << 16

MEGABYTE = 1e6

BROKEN: tuple[type[Exception], ...] = (*DAMAGE, BadZipFile, InputError)
"""Errors of a conversion on a file that is not what it should be."""


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
    """Compare every file of a dataset with its SHA-256; return a fault for each that is missing, differs, or cannot be read.

    Other files in the folder are no fault.
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
        raise InputError(
            root,
            expected=f"the files of {dataset.name}",
            got=f"{len(wanted)} that are missing or differ, {wanted[0].path} among them",
            fix="install that package again",
        )
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
    """A progress bar for pooch: informs the listener how much of the present file has come."""

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
        raise OutputError(
            root,
            expected="a folder that can be written",
            got=error.strerror or str(error),
            fix="choose a writable place with -o",
        ) from error
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
        raise InputError(
            file.url, expected=f"{file.path} in it", got=str(error), fix=f"try again later, {ELSEWHERE}"
        ) from error
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
        raise OutputError(
            folder.parent,
            expected="room for a download",
            got=error.strerror or str(error),
            fix="free some space or choose another place with -o",
        ) from error
    except ValueError as error:  # what pooch raises for another hash
        raise _changed(url, name.partition("-")[2]) from error
    raise InputError(url, expected="a download", got=got, fix=fix)


def _changed(url: str, what: str) -> InputError:
    return InputError(
        url,
        expected=f"{what} of the known SHA-256",
        got="other content",
        fix=f"the origin may have changed, or a proxy answered for it: try again later, {ELSEWHERE}",
    )


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
