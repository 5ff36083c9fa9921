"""The tiles of the first page: `selfseg look` in a process of its own, whose folder in the project is read as it grows."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from selfseg.apps.studio.messages import Look
from selfseg.apps.studio.project import Project
from selfseg.apps.studio.runs import child_environment, read_json

LOOK, FACTS, LOG = "look", "look.json", "log.txt"


class Looking:
    """The process that makes the tiles, one at a time, and what it has made so far."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.folder = project.folder / LOOK
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def working(self) -> bool:
        """True if the process is at work."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Make the tiles of the project's pictures anew, unless it is doing so."""
        sources = self.project.sources()
        if self.working or not sources:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        axes = [] if self.project.axes is None else ["--axes", self.project.axes]
        words = [*(str(source.path) for source in sources), "-o", str(self.folder), "-q", *axes]
        with (self.folder / LOG).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "selfseg", "look", *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=child_environment(),
            )  # fmt: skip

    def stamp(self) -> tuple[Any, ...]:
        """Return values that change with the tiles."""
        try:
            found = (self.folder / FACTS).stat()
        except OSError:
            return self.working, 0, 0
        return self.working, found.st_mtime_ns, found.st_size

    def message(self) -> Look:
        """Return the message with the tiles that there are."""
        facts = read_json(self.folder / FACTS) or {}
        failed = self._process is not None and self._process.poll() not in (None, 0, 1)
        return Look(
            tiles=facts.get("tiles", []), total=facts.get("total", 0), working=self.working,
            error=last_line(self.folder / LOG) if failed else "",
        )  # fmt: skip

    def close(self) -> None:
        """End the process."""
        if self.working and self._process is not None:
            self._process.terminate()


def last_line(log: Path) -> str:
    """Return the last line of a log, or a sentence where it has none."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "the look ended early"
