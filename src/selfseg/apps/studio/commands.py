"""Actions of the server for the messages of the page: one function a message, and export jobs in the background."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from selfseg import __version__
from selfseg.apps.studio import editing, identities, objects
from selfseg.apps.studio import messages as m
from selfseg.apps.studio.browsing import add_places, find_place
from selfseg.apps.studio.exports import OWN_FORMATS, label_kinds, save_edited
from selfseg.apps.studio.pictures import mean_colours
from selfseg.apps.studio.project import EXPORTS, SCRIBBLES, TAG, new_folder
from selfseg.apps.studio.results import find_result, need_result
from selfseg.apps.studio.runs import SPEC, WORKING, Run, Spec, read_json, step_of
from selfseg.apps.studio.studio import ANSWERS, KEPT_ANSWERS, Studio
from selfseg.core.classes import standing_out
from selfseg.core.errors import SelfsegError, UsageError
from selfseg.core.files import write_json
from selfseg.export.labels import write_object_table
from selfseg.read import Source

PAUSE_WITHIN = 300.0
"""Seconds that a run may take to end its step before a change of options is given up."""


async def look(studio: Studio, request: m.LookAgain) -> None:
    """Make the tiles of the first page anew."""
    await asyncio.to_thread(studio.looking.start)


async def start(studio: Studio, request: m.StartRun) -> None:
    """Start a run on some or all pictures."""
    project, sources = studio.project, _sources(studio, request.images)
    if not sources:
        raise UsageError("run", expected="at least one picture", got="none", fix="drop one into the page")
    method = request.method
    if method == "auto":
        paths = [str(source.path) for source in sources]
        method, reason = await studio.engine.ask(
            "choose", paths=paths, axes=project.axes, scribbles=request.use_scribbles
        )
        await studio.hub.send_all(m.Notice(text=f"{method.replace('_', ' ')}: {reason}"))
    name = request.name.strip() or f"{method.replace('_', ' ')}, {request.preset}"
    spec = Spec(
        name,
        method,
        request.preset,
        request.n_classes,
        request.seed,
        options=request.options,
        inputs=tuple(str(source.path) for source in sources),
        axes=project.axes,
    )
    await _check_options(studio, spec)
    run = await asyncio.to_thread(_created, studio, spec, request, sources)
    await asyncio.to_thread(run.start)
    await studio.send_run(run)


def _created(studio: Studio, spec: Spec, request: m.StartRun, sources: list[Source]) -> Run:
    """Make the folder of a run that keeps the project's classes, with the strokes on its pictures."""
    project, names = studio.project, {source.name for source in sources}
    before = None if request.like is None else studio.runs.get(request.like)
    kept, classes, joined = identities.begun_with(project, studio.runs, before)
    drawn = editing.visible_strokes(project.log.history(SCRIBBLES).done)
    strokes = [{**row, "value": joined.get(row["value"], row["value"])} for row in drawn if row["image"] in names]
    like = None if before is None else {"run": before.id, "classes": classes}
    spec = replace(spec, classes=kept, like=like, strokes=tuple(strokes))
    run = studio.runs.create(spec)
    if before is not None:
        editing.write_edits(project, before)
    if request.teacher is not None:
        teacher = studio.runs.get(request.teacher)
        labels = objects.write_teacher(project, teacher, run.folder / "labels", [source.name for source in sources])
        replace(spec, labels=str(labels)).save(run.folder)
    elif request.use_scribbles:
        folder = editing.write_scribbles(studio.pictures, run, sources, strokes)
        replace(spec, scribbles=str(folder)).save(run.folder)
    return run


def _sources(studio: Studio, images: list[str] | None) -> list[Source]:
    return [source for source in studio.project.sources() if images is None or source.name in images]


