"""The command that distils: a teacher's labels teach a U-Net. Heavy imports happen inside it."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from selfseg.apps.cli.parameters import (
    Axes,
    Device,
    Inputs,
    LabelsAs,
    Limit,
    Out,
    Overwrite,
    Prepare,
    Preset,
    Quiet,
    Resume,
    Seed,
    Settings,
    app,
    settings_of,
    verdict,
)

if TYPE_CHECKING:
    from selfseg.learning.distill import Comparison


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Pupil:
    """What the pupil learns and how: the options of distill."""

    confidence: Annotated[
        float,
        Parameter(help="Pixels of which the teacher is less sure are not learned from; half of each class is kept."),
    ] = 0.9
    preset: Preset = "fast"
    seed: Seed = 0
    truth: Annotated[
        Path | None, Parameter(help="Truth of some of the images: scores of both; nothing is learned from it.")
    ] = None
    truth_as: LabelsAs = "sparse"
    prepare: Prepare = None
    axes: Axes = None
    device: Device = "auto"
    set_: Settings = field(default_factory=list)
    limit: Limit = None
    resume: Resume = False
    overwrite: Overwrite = False

    def how(self) -> dict[str, Any]:
        """Return what the pipeline is told."""
        told = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "set_"}
        return told | {"options": settings_of(self.set_)}


PUPIL = Pupil()
"""Every option as it is where nothing is said."""


@app.command
def distill(
    teacher: Annotated[Path, Parameter(help="Model folder of the teacher, that fit or segment wrote.")],
    inputs: Inputs,
    /,
    *,
    out: Out,
    pupil: Pupil = PUPIL,
    quiet: Quiet = False,
) -> int:
    """Teach a fast, smooth U-Net the labels that another model gives; OUT becomes the U-Net's model folder."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.learning.distill import distill as run
    from selfseg.learning.run import load

    bar = Bar(quiet)
    found = run(load(teacher, pupil.device), inputs, out, progress=bar, **pupil.how())
    if not quiet:
        show(found.comparison)
    bar.say(f"the pupil is in {out}; use it with: selfseg predict {out} IMAGES -o OUT")
    return verdict(found.failures)


def show(comparison: "Comparison") -> None:
    """Print how teacher and pupil compare."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "teacher", "pupil", box=None, pad_edge=False, header_style="bold")
    seconds, parts = comparison.seconds, comparison.parts
    table.add_row("seconds an image", f"{seconds['teacher']:.3f}", f"{seconds['pupil']:.3f}")
    table.add_row("parts an image", f"{parts['teacher']:.0f}", f"{parts['pupil']:.0f}")
    for name in comparison.truth.get("teacher", {}):
        table.add_row(name, *(f"{comparison.truth[side][name]:.4f}" for side in ("teacher", "pupil")))
    console = Console(highlight=False)
    console.print(
        f"[bold]{comparison.n_images} image(s)[/bold], {comparison.learned_from:.0%} of their pixels learned from"
    )
    console.print(
        f"the pupil agrees on {comparison.agreement:.1%} of the pixels, {comparison.agreement_when_sure:.1%} of those, "
        f"and is {seconds['teacher'] / max(seconds['pupil'], 1e-9):.1f} times as fast"
    )
    console.print(table)
