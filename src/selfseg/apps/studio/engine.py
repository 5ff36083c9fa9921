"""Client of the process that holds torch (`engine_process`), so that the server need not; it is started again if it dies."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from selfseg.apps.studio.runs import child_environment
from selfseg.core.errors import InputError

LONGEST_LINE = 2**24
"""Bytes of one answer at most."""


class Engine:
    """One process at a time, one question after the other.

    Parameters
    ----------
    log
        File that takes what the process writes to standard error.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def ask(self, task: str, **fields: Any) -> Any:
        """Do one of `engine_process.TASKS` and return its value.

        InputError with the message of the process if the task failed, or if the process died.
        """
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
