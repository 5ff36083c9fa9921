"""A run: a folder and, while it works, a process of its own (`worker`), which outlives the page and the server.

Server and process exchange files in the run's folder only: ``spec.json``, ``status.json``, ``order.json``, ``change.json``.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from selfseg.apps.studio.project import RUNS, Project, new_folder
from selfseg.core.errors import UsageError
from selfseg.core.files import Manifest, remove, write_json, write_text

SPEC, STATUS, ORDER, CHANGE, PROCESS = "spec.json", "status.json", "order.json", "change.json", "process.json"
LOG, MODEL, PREVIEWS, JOURNAL = "log.txt", "model", "previews", "model/journal.jsonl"

WORKING = frozenset({"starting", "learning", "segmenting"})
"""States in which a process must be alive."""

END_WITHIN = 30.0
"""Seconds that a process may take to end after its last status."""

START_WITHIN = 10.0
"""Seconds between a run's ``spec.json`` or the order to start and the number of its process in ``process.json``, at most."""

FIRST_PREPARE = "size=1600,auto"
"""Preparation of the first look: larger pictures are reduced, since speed comes first; other runs can use all pixels."""

FIRST_OTHERWISE = "cells"
"""Preset of the first look where the default finds a single class: many small things on a plain ground."""

STORED_AS = {"scribbles": "hints", "scribble_names": "hint_names"}
"""Keys of ``spec.json`` that differ from the names of the fields, so that projects of before can be read."""


@dataclass(frozen=True)
class Spec:
    """Specification of a run, ``spec.json`` in its folder; `method` to `options` are arguments of `selfseg.Segmenter`."""

    name: str
    """Name for the user."""
    method: str = "region_merging"
    preset: str = "default"
    n_classes: int | None = None
    seed: int = 0
    prepare: str | None = None
    refine: str | None = None
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    """Files to learn from and to segment."""
    axes: str | None = None
    """Axes of the inputs; None = as the files say."""
    scribbles: str | None = None
    """Folder of scribbles, or None."""
    labels: str | None = None
    """Folder of label images to learn from, or None."""
    scribble_names: Mapping[str, str] = field(default_factory=dict)
    """Names of the classes of the scribbles, by their values, of runs before classes had identities."""
    classes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name and rgba of the project's classes, by id, whose ids the run keeps (`identities`)."""
    like: Mapping[str, Any] | None = None
    """Run whose classes are compared with those of this one, and the class there of each of `classes`."""
    strokes: tuple[Mapping[str, Any], ...] = ()
    """Strokes on the pictures, which identify the classes of this run even where it does not learn from them."""
    arranged: bool = False
    """True if classes were numbered otherwise than learned, so that the model is loaded, not learned again."""
    begin: str | None = None
    """Checkpoint of another run, or of this one with other options, to begin from."""
    origin: Mapping[str, Any] | None = None
    """Run and step that it was forked from."""
    changes: tuple[Mapping[str, Any], ...] = ()
    """Options that were changed during the run: ``{"step": 40, "options": {...}}``."""
    model: str | None = None
    """A model folder that is used as it is, without learning."""
    otherwise: str | None = None
    """Preset to use instead where this one finds a single class."""

    def parameters(self) -> dict[str, Any]:
        """Return the arguments of `selfseg.Segmenter`."""
        names = ("method", "preset", "n_classes", "seed", "prepare", "refine", "device")
        return {**{name: getattr(self, name) for name in names}, "options": dict(self.options)}

    def save(self, folder: Path) -> None:
        """Write ``spec.json``."""
        write_json(folder / SPEC, {STORED_AS.get(name, name): value for name, value in asdict(self).items()})

    @classmethod
    def read(cls, folder: Path) -> "Spec":
        """Read ``spec.json``."""
        values = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        values |= {name: values.pop(key) for name, key in STORED_AS.items() if key in values}
        listed = {name: tuple(values.get(name, ())) for name in ("inputs", "changes", "strokes")}
        return cls(**{**values, **listed})


