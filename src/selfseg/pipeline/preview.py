"""Pictures while a method learns."""

from pathlib import Path

import numpy as np
import torch

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.image import Image
from selfseg.core.palette import class_colours
from selfseg.export.overlay import overlay, write_picture
from selfseg.methods._base import Method
from selfseg.pipeline.training_set import TrainingSet
from selfseg.refine.decide import decide
from selfseg.sample.prepare import Prepared


def write_step(folder: Path, method: Method, data: TrainingSet, step: int) -> None:
    """Write the preview of the first training image after a step: ``step-000040.png``."""
    write_preview(folder / f"step-{step:06d}.png", method, *data.first)


@torch.no_grad()
def write_preview(path: Path, method: Method, image: Image, prepared: Prepared) -> None:
    """Write an overlay of what the method shows now, with colours by cluster, since classes are not ordered yet."""
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    probabilities = method.assign(torch.from_numpy(prepared.array)[None].to(device))[0].float().cpu().numpy()
    labels = prepared.restore_labels(decide(probabilities))
    found, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(image.spatial_shape) + 1
    colours = class_colours(len(found))
    classes = [SegmentClass(i + 1, f"cluster {c}", colours[i], 0.0, 0.0, (int(c) - 1,)) for i, c in enumerate(found)]
    write_picture(path, overlay(image, labels, ClassTable(tuple(classes))))
