"""Fitting: from inputs to a model whose classes are ordered, and to its folder if one was asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selfseg.core.errors import Failure, UsageError
from selfseg.core.files import write_json
from selfseg.core.processes import own_rank
from selfseg.core.progress import Progress, Silent
from selfseg.core.seed import derive
from selfseg.learning.class_table import order_classes
from selfseg.learning.frame_choice import FrameChoice, take_frames
from selfseg.learning.preview import write_step
from selfseg.learning.room import check_room
from selfseg.learning.spacing import with_spacing
from selfseg.learning.supervision import find_supervision
from selfseg.learning.training_folder import (
    CHECKPOINT,
    JOURNAL,
    KEPT,
    PREVIEWS,
    RUN,
    begin_folder,
    check_shared,
    read_run,
)
from selfseg.learning.training_set import HoldOut, TrainingSet, build_training_set, split_sources
from selfseg.learning.watch import EVALUATIONS, TruthWatch, watch_truth
from selfseg.learning.window_choice import WindowChoice
from selfseg.methods._base import Method, MethodConfig, find_method
from selfseg.read import find_inputs
from selfseg.read.labels import mask_facts
from selfseg.results.model import FittedModel
from selfseg.sample.stream import Stream
from selfseg.segmenting.superpixels import OwnSuperpixels
from selfseg.train.control import Control
from selfseg.train.distributed import Processes, started_together
from selfseg.train.loop import Training
from selfseg.train.precision import Precision, choose_device, choose_precision


@dataclass
class Fitted:
    """The fitted model, and the inputs that could not be used."""

    model: FittedModel
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
        Annotations: a label image (255 = no scribble) for one image, or a folder with one for some of the images.
    labels
        Labels of some of the images, whole or in part: a file, a folder with files of the images' names, or arrays in the order
        of the inputs.
    labels_as
        What their values mean: ``sparse`` (classes, 0 = not labelled, as selfseg writes them), ``full`` (classes, 0 is one of
        them) or ``objects`` (0 = background, each other value one object; touching objects are set apart).
    superpixels
        The user's own superpixels: a label image for one image, or a folder with one for each, for a method that takes them.
    out
        Folder of the model. While training it holds the checkpoint, the journal and previews.
    resume
        Go on from the checkpoint in `out`.
    overwrite
        Begin anew although `out` holds an unfinished run.
    axes
        Axes of the inputs, None = as the files say.
    frames, n_frames, slices
        Which frames of a sequence to learn from (`learning.frame_choice.FrameChoice`).
    windows, memory
        Windows of each image, ``"16"`` or ``"16:512"``, and most bytes to take; None = windows of what does not fit in free memory.
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
    control, changed, begin
        Who may pause it or change options, who hears of such changes, and a checkpoint of another run to begin from (`Training`).
    keep_checkpoints
        Keep every checkpoint in `out`, so that a run can be forked from any of them.
    shared
        Learn together with the other processes that torchrun has started, each of which does the same: a step takes `batch_size`
        images in every one of them. Only the first writes. A run may be resumed by another number of processes.
    """

    name: str
    config: MethodConfig
    preset: str = "default"
    seed: int = 0
    device: str = "auto"
    scribbles: str | Path | None = None
    labels: Any = None
    labels_as: str = "sparse"
    truth: str | Path | None = None
    superpixels: str | Path | None = None
    out: str | Path | None = None
    resume: bool = False
    overwrite: bool = False
    axes: str | None = None
    frames: Sequence[int] | None = None
    n_frames: int | None = None
    slices: str | None = None
    windows: str | int | None = None
    memory: int | None = None
    limit: int | None = None
    compiled: bool | None = None
    checkpoint_every: float = 20.0
    preview_every: float = 10.0
    progress: Progress | None = None
    preview: Callable[[Method, TrainingSet, int], None] | None = None
    control: Control | None = None
    changed: Callable[[int, Mapping[str, Any]], None] | None = None
    begin: str | Path | None = None
    keep_checkpoints: bool = False
    shared: bool = False

    @property
    def folder(self) -> Path | None:
        """The folder of the model, if one was asked for."""
        return None if self.out is None else Path(self.out)

    @property
    def written(self) -> Path | None:
        """The folder that this process writes the model to: that of the first one, where several learn together."""
        return self.folder if not self.shared or own_rank().first else None

    def run(self, inputs: Any) -> Fitted:
        """Read, train, finish, order the classes."""
        if self.shared and own_rank().world > 1:
            check_shared(self.name, self.compiled)
        with started_together(self.shared) as processes:
            return self._run(inputs, processes)

    def _run(self, inputs: Any, processes: Processes) -> Fitted:
        progress = self.progress if self.progress and processes.first else Silent()
        device = choose_device(self.device)
        data, method, facts, lost = self._gather(inputs, progress)
        split = split_sources(data, method.held_out, self.seed)
        n_steps = method.n_steps(len(split.learned))
        chosen = choose_precision(device, n_steps, self.compiled, data.n_dims, method.prefers_bf16_on_cpu)
        precision = processes.agreed(chosen)
        watch = None if self.truth is None else watch_truth(self.truth, data, progress)
        check_room(method, data, device, progress)
        facts = self._facts(data, split, method.config, precision) | facts
        resume, begun = begin_folder(self.folder, facts, processes, self.resume, self.overwrite, self.begin is not None)
        stream = Stream(split.learned, self.config.batch_size * begun, derive(self.seed, "stream"))
        if split.held:
            held = Stream(split.held, 1, 0)
            method.hold_out(lambda: (batch.to(device) for batch in held.once()))
            shown = ", ".join(split.held_names[:5]) + (", ..." if len(split.held_names) > 5 else "")
            progress.say(f"held out, to choose the best weights: {shown}")
        training = self._training(method, stream, precision, data, progress, watch)
        training.changed = partial(self._note_change, method, facts)
        training.processes, training.begun_with = processes, begun
        shared = f", {processes.world} processes" if processes.world > 1 else ""
        progress.say(f"learning with {self.name} on {len(split.learned)} image(s): {precision.describe()}{shared}")
        steps = training.run(resume)
        method.finish(lambda: (batch.to(device) for batch in stream.once()))
        method.eval()
        table = order_classes(method, stream.once(), data.annotations)
        data.close()
        facts |= {"steps": steps, "seconds": round(training.seconds, 3)}
        model = FittedModel(self.name, method, table, data.preparation, {}, facts, device=self.device)
        return Fitted(model, [*lost, *data.failures])

    def _gather(self, inputs: Any, progress: Progress) -> tuple[TrainingSet, Method, dict[str, Any], list[Failure]]:
        """Read what is learned from and make the method; return both, what the run must be begun with again, and what failed."""
        kind = find_method(self.name)
        if self.superpixels is not None and kind.uses_superpixels:
            self.config = self.config.changed(superpixels="given")
        choice = FrameChoice(None if self.frames is None else tuple(self.frames), self.n_frames, self.slices)
        found = find_inputs(inputs, limit=self.limit)
        sources, sequence, lost = take_frames(found, choice, self.axes, progress)
        told = find_supervision(kind, self.name, self.labels, self.labels_as, self.scribbles, sources)
        data = build_training_set(sources, self.config.prepare, told, self.axes, progress, self._windows())
        data = _labelled(data, progress) if kind.needs_annotations else data
        self.config = with_spacing(self.config, data, progress)
        method, own = self._build(data), OwnSuperpixels(self.superpixels)
        own.give_all(method, data.preparation, data.prepared)
        return data, method, {"sequence": sequence} | own.facts() | mask_facts(found), lost

    def _windows(self) -> WindowChoice:
        """Return which windows are learned from; a run that is resumed keeps to those it began with."""
        before = read_run(self.folder) if self.resume and self.folder is not None else {}
        only = frozenset(before.get("windows", {})) if before else None
        return WindowChoice.parse(self.windows, self.memory, self.seed, only)

    def close(self, fitted: Fitted) -> None:
        """Note in the folder that the run is finished, once the model is stored."""
        if self.written is not None:
            write_json(self.written / RUN, {**fitted.model.facts, "finished": True})

    def _build(self, data: TrainingSet) -> Method:
        """Make the method, its start a function of the seed alone."""
        kind, config, found = find_method(self.name), self.config, len(data.annotation_values)
        if found > (wanted := config.classes or 255) or (kind.needs_annotations and found < (config.classes or 0)):
            expected, fix = f"values for {wanted} classes", "leave --classes out, or check the values"
            raise UsageError("labels or scribbles", expected=expected, got=f"{found} values", fix=fix)
        if kind.needs_annotations:
            config = config.changed(classes=found)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "start"))
            return kind(config, data.n_channels, data.n_dims)

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
            evaluations=EVALUATIONS,
            progress=progress,
            control=self.control,
            begin=None if self.begin is None else Path(self.begin),
            keep=folder / KEPT if folder is not None and self.keep_checkpoints else None,
        )

    def _note_change(self, method: Method, facts: dict[str, Any], step: int, options: Mapping[str, Any]) -> None:
        """Keep in the facts, and in the folder, which options were changed after which step: a resumed run goes on with them."""
        self.config = method.config
        facts["config"] = method.config.model_dump(mode="json")
        facts["changes"] = [*facts["changes"], {"step": step, "options": dict(options)}]
        if self.folder is not None:
            write_json(self.folder / RUN, {**facts, "finished": False})
        if self.changed is not None:
            self.changed(step, options)

    def _preview(self, method: Method, data: TrainingSet) -> Callable[[int], None] | None:
        if not own_rank().first and self.shared:
            return None
        chosen = self.preview or (None if self.folder is None else partial(write_step, self.folder / PREVIEWS))
        return None if chosen is None else partial(chosen, method, data)

    def _facts(self, data: TrainingSet, split: HoldOut, config: MethodConfig, precision: Precision) -> dict[str, Any]:
        return {
            "method": self.name,
            "preset": self.preset,
            "seed": self.seed,
            "config": config.model_dump(mode="json"),
            "device": precision.describe(),
            "n_images": len(split.learned),
            "held_out": split.held_names,
            "hint_values": list(data.annotation_values),
            "hints_sha256": data.digest_annotations(),
            "inputs": data.fingerprints,
            "windows": data.windows,
        }


def _labelled(data: TrainingSet, progress: Progress) -> TrainingSet:
    """Leave the images without labels out, and say so."""
    kept = data.labelled()
    if without := len(data.samples) - len(kept.samples):
        progress.say(f"{without} of {len(data.samples)} images have no labels and are not learned from")
    return kept
