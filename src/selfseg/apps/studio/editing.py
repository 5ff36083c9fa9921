"""Edits by the user: of classes, as operations of the log, and annotations, strokes that a method learns from."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfseg.apps.studio.messages import ClassRow
from selfseg.apps.studio.pictures import Pictures
from selfseg.apps.studio.project import Operation, Project
from selfseg.apps.studio.results import StoredResult, result_folders
from selfseg.apps.studio.runs import Run, Spec
from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import ModelError, UsageError
from selfseg.core.files import clear_unfinished, write_json, writing
from selfseg.export.labels import read_classes
from selfseg.read import Source
from selfseg.read.sources import SCRIBBLE_ENDING
from selfseg.refine.edits import (
    AS_LEARNED,
    NOT_DRAWN,
    Correction,
    Counting,
    Edits,
    Merge,
    Split,
    correction_from,
    counting_from,
    draw,
    split_class,
)

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
    corrections: dict[str, tuple[Correction, ...]] = {}
    counting: Counting | None = None
    for row in operations:
        match row["op"]:
            case "level":
                level = float(row["level"])
            case "merge":
                steps.append(Merge(row["source"], row["target"]))
                counting = _counting_merged(counting, row["source"], row["target"])
                ignored.discard(row["source"])
            case "split":
                steps.append(Split(row["source"], tuple(row["parts"]), tuple(map(tuple, row["centres"]))))
            case "ignore":
                (ignored.add if row["on"] else ignored.discard)(row["id"])
            case "rename":
                names[row["id"]] = row["name"]
            case "recolour" | "recolours":
                given = row.get("colours") or {row["id"]: row["rgba"]}
                colours |= {int(key): tuple(rgba) for key, rgba in given.items()}
            case "correct":
                made = corrections.get(row["image"], ())
                corrections[row["image"]] = (*made, correction_from(row["correction"]))
            case "count":
                counting = counting_from(row)
    return Edits(level, tuple(steps), frozenset(ignored), names, colours, corrections, counting)


def _counting_merged(counting: Counting | None, source: int, target: int) -> Counting | None:
    if counting is None or source not in counting.of:
        return counting
    return replace(counting, of=tuple(dict.fromkeys(target if key == source else key for key in counting.of)))


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
    spec = Spec.read(run.folder)
    names = {f"scribble {value}": name for value, name in spec.scribble_names.items()}
    rows = (replace(row, name=names.get(row.name, row.name)) for row in table.classes)
    return ClassTable(tuple(_kept(row, spec.classes.get(str(row.id))) for row in rows))


def _kept(row: SegmentClass, known: Mapping[str, Any] | None) -> SegmentClass:
    """Return a class under the name and the colour that it has in the project."""
    if known is None or not row.sources:
        return row
    return replace(row, name=known["name"], rgba=tuple(known["rgba"]))


def edits_of(project: Project, run: Run) -> Edits:
    """Return the edits of a run, with the names that its classes have from scribbles or from its model."""
    edits = edits_from(project.log.history(run.id).done)
    rows = (learned_table(run) or ClassTable(())).classes
    names = {row.id: row.name for row in rows if not row.name.startswith(("class ", "scribble "))}
    kept = Spec.read(run.folder).classes
    colours = {row.id: row.rgba for row in rows if str(row.id) in kept and row.sources}
    if not names and not colours:
        return edits
    return replace(edits, names={**names, **edits.names}, colours={**colours, **edits.colours})


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
        if row.sources
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


def visible_strokes(operations: list[Operation]) -> list[Operation]:
    """Return the strokes that were not cleared later."""
    strokes: list[Operation] = []
    for row in operations:
        if row["op"] == "clear":
            strokes = [stroke for stroke in strokes if stroke["image"] != row["image"]]
        else:
            strokes.append(row)
    return strokes


def write_scribbles(pictures: Pictures, run: Run, sources: Sequence[Source], strokes: Sequence[Operation]) -> Path:
    """Write strokes on these pictures into a run's folder, as ``NAME_scribble.tif``; return the folder.

    UsageError if none of the pictures has any, or one that has is a video.
    """
    import tifffile

    folder, drawn = run.folder / "scribbles", {stroke["image"] for stroke in strokes}
    annotated = 0
    clear_unfinished(folder)
    for name in (source.name for source in sources if source.name in drawn):
        picture = pictures.get(name)
        if picture.is_video:
            raise UsageError(
                "scribbles",
                expected="pictures",
                got=f"{name}, a video",
                fix="extract frames into a folder and draw on those",
            )
        labels = draw(picture.image.spatial_shape, [stroke for stroke in strokes if stroke["image"] == name])
        if (labels == NOT_DRAWN).all():
            continue
        annotated += 1
        with writing(folder / f"{name}{SCRIBBLE_ENDING}.tif") as temporary:
            tifffile.imwrite(temporary, labels, photometric="minisblack", compression="zlib")
    if not annotated:
        raise UsageError("scribbles", expected="some on these pictures", got="none", fix="draw a few strokes first")
    return folder
