"""A project: a folder with its pictures' places, every run with its results, and the log of all edits."""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selfseg.core.errors import InputError, OutputError, UsageError
from selfseg.core.files import clear_unfinished, telling_failures, write_json
from selfseg.read.formats import known_suffixes, suffix_of
from selfseg.read.sources import Source, find_inputs

FORMAT = 1
PROJECT, EVENTS, RUNS, UPLOADS, EXPORTS = "project.json", "events.jsonl", "runs", "uploads", "exports"

TOKEN, LEAST_TOKEN = "token", 32
"""File with the secret of a project, and its least length."""

MODEL_FILE = "model.safetensors"
"""File by which a model folder is known from a folder of pictures."""

SCRIBBLES = "scribbles"
"""Scope of strokes in the log: they belong to the pictures, not to a run."""

CLASSES = "classes"
"""Scope of the classes that outlive a run (`identities`); nothing of it is undone."""

TAG: ContextVar[str | None] = ContextVar("tag", default=None)
"""Mark of the message that is being done: a page whose connection broke sends what it does not know to be stored once more."""

Operation = dict[str, Any]


@dataclass
class History:
    """Operations of one scope: those that count, and those that were undone and can be redone."""

    done: list[Operation] = field(default_factory=list)
    undone: list[Operation] = field(default_factory=list)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add one line of the log."""
        if "do" in entry:
            self.done.append(entry["do"])
            self.undone.clear()
        elif entry.get("undo") and self.done:
            self.undone.append(self.done.pop())
        elif entry.get("redo") and self.undone:
            self.done.append(self.undone.pop())


class EventLog:
    """Append-only log of a project's edits, for undo and redo without limit: one JSON line an event, flushed before it counts.

    A last line that a crash cut off is dropped, and so is what a failed write has left.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._histories: dict[str, History] = {}
        self._tags: set[str] = set()
        self._whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                entry = _parsed(line)
                if entry is None:
                    break
                self._take(entry)
                self._whole += len(line)
        with telling_failures(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            self._file.truncate(self._whole)

    def history(self, scope: str) -> History:
        """Return the history of a scope: a run's id, or `SCRIBBLES`."""
        return self._histories.setdefault(scope, History())

    def knows(self, tag: str) -> bool:
        """Return whether a message of that mark was done already."""
        return tag in self._tags

    def _take(self, entry: dict[str, Any]) -> None:
        self.history(entry["scope"]).add(entry)
        if isinstance(tag := entry.get("tag"), str):
            self._tags.add(tag)

    def do(self, scope: str, operation: Operation) -> None:
        """Add an operation."""
        self._append({"scope": scope, "do": operation})

    def undo(self, scope: str) -> Operation | None:
        """Undo the last operation and return it; None if there is nothing to undo."""
        return self._turn(scope, "undo", self.history(scope).done)

    def redo(self, scope: str) -> Operation | None:
        """Redo the operation that was undone last and return it; None if there is nothing to redo."""
        return self._turn(scope, "redo", self.history(scope).undone)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _turn(self, scope: str, direction: str, stack: list[Operation]) -> Operation | None:
        if not stack:
            return None
        turned = stack[-1]
        self._append({"scope": scope, direction: True})
        return turned

    def _append(self, entry: dict[str, Any]) -> None:
        if (tag := TAG.get()) is not None:
            entry["tag"] = tag
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        try:
            self._file.truncate(self._whole)
            left = memoryview(line)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # else the next one does
                self._file.truncate(self._whole)
            raise OutputError(
                self._path,
                expected="room for the log",
                got=error.strerror or str(error),
                fix="free some space, then try again",
            ) from error
        self._whole += len(line)
        self._take(entry)


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("scope"), str) else None


