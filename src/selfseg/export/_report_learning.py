"""How the method sees an image: what it rebuilds, its superpixels, its patches, and what it showed while it learned."""

from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

from selfseg.export._report_pictures import data_uri, thumbnail

SIDE = 640
"""Longer side of such a picture, in pixels."""


def learning_section(pictures: Mapping[str, NDArray[np.uint8]]) -> str:
    """Return one figure for each picture ``[H W 3]`` uint8, by caption; nothing without pictures."""
    if not pictures:
        return ""
    figures = "\n".join(_figure(caption, picture) for caption, picture in pictures.items())
    return f'<section id="learning">\n<h2>How the method sees it</h2>\n<div class="learning">\n{figures}\n</div>\n</section>\n'


def _figure(caption: str, picture: NDArray[np.uint8]) -> str:
    small = thumbnail(picture, SIDE)
    height, width = small.shape[:2]
    text = escape(caption)
    image = f'<img src="{data_uri(small)}" width="{width}" height="{height}" alt="{text}" loading="lazy">'
    return f"<figure>\n{image}\n<figcaption>{text}</figcaption>\n</figure>"
