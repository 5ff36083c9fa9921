"""A volume through a 2D model, slice by slice."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from selfseg.core.image import Image
from selfseg.core.progress import Progress
from selfseg.refine.decide import decide
from selfseg.refine.hierarchy import plain_hierarchy
from selfseg.results.result import Segmented
from selfseg.tiling.slices import predict_slices


def segment_slices(segment: Callable[[Image], Segmented], volume: Image, slices: str, progress: Progress) -> Segmented:
    """Segment a volume by what segments its slices, refinement and all.

    Parameters
    ----------
    segment
        Gives labels and probabilities of one slice.
    volume
        An image with Z.
    slices
        Axis across which it is cut: ``z``, ``y``, ``x``, or ``all``: the mean over the three.
    progress
        Is told how many slices are done.
    """

    def assign(plane: Image) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        labels, probabilities, _ = segment(plane)
        return probabilities, None if labels.all() else labels > 0

    def tick(done: int, total: int) -> None:
        progress.update(0, {f"slice of {total}": done})

    probabilities, inside = predict_slices(assign, volume, "ZYX" if slices == "all" else slices.upper(), tick)
    return Segmented(decide(probabilities, inside), probabilities, partial(plain_hierarchy, volume, probabilities))
