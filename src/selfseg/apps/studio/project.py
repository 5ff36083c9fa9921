"""A project is a folder: which pictures, every run with its results, and the log of what was done by hand."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfseg.apps.studio.events import EventLog
from selfseg.core.errors import InputError, UsageError
from selfseg.core.files import write_json
from selfseg.read.formats import known_suffixes, suffix_of
from selfseg.read.sources import Source, find_inputs

FORMAT = 1
PROJECT, EVENTS, RUNS, UPLOADS, EXPORTS = "project.json", "events.jsonl", "runs", "uploads", "exports"

MODEL_FILE = "model.safetensors"
"""What tells a model folder from a folder of pictures."""


@dataclass
class Project:
    """The folder of a studio, and what it is about.

    Attributes
    ----------
    folder
        The project folder.
    inputs
        Files, folders and globs that were given.
    models
        Model folders that were given.
    roots
        Folders into which paths may lead.
    axes
        Axes of all inputs, None = as the files say.
    """

    folder: Path
    inputs: list[str]
    models: list[Path]
    roots: list[Path]
    axes: str | None = None
    log: EventLog = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = EventLog(self.folder / EVENTS)
        self._sources: list[Source] | None = None

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
            self._sources = find_inputs(given) if given else []
        return self._sources

    def source(self, name: str) -> Source:
        """Return one picture by its name.

        Raises
        ------
        InputError
            If there is none of that name.
        """
        for source in self.sources():
            if source.name == name:
                return source
        raise InputError(f"picture {name!r}", expected="one of the project", got="another", fix="reload the page")

    def refresh(self) -> None:
        """Look for pictures again."""
        self._sources = None

    def save(self) -> None:
        """Write ``project.json``."""
        values = {
            "format": FORMAT,
            "inputs": self.inputs,
            "models": [str(path) for path in self.models],
            "roots": [str(path) for path in self.roots],
            "axes": self.axes,
        }
        write_json(self.folder / PROJECT, values)

    def upload_path(self, name: str) -> Path:
        """Return where an uploaded file of this name goes; a name in use gets a number.

        Raises
        ------
        InputError
            If it is no name of a picture.
        """
        clean = Path(name.replace("\\", "/")).name
        if not suffix_of(Path(clean)) or clean.startswith("."):
            expected = f"the name of a picture ({known_suffixes()})"
            raise InputError(f"upload {name!r}", expected=expected, got="another", fix="convert the file")
        path, number = self.uploads / clean, 2
        while path.exists():
            path, number = self.uploads / f"{Path(clean).stem}_{number}{Path(clean).suffix}", number + 1
        return path


def open_project(
    inputs: Sequence[str], folder: Path | None = None, allow: Sequence[Path] = (), axes: str | None = None
) -> Project:
    """Open the project of these inputs, or begin it.

    Parameters
    ----------
    inputs
        Pictures, folders, globs, model folders, or one project folder.
    folder
        The project folder; None = beside the first input, named after it, where it was before too.
    allow
        Further folders into which paths may lead.
    axes
        Axes of the inputs; None = as the files say, or as the project has them.

    Raises
    ------
    InputError
        If an input is not there.
    UsageError
        If the folder is there and is no project.
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
            fix = "choose another with --project"
            raise UsageError(folder, expected="a project or a new folder", got="something else", fix=fix)
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fix = "restore the file, or choose another folder with --project"
        raise InputError(file, expected="a project", got=str(error), fix=fix) from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        fix = "update selfseg, or choose another folder with --project"
        raise InputError(file, expected=f"a project of format {FORMAT}", got="another", fix=fix)
    return values