async def order(studio: Studio, request: m.OrderRun) -> None:
    """Pause, resume, finish or end a run."""
    run = studio.runs.get(request.run)
    if request.what == "resume":
        if run.status()["state"] not in WORKING:
            await asyncio.to_thread(run.start)
    elif request.what == "kill":
        await asyncio.to_thread(run.kill)
    elif request.what == "finish" and run.status()["state"] == "paused":
        raise UsageError(f"run {run.id}", expected="a run at work", got="a paused one", fix="resume it, then finish it")
    else:
        await asyncio.to_thread(run.order, request.what)
    await studio.send_run(run)


async def change(studio: Studio, request: m.ChangeRun) -> None:
    """Change options of a run: live ones at once; others after a pause, from the checkpoint that it leaves."""
    run = studio.runs.get(request.run)
    spec = _changed(Spec.read(run.folder), request.options, request.n_classes)
    await _check_options(studio, spec)
    state = run.status()["state"]
    if state == "learning" and request.n_classes is None and set(request.options) <= _live(studio, spec.method):
        await asyncio.to_thread(run.change, request.options)
        return
    if state in ("starting", "learning"):
        await asyncio.to_thread(run.order, "pause")
    await asyncio.to_thread(run.rest, PAUSE_WITHIN)
    if not run.checkpoints:
        raise UsageError(
            f"run {run.id}",
            expected="a checkpoint to start from",
            got="none",
            fix="wait for its first checkpoint, or start another run",
        )
    last = run.checkpoints[-1]
    note: dict[str, Any] = {"step": step_of(last), "options": request.options}
    if request.n_classes is not None:
        note["classes"] = request.n_classes
    replace(spec, begin=str(last), changes=(*spec.changes, note)).save(run.folder)
    await asyncio.to_thread(run.start)
    await studio.send_run(run)


def _live(studio: Studio, method: str) -> set[str]:
    """Return the options of a method that may change while it learns."""
    forms = (form for form in studio.methods if form["name"] == method)
    return {field["name"] for form in forms for field in form["fields"] if field["live"]}


async def fork(studio: Studio, request: m.ForkRun) -> None:
    """Start another run from a checkpoint of one."""
    parent = studio.runs.get(request.run)
    parent.checkpoint(request.step)
    before = Spec.read(parent.folder)
    spec = _changed(replace(before, changes=()), request.options, request.n_classes)
    await _check_options(studio, spec)
    spec = replace(spec, name=f"{before.name}, from step {request.step}")
    run = await asyncio.to_thread(studio.runs.fork, parent, request.step, spec)
    await asyncio.to_thread(run.start)
    await studio.send_run(run)


def _changed(spec: Spec, options: Mapping[str, Any], n_classes: int | None) -> Spec:
    if spec.model is not None:
        raise UsageError(
            "run", expected="one that learns", got="a model that is used as it is", fix="start a run of its method"
        )
    return replace(spec, options={**spec.options, **options}, n_classes=n_classes or spec.n_classes)


async def _check_options(studio: Studio, spec: Spec) -> None:
    options = dict(spec.options)
    await studio.engine.ask("check", method=spec.method, preset=spec.preset, options=options, n_classes=spec.n_classes)


async def name_run(studio: Studio, request: m.NameRun) -> None:
    """Give a run a name."""
    run = studio.runs.get(request.run)
    replace(Spec.read(run.folder), name=request.name).save(run.folder)
    await studio.send_run(run)


async def remove(studio: Studio, request: m.RemoveRun) -> None:
    """Move a run to the bin."""
    run = studio.runs.get(request.run)
    await asyncio.to_thread(studio.runs.remove, run)
    await studio.hub.send_all(m.Removed(run=run.id))


async def edit(studio: Studio, request: m.EditRun) -> None:
    """Edit the classes of a run."""
    run = studio.runs.get(request.run)
    operation = request.operation.model_dump(mode="json")
    editing.check_operation(operation, _ids(studio, run))
    await asyncio.to_thread(studio.project.log.do, run.id, operation)
    await studio.keep_edits(run)


