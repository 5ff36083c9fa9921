"""The progress bar: every loss term, the class count and the time left; plain lines where there is no terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """A `selfseg.core.progress.Progress` that draws a bar on standard error."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._progress: Progress | None = None

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Show a new bar."""
        self.finish()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[values]}"),
        )
        self._progress = Progress(*columns, console=self.console, refresh_per_second=4)
        self._progress.add_task(task, total=total, completed=done, values="")
        self._progress.start()

    def update(self, done: int, values: Mapping[str, float | int]) -> None:
        """Move the bar and show the figures."""
        if self._progress is not None:
            shown = "  ".join(f"{name} {_short(value)}" for name, value in values.items())
            self._progress.update(self._progress.task_ids[0], completed=done, values=shown)

    def finish(self) -> None:
        """Take the bar away, leaving its last state on the screen."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def say(self, message: str) -> None:
        """Print one line above the bar."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)


def _short(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
