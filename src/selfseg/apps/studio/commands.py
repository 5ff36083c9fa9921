"""What happens when the page says something: one function a message."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from selfseg.apps.studio import messages as m
from selfseg.apps.studio.carrying import apply_to_folder, export_run
from selfseg.apps.studio.events import SCRIBBLES, check
from selfseg.apps.studio.hints import write_hints
from selfseg.apps.studio.runs import WORKING, Run, step_of
from selfseg.apps.studio.spec import Spec
from selfseg.apps.studio.splitting import find_split
from selfseg.apps.studio.states import class_rows, edits_of, learned_table, visible_strokes
from selfseg.apps.studio.studio import Studio
from selfseg.core.errors import UsageError

PAUSE_WITHIN = 300.0
"""Seconds that a run has to come to the end of its step before a change of options is given up."""


async def start(studio: Studio, wish: m.StartRun) -> None:
    """Start a run on some or all pictures."""
    await studio.engine.ask(
        "check", method=wish.method, preset=wish.preset, options=wish.options, n_classes=wish.n_classes
    )
    project = studio.project
    sources = [source for source in project.sources() if wish.images is None or source.name in wish.images]
    if not sources:
        raise UsageError("run", expected="at least one picture", got="none", fix="drop one into the page")
    name = wish.name.strip() or f"{wish.method.replace('_', ' ')}, {wish.preset}"
    spec = Spec(
        name,
        wish.method,
        wish.preset,
        wish.n_classes,
        wish.seed,
        options=wish.options,
        inputs=tuple(str(source.path) for source in sources),
        axes=project.axes,
    )
    run = await asyncio.to_thread(studio.runs.create, spec)
    if wish.use_scribbles:
        hints = await asyncio.to_thread(write_hints, studio, run, sources)
        replace(spec, hints=str(hints), hint_names=_hint_names(studio)).save(run.folder)
    await asyncio.to_thread(run.start)
    await studio.tell_run(run)


def _hint_names(studio: Studio) -> dict[str, str]:
    """Return the names of classes by the scribble values, out of the last run that has names for them."""
    used = {int(stroke["value"]) for stroke in visible_strokes(studio.project.log.history(SCRIBBLES).done)}
    names: dict[str, str] = {}
    for run in studio.runs.all():
        table = learned_table(run)
        if table is not None:
            rows = class_rows(table, edits_of(studio.project, run))
            names |= {str(row.id): row.name for row in rows if row.id in used and not row.name.startswith("class ")}
    return names


async def order(studio: Studio, wish: m.OrderRun) -> None:
    """Pause, resume, finish or end a run."""
    run = studio.runs.get(wish.run)
    if wish.what == "resume":
        if run.status()["state"] not in WORKING:
            await asyncio.to_thread(run.start)
    elif wish.what == "kill":
        await asyncio.to_thread(run.kill)
    elif wish.what == "finish" and run.status()["state"] == "paused":
        raise UsageError(f"run {run.id}", expected="a run at work", got="a paused one", fix="resume it, then finish it")
    else:
        await asyncio.to_thread(run.order, wish.what)
    await studio.tell_run(run)


async def change(studio: Studio, wish: m.ChangeRun) -> None:
    """Hand live options to a run at work; for others let it come to a checkpoint, and go on from there with them."""
    run = studio.runs.get(wish.run)
    spec = _changed(Spec.read(run.folder), wish.options, wish.n_classes)
    await _check(studio, spec)
    if (
        run.status()["state"] == "learning"
        and wish.n_classes is None
        and set(wish.options) <= _live(studio, spec.method)
    ):
        await asyncio.to_thread(run.change, wish.options)
        return
    if run.status()["state"] in ("starting", "learning"):
        await asyncio.to_thread(run.order, "pause")
    await asyncio.to_thread(run.rest, PAUSE_WITHIN)
    if not run.checkpoints:
        fix = "wait for its first checkpoint, or start another run"
        raise UsageError(f"run {run.id}", expected="a checkpoint to go on from", got="none", fix=fix)
    last = run.checkpoints[-1]
    step = step_of(last)
    note = {"step": step, "options": wish.options} | ({} if wish.n_classes is None else {"classes": wish.n_classes})
    replace(spec, begin=str(last), changes=(*spec.changes, note)).save(run.folder)
    await asyncio.to_thread(run.start)
    await studio.tell_run(run)


def _live(studio: Studio, method: str) -> set[str]:
    """Return the options of a method that may change while it learns."""
    forms = (form for form in studio.methods if form["name"] == method)
    return {field["name"] for form in forms for field in form["fields"] if field["live"]}


async def fork(studio: Studio, wish: m.ForkRun) -> None:
    """Start another run from a checkpoint of one."""
    parent = studio.runs.get(wish.run)
    parent.checkpoint(wish.step)
    before = Spec.read(parent.folder)
    spec = _changed(replace(before, changes=()), wish.options, wish.n_classes)
    await _check(studio, spec)
    spec = replace(spec, name=f"{before.name}, from step {wish.step}")
    run = await asyncio.to_thread(studio.runs.fork, parent, wish.step, spec)
    await asyncio.to_thread(run.start)
    await studio.tell_run(run)


def _changed(spec: Spec, options: Mapping[str, Any], n_classes: int | None) -> Spec:
    if spec.model is not None:
        fix = "start a run of its method"
        raise UsageError("run", expected="one that learns", got="a model that is used as it is", fix=fix)
    return replace(spec, options={**spec.options, **options}, n_classes=n_classes or spec.n_classes)


async def _check(studio: Studio, spec: Spec) -> None:
    options = dict(spec.options)
    await studio.engine.ask("check", method=spec.method, preset=spec.preset, options=options, n_classes=spec.n_classes)


async def name_run(studio: Studio, wish: m.NameRun) -> None:
    """Give a run a name."""
    run = studio.runs.get(wish.run)
    replace(Spec.read(run.folder), name=wish.name).save(run.folder)
    await studio.tell_run(run)


async def remove(studio: Studio, wish: m.RemoveRun) -> None:
    """Put a run away."""
    run = studio.runs.get(wish.run)
    await asyncio.to_thread(studio.runs.remove, run)
    await studio.hub.tell_all(m.Removed(run=run.id))


async def edit(studio: Studio, wish: m.EditRun) -> None:
    """Do something to the classes of a run by hand."""
    run = studio.runs.get(wish.run)
    operation = wish.operation.model_dump(mode="json")
    check(operation, _ids(studio, run))
    await asyncio.to_thread(studio.project.log.do, run.id, operation)
    await studio.keep_edits(run)


async def split(studio: Studio, wish: m.SplitClass) -> None:
    """Cluster one class alone, over all pictures that the run has segmented."""
    run = studio.runs.get(wish.run)
    ids = _ids(studio, run)
    check({"op": "split", "id": wish.id}, ids)
    operation = await asyncio.to_thread(find_split, studio.project, run, wish.id, wish.parts)
    await asyncio.to_thread(studio.project.log.do, run.id, operation)
    await studio.keep_edits(run)


def _ids(studio: Studio, run: Run) -> set[int]:
    table = learned_table(run)
    return set() if table is None else {row.id for row in class_rows(table, edits_of(studio.project, run))}


async def scribble(studio: Studio, wish: m.Scribble) -> None:
    """Keep a stroke, or clear those of a picture."""
    studio.project.source(wish.operation.image)
    await asyncio.to_thread(studio.project.log.do, SCRIBBLES, wish.operation.model_dump(mode="json"))
    await studio.tell_project()


async def turn(studio: Studio, wish: m.Turn) -> None:
    """Undo or redo."""
    log = studio.project.log
    await asyncio.to_thread(log.undo if wish.type == "undo" else log.redo, wish.scope)
    if wish.scope == SCRIBBLES:
        await studio.tell_project()
    else:
        await studio.keep_edits(studio.runs.get(wish.scope))


async def want(studio: Studio, wish: m.Want) -> None:
    """Segment a picture that has no result yet, once the run has a model."""
    run = studio.runs.get(wish.run)
    if run.status()["state"] in WORKING or learned_table(run) is None:
        return
    source = studio.project.source(wish.image)
    fields = {"name": source.name, "path": str(source.path), "axes": studio.project.axes, "frame": wish.frame}
    await studio.engine.ask("predict", model=str(run.model), run=str(run.folder), **fields)
    await studio.tell_run(run)


async def export(studio: Studio, wish: m.Export) -> None:
    """Write edited labels."""
    await export_run(studio, wish)


async def apply(studio: Studio, wish: m.Apply) -> None:
    """Segment another folder."""
    await apply_to_folder(studio, wish)


HANDLERS: dict[type[Any], Callable[[Studio, Any], Awaitable[None]]] = {
    m.StartRun: start,
    m.OrderRun: order,
    m.ChangeRun: change,
    m.ForkRun: fork,
    m.NameRun: name_run,
    m.RemoveRun: remove,
    m.EditRun: edit,
    m.SplitClass: split,
    m.Scribble: scribble,
    m.Turn: turn,
    m.Want: want,
    m.Export: export,
    m.Apply: apply,
}

AT_ONCE = (m.EditRun, m.Scribble, m.Turn, m.NameRun)
"""Messages that are done in the order in which they come; the others take their time beside them."""
