"""The folder that a run leaves behind: labels, overlays, class table, ``run.json`` and ``report.html``."""

import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.files import write_json
from selfseg.core.image import Image
from selfseg.core.memory import peak_memory
from selfseg.core.palette import class_colours
from selfseg.export.classes import write_areas, write_classes
from selfseg.export.labels import write_labels
from selfseg.export.overlay import label_picture, overlay, photo, write_picture
from selfseg.export.report import Report, ReportImage, thumbnail, write_report
from selfseg.methods._base import Method, build_config
from selfseg.pipeline.card import selfseg_version
from selfseg.pipeline.result import Result
from selfseg.pipeline.training_set import Failure
from selfseg.read import Source
from selfseg.refine.decide import decide
from selfseg.sample.prepare import Prepared
from selfseg.train.journal import read_journal

if TYPE_CHECKING:
    from selfseg.pipeline.segmenter import Segmenter

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "scikit-learn", "numba", "tifffile", "pillow")


def save_result(result: Result, out: Path) -> None:
    """Write one result: ``labels/NAME.tif``, ``overlay/NAME.png``, ``classes.json``."""
    _write_label_file(result, out)
    write_picture(
        out / "overlay" / f"{result.name}.png", overlay(_shown(result.image), _shown_labels(result), result.table)
    )
    write_classes(out / "classes.json", result.table)


def _write_label_file(result: Result, out: Path) -> None:
    image = result.image
    axes = image.axes.replace("C", "")
    write_labels(
        out / "labels" / f"{result.name}.tif", result.labels, spacing=image.spacing, unit=image.unit, axes=axes
    )


def _shown(image: Image) -> Image:
    """The image itself, or the middle frame of a series."""
    if "T" not in image.axes:
        return image
    axis = image.axes.index("T")
    return image.with_data(
        np.take(image.data, image.data.shape[axis] // 2, axis), image.axes.replace("T", ""), valid=None
    )


def _shown_labels(result: Result) -> np.ndarray[Any, np.dtype[np.integer[Any]]]:
    return result.labels[len(result.labels) // 2] if "T" in result.image.axes else result.labels


class OutputFolder:
    """Collects the results of one run; `close` writes what sums them up.

    Parameters
    ----------
    out
        The folder; made if missing.
    model
        The model that predicts.
    """

    def __init__(self, out: Path, model: "Segmenter") -> None:
        self.out = out
        self.model = model
        self.begun = time.monotonic()
        self.rows: list[dict[str, Any]] = []
        self.pictures: list[ReportImage] = []
        self.areas: list[tuple[str, dict[int, int], float, str]] = []

    def add(self, result: Result, source: Source) -> None:
        """Write the files of one result, and keep what the report needs of it."""
        save_result(result, self.out)
        counts = result.areas()
        pixel = float(np.prod(result.image.spacing))
        self.areas.append((result.name, counts, pixel, result.image.unit))
        digest = source.fingerprint()
        self.rows.append(
            {"name": result.name, "source": result.image.source, "sha256": digest, "seconds": round(result.seconds, 3)}
        )
        total = max(1, sum(counts.values()))
        shares = {label: count / total for label, count in counts.items()}
        image, labels = _shown(result.image), _shown_labels(result)
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
            "learned from": f"{training.get('n_images', '?')} image(s), {training.get('steps', '?')} steps, {training.get('seconds', 0):.1f} s",
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


@torch.no_grad()
def write_preview(path: Path, method: Method, image: Image, prepared: Prepared) -> None:
    """Write an overlay of what the method shows now, with colours by cluster, since classes are not ordered yet."""
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    probabilities = method.assign(torch.from_numpy(prepared.array)[None].to(device))[0].float().cpu().numpy()
    labels = prepared.restore_labels(decide(probabilities))
    found, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(image.spatial_shape) + 1
    colours = class_colours(len(found))
    classes = [SegmentClass(i + 1, f"cluster {c}", colours[i], 0.0, 0.0, (int(c) - 1,)) for i, c in enumerate(found)]
    write_picture(path, overlay(image, labels, ClassTable(tuple(classes))))