async def correct(studio: Studio, request: m.Correct) -> None:
    """Correct labels or objects of a picture by hand."""
    run, what = studio.runs.get(request.run), request.what.model_dump(mode="json")
    if (value := what.get("value")) and value not in _ids(studio, run):
        raise UsageError("class", expected="one of the run", got=str(value), fix="look at the class table")
    operation = await asyncio.to_thread(objects.correction, studio.project, run, what)
    await asyncio.to_thread(studio.project.log.do, run.id, operation)
    await studio.keep_edits(run)


async def split(studio: Studio, request: m.SplitClass) -> None:
    """Split a class, over all pictures that the run has segmented."""
    run = studio.runs.get(request.run)
    editing.check_operation({"op": "split", "id": request.id}, _ids(studio, run))
    operation = await asyncio.to_thread(editing.find_split, studio.project, run, request.id, request.parts)
    await asyncio.to_thread(studio.project.log.do, run.id, operation)
    await studio.keep_edits(run)


def _ids(studio: Studio, run: Run) -> set[int]:
    return {row.id for row in editing.class_rows(studio.project, run)}


async def scribble(studio: Studio, request: m.Scribble) -> None:
    """Add a stroke, or clear those of a picture."""
    studio.project.source(request.operation.image)
    await asyncio.to_thread(_stroke, studio, request.operation.model_dump(mode="json"))
    await studio.send_project()
    for run in studio.runs.all():
        await studio.send_run(run)


def _stroke(studio: Studio, operation: dict[str, Any]) -> None:
    """Note a stroke under the class of the project that it is of."""
    if operation["op"] == "stroke" and operation["value"] is None:
        run, tag = studio.runs.get(str(operation["run"])), TAG.get()
        TAG.set(None)  # the stroke is what was asked for; its class may be there without it
        operation["value"] = identities.identity_of(studio.project, studio.runs, run, operation["label"])
        TAG.set(tag)
    studio.project.log.do(SCRIBBLES, {key: operation[key] for key in operation if key not in ("run", "label")})


async def stand_out(studio: Studio, request: m.StandOut) -> None:
    """Choose colours against the picture beneath: one operation, undone at once."""
    run = studio.runs.get(request.run)
    operation = await asyncio.to_thread(_contrasting, studio, run, request.image, request.frame)
    await asyncio.to_thread(studio.project.log.do, run.id, operation)
    await studio.keep_edits(run)


def _contrasting(studio: Studio, run: Run, name: str, frame: int) -> dict[str, Any]:
    edits = editing.edits_of(studio.project, run)
    labels = objects.labels_of(edits, need_result(run.folder, name, frame), name, frame)
    beneath = mean_colours(studio.pictures.get(name), labels, frame)
    shown = {row.id: beneath[row.id] for row in editing.class_rows(studio.project, run) if row.id in beneath}
    chosen = zip(shown, standing_out(np.array(list(shown.values()))), strict=True)
    return {"op": "recolours", "colours": {str(key): list(rgba) for key, rgba in chosen}}


async def add_class(studio: Studio, request: m.AddClass) -> None:
    """Add a class that no run has."""
    await asyncio.to_thread(identities.new_identity, studio.project, studio.runs, request.name)
    await studio.send_project()


STEPS = (2, 1)
"""Step in pixels between those that are classified: a quarter of them first, so that colour is there at once."""


