"""Exports, and other folders that are segmented: in the background, with their progress told to all pages."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from selfseg import __version__
from selfseg.apps.studio.formats import OWN, label_kinds
from selfseg.apps.studio.messages import Apply, Export, JobMessage
from selfseg.apps.studio.project import EXPORTS, Project
from selfseg.apps.studio.results import find_result
from selfseg.apps.studio.runs import Run, read_json
from selfseg.apps.studio.security import confine
from selfseg.apps.studio.spec import SPEC
from selfseg.apps.studio.states import edits_of, learned_table, write_edits
from selfseg.core.errors import SelfsegError, UsageError
from selfseg.core.files import write_json
from selfseg.read import Source

if TYPE_CHECKING:
    from selfseg.apps.studio.studio import Studio


async def export_run(studio: "Studio", wish: Export) -> None:
    """Write edited labels of some or all pictures of the project into a new folder of its exports."""
    run = studio.runs.get(wish.run)
    sources = [source for source in studio.project.sources() if wish.images is None or source.name in wish.images]
    out = _new_folder(studio.project, f"run-{run.id}")
    await _carry(studio, run, sources, out, wish.formats, "export")


async def apply_to_folder(studio: "Studio", wish: Apply) -> None:
    """Segment every picture of a folder, with everything that was done by hand.

    Raises
    ------
    InputError
        If the folder is not inside those that the studio was given.
    """
    run = studio.runs.get(wish.run)
    folder = confine(wish.folder, [*studio.project.roots, studio.project.folder])
    found = await studio.engine.ask("listed", path=str(folder))
    sources = [Source(name, Path(path)) for name, path in found]
    out = _new_folder(studio.project, f"run-{run.id}-{folder.name}")
    await _carry(studio, run, sources, out, wish.formats, f"segment {folder.name}/")


async def _carry(studio: "Studio", run: Run, sources: list[Source], out: Path, formats: list[str], title: str) -> None:
    if learned_table(run) is None:
        fix = "wait until it has learned"
        raise UsageError(f"run {run.id}", expected="a run with classes", got="none yet", fix=fix)
    studio.jobs += 1
    job = JobMessage(
        id=studio.jobs, title=title, done=0, total=len(sources), state="working", folder=str(out), files=[], failures=[]
    )
    await studio.hub.tell_all(job)
    await asyncio.to_thread(_write_facts, studio.project, run, sources, out)
    whole = [name for name in formats if name in studio.formats and name not in OWN and name not in label_kinds()]
    each = list(dict.fromkeys(["labels", *formats])) if whole else formats
    for source in sources:
        try:
            files = await _one(studio, run, source, out, each)
            job = job.model_copy(update={"files": [*job.files, *files]})
        except SelfsegError as error:
            job = job.model_copy(update={"failures": [*job.failures, (source.name, str(error))]})
        job = job.model_copy(update={"done": job.done + 1})
        await studio.hub.tell_all(job)
    if whole and job.files:
        job = await _folder(studio, job, out, whole)
    state = "failed" if job.failures and not job.files else "done"
    await studio.hub.tell_all(job.model_copy(update={"state": state}))


async def _folder(studio: "Studio", job: JobMessage, out: Path, formats: list[str]) -> JobMessage:
    """Write the formats of whole folders, which take what was written before."""
    try:
        files, failures = await studio.engine.ask("folder", out=str(out), formats=formats)
    except SelfsegError as error:
        files, failures = [], [(", ".join(formats), str(error))]
    return job.model_copy(update={"files": [*job.files, *files], "failures": [*job.failures, *map(tuple, failures)]})


def _write_facts(project: Project, run: Run, sources: list[Source], out: Path) -> None:
    """Write ``run.json``: what was segmented, by what, and what was done by hand."""
    write_edits(project, run)
    images = [{"name": s.name, "source": str(s.path), "sha256": s.fingerprint()} for s in sources]
    values = {"selfseg": __version__, "run": read_json(run.folder / SPEC), "edits": edits_of(project, run).to_json()}
    write_json(out / "run.json", {**values, "images": images})


async def _one(studio: "Studio", run: Run, source: Source, out: Path, formats: list[str]) -> list[str]:
    """Write one picture: out of the stored result where the run has it, else by the engine."""
    project = studio.project
    if any(source.path == own.path and source.name == own.name for own in project.sources()):
        written = await asyncio.to_thread(write_stored, studio, run, source.name, out, formats)
        if written is not None:
            return written
    edits = edits_of(project, run).to_json()
    fields = {"name": source.name, "path": str(source.path), "axes": project.axes, "out": str(out)}
    files: list[str] = await studio.engine.ask("apply", model=str(run.model), edits=edits, formats=formats, **fields)
    return files


def write_stored(studio: "Studio", run: Run, name: str, out: Path, formats: list[str]) -> list[str] | None:
    """Write a picture out of its stored result; None where a frame has none, and for a video, which is never whole in memory."""
    from selfseg.apps.studio.takeaway import save_edited

    picture = studio.pictures.get(name)
    if picture.is_video:
        return None
    stored = [find_result(run.folder, name, frame) for frame in range(len(picture.data))]
    whole = [result for result in stored if result is not None]
    table = learned_table(run)
    if len(whole) < len(stored) or table is None:
        return None
    edits = edits_of(studio.project, run)
    frames = [result.leaves() for result in whole]
    return save_edited(out, replace(picture.image, name=name), frames, edits, edits.table(table), formats)


def _new_folder(project: Project, stem: str) -> Path:
    number = 1
    while (folder := project.folder / EXPORTS / f"{stem}-{number}").exists():
        number += 1
    folder.mkdir(parents=True)
    return folder
