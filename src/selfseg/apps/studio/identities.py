"""Classes of a project that outlive a run: what a person named, stroked or edited keeps its id, name and colour.

An identity is an operation ``class`` of the log: an id, and the class of the run in which a person first drew or named it. Strokes have
identities as values. A new run's classes are matched to them (`arranged`), so that a label means the same in every run that follows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfseg.apps.studio.editing import NOT_DRAWN, class_rows, draw, edits_of, visible_strokes
from selfseg.apps.studio.messages import ClassRow
from selfseg.apps.studio.project import CLASSES, SCRIBBLES, Operation, Project
from selfseg.apps.studio.results import find_result, frames_of
from selfseg.apps.studio.runs import Run, Runs, Spec
from selfseg.core.classes import MOST, ClassTable, SegmentClass, class_colours, keep_ids
from selfseg.core.errors import UsageError
from selfseg.refine.edits import AS_LEARNED, Edits, Merge, read_edits

if TYPE_CHECKING:
    from selfseg import Segmenter
    from selfseg.read import Source

MATCH_IMAGES = 3
"""Pictures on which the classes of a new run are compared with strokes and with those of the run before."""

STROKED, OVERLAPPING = 0.5, 0.3
"""Share of a class's strokes that must lie in one new class, and intersection over union of two classes, for them to be the same."""


@dataclass(frozen=True)
class Identity:
    """A class of the project."""

    id: int
    name: str
    rgba: tuple[int, int, int, int]


def known_identities(project: Project, runs: Runs) -> dict[int, Identity]:
    """Return the classes of the project by id, named and coloured as in the last run that changed them."""
    classes = project.log.history(CLASSES).done
    found = {one["id"]: Identity(one["id"], one["name"], tuple(one["rgba"])) for one in classes}
    for key in {stroke["value"] for stroke in visible_strokes(project.log.history(SCRIBBLES).done)} - {NOT_DRAWN}:
        found.setdefault(key, Identity(key, f"class {key}", class_colours(key)[key - 1] if key else (90, 90, 90, 255)))
    for run in runs.all():
        kept, edits = Spec.read(run.folder).classes, edits_of(project, run)
        rows: dict[int, ClassRow] = {row.id: row for row in class_rows(project, run)}
        for key, label in links(project, run, found).items():
            row, begun = rows.get(label), kept.get(str(key), {})
            if row is None or _target(label, edits) != label:
                continue
            if row.id in edits.names and edits.names[row.id] != begun.get("name", found[key].name):
                found[key] = replace(found[key], name=row.name)
            if row.id in edits.colours and list(row.rgba) != list(begun.get("rgba", found[key].rgba)):
                found[key] = replace(found[key], rgba=row.rgba)
    return found


def links(project: Project, run: Run, known: Mapping[int, Any], merged: bool = True) -> dict[int, int]:
    """Return the class of a run, after its merges, that each identity is; those that it has no class for are left out.

    With `merged` False an identity whose class was merged into another is left out too.
    """
    spec, edits = Spec.read(run.folder), edits_of(project, run)
    named = {row["id"]: row for row in project.log.history(CLASSES).done}
    here = {row.id for row in class_rows(project, run)}
    found = {}
    for key in known:
        own = named.get(key)
        # Matched when the run began; or drawn before classes had identities.
        if str(key) in spec.classes or own is None:
            label = key
        elif own["run"] == run.id:
            label = own["class"]
        else:
            continue
        target = _target(label, edits) if merged else label
        if target in here:
            found[key] = target
    return found


def _target(label: int, edits: Edits) -> int:
    for step in edits.steps:
        if isinstance(step, Merge) and step.source == label:
            label = step.target
    return label


def identity_of(project: Project, runs: Runs, run: Run, label: int) -> int:
    """Return the identity of a class of a run; a class that has none gets one: its own number if no other has it."""
    known = known_identities(project, runs)
    linked = links(project, run, known, merged=False)
    own = [key for key, found in linked.items() if found == label]
    if own:
        return label if label in own else min(own)
    row = next((row for row in class_rows(project, run) if row.id == label), None)
    if row is None:
        raise UsageError("class", expected="one of the run", got=str(label), fix="look at the class table")
    return _add(project, known, label, row.name, row.rgba, run.id, label)


def new_identity(project: Project, runs: Runs, name: str) -> int:
    """Add a class of which nothing is known but its name; return its id."""
    known = known_identities(project, runs)
    used = {*known, *(row.id for run in runs.all() for row in class_rows(project, run))}
    key = next(key for key in range(1, MOST + 1) if key not in used)
    return _add(project, known, key, name.strip() or f"class {key}", class_colours(key)[key - 1], None, None)


def _add(
    project: Project,
    known: Mapping[int, Any],
    wanted: int,
    name: str,
    rgba: Sequence[int],
    run: str | None,
    label: int | None,
) -> int:
    free = (key for key in (wanted, *range(1, MOST + 1)) if 1 <= key <= MOST and key not in known)
    if (key := next(free, None)) is None:
        raise UsageError("class", expected=f"at most {MOST} classes", got="more", fix="use one of them")
    operation: Operation = {"op": "class", "id": key, "name": name, "rgba": list(rgba), "run": run, "class": label}
    project.log.do(CLASSES, operation)
    return key


def keep_edited(project: Project, runs: Runs, run: Run) -> None:
    """Give an identity to every class of a run that a person named, coloured, merged, split or ignored."""
    edits = edits_of(project, run)
    touched = {*edits.names, *edits.colours, *edits.ignored}
    for step in edits.steps:
        touched |= {step.target} if isinstance(step, Merge) else set(step.parts)
    for row in class_rows(project, run):
        if row.id in touched:
            identity_of(project, runs, run, row.id)


