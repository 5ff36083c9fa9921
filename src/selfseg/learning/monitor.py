"""Monitoring while a method learns: preview pictures, and scores against truth that change nothing that is learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable, SegmentClass, class_colours
from selfseg.core.errors import InputError, SelfsegError, UsageError
from selfseg.core.progress import Progress
from selfseg.export.overlay import montage, overlay, write_picture
from selfseg.learning.training_set import TrainingSet
from selfseg.measure.kinds import region_scores
from selfseg.methods.base import Method
from selfseg.read import Source
from selfseg.read.labels import LabelItem, label_items, read_truths
from selfseg.refine.decide import decide
from selfseg.results.folder import shown
from selfseg.sample.chain import PreparedImage

RECONSTRUCTION = "reconstruction"
"""Name of the method's picture that stands beside the labels in a preview."""

MOST_SCORED = 8
"""Images that are scored at each evaluation, evenly spread over those that have a truth, so that it stays cheap."""

EVALUATIONS = 20
"""Evaluations over the whole training."""

SCORES = {"covering": "covering", "PRI": "probabilistic_rand_index", "VI": "variation_of_information"}
"""Names on the bar and in the journal, and the scores they stand for."""


@torch.no_grad()
def write_preview(folder: Path, method: Method, data: TrainingSet, step: int) -> None:
    """Write ``step-000040.png``: the clusters of the first training image, with the method's reconstruction if it has one.

    Colours are by cluster, since classes are not ordered yet.
    """
    image, prepared = data.first
    clusters, labels = np.unique(_clusters(method, prepared), return_inverse=True)
    labels = labels.reshape(image.spatial_shape) + 1
    colours = class_colours(len(clusters))
    classes = [
        SegmentClass(i, f"cluster {cluster}", colour, 0.0, 0.0, (int(cluster) - 1,))
        for i, (cluster, colour) in enumerate(zip(clusters, colours, strict=True), 1)
    ]
    picture = overlay(image, labels, ClassTable(tuple(classes)))
    rebuilt = method.pictures(torch.from_numpy(prepared.array).to(method.device)).get(RECONSTRUCTION)
    if rebuilt is not None:
        picture = montage([picture, _resized(shown(rebuilt.cpu().numpy(), prepared.array), picture.shape[:2])])
    write_picture(folder / f"step-{step:06d}.png", picture)


@torch.no_grad()
def _clusters(method: Method, prepared: PreparedImage) -> NDArray[np.integer]:
    """Return the cluster of each pixel of the image ``[*S]``, from 1 on."""
    memos = {"memos": (prepared.memo,)} if method.uses_memos else {}
    images = torch.from_numpy(prepared.array)[None].to(method.device)
    return prepared.restore_labels(decide(method.assign(images, **memos)[0].float().cpu().numpy()))


def _resized(picture: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the picture with `size` rows and columns, each pixel that of the nearest one."""
    rows, columns = ((np.arange(n) * own) // n for n, own in zip(size, picture.shape, strict=False))
    nearest: NDArray[np.uint8] = picture[np.ix_(rows, columns)]
    return nearest


def truth_scorer(truth: Any, data: TrainingSet, progress: Progress) -> Callable[[Method], dict[str, float]]:
    """Find the truth of the training images (`read.labels.label_items`), and return what scores a method against it.

    Returns
    -------
    callable
        From a method to covering, PRI and VI (bits) of its clusters as they are now, means over `MOST_SCORED` images or windows.

    Raises
    ------
    InputError
        If the place is not there, or has no usable truth for any of the images.
    UsageError
        If the training images are series.
    """
    images = {item.name: item.prepared for item in data.items}
    if any(item.prepared is not images[item.name] for item in data.items):
        raise UsageError(
            "--truth",
            expected="single training images",
            got="a series (axis T)",
            fix="leave --truth out, and use `selfseg evaluate` on the labels",
        )
    files = label_items(truth, [Source(name) for name in images], "truth", progress.say)
    items = [item for item in data.items if item.name in files]
    chosen = [items[i] for i in sorted(set(np.linspace(0, len(items) - 1, MOST_SCORED).round().astype(int)))]
    truths: dict[str, list[NDArray[np.integer]]] = {}
    for name in dict.fromkeys(item.name for item in chosen):
        try:
            truths[name] = _read_truths(files[name], name, images[name].image.spatial_shape)
        except SelfsegError as error:
            progress.say(str(error))
    scored = [(item, [item.part(array) for array in truths[item.name]]) for item in chosen if item.name in truths]
    if not scored:
        raise InputError("truth", expected="truth that can be used", got="none", fix="mend the files named above")

    def scores(method: Method) -> dict[str, float]:
        rows = [region_scores(_clusters(method, item.view()[1]), arrays) for item, arrays in scored]
        return {short: float(np.mean([row[name] for row in rows])) for short, name in SCORES.items()}

    return scores


def _read_truths(item: LabelItem, name: str, shape: tuple[int, ...]) -> list[NDArray[np.integer]]:
    truths = read_truths(item, name)
    for array in truths:
        if array.shape != shape:
            expected, got = (" x ".join(map(str, size)) for size in (shape, array.shape))
            raise InputError(
                f"truth of {name}", expected=expected, got=got, fix="give the truth at the size of the image"
            )
    return truths
