"""`selfseg fit`: learn a model, also in several processes under torchrun."""

from typing import Annotated

from selfseg.apps.cli.app import Bar, FitFlags, Flags, Inputs, ModelFlags, Out, Quiet, app, arguments, exit_code


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
