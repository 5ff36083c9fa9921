"""The application, and what several commands share: public options as flags, inputs, folders, the progress bar, exit codes."""

import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from selfseg.core.errors import Failure, UsageError
from selfseg.core.options import DistillOptions, FitOptions, LearnerOptions, ModelOptions, PredictOptions, options

app = App(
    name="selfseg",
    help="Segment images without labels: learn from your own images, then segment those and others like them.",
    version=lambda: __import__("selfseg").__version__,
    help_epilogue="Exit code: 0 done, 1 some inputs failed (the others are done), 2 bad usage, 130 stopped by Ctrl-C, 75 stopped by "
    "SIGTERM (what is done is saved; the same command goes on, fit and segment with --resume).",
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


def exit_code(failures: list[Failure]) -> int:
    """Name what failed once more at the end, where it is seen, and return the exit code."""
    for _, message in failures:
        sys.stderr.write(f"selfseg: failed: {message}\n")
    return 1 if failures else 0


def split_names(text: str) -> list[str]:
    """Return the names of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


class Bar:
    """A `selfseg.core.progress.Progress` that draws a bar on standard error."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._progress: Progress | None = None

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
        self._progress = Progress(*columns, console=self.console, refresh_per_second=4)
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


class _Clock(TimeRemainingColumn):
    """The time left, then the time taken, and which of the two it is."""

    def render(self, task: Task) -> Text:
        return Text.assemble(super().render(task), " taken" if task.finished else " left")


def _short(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
