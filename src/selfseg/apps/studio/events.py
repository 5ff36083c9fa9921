"""Everything that was done by hand, as a log that only grows: undo and redo without limit, and nothing lost when killed."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfseg.core.errors import OutputError, UsageError
from selfseg.refine.edits import AS_LEARNED, Edits, Merge, Split

Operation = dict[str, Any]

SCRIBBLES = "scribbles"
"""Scope of strokes: they belong to the pictures, not to a run."""


@dataclass
class History:
    """What was done in one scope, and what was undone and can be done again."""

    done: list[Operation] = field(default_factory=list)
    undone: list[Operation] = field(default_factory=list)

    def take(self, entry: Mapping[str, Any]) -> None:
        """Bring one line of the log into the history."""
        if "do" in entry:
            self.done.append(entry["do"])
            self.undone.clear()
        elif entry.get("undo") and self.done:
            self.undone.append(self.done.pop())
        elif entry.get("redo") and self.undone:
            self.done.append(self.undone.pop())


class EventLog:
    """The log of a project: one JSON line an event, on the disk before it counts.

    Parameters
    ----------
    path
        The file. A last line that a crash cut off is dropped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._histories: dict[str, History] = {}
        whole = 0
        if path.exists():
            text = path.read_bytes()
            for line in text.splitlines(keepends=True):
                entry = _parsed(line)
                if entry is None:
                    break
                self.history(entry["scope"]).take(entry)
                whole += len(line)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.truncate(whole)

    def history(self, scope: str) -> History:
        """Return what was done in a scope: a run's name, or `SCRIBBLES`."""
        return self._histories.setdefault(scope, History())

    def do(self, scope: str, operation: Operation) -> None:
        """Add an operation."""
        self._append({"scope": scope, "do": operation})

    def undo(self, scope: str) -> Operation | None:
        """Take the last operation back and return it; None if there is none."""
        return self._turn(scope, "undo", self.history(scope).done)

    def redo(self, scope: str) -> Operation | None:
        """Do the operation that was undone last again and return it; None if there is none."""
        return self._turn(scope, "redo", self.history(scope).undone)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _turn(self, scope: str, what: str, stack: list[Operation]) -> Operation | None:
        if not stack:
            return None
        turned = stack[-1]
        self._append({"scope": scope, what: True})
        return turned

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            fix = "free some space, then try again"
            got = error.strerror or str(error)
            raise OutputError(self._path, expected="room for the log", got=got, fix=fix) from error
        self.history(entry["scope"]).take(entry)


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("scope"), str) else None


def fold(operations: list[Operation]) -> Edits:
    """Return what a run's operations come to."""
    level = AS_LEARNED
    steps: list[Merge | Split] = []
    ignored: set[int] = set()
    names: dict[int, str] = {}
    colours: dict[int, tuple[int, int, int, int]] = {}
    for row in operations:
        match row["op"]:
            case "level":
                level = float(row["level"])
            case "merge":
                steps.append(Merge(row["source"], row["target"]))
                ignored.discard(row["source"])
            case "split":
                steps.append(Split(row["source"], tuple(row["parts"]), tuple(map(tuple, row["centres"]))))
            case "ignore":
                (ignored.add if row["on"] else ignored.discard)(row["id"])
            case "rename":
                names[row["id"]] = row["name"]
            case "recolour":
                colours[row["id"]] = tuple(row["rgba"])
    return Edits(level, tuple(steps), frozenset(ignored), names, colours)


def check(operation: Operation, ids: set[int]) -> None:
    """Refuse an operation on classes that are not there.

    Raises
    ------
    UsageError
        If it names a class that is not among `ids`, or merges one into itself.
    """
    named = [operation[key] for key in ("id", "source", "target") if key in operation]
    missing = [key for key in named if key not in ids]
    if missing:
        known = ", ".join(map(str, sorted(ids)))
        raise UsageError("class", expected=f"one of {known}", got=str(missing[0]), fix="look at the class table")
    if operation["op"] == "merge" and operation["source"] == operation["target"]:
        raise UsageError("merge", expected="two classes", got="the same one twice", fix="choose another")
