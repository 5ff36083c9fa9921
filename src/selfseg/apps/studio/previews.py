"""What a method shows while it learns: a small picture with one colour a cluster, and the share of each."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfseg.apps.studio.runs import PREVIEWS
from selfseg.core.files import remove, write_json
from selfseg.core.palette import class_colours
from selfseg.export.overlay import write_picture
from selfseg.methods._base import Method
from selfseg.pipeline.training_set import TrainingSet
from selfseg.refine.decide import decide

SIDE = 900
"""Longer side of a preview, in pixels."""

KEPT = 40
"""Previews that stay of a run."""


@torch.no_grad()
def write_live_preview(run: Path, method: Method, data: TrainingSet, step: int) -> None:
    """Write ``previews/step-000040.png`` of the first training picture (of a volume, its middle slice) and its facts beside it."""
    image, prepared = data.first
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    probabilities = method.assign(torch.from_numpy(prepared.array)[None].to(device))[0].float().cpu().numpy()
    clusters = decide(probabilities)
    counts = np.bincount(clusters.ravel(), minlength=2)
    labels = prepared.restore_labels(clusters)
    plane = labels[len(labels) // 2] if labels.ndim == 3 else labels
    stride = max(1, -(-max(plane.shape) // SIDE))
    colours = np.array([(0, 0, 0, 0), *class_colours(max(1, int(clusters.max())))], np.uint8)
    folder = run / PREVIEWS
    write_picture(folder / f"step-{step:06d}.png", colours[plane[::stride, ::stride]])
    areas: list[dict[str, Any]] = [
        {"cluster": int(key), "share": float(counts[key] / counts[1:].sum()), "rgba": colours[key].tolist()}
        for key in np.flatnonzero(counts[1:]) + 1
    ]
    write_json(folder / f"step-{step:06d}.json", {"step": step, "image": image.name, "areas": areas})
    for old in sorted(folder.glob("step-*.*"))[: -2 * KEPT]:
        remove(old)
