"""The process of one run: learn, then segment; with a preview of what the method shows meanwhile (see `runs` for the files)."""

import contextlib
import math
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg import Segmenter, load
from selfseg.apps.studio.identities import arranged
from selfseg.apps.studio.project import printable
from selfseg.apps.studio.results import RESULTS, store_results
from selfseg.apps.studio.runs import CHANGE, MODEL, ORDER, PREVIEWS, STATUS, Spec, read_json
from selfseg.core.classes import class_colours
from selfseg.core.errors import Interrupted, SelfsegError
from selfseg.core.files import NOTES, Manifest, clear_unfinished, remove, write_json
from selfseg.core.image import Image
from selfseg.export.overlay import write_picture
from selfseg.learning.training_set import TrainingSet
from selfseg.methods.base import Method, find_method, stored_config
from selfseg.read import Source, find_inputs
from selfseg.refine.decide import decide
from selfseg.sample.chain import PreparedImage
from selfseg.train.loop import OptionChange, Order

SHOW_EVERY = 0.3
"""Seconds between two writings of the status."""

PREVIEW_EVERY, CHECKPOINT_EVERY = 1.5, 10.0
"""Seconds between two previews, and between two checkpoints."""

PREVIEW_SIDE = 900
"""Longer side of a preview, in pixels."""

MOST_PREVIEWS = 40
"""Previews that are kept of a run."""

FIRST_RESULTS = 24
"""Pictures that a run segments; others are segmented when they are opened."""

ONE_CLASS = 0.95
"""Share of all pixels in one class above which the first look is made again with another preset."""

LARGE = 2_000_000
"""Pixels of a picture (voxels of a volume) above which a preview comes before its result."""

FILLED_IN = frozenset({"n_classes", "spacing"})
"""Options that training fills in where they are empty: from its labels, from its first image."""

MOST_CHECKPOINTS = 10
"""Checkpoints that are kept of a run, evenly spread."""