@dataclass(frozen=True)
class Run:
    """One run of a project, in a folder whose name is the id of the run."""

    folder: Path

    @property
    def id(self) -> str:
        """Number of the run in the project, as a string: ``"003"``."""
        return self.folder.name

    @property
    def model(self) -> Path:
        """Folder of the model: the user's own for a run that only segments."""
        own = Spec.read(self.folder).model
        return self.folder / MODEL if own is None else Path(own)

    @property
    def checkpoints(self) -> list[Path]:
        """Checkpoints that are kept, by their steps."""
        return sorted((self.folder / MODEL / "checkpoints").glob("step-*.safetensors"))

    def checkpoint(self, step: int) -> Path:
        """Return the checkpoint of a step; UsageError if it is not kept."""
        kept = {step_of(path): path for path in self.checkpoints}
        if step not in kept:
            known = ", ".join(map(str, kept)) or "none"
            raise UsageError(
                f"checkpoint {step}", expected=f"one of {known}", got=str(step), fix="choose one that is kept"
            )
        return kept[step]

    def status(self) -> dict[str, Any]:
        """Return the last status of the process; state ``crashed`` if it should be alive and is not."""
        status = read_json(self.folder / STATUS) or {"state": "starting"}
        if status.get("state") in WORKING and not self.alive() and not self._just_started(status):
            status = {**status, "state": "crashed", "message": self._last_words()}
        return status

    def alive(self) -> bool:
        """Return whether the process of the run is alive; another process with the same number does not count."""
        noted = read_json(self.folder / PROCESS)
        if not noted:
            return False
        try:
            process = psutil.Process(int(noted["pid"]))
            same = abs(process.create_time() - float(noted["born"])) < 2
            return same and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, KeyError, ValueError):
            return False

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process, detached from the server, after the one before has ended."""
        self.rest()
        remove(self.folder / ORDER)
        before = read_json(self.folder / STATUS) or {}
        write_json(self.folder / STATUS, {**before, "state": "starting", "message": ""})
        with (self.folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "selfseg.apps.studio.worker", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=child_environment(),
            )
        try:
            born = psutil.Process(process.pid).create_time()
        except psutil.Error:
            born = 0.0
        write_json(self.folder / PROCESS, {"pid": process.pid, "born": born})
        return process

    def rest(self, seconds: float = END_WITHIN) -> None:
        """Wait until the process has ended; UsageError if it is alive after that many seconds."""
        end = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > end:
                raise UsageError(f"run {self.id}", expected="a run at rest", got="one at work", fix="wait, or stop it")
            time.sleep(0.05)

    def order(self, what: str) -> None:
        """Order the process to ``pause`` or to ``finish`` after the current step."""
        write_json(self.folder / ORDER, {"order": what})

    def change(self, options: Mapping[str, Any]) -> None:
        """Order the process to use other options after the current step; only those in `Method.live` can change so."""
        write_json(self.folder / CHANGE, {**(read_json(self.folder / CHANGE) or {}), **options})

    def kill(self) -> None:
        """End the process at once; the last checkpoint stays."""
        if self.alive():
            with contextlib.suppress(psutil.Error):
                psutil.Process(int((read_json(self.folder / PROCESS) or {})["pid"])).kill()

    def _just_started(self, status: dict[str, Any]) -> bool:
        """Return whether the process may still be starting: scribbles are written before it, its number is noted after."""
        if status.get("state") != "starting":
            return False
        (asked, _), (noted, _) = max(map(self._stamp, (SPEC, STATUS))), self._stamp(PROCESS)
        return noted < asked and time.time_ns() - asked < START_WITHIN * 1e9

    def stamps(self) -> tuple[Any, ...]:
        """Return values that change with the files: specification and status, checkpoints, journal, previews."""
        newest = max((path.name for path in (self.folder / PREVIEWS).glob("step-*.json")), default="")
        state = self._stamp(STATUS), self._stamp(SPEC), self.status().get("state")
        return state, len(self.checkpoints), self._stamp(JOURNAL), newest

    def _stamp(self, name: str) -> tuple[int, int]:
        """Return time (ns) and size (bytes) of a file of the run; zeros if it does not exist."""
        try:
            found = (self.folder / name).stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size

    def _last_words(self) -> str:
        try:
            lines = (self.folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        last = f": {lines[-1][:300]}" if lines else "; resume starts from its checkpoint"
        return f"the process ended{last}"


class Runs:
    """The runs of a project, by number, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Run]:
        """Return the runs, first to last."""
        if not self.folder.is_dir():
            return []
        return [Run(path) for path in sorted(self.folder.iterdir()) if (path / SPEC).is_file()]

    def get(self, key: str) -> Run:
        """Return one run; UsageError if no run has that id."""
        for run in self.all():
            if run.id == key:
                return run
        raise UsageError(f"run {key!r}", expected="one of the project", got="another", fix="reload the page")

    def create(self, spec: Spec) -> Run:
        """Make the folder of a new run, without starting it."""
        number = 1 + max((int(run.id) for run in self.all() if run.id.isdigit()), default=0)
        run = Run(self.folder / f"{number:03d}")
        spec.save(run.folder)
        return run

    def fork(self, parent: Run, step: int, spec: Spec) -> Run:
        """Make a run that starts from a checkpoint of another, with other options; UsageError if it is not kept."""
        checkpoint = parent.checkpoint(step)
        run = self.create(replace(spec, origin={"run": parent.id, "step": step}))
        copy = run.folder / "begin.safetensors"
        shutil.copyfile(checkpoint, copy)
        replace(Spec.read(run.folder), begin=str(copy)).save(run.folder)
        if (journal := parent.folder / JOURNAL).exists():
            with Manifest(run.folder / MODEL, "training.json"):  # the run keeps it as its own
                write_text(run.folder / JOURNAL, journal.read_text(encoding="utf-8"))
        return run

    def remove(self, run: Run) -> None:
        """Move a run's folder to the project's bin, ``removed``; UsageError if it is still at work."""
        if run.alive():
            raise UsageError(f"run {run.id}", expected="a run at rest", got="one at work", fix="stop it first")
        bin_folder = self.folder.parent / "removed"
        bin_folder.mkdir(exist_ok=True)
        run.folder.rename(new_folder(bin_folder, run.id))


def start_first_look(project: Project) -> Run | None:
    """Start the first run of a project: a quick segmentation, or the given model; None if it has a run, or no picture.

    Call it before the server is imported: the process takes some seconds, and then nothing else is waited for.
    """
    runs = Runs(project.folder / RUNS)
    if runs.all() or not project.sources():
        return None
    inputs = tuple(str(source.path) for source in project.sources())
    spec = Spec("first look", prepare=FIRST_PREPARE, otherwise=FIRST_OTHERWISE, inputs=inputs, axes=project.axes)
    if project.models:  # it has a preparation of its own
        spec = replace(spec, name=project.models[0].name, model=str(project.models[0]), prepare=None, otherwise=None)
    run = runs.create(spec)
    run.start()
    return run


def step_of(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was written."""
    return int(checkpoint.stem.partition("-")[2])


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file that another process may be replacing; None without one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def child_environment() -> dict[str, str]:
    """Return the environment of a child process, which must import the same package as the server."""
    import selfseg

    home = str(Path(selfseg.__file__).parent.parent)
    others = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([home, *filter(None, [others])])}
