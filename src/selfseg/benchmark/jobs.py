"""One job: one contender, one image, one seed; its row is written whole or not at all, so that a killed benchmark goes on."""

import json
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.benchmark.contenders import Contender
from selfseg.benchmark.scoring import scales_to_json, score_outcome
from selfseg.core.errors import InputError
from selfseg.core.files import remove, write_json
from selfseg.core.machine import peak_memory, reset_peak_memory
from selfseg.export.labels import write_labels
from selfseg.read.datasets import find_dataset
from selfseg.read.datasets._base import Item


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
    """Return one image of a split.

    Raises
    ------
    InputError
        If it is not there.
    """
    items = {item.name: item for item in list_items(place)}
    if name not in items:
        got, fix = "nothing", "check the folder given with --data"
        raise InputError(f"{place.dataset} image {name}", expected="an image of it", got=got, fix=fix)
    return items[name]


@lru_cache(maxsize=4)
def list_items(place: JobContext) -> tuple[Item, ...]:
    """Return the images of a split, in the dataset's order."""
    return tuple(find_dataset(place.dataset).items(place.split, place.data))


def run_job(job: BenchmarkJob) -> dict[str, Any]:
    """Segment, score, and write labels and row; return the row.

    Raises
    ------
    SelfsegError
        If the image cannot be read, segmented or scored. Nothing is written then.
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
