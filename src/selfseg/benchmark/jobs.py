"""Contenders, methods by name and preset and the classical baselines; and jobs: one contender, one image, one seed."""

import inspect
import json
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.benchmark.baselines._base import Outcome, baseline_names, find_baseline
from selfseg.benchmark.scoring import scales_to_json, score_outcome
from selfseg.core.errors import InputError, UsageError
from selfseg.core.files import remove, write_json
from selfseg.core.image import Image
from selfseg.core.machine import peak_memory, reset_peak_memory
from selfseg.export.labels import write_labels
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import build_config, current_spelling, find_method, method_names
from selfseg.read.datasets import find_dataset
from selfseg.read.datasets._base import Item
from selfseg.refine.steps import parse_refinements


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str
    """A method or a baseline."""
    preset: str = ""
    """Preset of a method; empty for a baseline."""
    refine: str = ""
    """Refinements of a method's output, such as ``crf`` or ``crf+contours``; empty = none."""

    @property
    def title(self) -> str:
        """The name in tables and folders: ``feature_clustering``, ``feature_clustering-fast``, ``felzenszwalb``."""
        name = self.name if self.preset in ("", "default") else f"{self.name}-{self.preset}"
        return f"{name}+{self.refine}" if self.refine else name

    @property
    def unrefined(self) -> "Contender":
        """The same without refinement: what is learned does not depend on it."""
        return Contender(self.name, self.preset)

    @property
    def is_method(self) -> bool:
        """True if it is a method of selfseg rather than a baseline."""
        return bool(self.preset)

    @property
    def gives_instances(self) -> bool:
        """True if its labels are single objects (1 = background) rather than classes."""
        return not self.is_method and bool(getattr(find_baseline(self.name), "INSTANCES", False))

    def settings(self) -> dict[str, Any]:
        """Return every option with its value; rows made with other settings are made again."""
        if not self.is_method:
            return {}
        return dict(build_config(self.name, self.preset).model_dump(mode="json"))

    def describe(self) -> str:
        """Return the first line of its documentation."""
        found = inspect.getmodule(find_method(self.name)) if self.is_method else find_baseline(self.name)
        return (inspect.getdoc(found) or "").partition("\n")[0]

    def model(self, n_classes: int | None, seed: int) -> Segmenter:
        """Return the unfitted model of a method."""
        steps = self.refine.replace("+", ",") or None
        return Segmenter(self.name, n_classes=n_classes, preset=self.preset, seed=seed, refine=steps)

    def run(self, image: Image, n_classes: int | None, seed: int, model: Path | None = None) -> tuple[Outcome, float]:
        """Segment one image; return the outcome and the seconds of its one output, other scales not counted.

        `n_classes` is the exact number of classes, None = as many as it finds; `model` is the folder of a fitted model,
        None = learn from this image alone.
        """
        begun = time.perf_counter()
        if not self.is_method:
            outcome: Outcome = find_baseline(self.name).segment(image, n_classes, seed)
            return outcome, time.perf_counter() - begun
        fitted = self.model(n_classes, seed)
        if model is None:
            fitted.fit(image)
        else:
            fitted = Segmenter.load(model).set_params(refine=fitted.refine)
        result = fitted.predict_image(image)
        seconds = time.perf_counter() - begun
        return Outcome(result.labels, hierarchy=result.hierarchy), seconds


def find_contenders(methods: list[str], baselines: bool | list[str] = True) -> list[Contender]:
    """Return the contenders of a benchmark, methods first. UsageError if a name or a preset is unknown.

    `methods` are ``NAME`` or ``NAME:PRESET``, either with ``+crf``, ``+contours`` or ``+crf+contours`` to refine the output;
    `baselines` are True = all, False = none, or names.
    """
    found = []
    for item in methods:
        unrefined, _, refine = item.partition("+")
        name, _, preset = unrefined.partition(":")
        if name not in method_names():
            raise UsageError(
                "--methods",
                expected=", ".join(method_names()),
                got=repr(name),
                fix="see `selfseg methods`; baselines are chosen with --baselines",
            )
        name, preset, _ = current_spelling(name, preset or "default", {})
        build_config(name, preset)
        parse_refinements(refine.replace("+", ",") or None)
        found.append(Contender(name, preset, refine))
    names = baseline_names() if baselines is True else list(baselines or [])
    for name in names:
        if name not in baseline_names():
            raise UsageError("--baselines", expected=", ".join(baseline_names()), got=repr(name), fix="check the name")
        found.append(Contender(name))
    if len(set(found)) < len(found):
        raise UsageError("--methods", expected="each name once", got=", ".join(methods), fix="drop one")
    return found


