"""Masks: label images that say which pixels of an image count, found for their images and laid upon them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read.frames import is_video
from selfseg.read.labels import find_labels, read_labels
from selfseg.read.sources import Source

Mask = Path | NDArray[Any]


@dataclass(frozen=True, eq=False)
class MaskedSource(Source):
    """An input of which only the pixels inside a mask count.

    Attributes
    ----------
    mask
        A file of integers, or an array: of the size of the image, 0 = outside. One without time goes for every time point.
    """

    mask: Mask = field(default_factory=lambda: np.ones(()))

    def _opened(self, axes: str | None, max_bytes: int | None) -> Image:
        """Return the image in memory, with `valid` False outside of the mask.

        Raises
        ------
        InputError
            If the image or the mask cannot be read, the mask is of another size, or nothing is inside.
        """
        with super()._opened(axes, max_bytes) as opened:
            image = opened.load(max_bytes)
        inside = (read_labels(self.mask) if isinstance(self.mask, Path) else np.asarray(self.mask)) != 0
        what = f"mask of {self.name}"
        counted = tuple(n for n, letter in zip(image.data.shape, image.axes, strict=True) if letter != "C")
        if inside.shape == image.spatial_shape != counted:
            inside = np.broadcast_to(np.expand_dims(inside, image.axes.replace("C", "").index("T")), counted)
        if inside.shape != counted:
            expected, got = (" x ".join(map(str, shape)) for shape in (counted, inside.shape))
            fix = "give a mask of every pixel of the image"
            raise InputError(what, expected=f"the size of the image, {expected}", got=got, fix=fix)
        if not inside.any():
            fix = "mark what counts by values above 0"
            raise InputError(what, expected="some pixels that count", got="zeros alone", fix=fix)
        return replace(image, valid=inside if image.valid is None else image.valid & inside)


def with_masks(sources: Sequence[Source], masks: str | Path | NDArray[Any] | None) -> list[Source]:
    """Lay masks upon inputs.

    Parameters
    ----------
    sources
        The inputs.
    masks
        A label image or an array for a single input, or a folder with a file of the name of each; None = there are none.

    Raises
    ------
    InputError
        If nothing is there, an input has no mask, or an input is a video.
    """
    if masks is None:
        return list(sources)
    for video in filter(is_video, sources):
        fix = "use a TIFF of its frames, or leave the mask out"
        raise InputError(f"mask of {video.name}", expected="an image", got="a video", fix=fix)
    if isinstance(masks, np.ndarray):
        found: dict[str, Mask] = {source.name: masks for source in sources if len(sources) == 1}
    else:
        found = dict(find_labels(masks))
        if len(sources) == 1 and Path(masks).is_file():
            found = {sources[0].name: Path(masks)}
    without = [source.name for source in sources if source.name not in found]
    if without:
        got = f"none for {', '.join(without[:3])}" + (", ..." if len(without) > 3 else "")
        fix = "name the masks like the images, in a folder like theirs"
        raise InputError("masks", expected="one for every input", got=got, fix=fix)
    return [
        MaskedSource(item.name, item.path, item.content, item.settled, item.images, mask=found[item.name])
        for item in sources
    ]


def mask_facts(sources: Sequence[Source]) -> dict[str, dict[str, str]]:
    """Return ``{"masks": {name: SHA-256}}`` of the inputs' masks, which a run that is resumed must find again; {} without."""
    masks = {source.name: source.mask for source in sources if isinstance(source, MaskedSource)}
    read = {name: read_labels(mask) if isinstance(mask, Path) else np.asarray(mask) for name, mask in masks.items()}
    digests = {name: hashlib.sha256(np.packbits(mask != 0).tobytes()).hexdigest() for name, mask in read.items()}
    return {"masks": digests} if digests else {}
