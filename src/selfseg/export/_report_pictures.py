"""The pictures of a report: small enough to be mailed, embedded in the page, side by side."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from selfseg.core.classes import ClassTable
from selfseg.export._report_data import ReportImage
from selfseg.export._report_tables import percent, swatch
from selfseg.export.colour_table import colour_table

LARGEST_SIDE = 1200
"""Longer side of an embedded picture, in pixels, when there are few."""

PIXEL_BUDGET = 20_000_000
"""Pixels embedded in one report, all pictures together: some megabytes of file."""

MOST_SHOWN = 200
"""Images beyond this number are listed with a link instead of being shown."""

FEW = 12
"""Up to so many images are shown large, one below the other; more stand in columns."""

LEGEND = 8
"""Classes named under an image; the others are in the bar alone."""


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


def image_section(images: Sequence[ReportImage], table: ClassTable) -> str:
    """Return the section of all pictures, with those beyond `MOST_SHOWN` (or without pictures) as a list of links."""
    shown = [item for item in images if item.image is not None or item.overlay is not None or item.labels is not None]
    shown = shown[:MOST_SHOWN]
    kept = {id(item) for item in shown}
    listed = [item for item in images if id(item) not in kept]
    side = embedded_side(shown)
    many = len(shown) > FEW
    figures = "\n".join(_figure(item, table, side, legend=not many) for item in shown)
    slider = (
        '<div class="slider" hidden><label for="mix">Middle picture: photo to overlay to labels</label>'
        '<input id="mix" type="range" min="0" max="100" value="50" aria-describedby="mixhelp">'
        '<span id="mixhelp" class="quiet">Click a picture to enlarge it; arrow keys go on.</span></div>'
    )
    grid = f'{slider}\n<div class="{"figures many" if many else "figures"}">\n{figures}\n</div>\n' if shown else ""
    return f'<section id="images">\n<h2>Images</h2>\n{grid}{_links(listed, bool(shown))}</section>\n'


def embedded_side(shown: Sequence[ReportImage]) -> int:
    """Return the longer side that keeps the pictures of all images together within `PIXEL_BUDGET`."""
    if not shown:
        return LARGEST_SIDE
    return max(120, min(LARGEST_SIDE, int(math.sqrt(PIXEL_BUDGET / (3 * len(shown))))))


def data_uri(picture: NDArray[np.uint8], labels: bool = False) -> str:
    """Return a picture as a ``data:`` address: JPEG for photographs, PNG with the exact colours for labels."""
    if not labels:
        return _encoded(
            Picture.fromarray(np.ascontiguousarray(picture[..., :3] if picture.ndim == 3 else picture)), "jpeg"
        )
    alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
    rgba = np.ascontiguousarray(picture if picture.shape[-1] == 4 else np.concatenate([picture, alpha], axis=-1))
    colours, index = np.unique(rgba.view(np.uint32)[..., 0], return_inverse=True)
    if len(colours) > 256:
        return _encoded(Picture.fromarray(rgba), "png")
    indexed = Picture.fromarray(index.reshape(rgba.shape[:2]).astype(np.uint8))
    palette = colours.view(np.uint8).reshape(-1, 4)
    indexed.putpalette(palette[:, :3].tobytes())
    indexed.info["transparency"] = palette[:, 3].tobytes()
    return _encoded(indexed, "png")


def _encoded(picture: Picture.Image, kind: str) -> str:
    buffer = io.BytesIO()
    if kind == "jpeg":
        picture.save(
            buffer, format="JPEG", quality=86, subsampling=0
        )  # thin coloured lines need full colour resolution
    else:
        picture.save(buffer, format="PNG", optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _figure(item: ReportImage, table: ClassTable, side: int, legend: bool) -> str:
    name = escape(item.name)
    seconds = "" if item.seconds is None else f'<span class="quiet">{item.seconds:.3g} s</span>'
    link = f'<a href="{quote(item.link)}">full size</a>' if item.link else ""
    note = f'<p class="note">{escape(item.note)}</p>' if item.note else ""
    kinds = (("photo", "Photo", item.image), ("overlay", "Overlay", item.overlay), ("labels", "Labels", item.labels))
    panels = "".join(
        _panel(kind, caption, array, item.name, side) for kind, caption, array in kinds if array is not None
    )
    bar = _share_bar(item.shares, table, legend)
    caption = f"<figcaption><h3>{name}</h3>{seconds}{link}</figcaption>{note}"
    return f'<figure>\n{caption}\n<div class="panels">{panels}</div>\n{bar}</figure>'


def _panel(kind: str, caption: str, array: NDArray[np.uint8], name: str, side: int) -> str:
    small = thumbnail(array, side, labels=kind == "labels")
    height, width = small.shape[:2]
    words = {
        "photo": "the image",
        "overlay": "class colours and boundaries over the image",
        "labels": "class colours alone",
    }
    image = (
        f'<img src="{data_uri(small, labels=kind == "labels")}" width="{width}" height="{height}" '
        f'alt="{escape(f"{name}: {words[kind]}")}" loading="lazy">'
    )
    return f'<div class="panel {kind}"><div class="stack">{image}</div><span class="caption">{caption}</span></div>'


def _share_bar(shares: Mapping[int, float], table: ClassTable, legend: bool) -> str:
    """Return one bar cut by area, and the names of the largest classes."""
    present = sorted((share, label) for label, share in shares.items() if share > 0)[::-1]
    if not present:
        return ""
    names = {item.id: item.name for item in table.classes}
    colours = colour_table(table, max(label for _, label in present))
    in_order = sorted(present, key=lambda pair: pair[1])
    pieces = "".join(
        f'<i style="flex-grow:{share:.5f};background:rgb({",".join(map(str, colours[label, :3]))})"></i>'
        for share, label in in_order
    )
    spoken = ", ".join(f"{names.get(label, f'class {label}')} {percent(share)}" for share, label in present)
    spoken = escape(f"Area shares: {spoken}")
    bar = f'<div class="shares" role="img" aria-label="{spoken}" title="{spoken}">{pieces}</div>\n'
    if not legend:
        return bar
    chips = "".join(
        f"<li>{swatch(label, colours[label].tolist())}"
        f"{escape(names.get(label, f'class {label}'))} <b>{percent(share)}</b></li>"
        for share, label in present[:LEGEND]
    )
    rest = len(present) - LEGEND
    more = (
        f'<li class="quiet">and {rest} more, {percent(sum(share for share, _ in present[LEGEND:]))}</li>'
        if rest > 0
        else ""
    )
    return f'{bar}<ul class="legend">{chips}{more}</ul>\n'


def _links(listed: Sequence[ReportImage], after_pictures: bool) -> str:
    if not listed:
        return ""
    rows = "".join(f"<li>{_linked(item)}</li>" for item in listed)
    heading = f"<h3>{len(listed)} more, without a picture here</h3>" if after_pictures else ""
    return f'{heading}<ul class="links">{rows}</ul>\n'


def _linked(item: ReportImage) -> str:
    name = f'<a href="{quote(item.link)}">{escape(item.name)}</a>' if item.link else escape(item.name)
    return f'{name} <span class="quiet">{escape(item.note)}</span>' if item.note else name
