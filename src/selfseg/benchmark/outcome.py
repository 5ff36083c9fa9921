"""What a contender gives for one image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from selfseg.refine.hierarchy import Hierarchy

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Outcome:
    """What one method gives for one image: the one output a user gets, and its other scales for ODS / OIS.

    Attributes
    ----------
    labels
        ``[*S]`` integers, 1..K, 0 = ignore: the single segmentation, no choice in it made with labels.
    levels
        Settings at which it can be cut otherwise, from fine to coarse, the same for every image.
    cut
        Returns the labels ``[*S]`` of a level; called after the clock has stopped.
    hierarchy
        A merge tree in place of `levels`, where there is one.
    """

    labels: Labels
    levels: tuple[float, ...] = ()
    cut: Callable[[float], Labels] | None = None
    hierarchy: Hierarchy | None = None

    @cached_property
    def scales(self) -> tuple[tuple[float, Labels], ...]:
        """Pairs of a level and its labels, made when they are first asked for."""
        return () if self.cut is None else tuple((level, self.cut(level)) for level in self.levels)
