"""The folder of a model while it learns: what it was begun with, whether it can be gone on with, and what lies where."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfseg.core.errors import UsageError
from selfseg.core.files import clear_unfinished, remove, write_json
from selfseg.methods._base import find_method
from selfseg.train.distributed import Processes

KEPT_FACTS = ("method", "seed", "config", "hint_values", "hints_sha256", "inputs", "masks", "superpixels", "channels")
"""What a run that is resumed must have begun with."""

RUN, CHECKPOINT, JOURNAL, PREVIEWS = "training.json", "checkpoint.safetensors", "journal.jsonl", "previews"
KEPT = "checkpoints"
"""Folder of the checkpoints that stay."""


def check_shared(name: str, compiled: bool | None) -> None:
    """Refuse what cannot be learned in several processes.

    Raises
    ------
    UsageError
        If it is the method `name`, or that its networks are to be compiled.
    """
    if (reason := find_method(name).distributed_unsupported) is not None:
        expected, got = "a method that learns in several processes", f"{name}: {reason}"
        raise UsageError("torchrun", expected=expected, got=got, fix="start it without torchrun")
    if compiled:
        fix = "leave --compile out, or start it without torchrun"
        raise UsageError("torchrun", expected="networks that are not compiled", got="--compile", fix=fix)


def begin_folder(
    folder: Path | None, facts: dict[str, Any], processes: Processes, resume: bool, overwrite: bool, forked: bool
) -> tuple[bool, int]:
    """Prepare the folder of a run, once for all processes that share it; see `open_folder`.

    Parameters
    ----------
    folder
        The folder; None = the run leaves nothing.
    facts
        What the run is begun with. ``processes`` and ``changes`` are added: those of the run that is gone on with, if there is one.
    processes
        Those that share the run.

    Returns
    -------
    bool, int
        Whether there is something to resume, and by how many processes it was begun.
    """
    kept = json.dumps({key: facts.get(key) for key in KEPT_FACTS}, sort_keys=True)
    processes.check_same(hashlib.sha256(kept.encode()).hexdigest(), "options and training images")
    facts |= {"processes": processes.world, "changes": []}
    if folder is None:
        return False, processes.world
    resumed = processes.first_does(lambda: open_folder(folder, facts, resume, overwrite, forked))
    if resumed:
        before = read_run(folder)
        facts["changes"] = before.get("changes", [])
        facts["processes"] = processes.first_does(lambda: _begun_with(before))
    return bool(resumed), facts["processes"]


def open_folder(folder: Path, facts: Mapping[str, Any], resume: bool, overwrite: bool, forked: bool) -> bool:
    """Prepare the folder of a run; return whether there is something to resume.

    Parameters
    ----------
    folder
        The folder; made if missing.
    facts
        What the run is begun with.
    resume, overwrite
        Go on with an unfinished run, or begin anew although there is one.
    forked
        The run begins from the checkpoint of another one, and keeps its journal.

    Raises
    ------
    UsageError
        If an unfinished run would be lost, or the run to resume had other settings or inputs.
    """
    clear_unfinished(folder, (PREVIEWS, KEPT))
    before = read_run(folder)
    if before.get("finished") is False and not (resume or overwrite):
        fix = "add --resume to go on with it, or --overwrite to begin anew"
        raise UsageError(folder, expected="no unfinished run", got="one", fix=fix)
    if resume and (folder / CHECKPOINT).exists():
        changed = [key for key in KEPT_FACTS if before.get(key) != facts.get(key)]
        if changed:
            what, got = f"--resume {folder}", f"other {', '.join(changed)}"
            fix = "repeat the first command's options, or begin anew with --overwrite"
            raise UsageError(what, expected="the settings it began with", got=got, fix=fix)
        return True
    for name in (CHECKPOINT,) if forked else (CHECKPOINT, JOURNAL):
        remove(folder / name)
    write_json(folder / RUN, {**facts, "finished": False})
    return False


def _begun_with(before: Mapping[str, Any]) -> int:
    found = before.get("processes", 1)
    return found if isinstance(found, int) and found > 0 else 1


def read_run(folder: Path) -> dict[str, Any]:
    """Return what a run in this folder was begun with; empty if there is none to be read."""
    try:
        value = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
