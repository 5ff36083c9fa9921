"""Folder of a model while it learns: settings that must match to resume, files in it, and the memory check before the first step."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from selfseg.core.errors import InputError, UsageError
from selfseg.core.files import Manifest, clear_unfinished, remove, write_json
from selfseg.methods.base import Method, find_method, stored_config
from selfseg.results.model import RUN
from selfseg.sample.device import free_on
from selfseg.train.distributed import Processes

RESUME_FACTS = ("method", "seed", "config", "hint_values", "hints_sha256", "inputs", "masks", "superpixels", "channels")
"""Facts that must match to resume."""

CHECKPOINT, JOURNAL, PREVIEWS = "checkpoint.safetensors", "journal.jsonl", "previews"
ALL_CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints that stay."""


def begin_folder(
    manifest: Manifest | None, facts: dict[str, Any], processes: Processes, resume: bool, overwrite: bool, forked: bool
) -> tuple[bool, int]:
    """Prepare the folder of a run, once for all processes that share it.

    Parameters
    ----------
    manifest
        Record of the folder, which is made if missing; None = the run leaves nothing.
    facts
        Facts of the run. ``processes`` and ``changes`` are added: those of the resumed run, if there is one.
    processes
        Those that share the run.
    resume, overwrite
        Continue an unfinished run, or begin anew although there is one.
    forked
        The run begins from the checkpoint of another one, and keeps its journal.

    Returns
    -------
    bool, int
        Whether there is something to resume, and by how many processes it was begun.

    Raises
    ------
    UsageError
        If an unfinished run would be lost, or the run to resume had other settings or inputs.
    """
    settings = json.dumps({key: facts.get(key) for key in RESUME_FACTS}, sort_keys=True)
    processes.check_same(hashlib.sha256(settings.encode()).hexdigest(), "options and training images")
    facts |= {"processes": processes.world, "changes": []}
    if manifest is None:
        return False, processes.world
    resumed = processes.first_does(lambda: _open_folder(manifest, facts, resume, overwrite, forked))
    if resumed:
        before = read_run(manifest.folder)
        facts["changes"] = before.get("changes", [])
        facts["processes"] = processes.first_does(lambda: _begun_with(before))
    return bool(resumed), facts["processes"]


def _open_folder(manifest: Manifest, facts: Mapping[str, Any], resume: bool, overwrite: bool, forked: bool) -> bool:
    folder = manifest.folder
    clear_unfinished(folder, (PREVIEWS, ALL_CHECKPOINTS))
    before = read_run(folder)
    if "classes" in before.get("config", ()):  # begun before options were renamed
        before["config"] = stored_config(find_method(before["method"]), before["config"]).model_dump(mode="json")
    if before.get("finished") is False and not (resume or overwrite):
        raise UsageError(
            folder,
            expected="no unfinished run",
            got="one",
            fix="add --resume to continue it, or --overwrite to start again",
        )
    if resume and (folder / CHECKPOINT).exists():
        changed = [key for key in RESUME_FACTS if before.get(key) != facts.get(key)]
        if changed:
            what, got = f"--resume {folder}", f"other {', '.join(changed)}"
            raise UsageError(
                what,
                expected="the settings it began with",
                got=got,
                fix="repeat the first command's options, or begin anew with --overwrite",
            )
        return True
    manifest.begin()
    for name in (CHECKPOINT,) if forked else (CHECKPOINT, JOURNAL):
        remove(folder / name)
    write_json(folder / RUN, {**facts, "finished": False})
    return False


def _begun_with(before: Mapping[str, Any]) -> int:
    number = before.get("processes", 1)
    return number if isinstance(number, int) and number > 0 else 1


def read_run(folder: Path) -> dict[str, Any]:
    """Return the facts of the run in this folder; empty if none can be read."""
    try:
        value = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def memory_note(method: Method, shapes: Sequence[tuple[int, ...]], device: torch.device) -> str | None:
    """Return a note if a training step takes much of the free memory; None if it does not.

    Parameters
    ----------
    method
        The method, not trained yet.
    shapes
        ``[C *s]`` of every training sample.
    device
        Where it will learn.

    Raises
    ------
    InputError
        If a step cannot fit.
    """
    config = method.config
    largest = sorted((math.prod(shape[1:]) for shape in shapes), reverse=True)[: config.batch_size]
    pixels = -(-largest[0] * len(largest) // config.accumulate)
    needed = method.training_bytes(pixels)
    free = free_on(device)
    estimate = f"a step on {pixels / 1e6:.2f} megapixels takes about {needed / 2**30:.1f} GiB of memory"
    if needed > free:
        raise InputError(
            estimate,
            expected=f"at most the {free / 2**30:.1f} GiB that are free",
            got="more",
            fix="shrink the images (--prepare size=1000), learn from windows of them (--windows 16), or lower n_features or batch_size",
        )
    return f"{estimate}, of {free / 2**30:.1f} GiB free" if needed > 0.25 * free else None
