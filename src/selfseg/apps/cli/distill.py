"""`selfseg distill`: a teacher's labels teach a U-Net."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from selfseg.apps.cli.app import DistillFlags, Flags, Inputs, Out, Report, app, arguments, exit_code, reporter

if TYPE_CHECKING:
    from selfseg.learning.distill import Comparison


@app.command
def distill(
    teacher: Annotated[Path, Parameter(help="Model folder of the teacher, that fit or segment wrote.")],
    inputs: Inputs,
    /,
    *,
    out: Out,
    pupil: Annotated[DistillFlags | None, Flags] = None,
    report: Report = None,
) -> int:
    """Teach a fast, smooth U-Net the labels that another model gives; OUT becomes the U-Net's model folder."""
    from selfseg.learning.distill import distill as run
    from selfseg.learning.run import load

    bar, pupil = reporter(report), pupil or DistillFlags()
    distilled = run(load(teacher, pupil.device), inputs, out, progress=bar, **arguments(pupil))
    if not bar.quiet:
        _show(distilled.comparison)
    bar.say(f"the pupil is in {out}; use it with: selfseg predict {out} IMAGES -o OUT")
    return exit_code(distilled.failures, bar)


def _show(comparison: "Comparison") -> None:

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
