"""`selfseg fit`: learn a model, also in several processes under torchrun."""

from typing import Annotated

from selfseg.apps.cli.app import FitFlags, Flags, Inputs, ModelFlags, Out, Report, app, arguments, exit_code, reporter


@app.command
def fit(
    inputs: Inputs,
    /,
    *,
    out: Out,
    model: Annotated[ModelFlags | None, Flags] = None,
    learning: Annotated[FitFlags | None, Flags] = None,
    report: Report = None,
) -> int:
    """Learn a model from images; OUT becomes the model folder. Under torchrun, its processes learn it together."""
    from selfseg.core.machine import own_rank
    from selfseg.learning.segmenter import Segmenter

    rank = own_rank()
    bar, fitted = reporter(report, rank.first), Segmenter(**arguments(model or ModelFlags()))
    fitted.fit(inputs, **vars(learning or FitFlags()), out=out, progress=bar, shared=rank.world > 1)
    for _, message in fitted.failures_:
        bar.say(message)
    bar.say(f"{len(fitted.table_)} classes; the model is in {out}")
    return exit_code(fitted.failures_, bar)
