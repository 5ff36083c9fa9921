"""The folder that a run leaves behind: labels, overlays, class table, ``run.json`` and ``report.html``."""

import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfseg.core.files import write_json
from selfseg.core.memory import peak_memory
from selfseg.export.classes import write_areas, write_classes
from selfseg.export.overlay import label_picture, overlay, photo
from selfseg.export.report import Report, ReportImage, thumbnail, write_report
from selfseg.methods._base import build_config
from selfseg.pipeline.card import selfseg_version
from selfseg.pipeline.result import Result
from selfseg.pipeline.segmenter import Segmenter
from selfseg.pipeline.training_set import Failure
from selfseg.read import Source
from selfseg.train.journal import read_journal

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "scikit-learn", "numba", "tifffile", "pillow")


class OutputFolder:
    """Collects the results of one run; `close` writes what sums them up.

    Parameters
    ----------
    out
        The folder; made if missing.
    model
        The model that predicts.
    """

    def __init__(self, out: Path, model: Segmenter) -> None:
        self.out = out
        self.model = model
        self.begun = time.monotonic()
        self.rows: list[dict[str, Any]] = []
        self.pictures: list[ReportImage] = []
        self.areas: list[tuple[str, dict[int, int], float, str]] = []

    def add(self, result: Result, source: Source) -> None:
        """Write the files of one result, and keep what the report needs of it."""
        result.save(self.out)
        counts = result.areas()
        pixel = float(np.prod(result.image.spacing))
        self.areas.append((result.name, counts, pixel, result.image.unit))
        digest = source.fingerprint()
        self.rows.append(
            {"name": result.name, "source": result.image.source, "sha256": digest, "seconds": round(result.seconds, 3)}
        )
        total = max(1, sum(counts.values()))
        shares = {label: count / total for label, count in counts.items()}
        image, labels = result.shown()
        pictures = (photo(image), overlay(image, labels, result.table), label_picture(labels, result.table))
        small = [thumbnail(picture, 900) for picture in pictures]
        self.pictures.append(ReportImage(result.name, small[0], small[1], small[2], shares, result.seconds))

    def close(self, failures: Sequence[Failure]) -> None:
        """Write ``classes.json``, ``classes.csv``, ``run.json`` and ``report.html``."""
        write_classes(self.out / "classes.json", self.model.table_)
        write_areas(self.out / "classes.csv", self.areas, self.model.table_)
        facts = self._facts(failures)
        write_json(self.out / "run.json", facts)
        write_report(self.out / "report.html", self._report(facts, failures))

    def _facts(self, failures: Sequence[Failure]) -> dict[str, Any]:
        model = self.model
        return {
            "selfseg": selfseg_version(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "method": model.method,
            "preset": model.preset,
            "seed": model.seed,
            "config": model.method_.config.model_dump(mode="json"),
            "preparation": str(model.preparation_),
            "training": model.facts_,
            "images": self.rows,
            "failures": [{"name": name, "error": message} for name, message in failures],
            "seconds": round(time.monotonic() - self.begun, 3),
            "peak_memory_bytes": peak_memory(),
            "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
            "machine": {
                "system": platform.platform(),
                "processor": platform.machine(),
                "threads": torch.get_num_threads(),
            },
        }

    def _report(self, facts: dict[str, Any], failures: Sequence[Failure]) -> Report:
        model, training = self.model, facts["training"]
        shown = {
            "images": f"{len(self.rows)} segmented, {len(failures)} failed",
            "classes": str(len(model.table_)),
            "learned from": f"{training.get('n_images', '?')} image(s), in {training.get('steps', '?')} steps",
            "learned in": f"{training.get('seconds', 0):.1f} s",
            "segmented in": f"{facts['seconds']:.1f} s",
            "device": str(training.get("device", "unknown")),
            "seed": str(model.seed),
            "preparation": facts["preparation"],
            "peak memory": f"{facts['peak_memory_bytes'] / 2**30:.2f} GiB",
            "selfseg": facts["selfseg"],
            "torch": facts["versions"]["torch"],
            "date": facts["date"],
        }
        shown |= {f"input {row['name']}": f"sha256 {row['sha256'][:12]}" for row in self.rows[:50]}
        return Report(
            title=f"{model.method}, preset {model.preset}",
            facts=shown,
            images=self.pictures,
            table=model.table_,
            curves=read_curves(self.out / "model" / "journal.jsonl"),
            config=facts["config"],
            defaults=build_config(model.method).model_dump(mode="json"),
            failures=list(failures),
        )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def read_curves(journal: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curve of every figure in a journal, by name; empty if there is none."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in read_journal(journal):
        for name, value in row.items():
            if name not in ("step", "seconds"):
                curves.setdefault(name, []).append((row["step"], float(value)))
    return curves
