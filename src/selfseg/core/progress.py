"""Progress reporters of long work: the same interface for a terminal bar, the studio and tests."""

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """A listener to long work. All calls are cheap and never raise."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Say that `task` begins, with `total` steps of which `done` are done already."""

    def update(self, done: int, values: Mapping[str, float | int]) -> None:
        """Say that `done` steps are done; `values` are named figures to show (losses, class count)."""

    def finish(self) -> None:
        """Say that the task has ended, however it ended."""

    def say(self, message: str) -> None:
        """Show one line to the user."""


class Silent:
    """The listener that shows nothing: the default of the Python interface."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Ignore."""

    def update(self, done: int, values: Mapping[str, float | int]) -> None:
        """Ignore."""

    def finish(self) -> None:
        """Ignore."""

    def say(self, message: str) -> None:
        """Ignore."""
