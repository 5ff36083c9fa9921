"""Cleaning of decided labels, spelled ``objects:200,holes:100``: stored with a model and repeated at every prediction."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import IGNORE
from selfseg.core.errors import UsageError
from selfseg.refine.components import fill_holes, remove_small

SPELLING = "objects:N,holes:N with N the size in pixels below which they go"


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
        """Make a cleaning out of ``"objects:200,holes:100"``; None, an empty text and ``none`` clean nothing.

        Raises
        ------
        UsageError
            If the text is none of these.
        """
        values: dict[str, int] = {}
        for part in (text or "").replace(" ", "").split(","):
            if part in ("", "none"):
                continue
            key, _, word = part.partition(":")
            if key not in ("holes", "objects") or not word.isdigit() or key in values:
                raise UsageError("clean", expected=SPELLING, got=repr(text), fix="check the spelling")
            values[key] = int(word)
        return cls(**values)

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
