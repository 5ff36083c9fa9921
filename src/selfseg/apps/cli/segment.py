"""`selfseg segment`: learn and segment in one go."""

from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.app import (
    FitFlags,
    Flags,
    Inputs,
    ModelFlags,
    Out,
    PredictFlags,
    Report,
    app,
    arguments,
    exit_code,
    reporter,
)
from selfseg.core.options import FitOptions, ModelOptions, PredictOptions, options, share_out


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
    report: Report = None,
) -> int:
    """Learn from images and segment them, in one go."""
    from selfseg.learning.segmenter import Segmenter
    from selfseg.segmenting.predicting import check_outputs, find_sources, predict

    own, learning, writing = share_out(arguments(flags or SegmentFlags()), ModelOptions, FitOptions, PredictOptions)
    bar, model = reporter(report), Segmenter(**vars(own))
    check_outputs(writing, out)  # mistakes are found before the learning, not after
    sources = find_sources(inputs, writing, bar)  # found once: what is opened for learning serves prediction
    examples = sources if reference is None else find_sources(reference, replace(learning, limit=None), bar)
    learning, writing = replace(learning, mask=None, limit=None), replace(writing, mask=None, limit=None)
    model.fit(examples, **vars(learning), out=out / "model", progress=bar)
    failures = predict(model.fitted, sources, out, writing, failures=model.failures_, progress=bar)
    bar.say(f"{len(model.table_)} classes; labels, overlays and {out / 'report.html'} are written")
    return exit_code(failures, bar)
