"""What a model returns for one image."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.image import Image
from selfseg.export.classes import write_classes
from selfseg.export.labels import write_labels
from selfseg.export.overlay import write_overlay
from selfseg.refine.hierarchy import Hierarchy


@dataclass
class Result:
    """The segmentation of one image.

    Attributes
    ----------
    image
        The image as it was read.
    labels
        Integer label of each pixel, 1..K, and 0 = ignore; spatial axes as in the image, T first for a series.
    probabilities
        ``[K *S]`` float32; channel k belongs to label k + 1.
    table
        The model's classes.
    seconds
        Time that the prediction took.
    """

    image: Image
    labels: NDArray[np.integer]
    probabilities: NDArray[np.float32]
    table: ClassTable
    seconds: float = 0.0
    _tree: Callable[[], Hierarchy] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Name of the image, the stem of the files that `save` writes."""
        return self.image.name

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """Probability of the chosen class, ``[*S]``; 0 where the label is 0."""
        chosen = np.take_along_axis(self.probabilities, np.maximum(self.labels, 1).astype(np.int64)[None] - 1, 0)[0]
        return np.where(self.labels > 0, chosen, np.float32(0))

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """The merge tree: ``result.hierarchy.cut(n_regions=12)`` gives labels with any number of regions.

        Raises
        ------
        ValueError
            For a series (axis T): ask for the tree of single frames.
        """
        if self._tree is None:
            raise ValueError(
                "hierarchy: expected a single image or volume, got a series; predict its frames one by one"
            )
        return self._tree()

    def save(self, out: Path | str, **look: Any) -> None:
        """Write ``labels/NAME.tif``, ``overlay/NAME.png`` and ``classes.json`` into the folder `out`.

        `look` are options of `selfseg.export.overlay.overlay`: ``numbers=True``, ``opacity=0`` for boundaries alone.
        """
        out, image = Path(out), self.image
        axes = image.axes.replace("C", "")
        write_labels(out / "labels" / f"{self.name}.tif", self.labels, self.table, image.spacing, image.unit, axes)
        write_overlay(out / "overlay" / f"{self.name}.png", image, self.labels, self.table, **look)
        write_classes(out / "classes.json", self.table)
