"""The report of a run: one page with pictures, curves, classes and settings; pages and pictures for other reports."""

import base64
import hashlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from selfseg.core.classes import ClassTable, relative_luminance
from selfseg.core.files import write_text
from selfseg.export.labels import colour_table

__all__ = ["Report", "ReportImage", "report_html", "thumbnail", "write_report"]

LARGEST_SIDE = 1200
"""Longer side of an embedded picture, in pixels, when there are few."""

PIXEL_BUDGET = 20_000_000
"""Pixels embedded in one report, all pictures together: some megabytes of file."""

MOST_SHOWN = 200
"""Images beyond this number are listed with a link instead of being shown."""

FEW = 12
"""Most images that are shown large, one below the other; more stand in columns."""

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
    """Write a report as one self-contained HTML file, to which links of images are relative. Equal reports give equal bytes.

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
    arrays = {name: array for name in PANELS if (array := getattr(item, name)) is not None}
    panels = [(*PANELS[name], embedded(array, side, name == "labels")) for name, array in arrays.items()]
    names = {one.id: one.name for one in table.classes}
    colours = colour_table(table, max(item.shares, default=0))
    shares = [
        {"id": label, "name": names.get(label, f"class {label}"), "share": share, "rgba": colours[label].tolist()}
        for share, label in sorted(((share, label) for label, share in item.shares.items() if share > 0), reverse=True)
    ]
    return {"item": item, "panels": panels, "shares": shares}


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


DARK_TEXT_ABOVE = 0.18
"""Luminance above which black text on a colour has the higher contrast (WCAG 2.2: both have 4.6 : 1 here)."""


class EmbeddedPicture(NamedTuple):
    """A picture as a ``data:`` address, with its size in pixels."""

    uri: str
    width: int
    height: int


def render(template: str, package: str = "selfseg.export", **values: Any) -> str:
    """Return a template filled in with its variables. Names, messages and values are escaped.

    `template` is a file in the folder ``templates`` of `package`; it may extend and import those of `selfseg.export`.
    """
    return str(_environment(package).get_template(template).render(**values))


def _url(path: str) -> str:
    """Return a relative path as a link: the bytes of its name, whether they are text or not."""
    return quote(os.fsencode(path))


@cache
def _environment(package: str) -> Any:
    # jinja2 takes a while to import, and most runs that import this file write their page at the end.
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = ChoiceLoader([PackageLoader(package), PackageLoader("selfseg.export")])
    made = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    made.globals["source"] = lambda name: Markup(loader.get_source(made, name)[0])
    made.filters |= {"percent": percent, "css": _css, "ink": _ink, "sha256": _sha256, "urlencode": _url}
    return made


def percent(share: float) -> str:
    """Return a share 0-1 in words: ``"34 %"``, ``"0.4 %"``, ``"under 0.1 %"``."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def thumbnail(picture: NDArray[np.uint8], max_side: int, labels: bool = False) -> NDArray[np.uint8]:
    """Return a picture (``[H W]``, ``[H W 3]`` or ``[H W 4]`` uint8) whose longer side has at most `max_side` pixels.

    For labels the nearest pixel is taken, so that no colours (or ids) come up that were not there; else areas are averaged. Smaller
    pictures are returned as they are.
    """
    height, width = picture.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Picture.Resampling.NEAREST if labels else Picture.Resampling.BOX
    return np.array(Picture.fromarray(np.ascontiguousarray(picture)).resize(size, how))


def embedded(picture: NDArray[np.uint8], max_side: int, labels: bool = False) -> EmbeddedPicture:
    """Return a picture made small by `thumbnail` (same arguments), to stand in a page."""
    small = thumbnail(picture, max_side, labels)
    return EmbeddedPicture(data_uri(small, labels), small.shape[1], small.shape[0])


def data_uri(picture: NDArray[np.uint8], labels: bool = False) -> str:
    """Return a picture as a ``data:`` address: JPEG for photographs, PNG with the exact colours for labels."""
    if not labels:
        photo = Picture.fromarray(np.ascontiguousarray(picture[..., :3] if picture.ndim == 3 else picture))
        return _encoded(photo, "jpeg", quality=86, subsampling=0)  # thin coloured lines need full colour resolution
    alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
    rgba = np.ascontiguousarray(picture if picture.shape[-1] == 4 else np.concatenate([picture, alpha], axis=-1))
    colours, index = np.unique(rgba.view(np.uint32)[..., 0], return_inverse=True)
    if len(colours) > 256:
        return _encoded(Picture.fromarray(rgba), "png", optimize=True)
    indexed = Picture.fromarray(index.reshape(rgba.shape[:2]).astype(np.uint8))
    palette = colours.view(np.uint8).reshape(-1, 4)
    indexed.putpalette(palette[:, :3].tobytes())
    indexed.info["transparency"] = palette[:, 3].tobytes()
    return _encoded(indexed, "png", optimize=True)


