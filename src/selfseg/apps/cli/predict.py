"""`selfseg predict`: segment images with a model that has learned before."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.app import Bar, Flags, Inputs, Out, PredictFlags, Quiet, app, exit_code
from selfseg.core.options import LoadOptions


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
    from selfseg.learning.run import load
    from selfseg.learning.run import predict as run

    bar, fitted = Bar(quiet), load(model, **vars(loading or LoadOptions()))
    changes = {"refine": refine, "clean": clean, "channels": channels}
    fitted.set_params(**{name: value for name, value in changes.items() if value is not None})
    failures = run(fitted, inputs, out, progress=bar, **vars(writing or PredictFlags()))
    bar.say(f"labels, overlays and {out / 'report.html'} are written")
    return exit_code(failures)
