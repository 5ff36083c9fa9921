"""Edits by the user: of classes, as operations of the log, and annotations, strokes that a method learns from."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.apps.studio.messages import ClassRow
from selfseg.apps.studio.pictures import Pictures
from selfseg.apps.studio.project import SCRIBBLES, Operation, Project
from selfseg.apps.studio.results import StoredResult, result_folders
from selfseg.apps.studio.runs import Run, Runs, Spec
from selfseg.core.classes import ClassTable
from selfseg.core.errors import ModelError, UsageError
from selfseg.core.files import clear_unfinished, write_json, writing
from selfseg.export.labels import read_classes
from selfseg.read import Source
from selfseg.read.sources import SCRIBBLE_ENDING
from selfseg.refine.edits import AS_LEARNED, Edits, Merge, Split, split_class

EDITS = "edits.json"

MOST_SPLIT_IMAGES = 40
"""Pictures whose leaves are clustered for a split."""


def edits_from(operations: list[Operation]) -> Edits:
    """Return the edits that a run's operations add up to."""
    level = AS_LEARNED
    steps: list[Merge | Split] = []
    ignored: set[int] = set()
    names: dict[int, str] = {}
    colours: dict[int, tuple[int, int, int, int]] = {}
    for row in operations:
        match row["op"]:
            case "level":
                level = float(row["level"])
            case "merge":
                steps.append(Merge(row["source"], row["target"]))
                ignored.discard(row["source"])
            case "split":
                steps.append(Split(row["source"], tuple(row["parts"]), tuple(map(tuple, row["centres"]))))
            case "ignore":
                (ignored.add if row["on"] else ignored.discard)(row["id"])
            case "rename":
                names[row["id"]] = row["name"]
            case "recolour":
                colours[row["id"]] = tuple(row["rgba"])
    return Edits(level, tuple(steps), frozenset(ignored), names, colours)


def check_operation(operation: Operation, ids: set[int]) -> None:
    """Raise UsageError if an operation names a class that is not among `ids`, or merges one into itself."""
    named = [operation[key] for key in ("id", "source", "target") if key in operation]
    if missing := [key for key in named if key not in ids]:
        known = ", ".join(map(str, sorted(ids)))
        raise UsageError("class", expected=f"one of {known}", got=str(missing[0]), fix="look at the class table")
    if operation["op"] == "merge" and operation["source"] == operation["target"]:
        raise UsageError("merge", expected="two classes", got="the same one twice", fix="choose another")


def learned_table(run: Run) -> ClassTable | None:
    """Return the classes of a run as it learned them, with the names of the scribbles' classes; None before that."""
    try:
        table = read_classes(run.model / "classes.json")
    except ModelError:
        return None
    names = {f"scribble {value}": name for value, name in Spec.read(run.folder).scribble_names.items()}
    return ClassTable(tuple(replace(row, name=names.get(row.name, row.name)) for row in table.classes))


def edits_of(project: Project, run: Run) -> Edits:
    """Return the edits of a run, with the names that its classes have from scribbles or from its model."""
    edits = edits_from(project.log.history(run.id).done)
    rows = (learned_table(run) or ClassTable(())).classes
    names = {row.id: row.name for row in rows if not row.name.startswith(("class ", "scribble "))}
    return replace(edits, names={**names, **edits.names}) if names else edits


def write_edits(project: Project, run: Run) -> Path:
    """Write ``edits.json`` for `selfseg predict --edits`; return its path."""
    path = run.folder / EDITS
    write_json(path, edits_of(project, run).to_json())
    return path


def edit_revision(operations: list[Operation]) -> int:
    """Return a number that differs where merges and splits do."""
    steps = [row for row in operations if row["op"] in ("merge", "split")]
    return zlib.crc32(json.dumps(steps).encode()) if steps else 0


def class_rows(project: Project, run: Run) -> list[ClassRow]:
    """Return the classes of a run as edited, the ignored ones too; empty before it has any."""
    table, edits = learned_table(run), edits_of(project, run)
    if table is None:
        return []
    merged = {step.source for step in edits.steps if isinstance(step, Merge)}
    channels = _channels(table, edits)
    return [
        ClassRow(
            id=row.id,
            name=row.name,
            rgba=row.rgba,
            share=row.area_share,
            ignored=row.id in edits.ignored and row.id not in merged,
            channels=tuple(sorted(channels[row.id])),
        )
        for row in replace(edits, ignored=frozenset()).table(table).classes
    ]


def _channels(table: ClassTable, edits: Edits) -> dict[int, set[int]]:
    """Return the channels of the stored probabilities that belong to each class as edited."""
    channels = {row.id: {place} for place, row in enumerate(table.classes)}
    for step in edits.steps:
        if isinstance(step, Merge):
            channels[step.target] |= channels.pop(step.source)
        else:
            channels |= {part: set(channels[step.source]) for part in step.parts}
    return channels


