"""`selfseg predict`: segment images with a model that has learned before."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.app import Flags, Inputs, Out, PredictFlags, Report, app, exit_code, reporter
from selfseg.core.errors import UsageError
from selfseg.core.options import LoadOptions, PredictOptions


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
    watch: Annotated[
        bool, Parameter(help="Watch the INPUTS (folders) and segment images as they arrive, until Ctrl-C.")
    ] = False,
    settle: Annotated[
        float | None,
        Parameter(help="With --watch: seconds that a file must stay unchanged before it is read. Default: 2."),
    ] = None,
    idle: Annotated[
        float | None,
        Parameter(help="With --watch: end after this number of seconds without a new image. Default: never."),
    ] = None,
    report: Report = None,
) -> int:
    """Segment images with a model that has learned before."""
    from selfseg.learning.run import load
    from selfseg.learning.run import predict as run

    bar, fitted = reporter(report), load(model, **vars(loading or LoadOptions()))
    changes = {"refine": refine, "clean": clean, "channels": channels}
    fitted.set_params(**{name: value for name, value in changes.items() if value is not None})
    options = PredictOptions(**vars(writing or PredictFlags()))
    if watch:
        from selfseg.learning.watching import SETTLE
        from selfseg.learning.watching import watch as run_watch

        settle = SETTLE if settle is None else settle
        failures = run_watch(fitted.fitted, inputs, out, options, settle=settle, idle=idle, progress=bar)
    elif settle is not None or idle is not None:
        name = "--settle" if settle is not None else "--idle"
        raise UsageError(name, expected="--watch beside it", got="none", fix="add --watch, or leave it out")
    else:
        failures = run(fitted, inputs, out, progress=bar, **vars(options))
    bar.say(f"labels, overlays and {out / 'report.html'} are written")
    return exit_code(failures, bar)
