"""What one contender gives for one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfseg.refine.hierarchy import Hierarchy


@dataclass(frozen=True)
class Outcome:
    """The one output that a user gets, and the other scales, for the scores at the best scale (ODS, OIS).

    Attributes
    ----------
    labels
        ``[*S]`` integers 1..K, 0 = ignore: the single segmentation, made without any choice by labels.
    scales
        Pairs of a level and its labels ``[*S]``, from fine to coarse; the same levels for every image.
    hierarchy
        Or a merge tree.
    """

    labels: NDArray[np.integer]
    scales: tuple[tuple[float, NDArray[np.integer]], ...] = ()
    hierarchy: Hierarchy | None = None