def find_split(project: Project, run: Run, source: int, n_parts: int) -> dict[str, Any]:
    """Return the operation that splits a class by clustering its leaves in all pictures of the run.

    UsageError if there is no result yet, or the class cannot be split.
    """
    edits, table, folders = edits_of(project, run), learned_table(run), result_folders(run.folder)
    if table is None or not folders:
        raise UsageError("split", expected="a segmented picture", got="none yet", fix="wait for the run")
    images = [StoredResult(folder).leaves() for folder in folders[:MOST_SPLIT_IMAGES]]
    # An id that was ever used is not used again: after a redo its merges must find it.
    used = {row.id for row in table.classes}
    used |= {part for step in edits.steps if isinstance(step, Split) for part in step.parts}
    split = split_class(images, [edits.classes(leaves) for leaves in images], source, n_parts, sorted(used))
    return {"op": "split", "source": source, "parts": list(split.parts), "centres": [list(c) for c in split.centres]}


NOT_DRAWN = 255


def visible_strokes(operations: list[Operation]) -> list[Operation]:
    """Return the strokes that were not cleared later."""
    strokes: list[Operation] = []
    for row in operations:
        if row["op"] == "clear":
            strokes = [stroke for stroke in strokes if stroke["image"] != row["image"]]
        else:
            strokes.append(row)
    return strokes


def draw(shape: tuple[int, ...], strokes: Sequence[dict[str, Any]]) -> NDArray[np.uint8]:
    """Return strokes as a label image ``(Y, X)`` or ``(Z, Y, X)``, 255 where nothing is drawn; later ones cover earlier ones.

    Strokes are operations of the log: `plane`, `value`, `radius` in pixels, `points` (Y, X) with (0, 0) the outer corner of the
    first pixel. A pixel belongs to a stroke if its centre is at most `radius` from the line, and the one under a point always
    does.
    """
    labels = np.full(shape, NOT_DRAWN, np.uint8)
    volume = labels if labels.ndim == 3 else labels[None]
    for stroke in strokes:
        if stroke["plane"] < len(volume):
            points = np.array(stroke["points"], np.float64)
            _draw_one(volume[stroke["plane"]], points, stroke["radius"], stroke["value"])
    return labels


def _draw_one(plane: NDArray[np.uint8], points: NDArray[np.float64], radius: float, value: int) -> None:
    height, width = plane.shape
    for start, end in zip(points, [*points[1:], points[-1]], strict=True):
        low = np.floor(np.minimum(start, end) - radius).astype(int)
        high = np.ceil(np.maximum(start, end) + radius).astype(int) + 1
        top, left = max(0, low[0]), max(0, low[1])
        y, x = np.mgrid[top : min(height, high[0]), left : min(width, high[1])] + 0.5
        along = end - start
        share = np.clip(((y - start[0]) * along[0] + (x - start[1]) * along[1]) / max(along @ along, 1e-9), 0, 1)
        gap = (y - start[0] - share * along[0]) ** 2 + (x - start[1] - share * along[1]) ** 2
        plane[top : top + y.shape[0], left : left + y.shape[1]][gap <= radius**2] = value
        row, column = int(start[0]), int(start[1])
        if 0 <= row < height and 0 <= column < width:
            plane[row, column] = value


def write_scribbles(project: Project, pictures: Pictures, run: Run, sources: Sequence[Source]) -> Path:
    """Write the scribbles of these pictures into a run's folder, as ``NAME_scribble.tif``; return the folder.

    UsageError if none of the pictures has any, or one that has is a video.
    """
    import tifffile

    strokes = visible_strokes(project.log.history(SCRIBBLES).done)
    folder, drawn = run.folder / "scribbles", {stroke["image"] for stroke in strokes}
    annotated = [source.name for source in sources if source.name in drawn]
    clear_unfinished(folder)
    for name in annotated:
        picture = pictures.get(name)
        if picture.is_video:
            raise UsageError(
                "scribbles",
                expected="pictures",
                got=f"{name}, a video",
                fix="extract frames into a folder and draw on those",
            )
        labels = draw(picture.image.spatial_shape, [stroke for stroke in strokes if stroke["image"] == name])
        with writing(folder / f"{name}{SCRIBBLE_ENDING}.tif") as temporary:
            tifffile.imwrite(temporary, labels, photometric="minisblack", compression="zlib")
    if not annotated:
        raise UsageError("scribbles", expected="some on these pictures", got="none", fix="draw a few strokes first")
    return folder


def scribble_names(project: Project, runs: Runs) -> dict[str, str]:
    """Return the names of classes by their scribble values, from the last run in which they have names."""
    used = {int(stroke["value"]) for stroke in visible_strokes(project.log.history(SCRIBBLES).done)}
    names: dict[str, str] = {}
    for run in runs.all():
        rows = (row for row in class_rows(project, run) if row.id in used)
        names |= {str(row.id): row.name for row in rows if not row.name.startswith("class ")}
    return names
