"""The application, and what several commands share: public options as flags, inputs, folders, the progress bar, exit codes."""

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from selfseg.core.errors import Failure, UsageError
from selfseg.core.options import DistillOptions, FitOptions, LearnerOptions, ModelOptions, PredictOptions, options
from selfseg.core.progress import Progress

app = App(
    name="selfseg",
    help="Segment images without labels: learn from your own images, then segment those and others like them.",
    version=lambda: __import__("selfseg").__version__,
    help_epilogue="Exit code: 0 done, 1 some inputs failed (the others are done), 2 bad usage, 130 stopped by Ctrl-C, 75 stopped by "
    "SIGTERM (what is done is saved; the same command continues, fit and segment with --resume).",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)

Inputs = Annotated[list[str], Parameter(help="Images, folders (searched recursively) or globs.")]
Out = Annotated[Path, Parameter(name=["--out", "-o"], help="Folder for what comes out.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], help="Show errors only.")]
Folder = Annotated[Path, Parameter(help="The OUT folder of segment or predict.")]
Images = Annotated[
    str | None, Parameter(help="Where the images are now, if they have moved: a file, a folder or a glob.")
]
Settings = Annotated[list[str] | None, Parameter(name="--set")]
Flags = Parameter(name="*")
"""Marks a parameter whose fields are flags."""


@options
class ModelFlags(ModelOptions):
    """The model's options; help and defaults are those of the fields that are not named here."""

    n_classes: Annotated[int | Literal["auto"] | None, Parameter(name=["--classes", "--n-classes"])] = None
    channels: str | None = None
    options: Settings = None  # type: ignore[assignment]  # see `arguments`


@options
class FitFlags(FitOptions):
    """Options of learning as flags."""

    frames: str | None = None
    compiled: Annotated[bool | None, Parameter(name="--compile", negative="--no-compile")] = None


@options
class PredictFlags(PredictOptions):
    """Options of prediction as flags."""

    sequence: Annotated[bool | None, Parameter(negative="--no-sequence")] = None
    write: list[str] = field(default_factory=lambda: ["tiff"])


@options
class DistillFlags(DistillOptions):
    """Options of distillation as flags."""

    options: Settings = None  # type: ignore[assignment]  # see `arguments`


def arguments(flags: LearnerOptions) -> dict[str, Any]:
    """Return flags as Python takes them: ``--set key=value`` as a mapping. `UsageError` if one has no equals sign."""
    import yaml

    settings = {}
    for item in flags.options or ():
        key, sign, value = item.partition("=")
        if not sign:
            raise UsageError("--set", expected="key=value", got=repr(item), fix="write for example --set momentum=0.5")
        settings[key.strip().replace("-", "_")] = yaml.safe_load(value)
    return {**vars(flags), "options": settings}


@options
class ReportOptions:
    """Verbosity and form of the progress report of a command."""

    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False
    """Show errors only."""
    progress: Literal["bar", "json"] = "bar"
    """bar, or json: a line of JSON an event on standard error, for other programs."""


Report = Annotated[ReportOptions | None, Flags]


class Reporter(Progress, Protocol):
    """A progress reporter that names what failed too."""

    quiet: bool

    def fail(self, name: str, message: str) -> None:
        """Name an input that failed."""


def reporter(report: ReportOptions | None, shown: bool = True) -> Reporter:
    """Return the reporter that the flags ask for; one that is not `shown` names failures alone."""
    report = report or ReportOptions()
    kind: type[Bar] | type[JsonLines] = Bar if report.progress == "bar" else JsonLines
    return kind(report.quiet or not shown)


def wants_json(tokens: Sequence[str]) -> bool:
    """Return whether the words of a command line ask for JSON lines, errors included."""
    pairs = zip(tokens, [*tokens[1:], ""], strict=True)
    return "--progress=json" in tokens or ("--progress", "json") in pairs


def exit_code(failures: list[Failure], bar: Reporter) -> int:
    """Name what failed once more at the end, where it is seen, and return the exit code."""
    for name, message in failures:
        bar.fail(name, message)
    return 1 if failures else 0


def split_names(text: str) -> list[str]:
    """Return the names of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


class Bar:
    """A `selfseg.core.progress.Progress` that draws a bar on standard error."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet)
        self._progress: RichProgress | None = None

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Show a new bar."""
        self.finish()
        whole = Column(no_wrap=True)
        columns = [
            TextColumn("{task.description}", table_column=whole),
            BarColumn(bar_width=24),
            MofNCompleteColumn(table_column=whole),
            _Clock(compact=True, elapsed_when_finished=True, table_column=whole),
            TextColumn("{task.fields[values]}"),
        ]
        if self.console.width < 110:  # room for the figures rather than for the bar
            del columns[1]
        self._progress = RichProgress(*columns, console=self.console, refresh_per_second=4)
        self._progress.add_task(task, total=total, completed=done, values="")
        self._progress.start()

    def update(self, done: int, values: Mapping[str, float | int]) -> None:
        """Move the bar and show the figures."""
        if self._progress is not None:
            shown = " ".join(f"{name} {_short(value)}" for name, value in values.items())
            self._progress.update(self._progress.task_ids[0], completed=done, values=shown)

    def finish(self) -> None:
        """Take the bar away, leaving its last state on the screen."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def say(self, message: str) -> None:
        """Print one line above the bar."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def fail(self, name: str, message: str) -> None:
        """Name an input that failed on standard error, also where all else is quiet."""
        sys.stderr.write(f"selfseg: failed: {message}\n")


LEAST_INTERVAL = 0.1
"""Seconds between two lines of JSON on the progress of one task, at least; its last step is always reported."""


class JsonLines:
    """A `selfseg.core.progress.Progress` that writes each event as a line of JSON on standard error (`docs/progress.md`)."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._task, self._total, self._last = "", 0, -math.inf

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Write that a task begins."""
        self._task, self._total, self._last = task, total, -math.inf
        self._write("start", task=task, done=done, total=total)

    def update(self, done: int, values: Mapping[str, float | int]) -> None:
        """Write how far the task is, unless a moment ago; figures that are not finite are null."""
        now = time.monotonic()
        if now - self._last >= LEAST_INTERVAL or done >= self._total:
            self._last = now
            figures = {name: value if math.isfinite(value) else None for name, value in values.items()}
            self._write("progress", task=self._task, done=done, total=self._total, values=figures)

    def finish(self) -> None:
        """Write that the task has ended."""
        if self._task:
            self._write("finish", task=self._task)
            self._task = ""

    def say(self, message: str) -> None:
        """Write a message."""
        self._write("message", message=message)

    def fail(self, name: str, message: str) -> None:
        """Write that an input failed, also where all else is quiet."""
        write_event("failed", name=name, message=message)

    def _write(self, event: str, **facts: Any) -> None:
        if not self.quiet:
            write_event(event, **facts)


def write_event(event: str, **facts: Any) -> None:
    """Write an event as one line of JSON on standard error."""
    sys.stderr.write(json.dumps({"event": event, **facts}, default=float) + "\n")
    sys.stderr.flush()


class _Clock(TimeRemainingColumn):
    """The time left, then the time taken, and which of the two it is."""

    def render(self, task: Task) -> Text:
        return Text.assemble(super().render(task), " taken" if task.finished else " left")


def _short(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
