"""`selfseg segment`, `fit`, `predict` and `distill`: learn models, and segment with them."""

from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from selfseg.apps.cli.app import Bar, Flags, Inputs, Out, Quiet, app, exit_code
from selfseg.core.errors import UsageError
from selfseg.core.options import (
    DistillOptions,
    FitOptions,
    LearnerOptions,
    LoadOptions,
    ModelOptions,
    PredictOptions,
    options,
    share_out,
)

if TYPE_CHECKING:
    from selfseg.learning.distill import Comparison


Settings = Annotated[list[str] | None, Parameter(name="--set")]


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
    """Return flags as Python takes them: ``--set key=value`` as a mapping. UsageError if one has no equals sign."""
    import yaml

    settings = {}
    for item in flags.options or ():
        key, sign, value = item.partition("=")
        if not sign:
            raise UsageError("--set", expected="key=value", got=repr(item), fix="write for example --set momentum=0.5")
        settings[key.strip().replace("-", "_")] = yaml.safe_load(value)
    return {**vars(flags), "options": settings}


@options
class SegmentFlags(PredictFlags, FitFlags, ModelFlags):
    """Options of the model, of learning and of prediction."""


@app.command
def segment(
    inputs: Inputs,
    /,
    *,
    out: Out,
    reference: Annotated[
        list[str] | None, Parameter(help="Learn from these images, then segment INPUTS with what was learned.")
    ] = None,
    flags: Annotated[SegmentFlags | None, Flags] = None,
    quiet: Quiet = False,
) -> int:
    """Learn from images and segment them, in one go."""
    from selfseg.learning.segmenter import Segmenter
    from selfseg.segmenting import predicting

    own, learning, writing = share_out(arguments(flags or SegmentFlags()), ModelOptions, FitOptions, PredictOptions)
    bar, model = Bar(quiet), Segmenter(**vars(own))
    predicting.check_outputs(writing)  # mistakes are found before the learning, not after
    sources = predicting.find_sources(inputs, writing)  # found once: what is opened for learning serves prediction
    examples = sources if reference is None else predicting.find_sources(reference, replace(learning, limit=None))
    learning, writing = replace(learning, mask=None, limit=None), replace(writing, mask=None, limit=None)
    model.fit(examples, **vars(learning), out=out / "model", progress=bar)
    failures = predicting.predict(model.fitted, sources, out, writing, failures=model.failures_, progress=bar)
    bar.say(f"{len(model.table_)} classes; labels, overlays and {out / 'report.html'} are written")
    return exit_code(failures)


@app.command
def fit(
    inputs: Inputs,
    /,
    *,
    out: Out,
    model: Annotated[ModelFlags | None, Flags] = None,
    learning: Annotated[FitFlags | None, Flags] = None,
    quiet: Quiet = False,
) -> int:
    """Learn a model from images; OUT becomes the model folder. Under torchrun, its processes learn it together."""
    from selfseg.core.machine import own_rank
    from selfseg.learning.segmenter import Segmenter

    rank = own_rank()
    bar, fitted = Bar(quiet or not rank.first), Segmenter(**arguments(model or ModelFlags()))
    fitted.fit(inputs, **vars(learning or FitFlags()), out=out, progress=bar, shared=rank.world > 1)
    for _, message in fitted.failures_:
        bar.say(message)
    bar.say(f"{len(fitted.table_)} classes; the model is in {out}")
    return exit_code(fitted.failures_)


@app.command
def predict(
    model: Annotated[Path, Parameter(help="Model folder that fit or segment wrote.")],
    inputs: Inputs,
    /,
    *,
    out: Out,
    refine: Annotated[
        str | None, Parameter(help="Refinement, instead of the model's own: crf=key:value,..., or none.")
    ] = None,
    clean: Annotated[
        str | None, Parameter(help="Cleaning, instead of the model's own: objects:200,holes:100, or none.")
    ] = None,
    channels: Annotated[
        str | None, Parameter(help="Channels of these images, names or numbers, instead of the model's own.")
    ] = None,
    loading: Annotated[LoadOptions | None, Flags] = None,
    writing: Annotated[PredictFlags | None, Flags] = None,
    quiet: Quiet = False,
) -> int:
    """Segment images with a model that has learned before."""
    from selfseg.learning import run

    bar, fitted = Bar(quiet), run.load(model, **vars(loading or LoadOptions()))
    changes = {"refine": refine, "clean": clean, "channels": channels}
    fitted.set_params(**{name: value for name, value in changes.items() if value is not None})
    failures = run.predict(fitted, inputs, out, progress=bar, **vars(writing or PredictFlags()))
    bar.say(f"labels, overlays and {out / 'report.html'} are written")
    return exit_code(failures)


@app.command
def distill(
    teacher: Annotated[Path, Parameter(help="Model folder of the teacher, that fit or segment wrote.")],
    inputs: Inputs,
    /,
    *,
    out: Out,
    pupil: Annotated[DistillFlags | None, Flags] = None,
    quiet: Quiet = False,
) -> int:
    """Teach a fast, smooth U-Net the labels that another model gives; OUT becomes the U-Net's model folder."""
    from selfseg.learning.distill import distill as run
    from selfseg.learning.run import load

    bar, pupil = Bar(quiet), pupil or DistillFlags()
    distilled = run(load(teacher, pupil.device), inputs, out, progress=bar, **arguments(pupil))
    if not quiet:
        _show(distilled.comparison)
    bar.say(f"the pupil is in {out}; use it with: selfseg predict {out} IMAGES -o OUT")
    return exit_code(distilled.failures)


def _show(comparison: "Comparison") -> None:
    table = Table("", "teacher", "pupil", box=None, pad_edge=False, header_style="bold")
    seconds, parts, sides = comparison.seconds, comparison.parts, ("teacher", "pupil")
    table.add_row("seconds an image", *(f"{seconds[side]:.3f}" for side in sides))
    table.add_row("parts an image", *(f"{parts[side]:.0f}" for side in sides))
    for name in comparison.truth.get("teacher", {}):
        table.add_row(name, *(f"{comparison.truth[side][name]:.4f}" for side in sides))
    console, n, share = Console(highlight=False), comparison.n_images, comparison.learned_from
    console.print(f"[bold]{n} image(s)[/bold], {share:.0%} of their pixels learned from")
    console.print(
        f"the pupil agrees on {comparison.agreement:.1%} of the pixels, {comparison.agreement_when_sure:.1%} of those, "
        f"and is {seconds['teacher'] / max(seconds['pupil'], 1e-9):.1f} times as fast"
    )
    console.print(table)
