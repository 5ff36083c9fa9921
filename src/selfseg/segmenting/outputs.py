"""The folder that a run leaves behind: labels, overlays, class table, ``run.json`` and ``report.html``."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture

from selfseg.core.classes import ClassTable
from selfseg.core.errors import Failure
from selfseg.core.files import clear_unfinished, write_json, write_text
from selfseg.core.memory import peak_memory
from selfseg.export._report_curves import curves_svg
from selfseg.export.classes import ClassArea, class_areas, count_areas, write_areas, write_classes
from selfseg.export.colour_table import labels_picture
from selfseg.export.display import displayed, label_planes, middle_planes, plane_shape
from selfseg.export.label_files import LabelWriter
from selfseg.export.overlay import overlay, write_overlay, write_picture
from selfseg.export.report import Report, ReportImage, thumbnail, write_report
from selfseg.measure.flicker import FlickerCount
from selfseg.methods.base import build_config
from selfseg.read import Source, split_frames
from selfseg.results.model import FittedModel, selfseg_version
from selfseg.results.pictures import method_pictures
from selfseg.results.result import Result
from selfseg.segmenting.large import LargeResult
from selfseg.segmenting.sequence import VIDEOS, SequenceRun
from selfseg.train.journal import read_journal

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "scikit-learn", "numba", "tifffile", "pillow")

PICTURE_SIDE = 900
"""Longer side of a picture in the report, in pixels."""

PREVIEWS = "previews"
"""Folder of the pictures that are made while a model learns, in its folder."""

MOST_PREVIEWS = 4
"""Pictures of the learning in the report."""

MOST_PICTURES = 60
"""Images with pictures in the report; of further ones it keeps shares and links, so that it stays light."""


class OutputFolder:
    """Collects the results of one run; `close` writes what sums them up.

    Parameters
    ----------
    out
        The folder; made if missing.
    model
        The model that predicts.
    table
        Its classes, if they were edited; None = as they were learned.
    writer
        Formats of the labels.
    look
        Options of the overlays, as for `selfseg.export.overlay.overlay`.
    """

    def __init__(
        self,
        out: Path,
        model: FittedModel,
        table: ClassTable | None = None,
        writer: LabelWriter | None = None,
        look: Mapping[str, Any] | None = None,
    ) -> None:
        self.out = out
        self.model = model
        self.table = model.table if table is None else table
        self.writer = writer or LabelWriter()
        self.look = dict(look or {})
        self.begun = time.monotonic()
        self.rows: list[dict[str, Any]] = []
        self.pictures: list[ReportImage] = []
        self.seen: dict[str, NDArray[np.uint8]] = {}
        self.areas: list[ClassArea] = []
        clear_unfinished(out, ("labels", "overlay", "pictures", "instances", VIDEOS))

    def add(self, result: Result, source: Source) -> None:
        """Write the files of one result, and keep what the report needs of it."""
        result.save(self.out, self.writer.kinds, self.writer.ngff, **self.look)
        image = result.image
        if not self.rows:
            self._show_method(result)
        areas = class_areas(result.name, result.labels, result.table, image.spacing, image.unit)
        self._keep(result, source, image.axes, areas)

    def add_large(self, result: LargeResult, source: Source) -> None:
        """Write the overlay of an image whose labels are in a zarr already, and keep what the report needs of it."""
        preview = result.preview
        write_overlay(
            self.out / "overlay" / f"{preview.name}.png", preview.image, preview.labels, preview.table, **self.look
        )
        self._keep(preview, source, result.image.axes, result.areas)

    def _keep(self, result: Result, source: Source, axes: str, areas: list[ClassArea]) -> None:
        self.areas += areas
        row = {
            "name": result.name,
            "source": result.image.source,
            "axes": axes,
            "sha256": source.fingerprint(),
            "seconds": round(result.seconds, 3),
        }
        self.rows.append(row)
        shares = {item.id: item.share for item in areas}
        self.pictures.append(_report_image(result, shares, len(self.pictures) < MOST_PICTURES, self.look))

    def _show_method(self, result: Result) -> None:
        """Write how the method sees the first image into ``pictures``, and keep it for the report."""
        model, name = self.model, result.name
        prepared = model.preparation.apply(split_frames(model.view(result.image))[0])
        for kind, picture in method_pictures(model.method, prepared).items():
            write_picture(self.out / "pictures" / f"{kind}.png", picture)
            self.seen[f"{name}: {kind}"] = picture

    def add_sequence(self, run: SequenceRun, linked: bool) -> None:
        """Keep what the report needs of a sequence, whose files are written already."""
        source, flicker = run.source, run.flicker
        row = {
            "name": source.name,
            "source": source.source,
            "sha256": source.fingerprint(),
            "seconds": round(run.seconds, 3),
            "frames": source.n_frames,
            "labelled": run.n_labelled,
            "frames_per_second": round(run.frames_per_second, 3),
            "linked": linked,
            "flicker": _share(flicker.in_place),
            "flicker_following_motion": _share(flicker.following),
        }
        self.rows.append(row)
        if run.example is None:
            return
        frame, labels = run.example
        areas = count_areas(source.name, run.counts, self.table, frame.spacing, frame.unit)
        self.areas += areas
        shares = {item.id: item.share for item in areas}
        result = Result(frame, labels, np.empty((0, 0, 0), np.float32), self.table, run.seconds)
        full = len(self.pictures) < MOST_PICTURES
        note = f"{run.n_labelled} of {source.n_frames} frames; {flicker.describe()}"
        self.pictures.append(
            replace(_report_image(result, shares, full, self.look), name=source.name, note=note, link=run.link)
        )

    def close(self, failures: Sequence[Failure]) -> None:
        """Write ``classes.json``, ``classes.csv``, ``run.json`` and ``report.html``."""
        write_classes(self.out / "classes.json", self.table)
        write_areas(self.out / "classes.csv", self.areas)
        curves = curves_svg(read_curves(self.out / "model" / "journal.jsonl"))
        if curves:
            write_text(self.out / "pictures" / "curves.svg", curves)
        facts = self._facts(failures)
        write_json(self.out / "run.json", facts)
        write_report(self.out / "report.html", self._report(facts, failures))

    def _facts(self, failures: Sequence[Failure]) -> dict[str, Any]:
        model = self.model
        return {
            "selfseg": selfseg_version(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "method": model.name,
            "preset": model.preset,
            "seed": model.seed,
            "config": model.method.config.model_dump(mode="json"),
            "preparation": str(model.preparation),
            "refinement": model.refine or "none",
            "written": list(self.writer.kinds),
            "cleaning": model.clean or "none",
            "training": model.facts,
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
        done = f"{len(self.rows)} segmented" + (f", {len(failures)} failed" if failures else "")
        headline = {
            "images": done,
            "classes": str(len(self.table)),
            "learned from": f"{training.get('n_images', '?')} image(s), in {training.get('steps', '?')} steps",
            "learned in": f"{training.get('seconds', 0):.1f} s",
            "segmented in": f"{facts['seconds']:.1f} s",
            "date": facts["date"],
        }
        run = {
            "preparation": facts["preparation"],
            "refinement": facts["refinement"],
            "cleaning": facts["cleaning"],
            "seed": str(model.seed),
            "device": str(training.get("device", "unknown")),
            "peak memory": f"{facts['peak_memory_bytes'] / 2**30:.2f} GiB",
            "selfseg": facts["selfseg"],
            **facts["versions"],
            **{f"sha256 of {row['name']}": row["sha256"][:12] for row in self.rows[:MOST_PICTURES]},
        }
        return Report(
            title=f"{model.name}, preset {model.preset}",
            facts=headline,
            images=self.pictures,
            table=self.table,
            curves=read_curves(self.out / "model" / "journal.jsonl"),
            config=facts["config"],
            defaults=build_config(model.name).model_dump(mode="json"),
            run=run,
            failures=list(failures),
            pictures=self.seen | read_previews(self.out / "model" / PREVIEWS),
        )


def _report_image(result: Result, shares: dict[int, float], full: bool, look: Mapping[str, Any]) -> ReportImage:
    """Return what the report shows of a result: pictures, or only shares and a link, where there are many already."""
    link = f"overlay/{result.name}.png"
    if not full:
        return ReportImage(result.name, shares=shares, seconds=result.seconds, link=link)
    image, labels, table = result.image, result.labels, result.table
    planes = middle_planes(plane_shape(image)[0], 1)
    ground = thumbnail(displayed(image, planes)[0], PICTURE_SIDE)
    painted = thumbnail(overlay(image, labels, table, **look), PICTURE_SIDE)
    classes = thumbnail(labels_picture(label_planes(labels, image, planes), table)[0], PICTURE_SIDE, labels=True)
    return ReportImage(result.name, ground, painted, classes, shares, result.seconds, link=link)


def _share(count: FlickerCount) -> float | None:
    return round(count.share, 6) if count.compared else None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def read_previews(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Return some of the previews that learning left, evenly spread, by caption; empty if there are none."""
    paths = sorted(folder.glob("step-*.png"))
    chosen = sorted({round(i) for i in np.linspace(0, len(paths) - 1, MOST_PREVIEWS)}) if paths else []
    return {f"while learning, {paths[i].stem.replace('-', ' ')}": np.asarray(Picture.open(paths[i])) for i in chosen}


def read_curves(journal: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curve of every figure in a journal, by name; empty if there is none."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in read_journal(journal):
        for name, value in row.items():
            if name not in ("step", "seconds"):
                curves.setdefault(name, []).append((row["step"], float(value)))
    return curves
