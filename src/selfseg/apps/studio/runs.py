"""A run is a folder and, while it works, a process of its own: it outlives the page and the server, and falls alone."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from selfseg.apps.studio.spec import SPEC, Spec
from selfseg.core.errors import UsageError
from selfseg.core.files import remove, write_json, write_text

STATUS, ORDER, CHANGE, PROCESS, LOG, MODEL, PREVIEWS = (
    "status.json",
    "order.json",
    "change.json",
    "process.json",
    "log.txt",
    "model",
    "previews",
)

WORKING = frozenset({"starting", "learning", "segmenting"})
"""States in which a process must be alive."""


END_WITHIN = 30.0
"""Seconds that a process has to end once it has said that it is done."""

START_WITHIN = 10.0
"""Seconds between a run's ``spec.json`` or the order to start and the number of its process in ``process.json``, at most."""


@dataclass(frozen=True)
class Run:
    """One run of a project.

    Attributes
    ----------
    folder
        Its folder; the name of it is the id of the run.
    """

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
        """Return the checkpoint of a step.

        Raises
        ------
        UsageError
            If it is not kept.
        """
        kept = {step_of(path): path for path in self.checkpoints}
        if step not in kept:
            known = ", ".join(map(str, kept)) or "none"
            fix = "choose one that is kept"
            raise UsageError(f"checkpoint {step}", expected=f"one of {known}", got=str(step), fix=fix)
        return kept[step]

    def status(self) -> dict[str, Any]:
        """Return what the process said last; ``crashed`` if it should be at work and is not there."""
        status = read_json(self.folder / STATUS) or {"state": "starting"}
        if status.get("state") in WORKING and not self.alive() and not self._just_started(status):
            status = {**status, "state": "crashed", "message": self._last_words()}
        return status

    def alive(self) -> bool:
        """Return whether the process of the run is there; another one that took its number does not count."""
        who = read_json(self.folder / PROCESS)
        if not who:
            return False
        try:
            process = psutil.Process(int(who["pid"]))
            same = abs(process.create_time() - float(who["born"])) < 2
            return same and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, KeyError, ValueError):
            return False

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process, detached, so that it goes on without the server; one that is ending is waited for."""
        self.rest()
        remove(self.folder / ORDER)
        write_json(
            self.folder / STATUS, {**(read_json(self.folder / STATUS) or {}), "state": "starting", "message": ""}
        )
        with (self.folder / LOG).open("ab") as log:
            words = [sys.executable, "-m", "selfseg.apps.studio.worker", str(self.folder)]
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=child_environment()
            )
        try:
            born = psutil.Process(process.pid).create_time()
        except psutil.Error:
            born = 0.0
        write_json(self.folder / PROCESS, {"pid": process.pid, "born": born})
        return process

    def rest(self, seconds: float = END_WITHIN) -> None:
        """Wait until the process has ended.

        Raises
        ------
        UsageError
            If it is still there after so many seconds.
        """
        end = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > end:
                raise UsageError(f"run {self.id}", expected="a run at rest", got="one at work", fix="wait, or stop it")
            time.sleep(0.05)

    def order(self, what: str) -> None:
        """Ask the process to ``pause`` or to ``finish`` after the step that it is at."""
        write_json(self.folder / ORDER, {"order": what})

    def change(self, options: Mapping[str, Any]) -> None:
        """Ask the process to go on with other options after the step that it is at; `Method.live` says which can change so."""
        write_json(self.folder / CHANGE, {**(read_json(self.folder / CHANGE) or {}), **options})

    def kill(self) -> None:
        """End the process at once; the last checkpoint stays."""
        if self.alive():
            who = read_json(self.folder / PROCESS) or {}
            try:
                psutil.Process(int(who["pid"])).kill()
            except psutil.Error:
                return

    def _just_started(self, status: dict[str, Any]) -> bool:
        """Return whether the process may be on its way: scribbles are written before it, its number is noted after."""
        if status.get("state") != "starting":
            return False
        asked, noted = max(map(self._written, (SPEC, STATUS))), self._written(PROCESS)
        return noted < asked and time.time() - asked < START_WITHIN

    def _written(self, name: str) -> float:
        """Return when a file of the run was written; 0 if it is not there."""
        try:
            return (self.folder / name).stat().st_mtime
        except OSError:
            return 0.0

    def _last_words(self) -> str:
        try:
            lines = (self.folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return (
            f"the process ended: {lines[-1][:300]}"
            if lines
            else "the process ended; resume goes on from its checkpoint"
        )


class Runs:
    """The runs of a project, by number.

    Parameters
    ----------
    folder
        Folder of the runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Run]:
        """Return the runs, first to last."""
        if not self.folder.is_dir():
            return []
        return [Run(path) for path in sorted(self.folder.iterdir()) if (path / SPEC).is_file()]

    def get(self, key: str) -> Run:
        """Return one run.

        Raises
        ------
        UsageError
            If there is none of that number.
        """
        for run in self.all():
            if run.id == key:
                return run
        raise UsageError(f"run {key!r}", expected="one of the project", got="another", fix="reload the page")

    def create(self, spec: Spec) -> Run:
        """Make the folder of a new run; it is not started yet."""
        number = 1 + max((int(run.id) for run in self.all() if run.id.isdigit()), default=0)
        run = Run(self.folder / f"{number:03d}")
        spec.save(run.folder)
        return run

    def fork(self, parent: Run, step: int, spec: Spec) -> Run:
        """Make a run that begins from a checkpoint of another, with other options.

        Raises
        ------
        UsageError
            If that checkpoint is not kept.
        """
        checkpoint = parent.checkpoint(step)
        run = self.create(replace(spec, origin={"run": parent.id, "step": step}))
        copy = run.folder / "begin.safetensors"
        shutil.copyfile(checkpoint, copy)
        replace(Spec.read(run.folder), begin=str(copy)).save(run.folder)
        journal = parent.folder / MODEL / "journal.jsonl"
        if journal.exists():
            write_text(run.folder / MODEL / "journal.jsonl", journal.read_text(encoding="utf-8"))
        return run

    def remove(self, run: Run) -> None:
        """Put a run away: its folder is renamed into the project's bin, not deleted.

        Raises
        ------
        UsageError
            If it is still at work.
        """
        if run.alive():
            raise UsageError(f"run {run.id}", expected="a run at rest", got="one at work", fix="stop it first")
        attic = self.folder.parent / "removed"
        attic.mkdir(exist_ok=True)
        number = 1
        while (attic / f"{run.id}-{number}").exists():
            number += 1
        run.folder.rename(attic / f"{run.id}-{number}")


def step_of(checkpoint: Path) -> int:
    """Return the step that a kept checkpoint was written after."""
    return int(checkpoint.stem.partition("-")[2])


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file that another process may be replacing; None if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def child_environment() -> dict[str, str]:
    """Return the environment of a worker: it must import the package that the server runs, wherever that lies."""
    import selfseg

    home = str(Path(selfseg.__file__).parent.parent)
    others = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([home, *filter(None, [others])])}