def _encoded(picture: Picture.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _css(rgba: Sequence[int]) -> str:
    return f"rgb({int(rgba[0])},{int(rgba[1])},{int(rgba[2])})"


def _ink(rgba: Sequence[int]) -> str:
    """Return black or white, whichever is easier to read on a colour."""
    return "#000" if relative_luminance(tuple(rgba)) > DARK_TEXT_ABOVE else "#fff"


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


MOST_POINTS = 400
"""Points drawn in a panel; longer curves keep the least and the largest value of each stretch."""

SMOOTH_FROM = 60
"""Least number of values for which a running mean is drawn over a curve."""

Marks = list[tuple[str, str]]
"""Ticks of an axis: place and text of each."""


class Frame(NamedTuple):
    """Size of a plot in SVG units, and where the area inside its margins begins and ends."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


PANEL = Frame(340, 190, 52, 328, 10, 156)


@dataclass(frozen=True)
class Axis:
    """From values to places in SVG units: `low` lies at `start` and `high` at `stop`; `log` = on a logarithmic scale."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return the place of a value."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.start + share * (self.stop - self.start)

    def marks(self, values: Sequence[float], texts: Sequence[str]) -> Marks:
        """Return the ticks at some values."""
        return [(f"{self.place(value):.1f}", text) for value, text in zip(values, texts, strict=True)]


@dataclass(frozen=True)
class Panel:
    """One curve, ready to be drawn."""

    name: str
    remark: str
    words: str = ""
    """Heading, its last value, and a description for those who do not see it."""
    lines: tuple[tuple[str, str], ...] = ()
    """Class (``line``, or ``raw`` for what lies under a running mean) and SVG path of each line; none = no finite value."""
    dot: tuple[str, str] | None = None
    """Place of the only value."""
    x_marks: Marks | None = None
    y_marks: Marks | None = None
    """Ticks of the axes."""


def curves_svg(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return the panels of all curves as one SVG document that needs no page around it; empty if none has values."""
    panels = [panel for panel in curve_panels(curves) if panel.lines]
    return render("curves.svg", panels=panels, frame=PANEL) if panels else ""


def curve_panels(curves: Mapping[str, Sequence[tuple[float, float]]]) -> list[Panel]:
    """Return a panel for each curve of (step, value) that has any."""
    return [_panel(name, points) for name, points in curves.items() if len(points)]


def ticks(low: float, high: float, wanted: int = 4, whole: bool = False) -> list[float]:
    """Return round values (1, 2 or 5 times a power of ten apart) that lie in ``[low, high]``, about `wanted`."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _panel(name: str, points: Sequence[tuple[float, float]]) -> Panel:
    steps, values = np.array(points, np.float64).T
    finite = np.isfinite(values)
    if not finite.any():
        return Panel(name, f"no finite value in {len(points)} steps")
    values = np.where(finite, values, np.nan)
    first, last = values[finite][[0, -1]]
    whole = bool(np.all(values[finite] == np.round(values[finite])))
    missing = "" if finite.all() else f", {int((~finite).sum())} not finite"
    x, y = Axis(steps.min(), steps.max(), PANEL.left, PANEL.right), Axis(*_limits(values), PANEL.bottom, PANEL.top)
    smooth = not whole and len(values) >= SMOOTH_FROM
    lines = [("raw" if smooth else "line", _path(x, y, *_thinned(steps, values), whole))]
    if smooth:
        lines.append(("line", _path(x, y, *_thinned(steps, _running_mean(values)), whole)))
    x_ticks, y_ticks = ticks(x.low, x.high, whole=True), ticks(y.low, y.high, whole=whole)
    return Panel(
        name,
        f"{last:.4g} at the end{missing}".replace("-", "−"),
        f"{name} over {len(points)} steps, from {first:.4g} to {last:.4g}",
        tuple(lines),
        (f"{x.place(steps[0]):.1f}", f"{y.place(values[0]):.1f}") if len(values) == 1 else None,
        x.marks(x_ticks, [_number(value, x_ticks) for value in x_ticks]),
        y.marks(y_ticks, [_number(value, y_ticks) for value in y_ticks]),
    )


def _path(x: Axis, y: Axis, steps: NDArray[np.float64], values: NDArray[np.float64], stairs: bool) -> str:
    """Return an SVG path, with a gap where a value is missing; counts change at once, so they are drawn as stairs."""
    pieces, pen = [], "M"
    for step, value in zip(steps.tolist(), values.tolist(), strict=True):
        if math.isnan(value):
            pen = "M"
            continue
        corner = f"H{x.place(step):.1f}" if stairs and pen == "L" else ""
        pieces.append(f"{corner}{pen}{x.place(step):.1f} {y.place(value):.1f}")
        pen = "L"
    return "".join(pieces)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the least and largest shown value: zero is included when it is near, and nothing is flat."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if 0 < low < 0.5 * high:
        low = 0.0
    elif 0.5 * low < high < 0:
        high = 0.0
    margin = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    return (low if low == 0 else low - margin), (high if high == 0 and low != 0 else high + margin)


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over a centred window of 1/25 of the values, cut short at the ends; gaps count nothing."""
    half = max(1, len(values) // 50)
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    start = np.maximum(np.arange(len(values)) - half, 0)
    stop = np.minimum(np.arange(len(values)) + half + 1, len(values))
    count = counts[stop] - counts[start]
    mean: NDArray[np.float64] = np.where(count > 0, (sums[stop] - sums[start]) / np.maximum(count, 1), np.nan)
    return mean


def _thinned(
    steps: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at most `MOST_POINTS` points: the first, the last, and the extremes of each stretch."""
    if len(values) <= MOST_POINTS:
        return steps, values
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), MOST_POINTS // 2 - 1):
        if np.isfinite(values[stretch]).any():
            kept |= {int(stretch[np.nanargmin(values[stretch])]), int(stretch[np.nanargmax(values[stretch])])}
    index = np.array(sorted(kept))
    return steps[index], values[index]


def _number(value: float, marks: Sequence[float]) -> str:
    """Return a tick value with as many digits as its neighbours need."""
    largest = max(abs(mark) for mark in marks)
    if largest >= 1e6 or 0 < largest < 1e-3:
        return f"{value:.2g}".replace("-", "−") if value else "0"
    step = abs(marks[1] - marks[0]) if len(marks) > 1 else abs(value) or 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}".replace("-", "−") if abs(value) > step / 2 else "0"
