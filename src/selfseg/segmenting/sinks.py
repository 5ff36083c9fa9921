"""Sinks of labels on disk: a zarr, and the files of a sequence (TIFF pages and videos)."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.image import Image, time_points
from selfseg.export.labels import labels_picture, write_labels
from selfseg.export.maps import CONFIDENCE, chosen_probability, map_axes, write_maps
from selfseg.export.ome_zarr import known_label_zarr, storing
from selfseg.export.overlay import overlay
from selfseg.export.sequences import LabelStack, VideoFile
from selfseg.read.frames import Frames
from selfseg.tiling.tiles import Region

VIDEOS = "video"
"""Folder of the videos in an output folder."""


@dataclass(frozen=True)
class ZarrSink:
    """Labels in a zarr on disk, of a whole image or of one time point of it.

    Attributes
    ----------
    path
        The zarr folder.
    image_axes
        Axes of the image in its file; those of the labels are the same, without C.
    frame
        Time point; None = the image has no T.
    array
        The array, opened.
    map_paths
        Zarr folders of maps that are stored too, by their names in `export.maps`.
    maps
        Their arrays, opened.
    """

    path: Path
    image_axes: str
    frame: int | None = None
    array: Any = field(default=None, repr=False, compare=False)
    map_paths: Mapping[str, Path] = field(default_factory=dict)
    maps: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def write(self, region: Region, labels: NDArray[np.integer], probabilities: NDArray[np.float32]) -> None:
        """Store the labels of a region, and the maps that are wanted.

        Raises
        ------
        OutputError
            If the disk is full or the folder may not be written.
        """
        axes, number = self.image_axes.replace("C", ""), self.frame or 0
        for kind, array in self.maps.items():
            values = chosen_probability(probabilities, labels) if kind == CONFIDENCE else probabilities
            place = region if kind == CONFIDENCE else (slice(None), *region)
            with storing(self.map_paths[kind]):
                time_points(array, map_axes(kind, axes))[number][place] = values.astype(np.float16)
        with storing(self.path):
            time_points(self.array, axes)[number][region] = labels

    def sent(self) -> "ZarrSink":
        """Return the sink as plain values, for another process, which calls `opened`."""
        paths = {kind: path.absolute() for kind, path in self.map_paths.items()}
        return replace(self, path=self.path.absolute(), array=None, map_paths=paths, maps={})

    def opened(self) -> "ZarrSink":
        """Return the sink with its arrays open."""
        maps = {kind: known_label_zarr(path) for kind, path in self.map_paths.items()}
        return replace(self, array=known_label_zarr(self.path), maps=maps)


class SequenceSink:
    """The files of one sequence, open while it runs; each is usable however the run ends."""

    def __init__(self, out: Path, table: ClassTable, source: Frames, maps: Sequence[str] = ()) -> None:
        self.out, self.table, self.source, self.maps = out, table, source, maps
        self.single = bool(source.names)
        videos = out / VIDEOS
        name, n_frames, fps = source.name, source.n_frames, source.fps
        self.overlay = VideoFile(videos / f"{name}_overlay", fps, n_frames=n_frames)
        self.classes = VideoFile(videos / f"{name}_classes", fps, lossless=True, n_frames=n_frames)
        self.labels_path = videos / f"{name}_labels.tif" if self.single else out / "labels" / f"{name}.tif"
        self.notes = [note for note in (self.overlay.note, self.classes.note) if note]
        self._open = contextlib.ExitStack()
        self._stack: LabelStack | None = None
        self._skipped = 0

    def __enter__(self) -> "SequenceSink":
        self._open.enter_context(self.overlay)
        self._open.enter_context(self.classes)
        return self

    def __exit__(self, *reason: object) -> None:
        self._open.close()

    def add(
        self, number: int, frame: Image, labels: NDArray[np.integer], probabilities: NDArray[np.float32] | None = None
    ) -> None:
        """Write the labels and pictures of a frame, and the maps of its probabilities that are wanted."""
        if self._stack is None:
            self._stack = self._open.enter_context(
                LabelStack(
                    self.labels_path, self.table, frame.spacing, frame.unit, self.source.n_frames, self.source.interval
                )
            )
            for _ in range(self._skipped):
                self._stack.skip()
        self._stack.add(labels)
        if self.single:
            path = self.out / "labels" / f"{self.source.frame_name(number)}.tif"
            write_labels(path, labels, self.table, frame.spacing, frame.unit, geotiff=frame.geotiff)
        if self.maps and probabilities is not None:
            name = self.source.frame_name(number)
            write_maps(self.out, name, self.maps, probabilities, labels, frame, self.table)
        self.overlay.add(overlay(frame, labels, self.table))
        self.classes.add(np.ascontiguousarray(labels_picture(labels, self.table)[..., :3]))

    def skip(self) -> None:
        """Leave a frame empty in the stack and in the videos."""
        self._skipped += 1
        if self._stack is not None:
            self._stack.skip()
        self.overlay.skip()
        self.classes.skip()
