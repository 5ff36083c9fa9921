"""The process of one run: learn, then segment. It speaks with the server through files in the run's folder only."""

import math
import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from selfseg.apps.studio.previews import write_first_preview, write_live_preview
from selfseg.apps.studio.runs import CHANGE, MODEL, ORDER, STATUS, read_json
from selfseg.apps.studio.segmenting import store_results
from selfseg.apps.studio.spec import Spec
from selfseg.core.errors import Interrupted, SelfsegError
from selfseg.core.files import remove, write_json
from selfseg.learning.run import load
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import find_method, stored_config
from selfseg.read import Source, find_inputs
from selfseg.read.frames import is_video
from selfseg.train.control import OptionChange, Order

SHOW_EVERY = 0.3
"""Seconds between two notes on how far a run is."""

PREVIEW_EVERY, CHECKPOINT_EVERY = 1.5, 10.0

FIRST_RESULTS = 24
"""Pictures that a run segments by itself; further ones when they are looked at."""

LARGE = 2_000_000
"""Pixels of a picture (voxels of a volume) from which on a preview comes before its result."""

FILLED_IN = frozenset({"n_classes", "spacing"})
"""Options that a training sets by itself where they are empty: by its labels, by its first image."""

MOST_CHECKPOINTS = 10
"""Checkpoints that are kept of a run, evenly spread, so that a long one does not fill the disk."""


@dataclass
class Told:
    """A `selfseg.core.progress.Progress` that writes ``status.json``."""

    folder: Path
    fields: dict[str, Any] = field(default_factory=lambda: {"state": "starting", "step": 0, "total": 0, "notes": []})
    _shown: float = 0.0

    def set(self, **fields: Any) -> None:
        """OptionChange some fields and write all."""
        self.fields |= fields
        self._shown = time.monotonic()
        write_json(self.folder / STATUS, self.fields)

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Show that a task begins."""
        self.set(state="learning" if task == "learning" else "segmenting", total=total, step=done)

    def update(self, done: int, values: Mapping[str, float | int]) -> None:
        """Show a step, now and then."""
        self.fields["step"] = done
        if time.monotonic() - self._shown >= SHOW_EVERY:
            self.set()

    def finish(self) -> None:
        """Show the last step."""
        self.set()

    def say(self, message: str) -> None:
        """Keep a note for the page."""
        self.set(notes=[*self.fields["notes"], message][-20:])


@dataclass
class Orders:
    """What the server asks, read at each step from a file of a few bytes."""

    folder: Path

    def __call__(self) -> Order | OptionChange:
        """Return the order that is there; a change of options is taken once, and before anything else."""
        if (self.folder / CHANGE).exists():
            options = read_json(self.folder / CHANGE) or {}
            remove(self.folder / CHANGE)
            return OptionChange(options)
        if not (self.folder / ORDER).exists():
            return Order.GO
        wish = (read_json(self.folder / ORDER) or {}).get("order")
        return {"pause": Order.PAUSE, "finish": Order.FINISH}.get(str(wish), Order.GO)


def main(folder: Path) -> int:
    """Do the run in `folder`; return the exit code."""
    if hasattr(os, "nice"):
        os.nice(5)  # the server, which draws, goes first
    told = Told(folder)
    try:
        spec = _caught_up(folder)
        model = _learned(folder, spec, told)
        if spec.otherwise is not None and len(model.table_) < 2:
            told.say(f"one class only: looking again with preset {spec.otherwise}")
            spec = replace(spec, preset=spec.otherwise, otherwise=None)
            spec.save(folder)
            model = _learned(folder, spec, told)
        if (folder / CHANGE).exists():
            remove(folder / CHANGE)
            told.say("the change of options came after the last step and was not used")
        _segment(folder, spec, model, told)
        told.set(state="done", message="")
    except Interrupted:
        remove(folder / ORDER)
        told.set(state="paused", message="")
    except SelfsegError as error:
        told.set(state="failed", message=str(error))
        return error.exit_code
    except MemoryError:
        told.set(state="failed", message="out of memory: make the pictures smaller, for example with prepare size=1000")
        return 1
    except Exception as error:  # noqa: BLE001 (whatever it is, the page must hear of it; the log has all of it)
        traceback.print_exc()
        told.set(state="failed", message=f"{type(error).__name__}: {error}; the run's log.txt has more")
        return 1
    return 0


def _learned(folder: Path, spec: Spec, told: Told) -> Segmenter:
    """Return the model: one that is there already, one gone on with, or one begun."""
    if spec.model is not None:
        return load(spec.model, spec.device)
    out = folder / MODEL
    before = read_json(out / "training.json") or {}
    model = Segmenter(**spec.parameters())
    config = before.get("config") or {}
    if config and before.get("method") == spec.method:  # perhaps stored before options were renamed or added
        config = stored_config(find_method(spec.method), config).model_dump(mode="json")
    same = _agree(config, model.config().model_dump(mode="json"))
    if before.get("finished") and same:
        return load(out, spec.device)
    resume = same and (out / "checkpoint.safetensors").exists()
    told.set(state="learning", message="")
    return model.fit(
        list(spec.inputs),
        out=out,
        resume=resume,
        overwrite=not resume,
        begin=None if resume else spec.begin,
        scribbles=spec.hints,
        axes=spec.axes,
        checkpoint_every=CHECKPOINT_EVERY,
        preview_every=PREVIEW_EVERY,
        keep_checkpoints=True,
        preview=lambda method, data, step: _look(folder, method, data, step),
        control=Orders(folder),
        changed=lambda step, options: _caught_up(folder),
        progress=told,
    )


def _caught_up(folder: Path) -> Spec:
    """Bring the changes that the training noted into ``spec.json``, and return it."""
    spec = Spec.read(folder)
    noted = (read_json(folder / MODEL / "training.json") or {}).get("changes", [])
    for change in noted:
        if change not in spec.changes:
            spec = replace(spec, options={**spec.options, **change["options"]}, changes=(*spec.changes, change))
    if noted:
        spec.save(folder)
    return spec


def _agree(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a run had these options; what the user leaves open the training filled in."""
    same = (before.get(name) == value or (name in FILLED_IN and not value) for name, value in wanted.items())
    return bool(before) and all(same)


