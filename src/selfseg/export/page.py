"""Pages from the jinja2 templates in ``templates/``: each holds all it shows, opens with the network off, can be mailed."""

import base64
import hashlib
import io
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from selfseg.core.palette import relative_luminance

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
