"""The search of a folder or a glob for files: links are followed, what selfseg wrote is left out, and what is passed over is counted."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from selfseg.core.errors import InputError
from selfseg.core.files import NOTES, Manifest, written_into
from selfseg.read.ome_zarr import is_zarr

MOST_NAMED = 5
"""Names of one kind in a line."""

MOST_LINKED = 64
"""Ways through links by which one folder is looked into: folders that link to each other have any number of them."""

WHOLE = {
    "model folder": ("model.safetensors", "config.json"),
    "model folder of a run under way": ("training.json", NOTES),
    "studio project": ("project.json", "events.jsonl"),
    "benchmark": ("results.json", "rows"),
}
"""Folders that are selfseg's as a whole, by what must be in them."""


@dataclass
class PassedOver:
    """Files that a search passed over: how many of each kind, and some names."""

    counts: Counter[str] = field(default_factory=Counter)
    names: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str = "", number: int = 1) -> None:
        """Count one, by its kind as it stands behind a number; `name` is shown."""
        self.counts[kind] += number
        if name:
            self.names.setdefault(kind, Counter())[name] += number

    def __str__(self) -> str:
        return ", ".join(f"{number} {kind}{self._shown(kind)}" for kind, number in self.counts.items())

    def _shown(self, kind: str) -> str:
        names = self.names.get(kind, Counter())
        several = len(names) < self.counts[kind]
        shown = [f"{number} {name}" if several else name for name, number in names.most_common(MOST_NAMED)]
        return f" ({', '.join(shown)}{', ...' if len(names) > MOST_NAMED else ''})" if names else ""


def what_made(folder: Path) -> str | None:
    """Return what a folder is that is selfseg's as a whole, ``"model folder"``; None of any other."""
    for what, marks in WHOLE.items():
        if all((folder / mark).exists() for mark in marks):
            return what
    manifest = (folder / "run.json").is_file() and Manifest(folder)
    return "output folder of an older version" if manifest and manifest.unknown else None


def search(root: Path, passed: PassedOver | None = None, inputs: bool = False) -> list[Path]:
    """Return the files below a folder; a zarr folder counts as a file. Dead links are files that are not there.

    Links to folders are followed, unless they lead back. Hidden files are passed over, and so is what selfseg wrote into the folder, or
    below it.

    Parameters
    ----------
    root
        The folder.
    passed
        Counts what is passed over; None = nobody wants to know.
    inputs
        The files are to be inputs: what selfseg wrote into a folder above is passed over too.

    Raises
    ------
    OSError
        If the folder itself cannot be looked into; one below it that cannot is passed over.
    """
    passed = PassedOver() if passed is None else passed
    return [path for path in _below(root, root, passed, (), Counter()) if not _is_written(path, root, passed, inputs)]


def _below(
    folder: Path, root: Path, passed: PassedOver, above: tuple[tuple[int, int], ...], visits: Counter[tuple[int, int]]
) -> Iterator[Path]:
    shown = folder.relative_to(root).as_posix()
    try:
        found = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        if folder == root:
            raise
        passed.add("folders that cannot be looked into", f"{shown}: {error.strerror}")
        return
    here = (found.st_dev, found.st_ino)
    visits[here] += 1
    if here in above or visits[here] > MOST_LINKED:
        passed.add("links that lead back", shown)
        return
    if folder != root and (what := what_made(folder)) is not None:
        passed.add(f"{what} of selfseg", shown)
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            passed.add("hidden")
        elif entry.is_dir() and not is_zarr(path):
            yield from _below(path, root, passed, (*above, here), visits)
        else:
            yield path


def _is_written(path: Path, root: Path, passed: PassedOver, inputs: bool) -> bool:
    place = written_into(path)
    if place is None or not (inputs or place.is_relative_to(os.path.normpath(root.absolute()))):
        return False
    passed.add("that selfseg wrote", place.name)
    return True


def search_glob(pattern: Path, passed: PassedOver, inputs: bool = False) -> tuple[Path, list[Path]]:
    """Return the fixed part of a glob, and the files that match it; ``**`` goes through linked folders too.

    Raise `InputError` if it is no valid pattern.
    """
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if re.search(r"[*?\[]", part))
    root, rest = Path(*parts[:first]), parts[first:]
    try:
        if any("**" in part and part != "**" for part in rest):
            raise ValueError("** beside other letters")
        if "**" not in rest:
            return root, [path for path in root.glob(str(Path(*rest))) if not _left_out(path, root, passed, inputs)]
        return root, [path for path in search(root, passed, inputs) if _fits(path.relative_to(root).parts, rest)]
    except (ValueError, NotImplementedError) as error:
        raise InputError(
            f"glob {pattern}",
            expected="a valid pattern",
            got=str(error),
            fix="use * for any name and ** for any sub-folders",
        ) from error


def _fits(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Return whether the names of folders and file fit a pattern; ``**`` is any number of folders, at its end any file."""
    if not parts or not names:
        return not parts and not names
    if parts[0] == "**":
        return len(parts) == 1 or any(_fits(names[i:], parts[1:]) for i in range(len(names)))
    return fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])


def _left_out(path: Path, root: Path, passed: PassedOver, inputs: bool) -> bool:
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        passed.add("hidden")
    elif path.is_dir() and not is_zarr(path):
        passed.add("folders")
    else:
        return _is_written(path, root, passed, inputs)
    return True
