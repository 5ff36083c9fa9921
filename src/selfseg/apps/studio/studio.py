"""The studio: project, pictures, runs, engine and open pages, and the messages that keep the pages up to date."""

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import WebSocket

import selfseg
from selfseg.apps.studio.editing import edit_revision, edits_of, visible_strokes, write_edits
from selfseg.apps.studio.exports import OWN_FORMATS
from selfseg.apps.studio.identities import known_identities, links, rows_with_identity
from selfseg.apps.studio.looking import Looking
from selfseg.apps.studio.messages import Figures, Methods, Notice, Preview, ProjectState, RunState, Update
from selfseg.apps.studio.objects import correction_stamp, finds_own
from selfseg.apps.studio.pictures import Pictures
from selfseg.apps.studio.project import RUNS, SCRIBBLES, Project
from selfseg.apps.studio.results import FACTS, RESULTS, list_results
from selfseg.apps.studio.runs import (
    JOURNAL,
    PREVIEWS,
    WORKING,
    Run,
    Runs,
    Spec,
    child_environment,
    read_json,
    start_first_look,
    step_of,
)
from selfseg.core.errors import InputError, SelfsegError
from selfseg.train.loop import read_journal

POLL = 0.15
"""Seconds between two looks at the files of the runs."""

SHOWN_WITHIN = 4.0
"""Seconds that the engine waits for a page to draw the first result: its imports would slow the page down."""

MOST_ROWS = 1500
"""Lines of a journal that a page gets when it opens: a curve has no more points than that."""

SEND_WITHIN = 20.0
"""Seconds after which a page that receives nothing is dropped."""


ANSWERS, KEPT_ANSWERS = "answers", 8
"""Folder with the last answers to strokes, and how many are kept."""


class Hub:
    """The open pages."""

    def __init__(self) -> None:
        self._pages: set[WebSocket] = set()

    def add(self, page: WebSocket) -> None:
        """Include a page in `send_all`."""
        self._pages.add(page)

    def drop(self, page: WebSocket) -> None:
        """Exclude a page from `send_all`."""
        self._pages.discard(page)

    async def send(self, page: WebSocket, update: Update) -> None:
        """Send a message to one page; a page that cannot be reached is dropped."""
        try:
            await asyncio.wait_for(
                page.send_text(json.dumps(update.model_dump(mode="python"), default=str)), SEND_WITHIN
            )
        except Exception:  # noqa: BLE001 (a page can vanish in many ways, and none of them concerns the others)
            self.drop(page)
            with contextlib.suppress(Exception):
                await page.close()

    async def send_all(self, update: Update) -> None:
        """Send a message to all pages."""
        for page in list(self._pages):
            await self.send(page, update)


