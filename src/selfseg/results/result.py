"""The one result of segmenting an image, a volume, a series or a sequence, of any size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import Failure, UsageError
from selfseg.core.files import Manifest
from selfseg.core.image import Image
from selfseg.export.labels import ClassArea, LabelWriter, count_areas, write_classes
from selfseg.export.maps import chosen_probability, write_maps
from selfseg.export.overlay import overlay_png, write_overlay
from selfseg.measure.temporal import FlickerMeter
from selfseg.read.frames import Frames
from selfseg.refine.hierarchy import Hierarchy
from selfseg.results.instances import OWN, Instances, ObjectOptions, image_instances
from selfseg.tiling.tiles import Grid

PREVIEW_SIDE = 1500
"""Longest side of the picture that stands for an image that is not in memory, in pixels."""

BAND = 256
"""Rows of an image in its file that are read at a time, at least."""


@dataclass
class SequenceFacts:
    """Facts of a sequence that was segmented frame by frame into files.

    Attributes
    ----------
    source
        The sequence.
    n_labelled
        Frames that have labels.
    failures
        Frames that were skipped, and why; a sequence that ended early is one too.
    flicker
        The flicker scores.
    counts
        Pixels of each id, over all frames ``[256]``.
    video
        The overlay video, relative to the output folder.
    notes
        Messages for the user.
    """

    source: Frames
    n_labelled: int = 0
    failures: list[Failure] = field(default_factory=list)
    flicker: FlickerMeter = field(default_factory=FlickerMeter)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    video: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Result:
    """The segmentation of one image.

    Attributes
    ----------
    image
        The image, in memory or in its file; of a sequence a frame from its middle.
    labels
        Integer label of each pixel, 1..K, and 0 = ignore; spatial axes as in the image, T first for a series. A zarr array where
        the image is not in memory.
    probabilities
        ``[K *S]`` float32; channel k belongs to label k + 1. None where the image is not in memory.
    table
        The model's classes.
    seconds
        Time that the prediction took.
    path
        Where the labels are stored already; None = `save` writes them.
    sequence
        Facts of the sequence that `image` is a frame of; None = it is no sequence.
    maps
        Where maps of confidence and probabilities are stored already.

    Examples
    --------
    >>> import numpy as np
    >>> import selfseg
    >>> photo = np.zeros((32, 32, 3), np.uint8)
    >>> photo[:, 16:] = 200
    >>> result = selfseg.segment(photo, "kmeans", n_classes=2, seed=0)
    >>> result.labels.shape, result.probabilities.shape
    ((32, 32), (2, 32, 32))
    >>> result.labels[0, [0, 31]]
    array([1, 2], dtype=uint8)
    """

    image: Image
    labels: Any
    probabilities: NDArray[np.float32] | None
    table: ClassTable
    seconds: float = 0.0
    _tree: Callable[[], Hierarchy] | None = field(default=None, repr=False)
    path: Path | None = None
    sequence: SequenceFacts | None = None
    _objects: Callable[[], NDArray[np.integer] | None] | None = field(default=None, repr=False)
    maps: Sequence[Path] = ()

    def _repr_png_(self) -> bytes:
        """Return the overlay of `preview`, which notebooks show for a result that ends a cell."""
        return overlay_png(*self.preview(), self.table)

    @cached_property
    def objects(self) -> NDArray[np.integer] | None:
        """The method's own objects, ids with the axes of `labels`, 0 = none; None = it finds none itself, or in parts only."""
        return None if self._objects is None else self._objects()

    @property
    def name(self) -> str:
        """Name of the image or sequence, the stem of the files that `save` writes."""
        return self.image.name if self.sequence is None else self.sequence.source.name

    @property
    def in_memory(self) -> bool:
        """True if the labels are in memory, and not in a file."""
        return isinstance(self.labels, np.ndarray)

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """Probability of the chosen class, ``[*S]``; 0 where the label is 0.

        Raises
        ------
        UsageError
            If the image was segmented in parts: its probabilities are not kept.
        """
        if self.probabilities is None:
            raise self._in_parts("confidence", "use `selfseg predict --confidence-map`, or a smaller image")
        return chosen_probability(self.probabilities, self.labels)

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """The merge tree: ``result.hierarchy.cut(n_regions=12)`` gives labels with any number of regions.

        Raises
        ------
        UsageError
            For a series (axis T), and for an image that was segmented in parts.
        """
        if self._tree is None and not self.in_memory:
            raise self._in_parts("hierarchy")
        if self._tree is None:
            raise UsageError(
                "hierarchy", expected="a single image or volume", got="a series", fix="predict its frames one by one"
            )
        return self._tree()

    def _in_parts(
        self, what: str, fix: str = "use `selfseg predict --tree` and `selfseg cut`, or a smaller image"
    ) -> UsageError:
        return UsageError(what, expected="an image in memory", got="one that was segmented in parts", fix=fix)

    @cached_property
    def areas(self) -> list[ClassArea]:
        """Area of each class."""
        image = self.image
        if self.sequence is not None:
            counts = self.sequence.counts
        else:
            counts = np.zeros(1 + max(item.id for item in self.table.classes), np.int64)
            for block in self.blocks():
                counts += np.bincount(np.asarray(self.labels[block]).ravel(), minlength=len(counts))[: len(counts)]
        return count_areas(self.name, counts, self.table, image.spacing, image.unit)

    def blocks(self) -> list[tuple[slice, ...]]:
        """Return the regions by which the labels are best read: all of them in memory, else chunk rows."""
        shape = self.labels.shape
        if self.in_memory:
            return [tuple(slice(0, n) for n in shape)]
        sides = [
            min(n, max(side, BAND) if i >= len(shape) - 2 else side)
            for i, (n, side) in enumerate(zip(shape, self.labels.chunks, strict=True))
        ]
        sides[-1] = shape[-1]
        grid = Grid(tuple(shape), tuple(sides), 0)
        return [grid.tile(place).core for place in grid.places()]

    def preview(self) -> tuple[Image, NDArray[np.integer]]:
        """Return a picture of the image and its labels: themselves in memory, else every n-th pixel of the middle plane.

        Of a series that is not in memory it is the first time point.
        """
        if self.in_memory:
            return self.image, self.labels
        image = self.image
        *depth, height, width = image.spatial_shape
        step = max(1, -(-max(height, width) // PREVIEW_SIDE))
        middle = {"T": slice(0, 1)} if "T" in image.axes else {}
        middle |= {"Z": slice(depth[0] // 2, depth[0] // 2 + 1)} if depth else {}
        band = max(step, BAND // step * step)
        pictures, ids = [], []
        for top in range(0, height, band):
            ranges = {**middle, "Y": slice(top, min(top + band, height)), "X": slice(0, width)}
            window = image.window(**ranges)
            place = tuple(ranges[letter] for letter in image.axes.replace("C", ""))
            # copies: a view of every n-th pixel would keep all of them in memory
            rows = window.channels_last().reshape(-1, width, image.n_channels)[::step, ::step]
            pictures.append(rows.copy())
            ids.append(np.asarray(self.labels[place]).reshape(-1, width)[::step, ::step].copy())
        spacing = tuple(size * step for size in image.spacing[-2:])
        small = Image(np.concatenate(pictures), "YXC", spacing, image.unit, image.channels, image.name, image.source)
        return small, np.concatenate(ids)

    def instances(self, kind: str | None = None, of: Sequence[str | int] | None = None, **options: Any) -> Instances:
        """Find and measure objects: ``result.instances().columns["size"]``, ``.labels``, ``.save(out)``.

        Parameters
        ----------
        kind
            ``"own"``, the objects that the method found itself; ``"components"``, or ``"watershed"``, which also cuts what touches.
            None = own where there are such, else watershed.
        of
            Names or ids of the classes that consist of objects; None = all but the ground.
        **options
            ``min_size``, ``depth``: see `results.instances.ObjectOptions`.
        """
        if not self.in_memory:
            raise self._in_parts("instances")
        own = self.objects if kind in (None, OWN) else None
        if kind == OWN and own is None:
            raise UsageError(
                "instances",
                expected="components or watershed",
                got=OWN,
                fix="a method that finds objects gives own ones",
            )
        kind = kind or ("watershed" if own is None else OWN)
        chosen = ObjectOptions(kind, None if of is None else tuple(of), **options)
        return image_instances(self.image, self.labels, self.table, chosen, own)

    def save(
        self,
        out: Path | str,
        write: str | Sequence[str] = "tiff",
        ngff: str = "0.5",
        maps: Sequence[str] = (),
        **look: Any,
    ) -> None:
        """Write ``labels/NAME.tif``, ``overlay/NAME.png`` and ``classes.json`` into the folder `out`.

        Parameters
        ----------
        out
            The folder.
        write
            Formats of the labels: names out of `selfseg.export.labels.FORMATS`. Labels that are stored already stay.
        ngff
            Version of OME-Zarr, ``"0.5"`` or ``"0.4"``.
        maps
            ``"confidence"``, ``"probabilities"``: float16 maps to write too, into folders of these names.
        **look
            Options of `selfseg.export.overlay.overlay`: ``numbers=True``, ``opacity=0`` for boundaries alone.

        Raises
        ------
        UsageError, InputError, OutputError
            As for `selfseg.export.labels.LabelWriter`; `InputError` too where a file of yours has the name of one of these.
        """
        out = Path(out)
        if self.sequence is not None:
            return
        with Manifest(out) as manifest:
            if self.path is None:
                writer = LabelWriter((write,) if isinstance(write, str) else tuple(write), ngff)
                writer.write(out / "labels", self.name, self.labels, self.image, self.table)
            else:
                for path in (self.path, *self.maps):
                    manifest.note(path)
            if maps and self.probabilities is not None:
                write_maps(out, self.name, maps, self.probabilities, self.labels, self.image, self.table)
            image, labels = self.preview()
            write_overlay(out / "overlay" / f"{self.name}.png", image, labels, self.table, **look)
            write_classes(out / "classes.json", self.table)