def begun_with(
    project: Project, runs: Runs, before: Run | None
) -> tuple[dict[str, Any], dict[str, int], dict[int, int]]:
    """Return what a new run keeps: identities by id, the class of the run before of each, and one identity for those that were merged."""
    if before is not None:
        keep_edited(project, runs, before)
    known = known_identities(project, runs)
    linked = {} if before is None else links(project, before, known)
    one: dict[int, int] = {}
    for key, label in sorted(linked.items(), key=lambda item: (item[0] != item[1], item[0])):
        one.setdefault(label, key)
    joined = {key: one[label] for key, label in linked.items() if one[label] != key}
    kept = {
        str(key): {"name": item.name, "rgba": list(item.rgba)}
        for key, item in known.items()
        if key not in joined and key
    }
    return kept, {str(key): label for key, label in linked.items() if key not in joined}, joined


def rows_with_identity(project: Project, run: Run, known: Mapping[int, Any]) -> list[ClassRow]:
    """Return the class rows of a run, each with its identity."""
    linked = links(project, run, known)
    own: dict[int, int] = {}
    for key, label in sorted(linked.items(), key=lambda item: (item[0] != item[1], item[0])):
        own.setdefault(label, key)
    return [row.model_copy(update={"identity": own.get(row.id)}) for row in class_rows(project, run)]


def arranged(model: "Segmenter", spec: Spec, runs: Path, sources: Sequence["Source"]) -> tuple[ClassTable, list[str]]:
    """Return the class table of a new model with the ids of the project's classes, and lines on those that it has no class for.

    A class is matched by the labels or strokes that the model learned from, else by where strokes lie, else by its overlap with the class
    of the run before.
    """
    table, wanted = model.table_, {int(key) for key in spec.classes}
    taken = {i: row.id for i, row in enumerate(table.classes) if row.name == f"scribble {row.id}" and row.id in wanted}
    if spec.labels is not None and spec.like is not None:  # its classes are those of the labels that taught it
        taught = {int(label) - 1: int(key) for key, label in spec.like["classes"].items() if int(key) in wanted}
        taken |= {place: key for place, key in taught.items() if place < len(table) and table.classes[place].sources}
    open_ = sorted(wanted - set(taken.values()))
    if open_:
        for _, label, place in sorted(_likeness(model, spec, runs, sources, open_), reverse=True):
            if place not in taken and label not in taken.values():
                taken[place] = label
    whole = [i for i, row in enumerate(table.classes) if row.sources]
    order = keep_ids(whole, taken, wanted)
    colours = class_colours(len(order))
    rows = [
        SegmentClass(label, f"class {label}, no labels", colours[label - 1], 0.0, 0.0, ())
        if place is None
        else _placed(table.classes[place], label, colours[label - 1])
        for label, place in enumerate(order, 1)
    ]
    lost = [spec.classes[str(key)]["name"] for key in sorted(wanted - set(taken.values()))]
    return ClassTable(tuple(rows)), [f"no class of this run is “{name}”" for name in lost]


def _placed(row: SegmentClass, label: int, rgba: tuple[int, int, int, int]) -> SegmentClass:
    plain = row.name == f"class {row.id}"
    return replace(row, id=label, rgba=rgba, name=f"class {label}" if plain else row.name)


def _likeness(
    model: "Segmenter", spec: Spec, runs: Path, sources: Sequence["Source"], wanted: Sequence[int]
) -> list[tuple[float, int, int]]:
    """Return (likeness, identity, place in the table) of pairs that may be the same: 1 and more by strokes, below 1 by overlap."""
    n = len(model.table_) + 1
    strokes, both = np.zeros((len(wanted), n)), np.zeros((len(wanted), n))
    before, after = np.zeros(len(wanted)), np.zeros(n)
    reference = None if spec.like is None else runs / str(spec.like["run"])
    drawn = {stroke["image"] for stroke in spec.strokes}
    chosen = sorted(sources, key=lambda source: source.name not in drawn)[:MATCH_IMAGES]
    for source in chosen:
        number, frame = next(frames_of(source, spec.axes, 0))
        labels = np.asarray(model.predict_image(frame).labels)
        counted, marks = np.bincount(labels.ravel(), minlength=n), _marks(spec, source.name, labels.shape)
        old = None if reference is None else _labels_of(reference, source.name, number)
        after += counted
        for i, key in enumerate(wanted):
            if marks is not None:
                strokes[i] += np.bincount(labels[marks == key], minlength=n)
            label = (spec.like or {}).get("classes", {}).get(str(key))
            if old is not None and old.shape == labels.shape and label is not None:
                both[i] += np.bincount(labels[old == label], minlength=n)
                before[i] += (old == label).sum()
    found = []
    for i, key in enumerate(wanted):
        shares = strokes[i] / max(1, strokes[i].sum())
        united = both[i] / np.maximum(1, before[i] + after - both[i])
        found += [(1 + shares[k], key, k - 1) for k in range(1, n) if shares[k] > STROKED]
        if not strokes[i].any():
            found += [(float(united[k]), key, k - 1) for k in range(1, n) if united[k] > OVERLAPPING]
    return found


def _marks(spec: Spec, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    own = [dict(stroke) for stroke in spec.strokes if stroke["image"] == name and stroke["frame"] == 0]
    return draw(shape, own) if own and len(shape) in (2, 3) else None


def _labels_of(run: Path, name: str, number: int) -> NDArray[np.uint16] | None:
    """Return the labels of a picture in another run, merged and split as edited there, at the level of the model."""
    result = find_result(run, name, number)
    if result is None:
        return None
    edits = read_edits(run / "edits.json") if (run / "edits.json").is_file() else Edits()
    return replace(edits, level=AS_LEARNED).labels(result.leaves())