@dataclass
class Project:
    """The project folder, and the inputs that it is about."""

    folder: Path
    inputs: list[str]
    """Files, folders and globs that were given."""
    models: list[Path]
    """Model folders that were given."""
    roots: list[Path]
    """Folders into which paths may lead."""
    axes: str | None = None
    """Axes of all inputs; None = as the files say."""
    log: EventLog = field(init=False, repr=False)
    notes: list[str] = field(init=False, repr=False)
    """Lines on what the last search for pictures passed over."""

    def __post_init__(self) -> None:
        with telling_failures(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        clear_unfinished(self.folder, (EXPORTS,))
        self.log = EventLog(self.folder / EVENTS)
        self._sources: list[Source] | None = None
        self.notes: list[str] = []

    @property
    def uploads(self) -> Path:
        """Folder of the pictures that were dropped into the page."""
        return self.folder / UPLOADS

    def sources(self) -> list[Source]:
        """Return the pictures in natural order; empty while there are none."""
        if self._sources is None:
            given: list[str | Path] = [*self.inputs]
            if self.uploads.is_dir() and any(self.uploads.iterdir()):
                given.append(self.uploads)
            self.notes = []
            self._sources = [printable(one) for one in find_inputs(given, say=self.notes.append)] if given else []
        return self._sources

    def source(self, name: str) -> Source:
        """Return one picture by its name; InputError if no picture has that name."""
        for source in self.sources():
            if source.name == name:
                return source
        raise InputError(f"picture {name!r}", expected="one of the project", got="another", fix="reload the page")

    def refresh(self) -> None:
        """Find the pictures again at the next question."""
        self._sources = None

    def save(self) -> None:
        """Write ``project.json``."""
        models, roots = [str(path) for path in self.models], [str(path) for path in self.roots]
        values = {"format": FORMAT, "inputs": self.inputs, "models": models, "roots": roots, "axes": self.axes}
        write_json(self.folder / PROJECT, values)

    def upload_path(self, name: str) -> Path:
        """Return where an uploaded file of this name goes, with a number if it is in use; InputError if it is no picture."""
        clean = Path(name.replace("\\", "/")).name
        if not suffix_of(Path(clean)) or clean.startswith("."):
            raise InputError(
                f"upload {name!r}",
                expected=f"the name of a picture ({known_suffixes()})",
                got="another",
                fix="convert the file",
            )
        path, number = self.uploads / clean, 2
        while path.exists():
            path, number = self.uploads / f"{Path(clean).stem}_{number}{Path(clean).suffix}", number + 1
        return path


def kept_token(folder: Path) -> str:
    """Return the secret of a project, which only its owner can read: open tabs continue after the server has been restarted."""
    path = folder / TOKEN
    try:
        known = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        known = ""
    if len(known) >= LEAST_TOKEN and (os.name == "nt" or path.stat().st_mode & 0o077 == 0):
        return known
    token = secrets.token_urlsafe(24)
    with contextlib.suppress(OSError), contextlib.closing(_private(path)) as file:
        file.write(token)
    return token


def _private(path: Path) -> Any:
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii")


def printable(source: Source) -> Source:
    """Return a source whose name can be sent to a page: bytes that are no text are written as in a link, ``%E9``."""
    return replace(source, name="".join(c if c.isprintable() else quote(os.fsencode(c)) for c in source.name))


def new_folder(home: Path, stem: str) -> Path:
    """Return ``home/STEM-N`` with the first number N that is free; it is not made yet."""
    number = 1
    while (folder := home / f"{stem}-{number}").exists():
        number += 1
    return folder


def open_project(
    inputs: Sequence[str], folder: Path | None = None, allow: Sequence[Path] = (), axes: str | None = None
) -> Project:
    """Open the project of these inputs (pictures, folders, globs, model folders, or one project folder), or begin it.

    A `folder` of None is the one beside the first input, named after it, where it was before too. Paths may also lead into
    the folders `allow`. `axes` None = as the project has them, or as the files say.

    InputError if an input is not there; UsageError if the folder is there and is no project.
    """
    if folder is None and len(inputs) == 1 and (Path(inputs[0]) / PROJECT).is_file():
        folder, inputs = Path(inputs[0]), []
    models = [Path(item).resolve() for item in inputs if (Path(item) / MODEL_FILE).is_file()]
    pictures = [item for item in inputs if Path(item).resolve() not in models]
    if pictures:
        find_inputs(pictures)  # what is not there is said now, in one line
    paths = [str(Path(item).expanduser().absolute()) for item in pictures]
    folder = (folder or _beside([*paths, *map(str, models)])).absolute()
    before = _stored(folder)
    paths = list(dict.fromkeys([*before.get("inputs", []), *paths]))
    models = [Path(p) for p in dict.fromkeys([*before.get("models", []), *map(str, models)])]
    given = [_fixed_part(path) for path in paths] + models + [Path(path).absolute() for path in allow]
    roots = list(dict.fromkeys([*given, *(Path(path) for path in before.get("roots", []))]))
    project = Project(folder, paths, models, roots, axes or before.get("axes"))
    project.save()
    return project


def _fixed_part(text: str) -> Path:
    """Return the folder of a file, a folder itself, or what stands before the first joker of a glob."""
    path = Path(text)
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _beside(paths: Sequence[str]) -> Path:
    """Return the folder of a new project: beside the first input, where that can be written, else in the current folder."""
    if not paths:
        return Path("selfseg-studio")
    first = Path(paths[0])
    stem = first.name if first.is_dir() else first.stem
    stem = "".join(c for c in stem if c not in "*?[]") or hashlib.sha256(paths[0].encode()).hexdigest()[:8]
    home = _fixed_part(str(first.parent))
    return (home if os.access(home, os.W_OK) else Path()) / f"{stem}.studio"


def _stored(folder: Path) -> dict[str, Any]:
    file = folder / PROJECT
    if not file.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                folder, expected="a project or a new folder", got="something else", fix="choose another with --project"
            )
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            file, expected="a project", got=str(error), fix="restore the file, or choose another folder with --project"
        ) from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(
            file,
            expected=f"a project of format {FORMAT}",
            got="another",
            fix="update selfseg, or choose another folder with --project",
        )
    return values