class Studio:
    """State of the server."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.pictures = Pictures(project)
        self.runs = Runs(project.folder / RUNS)
        self.engine = Engine(project.folder / "engine.txt")
        self.quick = Engine(project.folder / "quick.txt")
        """Answers strokes, and nothing else, so that no export keeps it waiting."""
        self.asked = 0
        """Questions for an answer to strokes so far; older ones are not answered any more."""
        self.answering = asyncio.Lock()
        self.looking = Looking(project)
        self.hub = Hub()
        self.methods: list[dict[str, Any]] = []
        self.formats = dict(OWN_FORMATS)
        self.tasks: set[asyncio.Task[None]] = set()
        self.jobs = 0
        self.shown = threading.Event()
        """Set once a page has fetched leaves to draw."""
        self._seen: dict[str, tuple[Any, ...]] = {}
        self._rows: dict[str, int] = {}
        """Rows of each journal that were sent to all pages."""
        self._sending = asyncio.Lock()
        """Held from reading a state until it is sent: what was read first arrives first, and rows arrive once."""

    def words_of(self, error: Exception) -> str:
        """Return an error for a page: paths are relative to the folders that the studio was given."""
        text = str(error)
        folders = {self.project.folder, *self.project.roots, *(root.resolve() for root in self.project.roots)}
        for folder in sorted(folders, key=lambda one: -len(str(one))):
            text = text.replace(f"{folder}{os.sep}", "").replace(str(folder), folder.name or "the folder")
        return text

    def spawn(self, work: Any) -> None:
        """Run a coroutine in the background; an error of ours is shown on all pages."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except SelfsegError as error:
            await self.hub.send_all(Notice(kind="error", text=self.words_of(error)))

    async def greet(self, page: WebSocket) -> None:
        """Send a page that was just opened the whole state."""
        async with self._sending:
            project = await asyncio.to_thread(project_state, self.project, self.formats)
            self.hub.add(page)  # what is sent to all pages comes after the project, by which a page begins
            await self.hub.send(page, project)
        for run in self.runs.all():
            async with self._sending:
                await self.hub.send(page, await asyncio.to_thread(run_state, self.project, run))
                rows = await asyncio.to_thread(read_journal, run.folder / JOURNAL)
                rows = rows[: self._rows.get(run.id, 0)]  # the others are sent to all pages
                await self.hub.send(page, Figures(run=run.id, rows=thinned(rows), whole=True))
            if preview := last_preview(run):
                await self.hub.send(page, preview)
        await self.hub.send(page, await asyncio.to_thread(self.looking.message))
        if self.methods:
            await self.hub.send(page, Methods(methods=self.methods))
        for note in self.project.notes:
            await self.hub.send(page, Notice(text=note))

    async def describe_methods(self) -> None:
        """Get methods and formats from the engine, once the first result was drawn."""
        while any(run.status()["state"] in WORKING for run in self.runs.all()[:1]) and not self._has_first():
            await asyncio.sleep(POLL)
        end = time.monotonic() + SHOWN_WITHIN
        while self._has_first() and not self.shown.is_set() and time.monotonic() < end:
            await asyncio.sleep(POLL)
        self.methods = await self.engine.ask("methods")
        await self.hub.send_all(Methods(methods=self.methods))
        self.formats |= await self.engine.ask("formats")
        await self.send_project()

    def _has_first(self) -> bool:
        first = self.runs.all()[:1]
        return bool(first) and any((first[0].folder / RESULTS).glob(f"**/{FACTS}"))

    async def send_project(self) -> None:
        """Send the state of the project to all pages."""
        async with self._sending:
            await self.hub.send_all(await asyncio.to_thread(project_state, self.project, self.formats))

    async def show_new_pictures(self) -> None:
        """Send the pictures to all pages; the first ones of a project are segmented."""
        await self.send_project()
        if run := await asyncio.to_thread(start_first_look, self.project):
            await self.send_run(run)

    async def send_run(self, run: Run) -> None:
        """Send the state of a run to all pages."""
        async with self._sending:
            await self.hub.send_all(await asyncio.to_thread(run_state, self.project, run))

    async def keep_edits(self, run: Run) -> None:
        """Write the edits of a run for Python and the command line, and send its state to all pages."""
        await asyncio.to_thread(write_edits, self.project, run)
        await self.send_run(run)

    async def watch(self) -> None:
        """Watch the files of the runs for ever, and send what changes."""
        while True:
            runs = await asyncio.to_thread(self.runs.all)
            for run in runs:
                await self._guarded(self._send_changes(run))
            await self._guarded(self._look(runs))
            await asyncio.sleep(POLL)

    async def _send_changes(self, run: Run) -> None:
        seen, before = run.stamps(), self._seen.get(run.id)
        if seen == before:
            return
        self._seen[run.id] = seen
        if before is None or seen[:2] != before[:2]:
            await self.send_run(run)
        if before is None or seen[2] != before[2]:
            await self._send_figures(run)
        if seen[3] != (before or seen)[3] and (preview := last_preview(run)):
            await self.hub.send_all(preview)

    async def _look(self, runs: list[Run]) -> None:
        """Start the tiles once the first run is done, and send what is new of them."""
        stamp, before = self.looking.stamp(), self._seen.get("look")
        if stamp != before:
            self._seen["look"] = stamp
            await self.hub.send_all(await asyncio.to_thread(self.looking.message))
        if before == (False, 0, 0) and not self.project.models and runs and runs[0].status()["state"] not in WORKING:
            await asyncio.to_thread(self.looking.start)

    async def _send_figures(self, run: Run) -> None:
        async with self._sending:
            rows = await asyncio.to_thread(read_journal, run.folder / JOURNAL)
            known = self._rows.get(run.id, 0)
            self._rows[run.id] = len(rows)
            if not 0 < known <= len(rows):
                await self.hub.send_all(Figures(run=run.id, rows=thinned(rows), whole=True))
            elif len(rows) > known:
                await self.hub.send_all(Figures(run=run.id, rows=rows[known:]))

    async def close(self) -> None:
        """End the engine and the background work; runs continue."""
        for task in list(self.tasks):
            task.cancel()
        await self.engine.close()
        await self.quick.close()
        self.looking.close()
        self.project.log.close()


def thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most `MOST_ROWS` rows, evenly spread, with the last one."""
    if len(rows) <= MOST_ROWS:
        return rows
    step = -(-len(rows) // MOST_ROWS)
    return [*rows[:-1:step], rows[-1]]


def project_state(project: Project, formats: dict[str, str]) -> ProjectState:
    """Return the message about the project."""
    history = project.log.history(SCRIBBLES)
    return ProjectState(
        version=selfseg.__version__,
        name=project.folder.name.removesuffix(".studio"),
        folder=str(project.folder),
        roots=[str(root) for root in project.roots],
        images=[source.name for source in project.sources()],
        formats=list(formats.items()),
        strokes=visible_strokes(history.done),
        classes=[asdict(item) for item in known_identities(project, Runs(project.folder / RUNS)).values()],
        can_undo=bool(history.done),
        can_redo=bool(history.undone),
    )


def run_state(project: Project, run: Run) -> RunState:
    """Return the message about a run."""
    spec, status, history = Spec.read(run.folder), run.status(), project.log.history(run.id)
    known, edits = known_identities(project, Runs(run.folder.parent)), edits_of(project, run)
    asked = ("name", "method", "preset", "n_classes", "seed", "options", "origin", "changes")
    reported = ("state", "message", "step", "total", "notes", "failures")
    return RunState(
        id=run.id,
        **{key: getattr(spec, key) for key in asked},
        **{key: status[key] for key in reported if key in status},
        images=len(spec.inputs),
        checkpoints=[step_of(path) for path in run.checkpoints],
        results=list_results(run.folder),
        level=edits.level,
        revision=edit_revision(history.done),
        classes=rows_with_identity(project, run, known),
        counting=None if edits.counting is None else asdict(edits.counting),
        corrected={name: correction_stamp(edits, name) for name in edits.corrections},
        own_objects=finds_own(run),
        links=links(project, run, known),
        can_undo=bool(history.done),
        can_redo=bool(history.undone),
    )


def last_preview(run: Run) -> Preview | None:
    """Return the message about the newest preview of a run."""
    facts = sorted((run.folder / PREVIEWS).glob("step-*.json"))
    found = read_json(facts[-1]) if facts else None
    if found is None:
        return None
    return Preview(run=run.id, step=int(found["step"]), image=str(found.get("image", "")), areas=list(found["areas"]))


LONGEST_LINE = 2**24
"""Bytes of one answer at most."""


class Engine:
    """One process at a time, one question after the other; `log` takes what the process writes to standard error."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def ask(self, task: str, **fields: Any) -> Any:
        """Do one of `engine_process.TASKS` and return its value; InputError if it failed, or if the process died."""
        async with self._turn:
            process = await self._started()
            question = json.dumps({"task": task, **fields}) + "\n"
            line = b""
            if process.stdin is not None and process.stdout is not None:
                with contextlib.suppress(ConnectionError):
                    process.stdin.write(question.encode())
                    await process.stdin.drain()
                    line = await process.stdout.readline()
            if not line:
                self._process = None
                raise InputError("the process that segments ended; it starts again when needed (see engine.txt)")
            answer = json.loads(line)
        if "error" in answer:
            raise InputError(answer["error"])
        return answer["ok"]

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "selfseg.apps.studio.engine_process"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    env=child_environment(),
                    limit=LONGEST_LINE,
                )
        return self._process

    async def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()
