"""Fitting: from inputs to a model whose classes are ordered, and to its folder if one was asked for."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import InputError, UsageError, explain
from selfseg.core.files import remove, write_json
from selfseg.core.palette import class_colours
from selfseg.core.progress import Progress, Silent
from selfseg.core.seed import derive
from selfseg.methods._base import Method, MethodConfig, find_method
from selfseg.pipeline.preview import write_preview
from selfseg.pipeline.training_set import Failure, TrainingSet, build_training_set
from selfseg.pipeline.watch import LOOKS, TruthWatch, watch_truth
from selfseg.read import find_hints, find_inputs
from selfseg.sample.prepare import Preparation
from selfseg.sample.stream import Batch, Stream
from selfseg.train.control import Control
from selfseg.train.loop import Training
from selfseg.train.precision import Precision, choose_device, choose_precision

RUN, CHECKPOINT, JOURNAL, PREVIEWS = "training.json", "checkpoint.safetensors", "journal.jsonl", "previews"
CHECKPOINTS = "checkpoints"


@dataclass
class Fitted:
    """What fitting gives: the method, the preparation and classes that go with it, where they came from, what failed."""

    method: Method
    table: ClassTable
    preparation: Preparation
    facts: dict[str, Any]
    failures: list[Failure]


@dataclass
class Fitting:
    """One fitting of one method.

    Attributes
    ----------
    name, config, preset, seed, device
        The method, its options, the preset they came from, the seed and where to compute.
    truth
        Truth of training images (a file, or a folder with files of their names), to show scores beside the losses. It
        changes nothing that is learned.
    scribbles
        Hints: a label image (255 = no scribble) for one image, or a folder with one for some of the images.
    out
        Folder of the model. While training it holds the checkpoint, the journal and previews.
    resume
        Go on from the checkpoint in `out`.
    overwrite
        Begin anew although `out` holds an unfinished run.
    axes
        Axes of the inputs, None = as the files say.
    limit
        Use only the first so many inputs.
    compiled
        Compile the networks: None = where it pays.
    checkpoint_every, preview_every
        Seconds between two checkpoints and two previews.
    progress
        Who watches.
    preview
        Called with the method, the training set and the number of finished steps, in place of the preview pictures in `out`.
    control
        Asked after every step whether to go on, pause or finish.
    begin
        Checkpoint of another run to begin from.
    keep_checkpoints
        Keep every checkpoint in `out`, so that a run can be forked from any of them.
    """

    name: str
    config: MethodConfig
    preset: str = "default"
    seed: int = 0
    device: str = "auto"
    scribbles: str | Path | None = None
    truth: str | Path | None = None
    out: str | Path | None = None
    resume: bool = False
    overwrite: bool = False
    axes: str | None = None
    limit: int | None = None
    compiled: bool | None = None
    checkpoint_every: float = 20.0
    preview_every: float = 10.0
    progress: Progress | None = None
    preview: Callable[[Method, TrainingSet, int], None] | None = None
    control: Control | None = None
    begin: str | Path | None = None
    keep_checkpoints: bool = False

    @property
    def folder(self) -> Path | None:
        """The folder of the model, if one was asked for."""
        return None if self.out is None else Path(self.out)

    def run(self, inputs: Any) -> Fitted:
        """Read, train, finish, order the classes."""
        progress, device = self.progress or Silent(), choose_device(self.device)
        if self.scribbles is not None and not find_method(self.name).uses_hints:
            expected, fix = "a method that learns from them", "leave them out, or use --method feature_clustering"
            raise UsageError(explain("scribbles", expected=expected, got=self.name, fix=fix))
        sources = find_inputs(inputs, limit=self.limit)
        hints = find_hints(self.scribbles, sources) if self.scribbles is not None else {}
        data = build_training_set(sources, self.config.prepare, hints, self.axes, progress)
        method = self._build(data)
        precision = choose_precision(device, method.n_steps(len(data.samples)), self.compiled)
        watch = None if self.truth is None else watch_truth(self.truth, data, progress)
        _check_memory(method, data, device, progress)
        facts = self._facts(data, precision)
        resume = self.folder is not None and self._open(self.folder, facts)
        stream = Stream(data.samples, self.config.batch_size, derive(self.seed, "stream"))
        training = self._training(method, stream, precision, data, progress, watch)
        progress.say(f"learning with {self.name} on {len(data.samples)} image(s): {precision.describe()}")
        steps = training.run(resume)
        method.finish(lambda: (batch.to(device) for batch in stream.once()))
        method.eval()
        table = order_classes(method, stream.once(), data.hint_values)
        facts |= {"steps": steps, "seconds": round(training.seconds, 3)}
        return Fitted(method, table, data.preparation, facts, data.failures)

    def close(self, fitted: Fitted) -> None:
        """Note in the folder that the run is finished, once the model is stored."""
        if self.folder is not None:
            write_json(self.folder / RUN, {**fitted.facts, "finished": True})

    def _build(self, data: TrainingSet) -> Method:
        """Make the method, its start a function of the seed alone."""
        if len(data.hint_values) > (wanted := self.config.classes or 255):
            got = f"{len(data.hint_values)} scribble values"
            raise UsageError(
                explain(
                    "scribbles", expected=f"at most {wanted} values", got=got, fix="raise --classes or use fewer values"
                )
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "start"))
            return find_method(self.name)(self.config, data.n_channels, data.n_dims)

    def _training(
        self,
        method: Method,
        stream: Stream,
        precision: Precision,
        data: TrainingSet,
        progress: Progress,
        watch: TruthWatch | None,
    ) -> Training:
        folder = self.folder
        return Training(
            method,
            stream,
            precision,
            seed=derive(self.seed, "training"),
            checkpoint=None if folder is None else folder / CHECKPOINT,
            journal=None if folder is None else folder / JOURNAL,
            checkpoint_every=self.checkpoint_every,
            preview_every=self.preview_every,
            preview=self._preview(method, data),
            watch=None if watch is None else partial(watch.look, method),
            looks=LOOKS,
            progress=progress,
            control=self.control,
            begin=None if self.begin is None else Path(self.begin),
            keep=folder / CHECKPOINTS if folder is not None and self.keep_checkpoints else None,
        )

    def _preview(self, method: Method, data: TrainingSet) -> Callable[[int], None] | None:
        if self.preview is not None:
            return partial(self.preview, method, data)
        return None if self.folder is None else partial(_write_preview, self.folder, method, data)

    def _facts(self, data: TrainingSet, precision: Precision) -> dict[str, Any]:
        return {
            "method": self.name,
            "preset": self.preset,
            "seed": self.seed,
            "config": self.config.model_dump(mode="json"),
            "device": precision.describe(),
            "n_images": len(data.samples),
            "hint_values": list(data.hint_values),
            "inputs": data.fingerprints,
        }

    def _open(self, folder: Path, facts: Mapping[str, Any]) -> bool:
        """Prepare the folder; return whether there is something to resume.

        Raises
        ------
        UsageError
            If an unfinished run would be lost, or the run to resume had other settings or inputs.
        """
        before = _read_run(folder / RUN)
        if before.get("finished") is False and not (self.resume or self.overwrite):
            fix = "add --resume to go on with it, or --overwrite to begin anew"
            raise UsageError(explain(str(folder), expected="no unfinished run", got="one", fix=fix))
        if self.resume and (folder / CHECKPOINT).exists():
            changed = [
                key for key in ("method", "seed", "config", "hint_values", "inputs") if before.get(key) != facts[key]
            ]
            if changed:
                what, got = f"--resume {folder}", f"other {', '.join(changed)}"
                fix = "repeat the first command's options, or begin anew with --overwrite"
                raise UsageError(explain(what, expected="the settings it began with", got=got, fix=fix))
            return True
        for name in (CHECKPOINT,) if self.begin is not None else (CHECKPOINT, JOURNAL):
            remove(folder / name)
        write_json(folder / RUN, {**facts, "finished": False})
        return False


def _write_preview(folder: Path, method: Method, data: TrainingSet, step: int) -> None:
    write_preview(folder / PREVIEWS / f"step-{step:06d}.png", method, *data.first)


def _read_run(path: Path) -> dict[str, Any]:
    """Return what a run in this folder was begun with; empty if there is none to be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _check_memory(method: Method, data: TrainingSet, device: torch.device, progress: Progress) -> None:
    """Say what a step will take before it is started, and refuse what cannot fit."""
    config = method.config
    largest = sorted((int(np.prod(s.array.shape[1:])) for s in data.samples), reverse=True)[: config.batch_size]
    pixels = -(-largest[0] * len(largest) // config.accumulate)
    needed = method.training_bytes(pixels)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    estimate = f"a step on {pixels / 1e6:.2f} megapixels takes about {needed / 2**30:.1f} GiB of memory"
    if needed > free:
        fix = "shrink the images with a preparation, for example --prepare size=1000, or lower n_features, n_classes or batch_size"
        raise InputError(
            explain(estimate, expected=f"at most the {free / 2**30:.1f} GiB that are free", got="more", fix=fix)
        )
    if needed > 0.25 * free:
        progress.say(f"{estimate}, of {free / 2**30:.1f} GiB free")


@torch.no_grad()
def order_classes(method: Method, batches: Iterable[Batch], hint_values: tuple[int, ...] = ()) -> ClassTable:
    """Number the classes by their mean intensity on the training images, dark to bright; ties by the method's own order.

    Parameters
    ----------
    method
        The finished method.
    batches
        One pass over the training images.
    hint_values
        Scribble values; the class that took hint c is named after it.
    """
    areas = np.zeros(method.n_classes, np.int64)
    sums = np.zeros(method.n_classes)
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    for batch in batches:
        labels = method.assign(batch.images.to(device)).argmax(1).cpu()
        chosen = torch.ones_like(labels, dtype=torch.bool) if batch.valid is None else batch.valid
        flat = labels[chosen].numpy()
        areas += np.bincount(flat, minlength=len(areas))
        sums += np.bincount(flat, weights=batch.images.mean(1)[chosen].double().numpy(), minlength=len(areas))
    intensity = np.divide(sums, areas, out=np.full(len(areas), np.inf), where=areas > 0)
    colours = class_colours(len(areas))
    names = _hint_names(method, hint_values)
    rows = []
    for label, source in enumerate(np.argsort(intensity, kind="stable").tolist(), 1):
        share = float(areas[source] / max(1, areas.sum()))
        value = float(intensity[source]) if areas[source] else 0.0
        name = names.get(source, f"class {label}")
        rows.append(SegmentClass(label, name, colours[label - 1], share, value, (source,)))
    return ClassTable(tuple(rows))


def _hint_names(method: Method, hint_values: tuple[int, ...]) -> dict[int, str]:
    """Name the classes that scribbles asked for, where the method keeps a map from hints to classes."""
    class_of = getattr(method, "class_of", None)
    if class_of is None:
        return {}
    return {
        int(class_of[hint]): f"scribble {value}" for hint, value in enumerate(hint_values) if int(class_of[hint]) >= 0
    }
