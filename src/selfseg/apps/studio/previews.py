"""What a method shows while it learns: a small picture with one colour a cluster, and the share of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.apps.studio.runs import PREVIEWS
from selfseg.core.files import remove, write_json
from selfseg.core.image import Image
from selfseg.core.palette import class_colours
from selfseg.export.overlay import write_picture
from selfseg.learning.segmenter import Segmenter
from selfseg.learning.training_set import TrainingSet
from selfseg.methods.base import Method
from selfseg.refine.decide import decide
from selfseg.sample.prepare import Prepared

SIDE = 900
"""Longer side of a preview, in pixels."""

KEPT = 40
"""Previews that stay of a run."""


@torch.no_grad()
def write_live_preview(run: Path, method: Method, data: TrainingSet, step: int) -> None:
    """Write ``previews/step-000040.png`` of the first training picture (of a volume, its middle slice) and its facts beside it."""
    image, prepared = data.first
    clusters = _clusters(method, prepared)
    _write(run, step, image.name, prepared, clusters, class_colours(max(1, int(clusters.max()))))


@torch.no_grad()
def write_first_preview(run: Path, model: Segmenter, image: Image, step: int) -> None:
    """Write a preview by the finished model, in the colours of its classes: it is seen while the whole picture is segmented."""
    prepared = model.preparation_.apply(image)
    clusters = _clusters(model.method_, prepared)
    colours = {source + 1: row.rgba for row in model.table_.classes for source in row.sources}
    rgba = [colours.get(key, (0, 0, 0, 0)) for key in range(1, int(clusters.max()) + 1)]
    _write(run, step, image.name, prepared, clusters, rgba)


def _clusters(method: Method, prepared: Prepared) -> NDArray[np.integer]:
    """Return the cluster of each pixel ``[*s]``, from 1 on."""
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    images = torch.from_numpy(prepared.array)[None].to(device)
    return decide(method.assign(images)[0].float().cpu().numpy())


def _write(
    run: Path, step: int, name: str, prepared: Prepared, clusters: NDArray[np.integer], rgba: Sequence[Sequence[int]]
) -> None:
    counts = np.bincount(clusters.ravel(), minlength=2)
    labels = prepared.restore_labels(clusters)
    plane = labels[len(labels) // 2] if labels.ndim == 3 else labels
    stride = max(1, -(-max(plane.shape) // SIDE))
    colours = np.array([(0, 0, 0, 0), *rgba], np.uint8)
    folder = run / PREVIEWS
    write_picture(folder / f"step-{step:06d}.png", colours[plane[::stride, ::stride]])
    areas: list[dict[str, Any]] = [
        {"cluster": int(key), "share": float(counts[key] / counts[1:].sum()), "rgba": colours[key].tolist()}
        for key in np.flatnonzero(counts[1:]) + 1
    ]
    write_json(folder / f"step-{step:06d}.json", {"step": step, "image": name, "areas": areas})
    for old in sorted(folder.glob("step-*.*"))[: -2 * KEPT]:
        remove(old)
