"""Strokes answered at once: the pixel classifier on the part of a picture that is in view, its features kept between strokes."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from selfseg.apps.studio.results import frames_of
from selfseg.core.errors import InputError
from selfseg.core.files import writing
from selfseg.core.image import Image
from selfseg.core.seed import derive
from selfseg.methods.base import build_config
from selfseg.methods.pixel_classifier import PixelClassifier, PixelClassifierConfig
from selfseg.read import Source
from selfseg.refine.edits import NOT_DRAWN, draw
from selfseg.sample.chain import PreparedImage
from selfseg.sample.prepare import Preparation, prepare
from selfseg.tiling.tiles import Region, grown, within

SIDE = 512
"""Side of the parts of a picture whose features are kept, in pixels."""

KEPT_BYTES = 3 * 2**29
"""Features that are kept, in bytes; those used last stay."""

SPOT = 15
"""Side of the window over which certainty is averaged, in pixels: where the next stroke helps most."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Key:
    """A frame of a picture, as it was on the disk, and the channels and distances that its features depend on."""

    name: str
    path: str
    stamp: float
    axes: str | None
    frame: int


class Features:
    """Features of parts of pictures; the first question for a part computes them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], Array] = OrderedDict()

    def of(self, key: Key, how: str, method: PixelClassifier, prepared: PreparedImage, part: Region) -> Array:
        """Return the features ``[F *s]`` of a part of a prepared image."""
        place = (key, how, tuple((edge.start, edge.stop) for edge in part))
        if place not in self._kept:
            around = max(prepared.shape) if method.context is None else method.context
            outer = grown(part, (around,) * len(part), prepared.shape)
            found = method.features(np.nan_to_num(prepared.read(outer)))
            self._kept[place] = np.ascontiguousarray(found[(slice(None), *within(part, outer))])
            while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        return self._kept[place]


FEATURES = Features()


@lru_cache(maxsize=8)
def _image(key: Key) -> Image:
    return next(frames_of(Source(key.name, Path(key.path)), key.axes, key.frame))[1]


@lru_cache(maxsize=8)
def _prepared(key: Key, preparation: Preparation) -> PreparedImage:
    return prepare(_image(key), preparation)


@lru_cache(maxsize=4)
def _preparation(keys: tuple[Key, ...]) -> Preparation:
    return Preparation.parse("auto").fit(_image(key) for key in keys)


def parts_of(shape: Sequence[int]) -> Iterator[Region]:
    """Yield the parts of a picture whose features are kept: squares in 2D, a volume as a whole."""
    if len(shape) == 3:
        yield tuple(slice(0, n) for n in shape)
        return
    for top, left in product(range(0, shape[0], SIDE), range(0, shape[1], SIDE)):
        yield slice(top, min(top + SIDE, shape[0])), slice(left, min(left + SIDE, shape[1]))


def answer(
    pictures: Sequence[Mapping[str, str]],
    strokes: Sequence[Mapping[str, Any]],
    axes: str | None,
    name: str,
    frame: int,
    plane: int,
    box: Sequence[int],
    step: int,
    out: str,
) -> dict[str, Any] | None:
    """Learn from all strokes, and classify the part of a picture that is in view.

    Parameters
    ----------
    pictures
        Name and path of every picture of the project, in its order.
    strokes
        Operations of the log; the classes are their values.
    axes
        As for reading.
    name, frame, plane
        The picture, its frame and its slice that are shown.
    box
        The part in view: top, left, bottom, right.
    step
        Step in pixels along each axis between those that are classified.
    out
        File for the classes, uint8 ``[rows columns]``, and then their probabilities 0-255.

    Returns
    -------
    dict or None
        ``box``, ``shape`` of what was written, the place ``spot`` (Y, X) where the answer is least certain; None while fewer than two
        classes are drawn: the features in view are computed all the same, so that the first answer comes at once.
    """
    paths = {one["name"]: one["path"] for one in pictures}
    drawn = {(row["image"], row["frame"]) for row in strokes if row["image"] in paths}
    order = {one["name"]: number for number, one in enumerate(pictures)}
    keys = {
        place: Key(place[0], paths[place[0]], Path(paths[place[0]]).stat().st_mtime, axes, place[1])
        for place in sorted({*drawn, (name, frame)}, key=lambda place: (order[place[0]], place[1]))
    }
    preparation = _preparation(tuple(keys.values()))
    method = _method(_image(keys[name, frame]))
    classes: list[NDArray[np.uint8]] = []
    values: list[Array] = []
    for place in keys:
        own = [row for row in strokes if (row["image"], row["frame"]) == place]
        if own:
            found = _under(method, keys[place], preparation, own)
            values.append(found[0])
            classes.append(found[1])
    view = _in_view(_prepared(keys[name, frame], preparation).shape, box, plane)
    parts = [
        (
            part,
            FEATURES.of(keys[name, frame], _how(preparation), method, _prepared(keys[name, frame], preparation), part),
        )
        for part in view
    ]
    kinds = np.unique(np.concatenate(classes)) if classes else np.zeros(0, np.uint8)
    if len(kinds) < 2:
        return None
    method.config = method.config.changed(n_classes=len(kinds))
    method.learn(np.concatenate(values), np.searchsorted(kinds, np.concatenate(classes)))
    return _written(method, kinds, parts, plane, step, Path(out)) | {"classes": kinds.tolist()}


def _how(preparation: Preparation) -> str:
    return str(preparation.to_json())


def _method(image: Image) -> PixelClassifier:
    """Return the method as `selfseg fit --method pixel_classifier` makes it, with seed 0."""
    spacing = tuple(round(size / min(image.spacing), 4) for size in image.spacing)
    changes: dict[str, Any] = {"spacing": spacing} if max(spacing) > 1 else {}
    config = build_config("pixel_classifier", **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(0, "start"))
        if not isinstance(config, PixelClassifierConfig):
            raise TypeError("another configuration than that of the pixel classifier")
        return PixelClassifier(config, image.n_channels, len(image.spatial_shape)).eval()


def _in_view(shape: Sequence[int], box: Sequence[int], plane: int) -> list[Region]:
    top, left, bottom, right = box
    seen = [
        part
        for part in parts_of(shape)
        if part[-2].start < bottom and part[-2].stop > top and part[-1].start < right and part[-1].stop > left
    ]
    if not seen or (len(shape) == 3 and not 0 <= plane < shape[0]):
        raise InputError("view", expected="a part of the picture", got=str(list(box)), fix="move the picture into view")
    return seen


def _under(
    method: PixelClassifier, key: Key, preparation: Preparation, strokes: Sequence[Mapping[str, Any]]
) -> tuple[Array, NDArray[np.uint8]]:
    """Return the features ``[P F]`` and the values ``[P]`` of the pixels under strokes, in the order of the pixels."""
    prepared = _prepared(key, preparation)
    if method.n_channels != _image(key).n_channels or len(prepared.shape) != method.n_dims:
        raise InputError(
            key.name, expected="pictures that are alike", got="other channels or axes", fix="erase the strokes on it"
        )
    marks = draw(prepared.shape, strokes)
    wanted = marks != NOT_DRAWN
    if (valid := prepared.valid()) is not None:
        wanted &= valid
    values, places = [np.zeros((0, method.n_features), np.float32)], [np.zeros(0, np.int64)]
    for part in parts_of(prepared.shape):
        if wanted[part].any():
            found = FEATURES.of(key, _how(preparation), method, prepared, part)
            values.append(found[:, wanted[part]].T)
            inside = np.nonzero(wanted[part])
            whole = [axis + edge.start for axis, edge in zip(inside, part, strict=True)]
            places.append(np.ravel_multi_index(whole, prepared.shape))
    sequence = np.argsort(np.concatenate(places))
    return np.concatenate(values)[sequence], marks[wanted]


def _written(
    method: PixelClassifier,
    kinds: NDArray[np.uint8],
    parts: Sequence[tuple[Region, Array]],
    plane: int,
    step: int,
    out: Path,
) -> dict[str, Any]:
    top, left = (min(part[axis].start for part, _ in parts) for axis in (-2, -1))
    bottom, right = (max(part[axis].stop for part, _ in parts) for axis in (-2, -1))
    shape = -(-(bottom - top) // step), -(-(right - left) // step)
    labels, sure = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    for part, found in parts:
        flat = found[:, plane] if len(part) == 3 else found
        likely = method.classify(np.ascontiguousarray(flat[:, ::step, ::step]))
        first = (part[-2].start - top) // step, (part[-1].start - left) // step
        here = slice(first[0], first[0] + likely.shape[1]), slice(first[1], first[1] + likely.shape[2])
        labels[here], sure[here] = kinds[likely.argmax(0)], likely.max(0)
    spot = np.unravel_index(uniform_filter(sure, max(1, SPOT // step)).argmin(), shape)
    with writing(out) as temporary:
        temporary.write_bytes(labels.tobytes() + np.round(255 * sure).astype(np.uint8).tobytes())
    return {
        "box": [top, left, bottom, right],
        "shape": list(shape),
        "spot": [int(spot[0]) * step + top, int(spot[1]) * step + left],
    }