@dataclass(frozen=True)
class JobContext:
    """Where the images come from and where the rows go."""

    dataset: str
    split: str
    """Names of the dataset and of its split."""
    data: Path | None
    """Folder with the datasets; None = the place where they are downloaded to."""
    out: Path
    """Folder of the benchmark."""


@dataclass(frozen=True)
class BenchmarkJob:
    """One row that is to be made."""

    place: JobContext
    """Dataset and folders."""
    contender: Contender
    """Method or baseline to run."""
    item: str
    """Name of the image."""
    seed: int
    """Seed of every random choice."""
    n_classes: int | None
    """Exact number of classes; None = as many as it finds."""
    model: Path | None = None
    """Folder of a model that was fitted before; None = learn from this image alone."""
    curve: bool = False
    """Score boundaries at every scale."""

    @property
    def folder(self) -> Path:
        """Folder of the contender's rows of this seed."""
        return self.place.out / "rows" / self.contender.title / f"seed-{self.seed}"

    @property
    def row_file(self) -> Path:
        """File of the row."""
        return self.folder / f"{self.item}.json"

    @property
    def label_file(self) -> Path:
        """File of the labels."""
        return self.folder.parents[2] / "labels" / self.contender.title / f"seed-{self.seed}" / f"{self.item}.tif"

    def key(self) -> dict[str, Any]:
        """Return what the row depends on: a row of another key is made again."""
        return {
            "dataset": self.place.dataset,
            "split": self.place.split,
            "image": self.item,
            "contender": asdict(self.contender),
            "settings": self.contender.settings(),
            "seed": self.seed,
            "n_classes": self.n_classes,
            "trained": "on this image" if self.model is None else self.model.name,
            "curve": self.curve,
        }

    def done(self) -> dict[str, Any] | None:
        """Return the row if it is there, whole, and of this key."""
        try:
            row = json.loads(self.row_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(row, dict) and row.get("key") == json.loads(json.dumps(self.key()))
        return row if same and self.label_file.is_file() else None


def find_item(place: JobContext, name: str) -> Item:
    """Return one image of a split; InputError if it is not there."""
    items = {item.name: item for item in list_items(place)}
    if name not in items:
        raise InputError(
            f"{place.dataset} image {name}",
            expected="an image of it",
            got="nothing",
            fix="check the folder given with --data",
        )
    return items[name]


@lru_cache(maxsize=4)
def list_items(place: JobContext) -> tuple[Item, ...]:
    """Return the images of a split, in the dataset's order."""
    return tuple(find_dataset(place.dataset).items(place.split, place.data))


def run_job(job: BenchmarkJob) -> dict[str, Any]:
    """Segment, score, and write labels and row, which is whole or absent; return the row.

    SelfsegError if the image cannot be read, segmented or scored: then nothing is written.
    """
    dataset, item = find_dataset(job.place.dataset), find_item(job.place, job.item)
    image = item.load_image()
    truths = list(item.load_truths())
    remove(job.row_file)
    counted = reset_peak_memory()
    outcome, seconds = job.contender.run(image, job.n_classes, job.seed, job.model)
    peak = peak_memory() if counted else 0
    begun = time.perf_counter()
    found = score_outcome(dataset, image, outcome, truths, job.contender.gives_instances, job.curve)
    write_labels(job.label_file, outcome.labels, None, image.spacing, image.unit, image.axes.replace("C", ""))
    parts = {"one": found.one, "connected": found.connected, "oracle": found.oracle}
    row = {
        "key": job.key(),
        "kind": item.kind,
        "seconds": round(seconds, 4),
        "peak_memory_bytes": peak,
        **{name: None if part is None else part.to_json() for name, part in parts.items()},
        "scales": scales_to_json(found),
        "n_labels": len(np.unique(outcome.labels[outcome.labels > 0])),
        "seconds_scoring": round(time.perf_counter() - begun, 4),
    }
    write_json(job.row_file, row)
    return row
