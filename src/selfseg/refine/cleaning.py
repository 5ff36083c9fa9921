"""Cleaning of decided labels, spelled ``objects:200,holes:100``: stored with a model and repeated at every prediction."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import IGNORE
from selfseg.core.errors import UsageError
from selfseg.core.steps import Bounds, Parameter, StepKind, parse_calls
from selfseg.refine.components import fill_holes, remove_small

SIZE = (Parameter("size", Bounds(0, whole=True), meaning="pixels"),)
KINDS = {
    "objects": StepKind("objects", "remove connected parts of fewer pixels", SIZE),
    "holes": StepKind("holes", "fill holes of fewer pixels", SIZE),
}


@dataclass(frozen=True)
class Cleaning:
    """What is too small to stay.

    Attributes
    ----------
    holes
        Holes of fewer pixels are given to what surrounds them.
    objects
        Connected parts of a class of fewer pixels are given to the neighbour with the longest common boundary.
    """

    holes: int = 0
    objects: int = 0

    @classmethod
    def parse(cls, text: str | None) -> "Cleaning":
        """Make a cleaning out of ``"objects(200), holes(100)"`` or ``"objects:200,holes:100"`` (`core.steps`).

        None, an empty text and ``none`` clean nothing.

        Raises
        ------
        UsageError
            If the text is none of these.
        """
        calls = parse_calls(text, KINDS, "clean")
        if len({call.name for call in calls}) < len(calls):
            fix = "give one size for objects, one for holes"
            raise UsageError("clean", expected="each step once", got=repr(text), fix=fix)
        return cls(**{call.name: int(call.number("size")) for call in calls})

    def __str__(self) -> str:
        parts = [f"objects:{self.objects}"] * (self.objects > 0) + [f"holes:{self.holes}"] * (self.holes > 0)
        return ",".join(parts) or "none"

    def apply(self, labels: NDArray[np.integer]) -> NDArray[np.integer]:
        """Clean labels ``[*S]``: first holes, then objects. 0 (ignore) stays where it is, and takes nothing."""
        if not self.holes and not self.objects:
            return labels
        inside: NDArray[Any] = np.where(labels == IGNORE, -1, labels.astype(np.int64))
        if self.holes:
            inside = fill_holes(inside, self.holes)
        if self.objects:
            inside = remove_small(inside, self.objects)
        return np.maximum(inside, IGNORE).astype(labels.dtype)