@dataclass
class StatusFile:
    """Progress reporter (`selfseg.core.progress.Progress`) that writes ``status.json``."""

    folder: Path
    fields: dict[str, Any] = field(default_factory=lambda: {"state": "starting", "step": 0, "total": 0, "notes": []})
    _shown: float = 0.0

    def set(self, **fields: Any) -> None:
        """Change some fields and write all."""
        self.fields |= fields
        self._shown = time.monotonic()
        write_json(self.folder / STATUS, self.fields)

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Write that a task starts."""
        self.set(state="learning" if task == "learning" else "segmenting", total=total, step=done)

    def update(self, done: int, values: Mapping[str, float | int]) -> None:
        """Write the step, at most every `SHOW_EVERY` seconds."""
        self.fields["step"] = done
        if time.monotonic() - self._shown >= SHOW_EVERY:
            self.set()

    def finish(self) -> None:
        """Write the last step."""
        self.set()

    def say(self, message: str) -> None:
        """Add a note for the page."""
        self.set(notes=[*self.fields["notes"], message][-20:])


@dataclass
class Orders:
    """Orders of the server, read from files at each step."""

    folder: Path

    def __call__(self) -> Order | OptionChange:
        """Return the order that was given; a change of options comes first, and counts once."""
        if (self.folder / CHANGE).exists():
            options = read_json(self.folder / CHANGE) or {}
            remove(self.folder / CHANGE)
            return OptionChange(options)
        if not (self.folder / ORDER).exists():
            return Order.GO
        order = (read_json(self.folder / ORDER) or {}).get("order")
        return {"pause": Order.PAUSE, "finish": Order.FINISH}.get(str(order), Order.GO)


def main(folder: Path) -> int:
    """Do the run in `folder`; return the exit code."""
    if hasattr(os, "nice"):
        os.nice(5)  # the server, which draws, goes first
    status = StatusFile(folder)
    clear_unfinished(folder, (PREVIEWS, RESULTS))
    try:
        spec = _updated_spec(folder)
        model = _learn(folder, spec, status)
        if spec.otherwise is not None and max(item.area_share for item in model.table_.classes) > ONE_CLASS:
            status.say(f"nearly all is one class: looking again with preset {spec.otherwise}")
            spec = replace(spec, preset=spec.otherwise, otherwise=None)
            spec.save(folder)
            model = _learn(folder, spec, status)
        if (folder / CHANGE).exists():
            remove(folder / CHANGE)
            status.say("the change of options came after the last step and was not used")
        spec = _keep_classes(folder, spec, model, status)
        _segment(folder, spec, model, status)
        status.set(state="done", message="")
    except Interrupted:
        return _paused(folder, status)
    except SelfsegError as error:
        return _failed(status, str(error), error.exit_code)
    except MemoryError:
        return _failed(status, "out of memory: make the pictures smaller, for example with prepare size=1000")
    except Exception as error:  # noqa: BLE001 (whatever it is, the page must show it; the log has all of it)
        traceback.print_exc()
        return _failed(status, f"{type(error).__name__}: {error}; the run's log.txt has more")
    return 0


def _keep_classes(folder: Path, spec: Spec, model: Segmenter, status: StatusFile) -> Spec:
    """Give the classes of the model the ids that they have in the project, and store it so."""
    if not spec.classes or spec.model is not None:
        return spec
    sources = [printable(one) for one in find_inputs(list(spec.inputs))]
    table, lost = arranged(model, spec, folder.parent, sources)
    for line in lost:
        status.say(line)
    if table != model.table_:
        model.model_ = replace(model.model_, table=table)
        model.save(folder / MODEL)
        spec = replace(spec, arranged=True)
        spec.save(folder)
    return spec


def _paused(folder: Path, status: StatusFile) -> int:
    try:
        remove(folder / ORDER)
        status.set(state="paused", message="")
    except SelfsegError as error:
        return _failed(status, str(error), error.exit_code)
    return 0


def _failed(status: StatusFile, message: str, code: int = 1) -> int:
    """Say why the run ended: in its status, and in the log, whose last line is shown where the status cannot be written."""
    with contextlib.suppress(OSError):  # on a disk that is full
        sys.stderr.write(f"{message}\n")
    with contextlib.suppress(SelfsegError):
        status.set(state="failed", message=message)
    return code


def _learn(folder: Path, spec: Spec, status: StatusFile) -> Segmenter:
    """Return the model: a finished one, one whose training is resumed, or a new one."""
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
        if (out / NOTES).exists():  # it ended before its notes were put away
            Manifest(out, "training.json").settle(within=())
        return load(out, spec.device)
    resume = same and (out / "checkpoint.safetensors").exists()
    status.set(state="learning", message="")
    return model.fit(
        list(spec.inputs),
        out=out,
        resume=resume,
        overwrite=not resume,
        begin=None if resume else spec.begin,
        scribbles=spec.scribbles,
        labels=spec.labels,
        labels_as=None if spec.labels is None else "sparse",
        axes=spec.axes,
        checkpoint_every=CHECKPOINT_EVERY,
        preview_every=PREVIEW_EVERY,
        keep_checkpoints=True,
        preview=lambda method, data, step: _show(folder, method, data, step),
        control=Orders(folder),
        changed=lambda step, options: _updated_spec(folder),
        progress=status,
    )


def _updated_spec(folder: Path) -> Spec:
    """Return the specification with the changes that training has noted, written to ``spec.json`` too."""
    spec = Spec.read(folder)
    noted = (read_json(folder / MODEL / "training.json") or {}).get("changes", [])
    for change in noted:
        if change not in spec.changes:
            spec = replace(spec, options={**spec.options, **change["options"]}, changes=(*spec.changes, change))
    if noted:
        spec.save(folder)
    return spec


def _agree(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a run had these options, apart from those that training fills in."""
    same = (before.get(name) == value or (name in FILLED_IN and not value) for name, value in wanted.items())
    return bool(before) and all(same)


