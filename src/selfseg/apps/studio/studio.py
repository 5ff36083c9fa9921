"""The studio's one place for state: project, pictures, runs, engine, open pages, and what is told to them."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from fastapi import WebSocket

from selfseg.apps.studio.engine import Engine
from selfseg.apps.studio.formats import OWN
from selfseg.apps.studio.hub import Hub
from selfseg.apps.studio.messages import Figures, Methods, Notice
from selfseg.apps.studio.pictures import Pictures
from selfseg.apps.studio.project import RUNS, Project
from selfseg.apps.studio.runs import MODEL, PREVIEWS, STATUS, WORKING, Run, Runs
from selfseg.apps.studio.states import last_preview, project_state, run_state, write_edits
from selfseg.core.errors import SelfsegError
from selfseg.train.journal import read_journal

POLL = 0.15
"""Seconds between two looks at what the processes of the runs have written."""

SHOWN_WITHIN = 4.0
"""Seconds that the engine waits for a page to fetch the first result: its imports would take the processor from the page."""

MOST_ROWS = 1500
"""Lines of a journal that a page gets when it opens: a curve has no more points than that."""


class Studio:
    """Everything behind the page.

    Parameters
    ----------
    project
        The project.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.pictures = Pictures(project)
        self.runs = Runs(project.folder / RUNS)
        self.engine = Engine(project.folder / "engine.txt")
        self.hub = Hub()
        self.methods: list[dict[str, Any]] = []
        self.formats = dict(OWN)
        self.tasks: set[asyncio.Task[None]] = set()
        self.jobs = 0
        self.shown = threading.Event()
        """Set once a page has fetched leaves to draw."""
        self._seen: dict[str, tuple[Any, ...]] = {}
        self._rows: dict[str, int] = {}

    def spawn(self, work: Any) -> None:
        """Do something in the background; what fails is told to all pages."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except SelfsegError as error:
            await self.hub.tell_all(Notice(kind="error", text=str(error)))

    async def greet(self, page: WebSocket) -> None:
        """Tell a page that just opened everything there is."""
        self.hub.add(page)
        await self.hub.tell(page, await asyncio.to_thread(self.project_state))
        for run in self.runs.all():
            await self.hub.tell(page, await asyncio.to_thread(run_state, self.project, run))
            rows = await asyncio.to_thread(read_journal, run.folder / MODEL / "journal.jsonl")
            await self.hub.tell(page, Figures(run=run.id, rows=thinned(rows), whole=True))
            if preview := last_preview(run):
                await self.hub.tell(page, preview)
        if self.methods:
            await self.hub.tell(page, Methods(methods=self.methods))

    async def describe_methods(self) -> None:
        """Ask the engine for the methods and formats, once nothing more urgent needs the processor."""
        while any(run.status()["state"] in WORKING for run in self.runs.all()[:1]) and not self._has_first():
            await asyncio.sleep(POLL)
        end = time.monotonic() + SHOWN_WITHIN
        while self._has_first() and not self.shown.is_set() and time.monotonic() < end:
            await asyncio.sleep(POLL)
        self.methods = await self.engine.ask("methods")
        await self.hub.tell_all(Methods(methods=self.methods))
        self.formats |= await self.engine.ask("formats")
        await self.tell_project()

    def _has_first(self) -> bool:
        first = self.runs.all()[:1]
        return bool(first) and any((first[0].folder / "results").glob("**/result.json"))

    def project_state(self) -> Any:
        """Return the message about the project."""
        return project_state(self.project, self.formats)

    async def tell_project(self) -> None:
        """Tell all pages about the project."""
        await self.hub.tell_all(await asyncio.to_thread(self.project_state))

    async def tell_run(self, run: Run) -> None:
        """Tell all pages about a run."""
        await self.hub.tell_all(await asyncio.to_thread(run_state, self.project, run))

    async def keep_edits(self, run: Run) -> None:
        """Write the edits of a run for Python and the command line, and tell all pages."""
        await asyncio.to_thread(write_edits, self.project, run)
        await self.tell_run(run)

    async def watch(self) -> None:
        """Look at the files of the runs for ever, and tell what is new."""
        while True:
            for run in await asyncio.to_thread(self.runs.all):
                await self._guarded(self._look(run))
            await asyncio.sleep(POLL)

    async def _look(self, run: Run) -> None:
        seen, before = _stamps(run), self._seen.get(run.id)
        if seen == before:
            return
        self._seen[run.id] = seen
        if before is None or seen[:2] != before[:2]:
            await self.tell_run(run)
        if before is None or seen[2] != before[2]:
            await self._tell_figures(run)
        if seen[3] != (before or seen)[3] and (preview := last_preview(run)):
            await self.hub.tell_all(preview)

    async def _tell_figures(self, run: Run) -> None:
        rows = await asyncio.to_thread(read_journal, run.folder / MODEL / "journal.jsonl")
        known = self._rows.get(run.id, 0)
        self._rows[run.id] = len(rows)
        if len(rows) < known:
            await self.hub.tell_all(Figures(run=run.id, rows=thinned(rows), whole=True))
        elif len(rows) > known:
            await self.hub.tell_all(Figures(run=run.id, rows=rows[known:]))

    async def close(self) -> None:
        """End the engine and the background work; runs go on."""
        for task in list(self.tasks):
            task.cancel()
        await self.engine.close()
        self.project.log.close()


def thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most `MOST_ROWS` rows, evenly spread, with the last one."""
    if len(rows) <= MOST_ROWS:
        return rows
    step = -(-len(rows) // MOST_ROWS)
    return [*rows[:-1:step], rows[-1]]


def _stamps(run: Run) -> tuple[Any, ...]:
    """Return what changes when a run's files do: status and whether it lives, checkpoints, journal, previews."""
    status = run.status()
    journal = run.folder / MODEL / "journal.jsonl"
    newest = max((path.name for path in (run.folder / PREVIEWS).glob("step-*.json")), default="")
    spec = run.folder / "spec.json"
    told = (_mtime(run.folder / STATUS), _mtime(spec), status.get("state"))
    return told, len(run.checkpoints), (_mtime(journal), _size(journal)), newest


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
