"""Fitting: from inputs to a model whose classes are ordered, and to its folder if one was asked for."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from selfseg.core.classes import ClassTable, SegmentClass, class_colours, keep_ids
from selfseg.core.errors import Failure, InputError, UsageError
from selfseg.core.files import Manifest, write_json
from selfseg.core.machine import own_rank
from selfseg.core.options import FitOptions, ModelOptions, RunOptions
from selfseg.core.progress import Progress, Silent
from selfseg.core.seed import derive, generator
from selfseg.kernels.on_gpu import check_compiling, triton_fault
from selfseg.learning.annotations import Annotations, requested_annotations
from selfseg.learning.model_folder import (
    ALL_CHECKPOINTS,
    CHECKPOINT,
    JOURNAL,
    PREVIEWS,
    begin_folder,
    memory_note,
    read_run,
)
from selfseg.learning.monitor import EVALUATIONS, truth_scorer, write_preview
from selfseg.learning.training_set import TrainingSet, WindowChoice, build_training_set, take_frames
from selfseg.methods.base import Method, MethodConfig, find_method
from selfseg.read import find_inputs
from selfseg.results.model import RUN, FittedModel
from selfseg.sample.device import (
    Precision,
    choose_device,
    choose_precision,
    device_note,
    in_fixed_order,
    naming_lack_of_memory,
)
from selfseg.sample.stream import Batch, Readable, Stream
from selfseg.segmenting.images import OwnSuperpixels
from selfseg.tiling.tiles import keep_assigned
from selfseg.train.distributed import Processes, started_together
from selfseg.train.loop import Training

LESS_MEMORY = (
    "lower batch_size or patch, split a batch with --set accumulate=2, shrink the images (--prepare size=1000), or use --device cpu; "
    "the last checkpoint stays, and --resume continues from it"
)
"""Advice where memory runs out while learning."""


class HoldOut(NamedTuple):
    """Training samples, and those that are held out: never learned from."""

    learned: list[Readable]
    held: list[Readable]
    held_names: list[str]


@dataclass
class Fitted:
    """The fitted model, and the inputs that could not be used."""

    model: FittedModel
    failures: list[Failure]


@dataclass
class TrainingRun:
    """One training of one method.

    Attributes
    ----------
    model
        Method, preset, seed, device and channels.
    config
        The method's configuration. Labels and spacing of the training images fill it in, changes on the way enter it.
    options, setting
        Training options; the run's folder, and who follows and controls it.
    """

    model: ModelOptions
    config: MethodConfig
    options: FitOptions
    setting: RunOptions

    @property
    def kind(self) -> type[Method]:
        """Class of the method."""
        return find_method(self.model.method)

    @property
    def folder(self) -> Path | None:
        """Folder of the model, if one was asked for."""
        return None if self.setting.out is None else Path(self.setting.out)

    @property
    def written(self) -> Path | None:
        """Folder to which this process writes the model: that of the first one, where several learn together."""
        return self.folder if not self.setting.shared or own_rank().first else None

    def run(self, inputs: Any) -> Fitted:
        """Read, train, finish, order the classes.

        Raises
        ------
        SelfsegError
            If no input can be used, an option does not go with the method or the inputs, or the training fails.
        """
        if self.setting.shared and own_rank().world > 1:
            self._check_distributed()
        with started_together(self.setting.shared, self.model.device) as processes:
            progress = self.setting.progress if self.setting.progress and processes.first else Silent()
            return self._run(inputs, processes, progress)

    def finish(self, fitted: Fitted) -> None:
        """Note in the folder that the run is finished, once the model is stored, and remove what earlier runs left in it."""
        if self.written is not None:
            Manifest(self.written, RUN).settle({**fitted.model.facts, "finished": True})

    def _check_distributed(self) -> None:
        name, reason = self.model.method, self.kind.distributed_unsupported
        if reason is not None:
            raise UsageError(
                "torchrun",
                expected="a method that learns in several processes",
                got=f"{name}: {reason}",
                fix="start it without torchrun",
            )
        for flag, asked in (("--compile", self.options.compiled), ("--record", self.options.record)):
            if asked:
                raise UsageError(
                    "torchrun",
                    expected="networks that are neither compiled nor recorded",
                    got=flag,
                    fix=f"leave {flag} out, or start it without torchrun",
                )

    def _run(self, inputs: Any, processes: Processes, progress: Progress) -> Fitted:
        manifest = None if self.folder is None else Manifest(self.folder, RUN)
        with contextlib.nullcontext() if self.written is None or manifest is None else manifest:
            return self._learn(inputs, processes, progress, manifest)

    def _learn(self, inputs: Any, processes: Processes, progress: Progress, manifest: Manifest | None) -> Fitted:
        data, method, facts, failures = self._gather(inputs, progress)
        split, device = split_sources(data, method.held_out, self.model.seed), choose_device(self.model.device)
        n_steps = method.n_steps(len(split.learned))
        self._check_device(method, device, progress)
        options = self.options
        chosen = choose_precision(method, device, n_steps, options.compiled, options.precision, options.record)
        precision = processes.agreed(chosen)
        score = None if self.options.truth is None else truth_scorer(self.options.truth, data, progress)
        if note := memory_note(method, [sample.shape for sample in data.samples], device):
            progress.say(note)
        facts = self._facts(data, split, precision.describe()) | facts
        resume, begun = begin_folder(
            manifest, facts, processes, self.options.resume, self.options.overwrite, self.setting.begin is not None
        )
        stream = Stream(split.learned, self.config.batch_size * begun, derive(self.model.seed, "stream"))
        if split.held:
            held = Stream(split.held, 1, 0)
            method.hold_out(lambda: (batch.to(device) for batch in held.once()))
            shown = ", ".join(split.held_names[:5]) + (", ..." if len(split.held_names) > 5 else "")
            progress.say(f"held out, to choose the best weights: {shown}")
        training = self._training(method, stream, precision, data, facts)
        training.watch = None if score is None else partial(score, method)
        training.progress, training.processes, training.begun_with = progress, processes, begun
        shared = f", {processes.world} processes" if processes.world > 1 else ""
        n_images = len(split.learned)
        progress.say(f"learning with {self.model.method} on {n_images} image(s): {precision.describe()}{shared}")
        with in_fixed_order(self.options.deterministic), naming_lack_of_memory("learning", device, LESS_MEMORY):
            steps = training.run(resume)
            method.finish(lambda: (batch.to(device) for batch in stream.once()))
            method.eval()
            table = order_classes(method, stream.once(), data.annotations, keep=len(data.items) == 1)
        facts |= {"steps": steps, "seconds": round(training.seconds, 3)}
        if choices := dict(method.choices()):
            facts["choices"] = choices
            progress.say("; ".join(f"{name}: {reason}" for name, reason in choices.items()))
        model = FittedModel(self.model.method, method, table, data.preparation, {}, facts, device=self.model.device)
        return Fitted(model, [*failures, *data.failures])

    def _check_device(self, method: Method, device: torch.device, progress: Progress) -> None:
        """Say what this device lacks; `UsageError` if networks should be compiled or recorded, and cannot be."""
        if self.options.compiled:
            check_compiling(device)
        if self.options.record and (device.type != "cuda" or self.options.compiled):
            got = "--compile beside it" if self.options.compiled else str(device)
            raise UsageError("--record", expected="a CUDA GPU, and no --compile", got=got, fix="leave it out")
        if note := device_note(self.model.device):
            progress.say(note)
        if device.type == "cuda" and method.uses_triton and (fault := triton_fault(device)):
            progress.say(f"the soft cut is computed without Triton on {device}, which takes longer: {fault}")

    def _training(
        self, method: Method, stream: Stream, precision: Precision, data: TrainingSet, facts: dict[str, Any]
    ) -> Training:
        folder, begin = self.folder, self.setting.begin
        return Training(
            method,
            stream,
            precision,
            seed=derive(self.model.seed, "training"),
            checkpoint=None if folder is None else folder / CHECKPOINT,
            journal=None if folder is None else folder / JOURNAL,
            checkpoint_every=self.options.checkpoint_every,
            preview_every=self.options.preview_every,
            preview=self._preview(method, data),
            evaluations=EVALUATIONS,
            control=self.setting.control,
            changed=partial(self._note_change, method, facts),
            begin=None if begin is None else Path(begin),
            keep=folder / ALL_CHECKPOINTS if folder is not None and self.setting.keep_checkpoints else None,
        )

    def _gather(self, inputs: Any, progress: Progress) -> tuple[TrainingSet, Method, dict[str, Any], list[Failure]]:
        """Read the training set and make the method; return both, further facts of the run, and the failures."""
        options = self.options
        if options.superpixels is not None and self.kind.uses_superpixels:
            self.config = self.config.changed(superpixels="given")
        given = find_inputs(inputs, limit=options.limit)
        sources, sequence, failures = take_frames(given, options, progress)
        files = None
        if self.kind.needs_annotations or options.labels is not None or options.scribbles is not None:
            files = requested_annotations(
                self.kind,
                self.model.method,
                options.labels,
                options.labels_as,
                options.scribbles,
                sources,
                progress.say,
            )
        before = read_run(self.folder) if options.resume and self.folder is not None else {}
        only = frozenset(before.get("windows", {})) if before else None  # a resumed run keeps its windows
        windows = WindowChoice.parse(options.windows, options.memory_bytes, self.model.seed, only)
        data = build_training_set(
            sources, self.config.prepare, files, options.axes, progress, windows, self.model.channels
        )
        if self.kind.needs_annotations:
            _check_classes(data)
            data, given_items = data.labelled(), len(data.items)
            if without := given_items - len(data.items):
                progress.say(f"{without} of {given_items} images have no labels and are not learned from")
        self.config = with_spacing(self.config, data, progress)
        method, own = self._build(data), OwnSuperpixels(options.superpixels, sources)
        self.config = method.config
        masks = {source.name: digest for source in given if (digest := source.mask_fingerprint()) is not None}
        for item in data.items:
            own.give(method, item.prepared, item.region, item.memo)
        return data, method, {"sequence": sequence} | own.facts() | ({"masks": masks} if masks else {}), failures

    def _build(self, data: TrainingSet) -> Method:
        """Make the method, its start a function of the seed alone."""
        config, number = self.config, len(data.annotation_values)
        needed = self.kind.needs_annotations
        if number > (wanted := config.n_classes or 255) or (needed and number < (config.n_classes or 0)):
            raise UsageError(
                "labels or scribbles",
                expected=f"values for {wanted} classes",
                got=f"{number} values",
                fix="leave --classes out, or check the values",
            )
        if needed:
            config = config.changed(n_classes=number)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.model.seed, "start"))
            return self.kind(config, data.n_channels, data.n_dims)

    def _note_change(self, method: Method, facts: dict[str, Any], step: int, options: Mapping[str, Any]) -> None:
        """Keep in the facts, and in the folder, which options were changed after which step: a resumed run uses them."""
        self.config = method.config
        facts["config"] = method.config.model_dump(mode="json")
        facts["changes"] = [*facts["changes"], {"step": step, "options": dict(options)}]
        if self.folder is not None:
            write_json(self.folder / RUN, {**facts, "finished": False})
        if self.setting.changed is not None:
            self.setting.changed(step, options)

    def _preview(self, method: Method, data: TrainingSet) -> Callable[[int], None] | None:
        if self.setting.shared and not own_rank().first:
            return None
        preview = self.setting.preview
        if preview is None and self.folder is not None:
            preview = partial(write_preview, self.folder / PREVIEWS)
        return None if preview is None else partial(preview, method, data)

    def _facts(self, data: TrainingSet, split: HoldOut, device: str) -> dict[str, Any]:
        channels = self.model.channels
        return {
            "method": self.model.method,
            "preset": self.model.preset,
            "seed": self.model.seed,
            "config": self.config.model_dump(mode="json"),
            "device": device,
            "n_images": len(split.learned),
            "held_out": split.held_names,
            "hint_values": list(data.annotation_values),
            "hints_sha256": data.digest_annotations(),
            "inputs": data.fingerprints,
            "windows": data.windows,
            "channels": list(channels) if isinstance(channels, tuple) else channels,
        }


def _check_classes(data: TrainingSet) -> None:
    """Raise `InputError` unless two classes or more are labelled: one class alone cannot be separated from anything."""
    annotations = data.annotations
    known = [] if annotations is None else annotations.values_in(chain.from_iterable(annotations.arrays.values()))
    if len(known) == 1:
        raise InputError(
            "labels",
            expected="two classes or more",
            got=f"one, of the value {known[0]}",
            fix="give --labels-as full if 0 is a class too (masks of 0 and 255), or objects if 0 is the ground of numbered objects",
        )


@torch.no_grad()
def order_classes(
    method: Method, batches: Iterable[Batch], annotations: Annotations | None = None, keep: bool = False
) -> ClassTable:
    """Number the classes by their mean intensity on the training images, dark to bright; ties by the method's own order.

    Classes made of annotations, or that took them, keep their ids; an id between them that no label had gets an empty class.

    Parameters
    ----------
    method
        The finished method.
    batches
        One pass over the training images.
    annotations
        Labels or scribbles; the class that took annotation c is named after it.
    keep
        Keep what the method assigns in the memos of the images, which are segmented next.
    """
    areas = np.zeros(method.n_classes, np.int64)
    sums = np.zeros(method.n_classes)
    for batch in batches:
        memos = {"memos": batch.memos} if method.uses_memos else {}
        probabilities = method.assign(batch.images.to(method.device), **memos)
        if keep and batch.memos is not None:
            keep_assigned(batch.memos[0], method, probabilities[0])
        parts = [probabilities, batch.images] if batch.valid is None else [probabilities, batch.images, batch.valid]
        rows_each = max(1, SLAB // probabilities[:, 0, 0].numel())
        for assigned, image, *valid in zip(
            *(_slabs(part, rows_each, batch.images.ndim) for part in parts), strict=True
        ):
            labels, light = assigned.argmax(1).cpu(), image.mean(1).double()
            flat, light = (labels.flatten(), light.flatten()) if not valid else (labels[valid[0]], light[valid[0]])
            areas += np.bincount(flat.numpy(), minlength=len(areas))
            sums += np.bincount(flat.numpy(), weights=light.numpy(), minlength=len(areas))
    intensity = np.divide(sums, areas, out=np.full(len(areas), np.inf), where=areas > 0)
    order = keep_ids(np.argsort(intensity, kind="stable").tolist(), *_annotation_ids(method, annotations))
    names = dict(enumerate(method.class_names)) | _annotation_names(method, annotations)
    rows = []
    for label, (source, colour) in enumerate(zip(order, class_colours(len(order)), strict=True), 1):
        if source is None:
            rows.append(SegmentClass(label, f"class {label}, no labels", colour, 0.0, 0.0, ()))
            continue
        share = float(areas[source] / max(1, areas.sum()))
        value = float(intensity[source]) if areas[source] else 0.0
        rows.append(SegmentClass(label, names.get(source, f"class {label}"), colour, share, value, (source,)))
    return ClassTable(tuple(rows))


def _annotation_ids(method: Method, annotations: Annotations | None) -> tuple[dict[int, int], tuple[int, ...]]:
    """Return the ids of the classes of annotations, by cluster, and all ids that annotations have."""
    if annotations is None:
        return ({cluster: cluster + 1 for cluster in range(method.n_classes)} if method.needs_annotations else {}), ()
    ids = dict(reversed(list(zip(_annotation_places(method, annotations), annotations.ids, strict=False))))
    return {cluster: label for cluster, label in ids.items() if cluster >= 0}, annotations.ids


def _annotation_places(method: Method, annotations: Annotations) -> list[int]:
    """Return the cluster that took each class of the annotations, -1 = none did; empty where the method keeps no such map."""
    n = len(annotations.names)
    if method.needs_annotations:
        return list(range(n))
    class_of = getattr(method, "class_of", None)
    return [] if class_of is None else [int(place) for place in class_of[:n]]


SLAB = 2**18
"""Pixels of which classes and intensities are counted at a time, at least one row."""


def _slabs(values: Tensor, rows: int, ndim: int) -> tuple[Tensor, ...]:
    """Return values ``[B C *S]`` of images of `ndim` axes, or ``[B *S]``, in slabs of some rows of the first spatial axis."""
    return torch.split(values, rows, dim=2 - (ndim - values.ndim))


def _annotation_names(method: Method, annotations: Annotations | None) -> dict[int, str]:
    """Name the classes that annotations asked for, where the method is made of them or keeps a map from annotations to classes."""
    if annotations is None:
        return {}
    places = _annotation_places(method, annotations)
    return {place: name for place, name in zip(places, annotations.names, strict=False) if place >= 0}


def with_spacing(config: MethodConfig, data: TrainingSet, progress: Progress) -> MethodConfig:
    """Return the configuration with the ratios of the first image's spacing, unless the user gave others."""
    ratios = [
        tuple(round(size / min(one.spacing), 4) for size in one.spacing)
        for one in (item.prepared for item in data.items)
    ]
    if config.spacing or max(ratios[0]) == 1:
        return config
    shown = " : ".join(f"{ratio:g}" for ratio in ratios[0])
    others = sum(not np.allclose(ratio, ratios[0], rtol=0.01) for ratio in ratios)
    differ = f"; {others} image(s) differ" if others else ""
    progress.say(f"pixels lie {shown} apart, from {data.items[0].name}{differ}")
    return config.model_copy(update={"spacing": ratios[0]})


def split_sources(data: TrainingSet, share: float, seed: int) -> HoldOut:
    """Hold out a share of the images, by source and before anything is drawn from them, so that no frame or view leaks.

    Parameters
    ----------
    data
        The training set.
    share
        Share of the sources, rounded; of a single series its last frames. Nothing is held out if less than one half of a
        source, or all of them, would be.
    seed
        Decides which.
    """
    groups = [item.name for item in data.items]
    names = list(dict.fromkeys(groups))
    if len(names) == 1:  # the last frames of a series: neighbours resemble each other
        held = set(range(len(groups) - round(share * len(groups)), len(groups)))
    else:
        drawn = generator(seed, "validation").permutation(len(names))[: round(share * len(names))]
        held = {i for i, name in enumerate(groups) if name in {names[j] for j in drawn}}
    if len(held) == len(groups):
        held = set()
    learned = [sample for i, sample in enumerate(data.samples) if i not in held]
    return HoldOut(learned, [data.samples[i] for i in sorted(held)], sorted({groups[i] for i in held}))
