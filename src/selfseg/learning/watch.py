"""Scores against truth while a method learns: looked at beside the losses, and unknown to the learning."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.errors import InputError, SelfsegError, UsageError
from selfseg.core.progress import Progress
from selfseg.learning.training_set import TrainingSet
from selfseg.measure.kinds import region_scores
from selfseg.methods._base import Method
from selfseg.read.labels import find_labels, read_truths
from selfseg.refine.decide import decide
from selfseg.sample.prepare import PreparedImage

MOST_WATCHED = 8
"""Images that are scored at each look, evenly spread over those that have a truth, so that looking stays cheap."""

EVALUATIONS = 20
"""Looks over the whole training."""

SHOWN = {"covering": "covering", "PRI": "probabilistic_rand_index", "VI": "variation_of_information"}
"""Names on the bar and in the journal, and the scores they stand for."""


@dataclass(frozen=True)
class TruthWatch:
    """Scores the classes of some training images against their truth.

    Attributes
    ----------
    watched
        Name, prepared image and truth (one array an annotator) of each image that is scored.
    """

    watched: list[tuple[str, PreparedImage, list[NDArray[np.integer]]]]

    @torch.no_grad()
    def look(self, method: Method) -> dict[str, float]:
        """Return covering, PRI and VI (bits) of the classes as they are now, means over the watched images."""
        device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
        rows = []
        for _, prepared, truths in self.watched:
            probabilities = method.assign(torch.from_numpy(prepared.array)[None].to(device))[0].float().cpu().numpy()
            labels = prepared.restore_labels(decide(probabilities))
            rows.append(region_scores(labels, truths))
        return {shown: float(np.mean([row[name] for row in rows])) for shown, name in SHOWN.items()}


def watch_truth(truth: str | Path, data: TrainingSet, progress: Progress) -> TruthWatch:
    """Find the truth of the training images, by name; a single file belongs to a single image whatever its name.

    Raises
    ------
    InputError
        If the place is not there, or has no usable truth for any of the images.
    UsageError
        If the training images are series.
    """
    found = find_labels(truth)
    named = {name: prepared for name, prepared in data.prepared if isinstance(prepared, PreparedImage)}
    if data.windows:
        got, fix = (
            f"windows of {next(iter(data.windows))}",
            "leave --truth out, and use `selfseg evaluate` on the labels",
        )
        raise UsageError("--truth", expected="images that are learned from as a whole", got=got, fix=fix)
    if len(named) < len(data.prepared):
        got, fix = "a series (axis T)", "leave --truth out, and use `selfseg evaluate` on the labels"
        raise UsageError("--truth", expected="single training images", got=got, fix=fix)
    if len(named) == 1 and [*found.values()] == [Path(truth)]:
        found = {next(iter(named)): next(iter(found.values()))}
    names = [name for name in named if name in found]
    if not names:
        expected, got = "a file named like a training image", f"none of {', '.join(list(found)[:3])}"
        raise InputError(f"truth {truth}", expected=expected, got=got, fix="rename the files")
    chosen = [names[i] for i in sorted(set(np.linspace(0, len(names) - 1, MOST_WATCHED).round().astype(int)))]
    watched = []
    for name in chosen:
        try:
            watched.append((name, named[name], _read_fitting(found[name], named[name].image.spatial_shape)))
        except SelfsegError as error:
            progress.say(str(error))
    if not watched:
        fix = "mend the files named above"
        raise InputError(f"truth {truth}", expected="truth that can be used", got="none", fix=fix)
    return TruthWatch(watched)


def _read_fitting(path: Path, shape: tuple[int, ...]) -> list[NDArray[np.integer]]:
    truths = read_truths(path)
    for array in truths:
        if array.shape != shape:
            expected, got = (" x ".join(map(str, size)) for size in (shape, array.shape))
            raise InputError(f"truth {path}", expected=expected, got=got, fix="give the truth at the size of the image")
    return truths