def _look(folder: Path, method: Any, data: Any, step: int) -> None:
    if any(True for _ in method.parameters()):  # a method without weights has nothing to show before its end
        write_live_preview(folder, method, data, step)
    kept = sorted((folder / MODEL / "checkpoints").glob("step-*.safetensors"))
    for path in kept[1:-1:2] if len(kept) > MOST_CHECKPOINTS else ():
        remove(path)


def _segment(folder: Path, spec: Spec, model: Segmenter, told: Told) -> None:
    sources = find_inputs(list(spec.inputs))
    first = sources[:FIRST_RESULTS]
    told.set(state="segmenting", step=0, total=len(first), failures=[list(item) for item in model.failures_])
    for done, source in enumerate(first, 1):
        try:
            if done == 1:
                source = _shown_early(folder, source, spec, model)
            store_results(model, source, spec.axes, folder, stored=lambda number: told.set(frame=number))
        except SelfsegError as error:
            told.set(failures=[*told.fields["failures"], [source.name, str(error)]])
        told.set(step=done, results=[*told.fields.get("results", []), source.name])


def _shown_early(folder: Path, source: Source, spec: Spec, model: Segmenter) -> Source:
    """Show a large picture small at once: to segment every pixel of it takes some seconds. Return it as it was read."""
    if is_video(source, spec.axes):
        return source
    image = source.read(spec.axes)
    if (
        math.prod(image.spatial_shape) > LARGE
        and "T" not in image.axes
        and model.method_.n_dims == len(image.spatial_shape)
    ):
        write_first_preview(folder, model, image, int(model.facts_.get("steps", 0)))
    return Source(source.name, content=image, settled=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
