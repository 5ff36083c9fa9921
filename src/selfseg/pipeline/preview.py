"""Pictures while a method learns, and of how it sees an image once it has learned."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.image import Image
from selfseg.core.palette import class_colours
from selfseg.export.display import displayed
from selfseg.export.overlay import montage, overlay, write_picture
from selfseg.methods.base import Method
from selfseg.pipeline.training_set import TrainingSet
from selfseg.refine.decide import decide
from selfseg.sample.prepare import Prepared
from selfseg.sample.stream import Memo

RECONSTRUCTION = "reconstruction"
"""The picture that is shown beside the labels while a method learns."""


def write_step(folder: Path, method: Method, data: TrainingSet, step: int) -> None:
    """Write the preview of the first training image after a step: ``step-000040.png``."""
    memo = getattr(data.samples[0], "memo", None)
    write_preview(folder / f"step-{step:06d}.png", method, *data.first, memo)


@torch.no_grad()
def write_preview(path: Path, method: Method, image: Image, prepared: Prepared, memo: Memo | None) -> None:
    """Write an overlay of what the method shows now, and its reconstruction beside it where it has one.

    Colours are by cluster, since classes are not ordered yet.
    """
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    images = torch.from_numpy(prepared.array)[None].to(device)
    memos = {"memos": (memo,)} if method.uses_memos and memo is not None else {}
    probabilities = method.assign(images, **memos)[0].float().cpu().numpy()
    labels = prepared.restore_labels(decide(probabilities))
    found, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(image.spatial_shape) + 1
    colours = class_colours(len(found))
    classes = [SegmentClass(i + 1, f"cluster {c}", colours[i], 0.0, 0.0, (int(c) - 1,)) for i, c in enumerate(found)]
    picture = overlay(image, labels, ClassTable(tuple(classes)))
    rebuilt = method.pictures(torch.from_numpy(prepared.array).to(device)).get(RECONSTRUCTION)
    if rebuilt is not None:
        picture = montage([picture, _resized(shown(rebuilt.cpu().numpy(), prepared.array), picture.shape[:2])])
    write_picture(path, picture)


def method_pictures(method: Method, prepared: Prepared) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures of a method by name, ``[H W 3]`` uint8; of volumes the middle slice. Empty if it has none."""
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    made = method.pictures(torch.from_numpy(prepared.array).to(device))
    return {name: _drawn(picture.cpu().numpy(), prepared.array) for name, picture in made.items()}


def _drawn(picture: NDArray[Any], prepared: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture as RGB: labels ``[*S]`` in the colours of classes, all else as `shown`."""
    if picture.dtype.kind == "f":
        return shown(picture, prepared)
    plane = picture[len(picture) // 2] if picture.ndim == 3 else picture
    colours = np.array([(0, 0, 0, 0), *class_colours(int(plane.max()))], np.uint8)
    coloured: NDArray[np.uint8] = colours[plane][..., :3]
    return coloured


def shown(picture: NDArray[np.float32], prepared: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture ``[C *S]`` or ``[C H W]`` as RGB, on the scale of the prepared image ``[C *S]``, whose extremes it is cut to."""
    low, high = float(prepared.min()), float(prepared.max())
    if len(picture) == 3 and low >= 0 and high <= 1:
        low, high = 0.0, 1.0  # colours as they are, like the photograph itself
    levels = np.clip((picture - low) / max(high - low, 1e-12), 0, 1)
    plain = np.moveaxis((levels * 255 + 0.5).astype(np.uint8), 0, -1)
    middle: NDArray[np.uint8] = plain[len(plain) // 2] if plain.ndim == 4 else plain
    if middle.shape[-1] == 1:
        return np.repeat(middle, 3, -1)
    picture_rgb: NDArray[np.uint8] = displayed(Image(middle, "YXC"), [0])[0]
    return picture_rgb


def _resized(picture: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the picture with `size` rows and columns, each pixel that of the nearest one."""
    rows, columns = ((np.arange(n) * own) // n for n, own in zip(size, picture.shape, strict=False))
    nearest: NDArray[np.uint8] = picture[np.ix_(rows, columns)]
    return nearest
