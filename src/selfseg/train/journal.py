"""The journal: one JSON line an optimiser step, readable while training runs and after any crash."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from selfseg.core.errors import OutputError
from selfseg.core.files import write_text


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class Journal:
    """Append-only journal of a training run, a ``.jsonl`` file.

    Lines of steps after `keep_until`, written after the checkpoint that a run resumes from, are dropped.
    """

    def __init__(self, path: Path, keep_until: int = 0) -> None:
        rows = [row for row in read_journal(path) if row["step"] <= keep_until]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        self._path = path
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float | int]) -> None:
        """Append one line; it is handed to the operating system before this returns."""
        try:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        except OSError as error:
            fix = "free some space, then go on with --resume"
            got = error.strerror or str(error)
            raise OutputError(self._path, expected="room for the journal", got=got, fix=fix) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
