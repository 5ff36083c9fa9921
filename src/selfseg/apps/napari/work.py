"""Work beside the window: a thread that starts the process of a job, and passes on what that sends, as signals."""

import contextlib
import secrets
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, Listener, wait
from typing import Any

from qtpy.QtCore import QThread, Signal

from selfseg.apps.napari.process import Job

LEARNING = "learning"
"""First word of the task that can be ended early without losing finished work."""

PROCESS = "selfseg.apps.napari.process"


class Work(QThread):
    """A job in a process of its own, which tells the window what it does by signals.

    The process is started by its own name, not as a copy of this one: the user's script would begin once more.

    Parameters
    ----------
    job
        The job.
    parent
        Qt's owner.
    """

    progressed = Signal(str, int, int)
    said = Signal(str)
    previewed = Signal(object, int)
    modelled = Signal(object)
    segmented = Signal(str, object)
    done = Signal()
    failed = Signal(str)

    def __init__(self, job: Job, parent: Any = None) -> None:
        super().__init__(parent)
        self._job, self._task, self._asked = job, "", threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._pipe: Connection | None = None

    def run(self) -> None:
        """Start the process, and pass on what it sends till its end."""
        key = secrets.token_bytes(32)
        with Listener(("127.0.0.1", 0), authkey=key) as listener:
            command = [sys.executable, "-m", PROCESS]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
            with contextlib.suppress(OSError), self._process.stdin or contextlib.nullcontext() as stdin:
                if stdin is not None:
                    stdin.write(f"{listener.address[1]} {key.hex()}\n")
            try:
                with self._accepted(listener) as self._pipe:
                    self._pipe.send(self._job)
                    while self._pass_on(*self._pipe.recv()):
                        pass
            except (EOFError, OSError):
                self.failed.emit("stopped" if self._asked.is_set() else "the process ended: was memory short?")
            self._process.wait()

    def _accepted(self, listener: Listener) -> Connection:
        """Return the connection of the process, once it calls; `EOFError` if it ends before."""
        calls = [listener._listener._socket]  # type: ignore[attr-defined]  # what else tells of a call without waiting for ever?
        while not wait(calls, 0.2):
            if self._process is None or self._process.poll() is not None:
                raise EOFError
        return listener.accept()

    def _pass_on(self, kind: str, *facts: Any) -> bool:
        """Emit the signal of a message; return whether more will come."""
        signals: dict[str, Any] = {
            "progress": self.progressed,
            "say": self.said,
            "preview": self.previewed,
            "model": self.modelled,
            "result": self.segmented,
            "done": self.done,
            "failed": self.failed,
        }
        if kind == "progress":
            self._task = facts[0]
        signals[kind].emit(*facts)
        return kind not in ("done", "failed")

    def stop(self, now: bool = False) -> None:
        """Stop: learning ends after its step, and what is learned is used; all else, or with `now`, ends at once."""
        self._asked.set()
        if self._pipe is not None and self._task.startswith(LEARNING) and not now:
            with contextlib.suppress(OSError):
                self._pipe.send("stop")
        elif self._process is not None:
            self._process.terminate()