def _show(folder: Path, method: Method, data: TrainingSet, step: int) -> None:
    if any(True for _ in method.parameters()):  # a method without weights has nothing to show before the end
        write_live_preview(folder, method, data, step)
    kept = sorted((folder / MODEL / "checkpoints").glob("step-*.safetensors"))
    for path in kept[1:-1:2] if len(kept) > MOST_CHECKPOINTS else ():
        remove(path)


def _segment(folder: Path, spec: Spec, model: Segmenter, status: StatusFile) -> None:
    first = [printable(one) for one in find_inputs(list(spec.inputs))][:FIRST_RESULTS]
    status.set(state="segmenting", step=0, total=len(first), failures=[list(item) for item in model.failures_])
    for done, source in enumerate(first, 1):
        try:
            if done == 1:
                source = _shown_early(folder, source, spec, model)
            store_results(
                model, source, spec.axes, folder, stored=lambda number: status.set(frame=number), remarked=status.say
            )
        except SelfsegError as error:
            status.set(failures=[*status.fields["failures"], [source.name, str(error)]])
        status.set(step=done)


def _shown_early(folder: Path, source: Source, spec: Spec, model: Segmenter) -> Source:
    """Write a preview of a large picture, since its segmentation takes seconds; return the picture as it was read."""
    if source.is_video(spec.axes):
        return source
    image = source.read(spec.axes)
    large = math.prod(image.spatial_shape) > LARGE
    if large and "T" not in image.axes and model.method_.n_dims == len(image.spatial_shape):
        write_first_preview(folder, model, image, int(model.facts_.get("steps", 0)))
    return Source(source.name, content=image, settled=True)


@torch.no_grad()
def write_live_preview(run: Path, method: Method, data: TrainingSet, step: int) -> None:
    """Write the clusters of the first training picture (of a volume, its middle slice) while the method learns."""
    image, prepared = data.first
    clusters = _clusters(method, prepared)
    _write_preview(run, step, image.name, prepared, clusters, class_colours(max(1, int(clusters.max()))))


@torch.no_grad()
def write_first_preview(run: Path, model: Segmenter, image: Image, step: int) -> None:
    """Write the classes of a picture by the finished model, at the size of its preparation."""
    prepared = model.preparation_.apply(image)
    clusters = _clusters(model.method_, prepared)
    colours = {source + 1: row.rgba for row in model.table_.classes for source in row.sources}
    rgba = [colours.get(key, (0, 0, 0, 0)) for key in range(1, int(clusters.max()) + 1)]
    _write_preview(run, step, image.name, prepared, clusters, rgba)


def _clusters(method: Method, prepared: PreparedImage) -> NDArray[np.integer]:
    """Return the cluster of each pixel, ``[*s]``, from 1 on."""
    images = torch.from_numpy(prepared.array)[None].to(method.device)
    return decide(method.assign(images)[0].float().cpu().numpy())


def _write_preview(
    run: Path,
    step: int,
    name: str,
    prepared: PreparedImage,
    clusters: NDArray[np.integer],
    rgba: Sequence[Sequence[int]],
) -> None:
    """Write ``previews/step-000040.png``, and beside it ``.json`` with the colour and the share of each cluster."""
    counts = np.bincount(clusters.ravel(), minlength=2)
    labels = prepared.restore_labels(clusters)
    plane = labels[len(labels) // 2] if labels.ndim == 3 else labels
    stride = max(1, -(-max(plane.shape) // PREVIEW_SIDE))
    colours = np.array([(0, 0, 0, 0), *rgba], np.uint8)
    folder = run / PREVIEWS
    write_picture(folder / f"step-{step:06d}.png", colours[plane[::stride, ::stride]])
    areas: list[dict[str, Any]] = [
        {"cluster": int(key), "share": float(counts[key] / counts[1:].sum()), "rgba": colours[key].tolist()}
        for key in np.flatnonzero(counts[1:]) + 1
    ]
    write_json(folder / f"step-{step:06d}.json", {"step": step, "image": name, "areas": areas})
    for old in sorted(folder.glob("step-*.*"))[: -2 * MOST_PREVIEWS]:
        remove(old)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