async def answer(studio: Studio, request: m.AskAnswer) -> None:
    """Classify what is in view by the strokes, coarse and then whole, unless a later question has come."""
    studio.asked += 1
    number, begun = studio.asked, time.monotonic()
    project = studio.project
    strokes = editing.visible_strokes(project.log.history(SCRIBBLES).done)
    asked: dict[str, Any] = {"name": request.image, "frame": request.frame, "plane": request.plane, "box": request.box}
    pictures = [{"name": one.name, "path": str(one.path)} for one in project.sources()]
    for step in STEPS:
        async with studio.answering:
            if number != studio.asked:
                return
            stamp = len(STEPS) * number + len(STEPS) - step
            out = project.folder / ANSWERS / f"{stamp % KEPT_ANSWERS}.bin"
            found = await studio.quick.ask(
                "answer", pictures=pictures, strokes=strokes, axes=project.axes, **asked, step=step, out=str(out)
            )
        if found is None:
            return
        place = {"image": request.image, "frame": request.frame, "plane": request.plane}
        shown = {key: found[key] for key in ("box", "shape", "spot")}
        seconds = round(time.monotonic() - begun, 3)
        await studio.hub.send_all(m.Answer(stamp=stamp, **place, **shown, seconds=seconds, whole=step == 1))


async def turn(studio: Studio, request: m.Turn) -> None:
    """Undo or redo."""
    log = studio.project.log
    await asyncio.to_thread(log.undo if request.type == "undo" else log.redo, request.scope)
    if request.scope == SCRIBBLES:
        await studio.send_project()
    else:
        await studio.keep_edits(studio.runs.get(request.scope))


async def add(studio: Studio, request: m.AddPictures) -> None:
    """Add pictures from the folders of the studio; the first ones are segmented."""
    found = await asyncio.to_thread(add_places, studio.project, request.places)
    await studio.hub.send_all(
        m.Notice(text=f"{found} picture{'s' * (found != 1)} added" if found else "They are all here")
    )
    await studio.show_new_pictures()


async def want(studio: Studio, request: m.Want) -> None:
    """Segment a picture that has no result yet, once the run has a model."""
    run = studio.runs.get(request.run)
    if run.status()["state"] in WORKING or editing.learned_table(run) is None:
        return
    source = studio.project.source(request.image)
    await studio.engine.ask("predict", **_place(studio, run, source), run=str(run.folder), frame=request.frame)
    await studio.send_run(run)


async def export(studio: Studio, request: m.Export) -> None:
    """Write edited labels of some or all pictures of the project into a new folder of its exports."""
    run = studio.runs.get(request.run)
    out = new_folder(studio.project.folder / EXPORTS, f"run-{run.id}")
    await _write(studio, run, _sources(studio, request.images), out, request.formats, "export")


async def apply(studio: Studio, request: m.Apply) -> None:
    """Segment every picture of a folder, inside those that the studio was given, with the model and its edits."""
    run = studio.runs.get(request.run)
    folder = find_place(studio.project, request.folder)
    found = await studio.engine.ask("list", path=str(folder))
    sources = [Source(name, Path(path)) for name, path in found]
    out = new_folder(studio.project.folder / EXPORTS, f"run-{run.id}-{folder.name}")
    await _write(studio, run, sources, out, request.formats, f"segment {folder.name}/")


async def _write(studio: Studio, run: Run, sources: list[Source], out: Path, formats: list[str], title: str) -> None:
    """Write pictures one by one, then the formats of whole folders, and send the progress to all pages."""
    if editing.learned_table(run) is None:
        raise UsageError(
            f"run {run.id}", expected="a run with classes", got="none yet", fix="wait until it has learned"
        )
    out.mkdir(parents=True)
    studio.jobs += 1
    job = m.JobMessage(id=studio.jobs, title=title, total=len(sources), folder=str(out), formats=formats)
    await studio.hub.send_all(job)
    await asyncio.to_thread(_write_facts, studio, run, sources, out)
    whole = [name for name in formats if name in studio.formats and name not in {*OWN_FORMATS, *label_kinds()}]
    counts, tables = "objects" in formats, []
    formats = [name for name in formats if name != "objects"] or ["labels"]
    each = list(dict.fromkeys(["labels", *formats])) if whole else formats
    for source in sources:
        try:
            job.files += await _write_picture(studio, run, source, out, each)
            if counts:
                tables += await _write_objects(studio, run, source, out, job)
        except SelfsegError as error:
            job.failures.append((source.name, str(error)))
        job.done += 1
        await studio.hub.send_all(job)
    if tables:
        await asyncio.to_thread(write_object_table, out / "instances.csv", tables)
        job.files.append("instances.csv")
    if whole and job.files:  # they are made from the labels that were written before
        try:
            files, failures = await studio.engine.ask("folder", out=str(out), formats=whole)
            job.files += files
            job.failures += map(tuple, failures)
        except SelfsegError as error:
            job.failures.append((", ".join(whole), str(error)))
    job.state = "failed" if job.failures and not job.files else "done"
    await studio.hub.send_all(job)


