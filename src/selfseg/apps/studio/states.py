"""From the files of a project to the messages that say what is."""

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import selfseg
from selfseg.apps.studio.events import SCRIBBLES, fold
from selfseg.apps.studio.messages import ClassRow, Preview, ProjectState, RunState
from selfseg.apps.studio.project import Project
from selfseg.apps.studio.results import FACTS, read_table
from selfseg.apps.studio.runs import PREVIEWS, Run, read_json, step_of
from selfseg.apps.studio.spec import Spec
from selfseg.core.classes import ClassTable
from selfseg.core.files import write_json
from selfseg.refine.edits import Edits, Merge

EDITS = "edits.json"


def project_state(project: Project, formats: dict[str, str]) -> ProjectState:
    """Return the state of the project."""
    history = project.log.history(SCRIBBLES)
    return ProjectState(
        version=selfseg.__version__,
        name=project.folder.name.removesuffix(".studio"),
        folder=str(project.folder),
        roots=[str(root) for root in project.roots],
        images=[source.name for source in project.sources()],
        formats=list(formats.items()),
        strokes=visible_strokes(history.done),
        can_undo=bool(history.done),
        can_redo=bool(history.undone),
    )


def visible_strokes(operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the strokes that no later clearing took away."""
    strokes: list[dict[str, Any]] = []
    for row in operations:
        if row["op"] == "clear":
            strokes = [stroke for stroke in strokes if stroke["image"] != row["image"]]
        else:
            strokes.append(row)
    return strokes


def learned_table(run: Run) -> ClassTable | None:
    """Return the classes of a run as it learned them, those of scribbles under the names that they had; None before that."""
    try:
        table = read_table(run.model)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    names = {f"scribble {value}": name for value, name in Spec.read(run.folder).hint_names.items()}
    return ClassTable(tuple(replace(row, name=names.get(row.name, row.name)) for row in table.classes))


def edits_of(project: Project, run: Run) -> Edits:
    """Return what was done by hand to the classes of a run."""
    edits = fold(project.log.history(run.id).done)
    names = {row.id: row.name for row in (learned_table(run) or ClassTable(())).classes if _named(row.name)}
    return replace(edits, names={**names, **edits.names}) if names else edits


def _named(name: str) -> bool:
    return not (name.startswith("class ") or name.startswith("scribble "))


def write_edits(project: Project, run: Run) -> Path:
    """Write ``edits.json``, with which `selfseg predict --edits` repeats everything; return its path."""
    path = run.folder / EDITS
    write_json(path, edits_of(project, run).to_json())
    return path


def run_state(project: Project, run: Run) -> RunState:
    """Return the state of a run."""
    spec, status, history = Spec.read(run.folder), run.status(), project.log.history(run.id)
    table, edits = learned_table(run), edits_of(project, run)
    return RunState(
        id=run.id,
        name=spec.name,
        method=spec.method,
        preset=spec.preset,
        n_classes=spec.n_classes,
        seed=spec.seed,
        options=dict(spec.options),
        origin=None if spec.origin is None else dict(spec.origin),
        changes=[dict(change) for change in spec.changes],
        images=len(spec.inputs),
        state=status["state"],
        message=str(status.get("message", "")),
        step=int(status.get("step", 0)),
        total=int(status.get("total", 0)),
        notes=list(status.get("notes", [])),
        failures=[(str(name), str(text)) for name, text in status.get("failures", [])],
        checkpoints=[step_of(path) for path in run.checkpoints],
        results=list_results(run),
        level=edits.level,
        revision=revision(history.done),
        classes=[] if table is None else class_rows(table, edits),
        can_undo=bool(history.done),
        can_redo=bool(history.undone),
    )


def revision(operations: list[dict[str, Any]]) -> int:
    """Return a number that differs where merges and splits do."""
    steps = [row for row in operations if row["op"] in ("merge", "split")]
    return zlib.crc32(json.dumps(steps).encode()) if steps else 0


def class_rows(table: ClassTable, edits: Edits) -> list[ClassRow]:
    """Return the classes as edited, the ignored ones too."""
    gone = {step.source for step in edits.steps if isinstance(step, Merge)}
    channels = _channels(table, edits)
    shown = replace(edits, ignored=frozenset()).table(table)
    return [
        ClassRow(
            id=row.id,
            name=row.name,
            rgba=row.rgba,
            share=row.area_share,
            ignored=row.id in edits.ignored and row.id not in gone,
            channels=tuple(sorted(channels[row.id])),
        )
        for row in shown.classes
    ]


def _channels(table: ClassTable, edits: Edits) -> dict[int, set[int]]:
    """Return which channels of the stored probabilities belong to each class as edited."""
    channels = {row.id: {place} for place, row in enumerate(table.classes)}
    for step in edits.steps:
        if isinstance(step, Merge):
            channels[step.target] |= channels.pop(step.source)
        else:
            channels |= {part: set(channels[step.source]) for part in step.parts}
    return channels


def list_results(run: Run) -> list[str]:
    """Return the pictures of which there is a result, ``name`` for a first frame and ``name#frame`` for later ones."""
    root = run.folder / "results"
    found = []
    for path in sorted(root.glob(f"**/t*/{FACTS}")):
        name, frame = path.parent.parent.relative_to(root).as_posix(), int(path.parent.name[1:])
        found.append(name if frame == 0 else f"{name}#{frame}")
    return found


def last_preview(run: Run) -> Preview | None:
    """Return the newest preview of a run."""
    facts = sorted((run.folder / PREVIEWS).glob("step-*.json"))
    found = read_json(facts[-1]) if facts else None
    if found is None:
        return None
    return Preview(run=run.id, step=int(found["step"]), image=str(found.get("image", "")), areas=list(found["areas"]))
