"""Pictures while a method learns, and of how it sees an image once it has learned."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.image import Image
from selfseg.core.palette import class_colours
from selfseg.export.overlay import montage, overlay, write_picture
from selfseg.learning.training_set import TrainingSet
from selfseg.methods._base import Method
from selfseg.refine.decide import decide
from selfseg.results.pictures import shown
from selfseg.sample.prepare import Prepared

RECONSTRUCTION = "reconstruction"
"""The picture that is shown beside the labels while a method learns."""


def write_step(folder: Path, method: Method, data: TrainingSet, step: int) -> None:
    """Write the preview of the first training image after a step: ``step-000040.png``."""
    write_preview(folder / f"step-{step:06d}.png", method, *data.first)


@torch.no_grad()
def write_preview(path: Path, method: Method, image: Image, prepared: Prepared) -> None:
    """Write an overlay of what the method shows now, and its reconstruction beside it where it has one.

    Colours are by cluster, since classes are not ordered yet.
    """
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    probabilities = method.assign(torch.from_numpy(prepared.array)[None].to(device))[0].float().cpu().numpy()
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


def _resized(picture: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the picture with `size` rows and columns, each pixel that of the nearest one."""
    rows, columns = ((np.arange(n) * own) // n for n, own in zip(size, picture.shape, strict=False))
    nearest: NDArray[np.uint8] = picture[np.ix_(rows, columns)]
    return nearest
