"""``report.html``: one file that shows what was done, opens from disk with the network off, and can be mailed."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.files import write_text
from selfseg.export.colour_table import colour_table
from selfseg.export.curves import PANEL, curve_panels
from selfseg.export.page import embedded, render, thumbnail

__all__ = ["Report", "ReportImage", "report_html", "thumbnail", "write_report"]

LARGEST_SIDE = 1200
"""Longer side of an embedded picture, in pixels, when there are few."""

PIXEL_BUDGET = 20_000_000
"""Pixels embedded in one report, all pictures together: some megabytes of file."""

MOST_SHOWN = 200
"""Images beyond this number are listed with a link instead of being shown."""

FEW = 12
"""Up to so many images are shown large, one below the other; more stand in columns."""

N_NAMED = 8
"""Classes named under an image; the others are in the bar alone."""

LEARNING_SIDE = 640
"""Longer side, in pixels, of a picture of how the method sees an image."""

PANELS = {
    "image": ("photo", "Photo", "the image"),
    "overlay": ("overlay", "Overlay", "class colours and boundaries over the image"),
    "labels": ("labels", "Labels", "class colours alone"),
}
"""Pictures of an image by attribute of `ReportImage`: kind in the style sheet, caption, description."""


@dataclass(frozen=True)
class ReportImage:
    """One image of a report."""

    name: str
    """Name of the image."""
    image: NDArray[np.uint8] | None = None
    overlay: NDArray[np.uint8] | None = None
    """Pictures ``[H W 3]`` or ``[H W]`` uint8 of one size, best made small by `thumbnail`; None = not shown."""
    labels: NDArray[np.uint8] | None = None
    """Picture of the class colours ``[H W 4]`` (or 3) uint8, as `labels_picture` gives it; None = not shown."""
    shares: Mapping[int, float] = field(default_factory=dict)
    """Area share 0-1 of each class, by id."""
    seconds: float | None = None
    """Time that the image took; None = unknown."""
    note: str = ""
    """A line to show under the name."""
    link: str = ""
    """Path of the full overlay, relative to the report: ``overlay/NAME.png``; empty = none."""


@dataclass(frozen=True)
class Report:
    """A whole report. Everything but the title may be empty; empty parts are left out."""

    title: str
    """Heading of the page."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Headline facts, in their order: method, preset, number of images, date."""
    images: Sequence[ReportImage] = ()
    """Pictures, in the order in which they are shown."""
    table: ClassTable = field(default_factory=lambda: ClassTable(()))
    """The classes."""
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """For each loss term (and ``"classes"``), the steps and values."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Options of the method; mappings inside are shown as ``outer.inner``."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Their defaults; options that differ are marked."""
    run: Mapping[str, str] = field(default_factory=dict)
    """Facts of the run: versions, seed, device, timings, peak memory, short hashes of the inputs."""
    failures: Sequence[tuple[str, str]] = ()
    """Names of the inputs that failed, and why."""
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Pictures of how the method sees an image, by caption: ``[H W 3]`` uint8."""


def write_report(path: Path | str, report: Report) -> None:
    """Write a report as one self-contained HTML file. Equal reports give equal bytes.

    Parameters
    ----------
    path
        File to write: ``OUT/report.html``. Links of images are relative to it.
    report
        Its content.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    write_text(path, report_html(report))


def report_html(report: Report) -> str:
    """Return the page that `write_report` writes."""
    shown = [item for item in report.images if any(getattr(item, name) is not None for name in PANELS)][:MOST_SHOWN]
    kept = {id(item) for item in shown}
    side = max(120, min(LARGEST_SIDE, int(math.sqrt(PIXEL_BUDGET / (3 * max(1, len(shown)))))))
    return render(
        "report.html",
        title=report.title,
        facts=report.facts,
        script="report.js" if report.images else "",
        figures=[_figure(item, report.table, side) for item in shown],
        listed=[item for item in report.images if id(item) not in kept],
        many=len(shown) > FEW,
        n_named=N_NAMED,
        classes=report.table.classes,
        panels=curve_panels(report.curves),
        frame=PANEL,
        pictures={caption: embedded(picture, LEARNING_SIDE) for caption, picture in report.pictures.items()},
        options=list(_options(report.config, report.defaults)),
        has_defaults=bool(report.defaults),
        run=report.run,
        failures=report.failures,
    )


def _figure(item: ReportImage, table: ClassTable, side: int) -> dict[str, Any]:
    """Return one image as the template takes it: its pictures embedded, its classes from large to small."""
    arrays = {name: getattr(item, name) for name in PANELS}
    panels = [
        (*PANELS[name], embedded(array, side, labels=name == "labels"))
        for name, array in arrays.items()
        if array is not None
    ]
    names = {one.id: one.name for one in table.classes}
    colours = colour_table(table, max(item.shares, default=0))
    shares = [
        {"id": label, "name": names.get(label, f"class {label}"), "share": share, "rgba": colours[label].tolist()}
        for share, label in sorted(((share, label) for label, share in item.shares.items() if share > 0), reverse=True)
    ]
    return {"name": item.name, "seconds": item.seconds, "note": item.note, "link": item.link} | {
        "panels": panels,
        "shares": shares,
    }


def _options(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every option with its value, its default where that is known, and whether they differ."""
    usual = dict(_flat(defaults))
    for name, value in _flat(config):
        known = {"default": _written(usual[name])} if name in usual else {}
        yield {"name": name, "value": _written(value), "changed": usual.get(name, value) != value, **known}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _written(value: Any) -> str | None:
    """Return a value as people write it; None if it is not set."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)