def _write_facts(studio: Studio, run: Run, sources: list[Source], out: Path) -> None:
    """Write ``run.json``: the pictures, the run and its edits."""
    editing.write_edits(studio.project, run)
    images = [{"name": s.name, "source": str(s.path), "sha256": s.fingerprint()} for s in sources]
    values = {"selfseg": __version__, "run": read_json(run.folder / SPEC), "edits": _edits(studio, run)}
    write_json(out / "run.json", {**values, "images": images})


async def _write_picture(studio: Studio, run: Run, source: Source, out: Path, formats: list[str]) -> list[str]:
    """Write one picture: from the stored result where the run has one, else by the engine."""
    project = studio.project
    if any(source.path == own.path and source.name == own.name for own in project.sources()):
        written = await asyncio.to_thread(write_stored, studio, run, source.name, out, formats)
        if written is not None:
            return written
    files: list[str] = await studio.engine.ask(
        "apply", **_place(studio, run, source), edits=_edits(studio, run), out=str(out), formats=formats
    )
    return files


async def _write_objects(
    studio: Studio, run: Run, source: Source, out: Path, job: m.JobMessage
) -> list[dict[str, Any]]:
    """Write the objects of one picture or of each frame of a video; return their measures."""
    own = any(source.path == known.path and source.name == known.name for known in studio.project.sources())
    edits = await asyncio.to_thread(objects.counting_of, studio.project, run)
    found = await studio.engine.ask(
        "objects", **_place(studio, run, source), run=str(run.folder) if own else None, edits=edits, out=str(out)
    )
    job.files += found["files"]
    tables: list[dict[str, Any]] = found["tables"]
    return tables


def _edits(studio: Studio, run: Run) -> dict[str, Any]:
    return editing.edits_of(studio.project, run).to_json()


def _place(studio: Studio, run: Run, source: Source) -> dict[str, Any]:
    """Return model and picture for the engine."""
    return {"model": str(run.model), "name": source.name, "path": str(source.path), "axes": studio.project.axes}


def write_stored(studio: Studio, run: Run, name: str, out: Path, formats: list[str]) -> list[str] | None:
    """Write a picture from its stored result; None where a frame has none, and for a video, which is never whole in memory."""
    picture = studio.pictures.get(name)
    if picture.is_video:
        return None
    stored = [find_result(run.folder, name, frame) for frame in range(len(picture.data))]
    whole = [result for result in stored if result is not None]
    table = editing.learned_table(run)
    if len(whole) < len(stored) or table is None:
        return None
    edits = editing.edits_of(studio.project, run)
    frames = [result.leaves() for result in whole]
    return save_edited(out, replace(picture.image, name=name), frames, edits, edits.table(table), formats)


ALL = (
    look,
    start,
    order,
    change,
    fork,
    name_run,
    remove,
    edit,
    correct,
    split,
    stand_out,
    add_class,
    scribble,
    answer,
    turn,
    add,
    want,
    export,
    apply,
)

HANDLERS: dict[type[Any], Callable[[Studio, Any], Awaitable[None]]] = {do.__annotations__["request"]: do for do in ALL}
"""The function of each kind of message: the one whose argument `request` is of that kind."""

AT_ONCE = (m.EditRun, m.Correct, m.AddClass, m.Scribble, m.Turn, m.NameRun)
"""Messages that are done in the order in which they come; the others run beside them."""
