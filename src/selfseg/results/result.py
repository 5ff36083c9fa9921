"""What a model returns for one image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.image import Image
from selfseg.export.classes import write_classes
from selfseg.export.label_files import LabelWriter
from selfseg.export.overlay import write_overlay
from selfseg.refine.hierarchy import Hierarchy
from selfseg.results.instances import Instances, ObjectOptions, image_instances


class Segmented(NamedTuple):
    """Labels ``[*S]``, probabilities ``[K *S]`` and the way to the merge tree of one image or frame."""

    labels: NDArray[np.integer]
    probabilities: NDArray[np.float32]
    tree: Callable[[], Hierarchy]


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

    def instances(self, kind: str = "watershed", of: Sequence[str | int] | None = None, **how: Any) -> Instances:
        """Find and measure objects: ``result.instances().columns["size"]``, ``.labels``, ``.save(out)``.

        Parameters
        ----------
        kind
            ``"components"``, or ``"watershed"``, which also cuts what touches.
        of
            Names or ids of the classes that consist of objects; None = all but the largest.
        **how
            ``min_size``, ``depth``: see `results.instances.ObjectOptions`.
        """
        options = ObjectOptions(kind, None if of is None else tuple(of), **how)
        return image_instances(self.image, self.labels, self.table, options)

    def save(self, out: Path | str, write: str | Sequence[str] = "tiff", ngff: str = "0.5", **look: Any) -> None:
        """Write ``labels/NAME.tif``, ``overlay/NAME.png`` and ``classes.json`` into the folder `out`.

        Parameters
        ----------
        out
            The folder.
        write
            Formats of the labels: names out of `selfseg.export.label_files.FORMATS`.
        ngff
            Version of OME-Zarr, ``"0.5"`` or ``"0.4"``.
        **look
            Options of `selfseg.export.overlay.overlay`: ``numbers=True``, ``opacity=0`` for boundaries alone.

        Raises
        ------
        UsageError, InputError, OutputError
            As for `selfseg.export.label_files.LabelWriter`.
        """
        out, image = Path(out), self.image
        writer = LabelWriter((write,) if isinstance(write, str) else tuple(write), ngff)
        writer.write(out / "labels", self.name, self.labels, image, self.table)
        write_overlay(out / "overlay" / f"{self.name}.png", image, self.labels, self.table, **look)
        write_classes(out / "classes.json", self.table)
