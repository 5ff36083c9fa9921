"""Objects of a sequence, frame by frame: label images, measures, and, where frames are linked, ids over time and divisions."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.image import Image
from selfseg.core.progress import Progress
from selfseg.export.labels import write_labels, write_object_table
from selfseg.read.labels import read_labels
from selfseg.refine.edits import Edits
from selfseg.refine.tracks import REACH, Tracks, import_laptrack, link_objects
from selfseg.results.instances import INSTANCES, OWN, InstanceFolder, image_instances

TRACKS = "tracks.csv"


@dataclass(frozen=True)
class _Frame:
    """A frame whose objects are in a file: its number, that file, the spacing in the file, and the measures."""

    number: int
    path: Path
    spacing: tuple[float, ...]
    unit: str
    axes: str
    columns: dict[str, Any]

    @property
    def centres(self) -> NDArray[np.float64]:
        """``[N D]`` in the unit of the frame."""
        names = [f"centroid_{letter.lower()}" for letter in self.axes]
        return np.stack([np.asarray(self.columns[name], np.float64) for name in names], -1)


class SequenceObjects:
    """Finds, measures and writes the objects of the frames of one sequence, ``instances/FRAME.tif``; `close` links them.

    Parameters
    ----------
    folder
        Of all objects; it is given the measures when this is closed.
    name
        Of the sequence.
    linked
        Give objects ids over time, and write ``tracks.csv``.
    """

    def __init__(self, folder: InstanceFolder, name: str, linked: bool) -> None:
        if linked:
            import_laptrack()  # missing, it is missed before the work
        self.folder, self.name, self.linked = folder, name, linked
        self._frames: list[_Frame] = []

    @property
    def wants_own(self) -> bool:
        """True if the method's own objects are wanted."""
        return self.folder.options.kind == OWN

    def add(
        self,
        number: int,
        name: str,
        frame: Image,
        labels: NDArray[Any],
        own: NDArray[np.integer] | None = None,
        edits: Edits | None = None,
    ) -> None:
        """Take the objects of a frame by its number and name.

        `own` are those of the method, if they are wanted and it finds any; `edits` those of this frame (`Edits.of_frame`).
        """
        options = self.folder.options
        if self.wants_own and own is None:
            options = replace(options, kind="watershed")
        found = image_instances(replace(frame, name=name), labels, self.folder.table, options, own, edits)
        axes, path = frame.axes.replace("C", ""), self.folder.out / INSTANCES / f"{name}.tif"
        write_labels(path, found.labels, None, frame.spacing, frame.unit, axes)
        first = {"image": [self.name] * len(found), "frame": [number] * len(found)}
        columns = {**first, **{key: column for key, column in found.columns.items() if key != "image"}}
        self._frames.append(_Frame(number, path, frame.spacing, frame.unit, axes, columns))

    def close(self, progress: Progress) -> None:
        """Hand over the measures; where frames are linked, write ids over time into them, the label images and ``tracks.csv``."""
        if self.linked:
            tracks = self._link()
            self._write_tracks(tracks)
            n_tracks = max((int(ids.max(initial=0)) for ids in tracks.ids), default=0)
            progress.say(f"{self.name}: {n_tracks} tracks, {len(set(tracks.parents.values()))} divisions")
        self.folder.tables.extend(frame.columns for frame in self._frames)

    def _link(self) -> Tracks:
        """Link the objects, and put the number of its track in the place of each one's id."""
        sizes = np.concatenate([np.zeros(0), *(frame.columns["equivalent_diameter"] for frame in self._frames)])
        reach = REACH * float(np.median(sizes)) if len(sizes) else 0.0
        last = max((frame.number for frame in self._frames), default=-1)
        by_number = {frame.number: frame for frame in self._frames}
        nothing = np.zeros((0, 2))
        tracks = link_objects([by_number[t].centres if t in by_number else nothing for t in range(last + 1)], reach)
        for frame in self._frames:
            ids, before = tracks.ids[frame.number], np.asarray(frame.columns["id"], np.int64)
            track_of = np.zeros(int(before.max(initial=0)) + 1, np.uint32)
            track_of[before] = ids
            frame.columns["id"] = ids
            labels = track_of[read_labels(frame.path)]
            write_labels(frame.path, labels, None, frame.spacing, frame.unit, frame.axes)
        return tracks

    def _write_tracks(self, tracks: Tracks) -> None:
        """Write one line a track: where it begins and ends, how far it goes, which one it divided from."""
        numbers = np.concatenate([np.zeros(0, int), *(np.full(len(ids), t) for t, ids in enumerate(tracks.ids))])
        ids = np.concatenate([np.zeros(0, np.int64), *tracks.ids])
        ordered = sorted(self._frames, key=lambda frame: frame.number)
        centres = np.concatenate([np.zeros((0, 2)), *(frame.centres for frame in ordered)])
        rows: dict[str, list[Any]] = {
            name: [] for name in ("image", "track", "parent", "first", "last", "frames", "path")
        }
        for track in range(1, int(ids.max(initial=0)) + 1):
            mine = ids == track
            way = np.linalg.norm(np.diff(centres[mine], axis=0), axis=1).sum()
            parent = tracks.parents.get(track, 0)
            line = (self.name, track, parent, numbers[mine][0], numbers[mine][-1], int(mine.sum()), float(way))
            for name, value in zip(rows, line, strict=True):
                rows[name].append(value)
        unit = self._frames[0].unit if self._frames else ""
        self.folder.tracks.append({**rows, "unit": [unit] * len(rows["track"])})
        write_object_table(self.folder.out / TRACKS, self.folder.tracks)
