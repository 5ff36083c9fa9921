"""What one method or baseline gives for one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfseg.refine.hierarchy import Hierarchy


@dataclass(frozen=True)
class Outcome:
    """What one method gives for one image: the one output a user gets, and its other scales for ODS / OIS.

    Attributes
    ----------
    labels
        ``[*S]`` integers, 1..K, 0 = ignore: the single segmentation, no choice in it made with labels.
    scales
        Pairs of a level and its labels ``[*S]``, from fine to coarse, the same levels for every image.
    hierarchy
        A merge tree in place of `scales`, where there is one.
    """

    labels: NDArray[np.integer]
    scales: tuple[tuple[float, NDArray[np.integer]], ...] = ()
    hierarchy: Hierarchy | None = None
