"""``report.html``: one file that shows what was done, opens from disk with the network off, and can be mailed."""

import base64
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from selfseg.core.classes import ClassTable, relative_luminance
from selfseg.core.files import write_text
from selfseg.export.classes import colour_table
from selfseg.export.curves import PANEL, curve_panels

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
    """Return a template filled in. Names, messages and values are escaped.

    Parameters
    ----------
    template
        Name of a file in the folder ``templates`` of `package`; it may extend and import those of `selfseg.export`.
    package
        The package that brings the template.
    values
        Its variables.
    """
    return str(_environment(package).get_template(template).render(**values))


@cache
def _environment(package: str) -> Any:
    # jinja2 takes a while to import, and most runs that import this file write their page at the end.
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = ChoiceLoader([PackageLoader(package), PackageLoader("selfseg.export")])
    made = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    made.globals["source"] = lambda name: Markup(loader.get_source(made, name)[0])
    made.filters |= {"percent": percent, "css": _css, "ink": _ink, "sha256": _sha256}
    return made


def percent(share: float) -> str:
    """Return a share 0-1 in words: ``"34 %"``, ``"0.4 %"``, ``"under 0.1 %"``."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def thumbnail(picture: NDArray[np.uint8], max_side: int, labels: bool = False) -> NDArray[np.uint8]:
    """Return a picture whose longer side has at most `max_side` pixels.

    Parameters
    ----------
    picture
        ``[H W]``, ``[H W 3]`` or ``[H W 4]`` uint8.
    max_side
        Largest side in pixels; smaller pictures are returned as they are.
    labels
        Take the nearest pixel, so that no colours (or ids) come up that were not there; else average areas.
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
