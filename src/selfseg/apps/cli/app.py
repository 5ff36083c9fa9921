"""The application, and what several commands share: public options as flags, inputs, folders and exit codes."""

import sys
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

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
    """Return flags as Python takes them: ``--set key=value`` as a mapping.

    Raises
    ------
    UsageError
        If one has no equals sign.
    """
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
