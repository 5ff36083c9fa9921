"""Datasets, their files and items, and how one is found: by the name of its file in this folder."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.read.labels import read_truths

Task = Literal["partition", "instances", "foreground", "lesion", "none"]
"""What the truth is: a partition into segments, objects one by one, two classes, lesions in a volume, or nothing."""

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
    """What stands for ``{}``, in order; empty = `url` is one file."""
    convert: Convert | None = None
    """Makes the array to be stored out of the downloaded files; None = the bytes are kept as they are. A file of several
    dataset files, such as an archive, is downloaded once."""

    @property
    def urls(self) -> list[str]:
        """What must be downloaded for this file."""
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
    """What its truth is."""
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
    """What the folder must hold, in words that a user can follow."""
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
            expected, fix = f"one of {', '.join(self.splits)}", f"see `selfseg datasets {self.name}`"
            raise UsageError(f"split of {self.name}", expected=expected, got=repr(split), fix=fix)
        root = self.root(data)
        items = self.find(root, split)
        if not items:
            fix = f"run `selfseg datasets {self.name} --download`, or name a folder that holds it with --data"
            raise InputError(root, expected=f"images of {self.name}, split {split}", got="none", fix=fix)
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
        got = f"{len(shapes)} sizes" if shapes else "no annotator"
        raise InputError(f"labels {path}", expected="annotators of one size", got=got, fix="check the file")
    return np.stack(truths)


def binary_truth(path: Path) -> NDArray[np.uint8]:
    """Return the truth of one image whose values are 0 and anything above: ``[1 *S]`` uint8 of 0 and 1.

    Raise `InputError` as for `stacked_truths`, and if there are several annotators.
    """
    truths = stacked_truths(path)
    if len(truths) > 1:
        raise InputError(f"labels {path}", expected="one mask", got=f"{len(truths)} annotators", fix="check the file")
    return (truths > 0).astype(np.uint8)
