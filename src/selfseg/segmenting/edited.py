"""Results as a person edited them: the same merges, splits, names and level on any image of a model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from selfseg.core.errors import ModelError
from selfseg.read import split_frames
from selfseg.refine.edits import Edits
from selfseg.refine.leaves import Leaves, find_leaves
from selfseg.results.model import FittedModel
from selfseg.results.result import Result
from selfseg.segmenting.segmenting import segment_image

__all__ = ["Edits", "edited", "leaves_of", "read_edits"]


def leaves_of(model: FittedModel, result: Result) -> Leaves:
    """Return the leaves of one image: superpixels of one class each, their merge tree and their look.

    Parameters
    ----------
    model
        The model that gave `result`.
    result
        The result of one image or volume, not of a series.
    """
    prepared = model.preparation.apply(model.view(result.image))
    return find_leaves(result.labels, result.hierarchy, prepared.restore_all(prepared.array))


def edited(model: FittedModel, result: Result, edits: Edits) -> Result:
    """Return the result with its labels and class table as edited; the probabilities stay the model's.

    The frames of a series are segmented once more, as each is cut along a tree of its own.

    Examples
    --------
    >>> result = model.predict("photo.jpg")  # doctest: +SKIP
    >>> edited(model, result, read_edits("photo.studio/runs/001/edits.json")).save("out")  # doctest: +SKIP
    """
    if "T" in result.image.axes:
        frames = [segment_image(model, frame) for frame in split_frames(result.image)]
        labels = np.stack([edits.labels(leaves_of(model, frame)) for frame in frames])
    else:
        labels = edits.labels(leaves_of(model, result))
    return replace(result, labels=labels, table=edits.table(result.table))


def read_edits(path: Path | str) -> Edits:
    """Read edits that the studio wrote.

    Raises
    ------
    ModelError
        If the file cannot be read.
    UsageError
        If it holds something else.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fix = "give the edits.json of a run of the studio"
        raise ModelError(path, expected="a file of edits", got=str(error), fix=fix) from error
    return Edits.from_json(values)
