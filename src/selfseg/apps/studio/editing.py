"""Edits of a run: operations of the log, the classes that they leave, and splits."""

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfseg.apps.studio.messages import ClassRow
from selfseg.apps.studio.project import Operation, Project
from selfseg.apps.studio.results import StoredResult, result_folders
from selfseg.apps.studio.runs import Run, Spec
from selfseg.core.classes import ClassTable
from selfseg.core.errors import ModelError, UsageError
from selfseg.core.files import write_json
from selfseg.export.labels import read_classes
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
    """Refuse an operation on classes that do not exist.

    UsageError if it names a class that is not among `ids`, or merges one into itself.
    """
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
