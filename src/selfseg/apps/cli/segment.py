"""`selfseg segment`: learn and segment in one go."""

from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.app import (
    FitFlags,
    Flags,
    Inputs,
    ModelFlags,
    Out,
    PredictFlags,
    Quiet,
    app,
    arguments,
    exit_code,
)
from selfseg.apps.cli.bar import Bar
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
    quiet: Quiet = False,
) -> int:
    """Learn from images and segment them, in one go."""
    from selfseg.learning.run import segment_into
    from selfseg.learning.segmenter import Segmenter

    own, learning, writing = share_out(arguments(flags or SegmentFlags()), ModelOptions, FitOptions, PredictOptions)
    bar, model = Bar(quiet), Segmenter(**vars(own))
    failures = segment_into(model, inputs, out, learning, writing, reference, bar)
    bar.say(f"{len(model.table_)} classes; labels, overlays and {out / 'report.html'} are written")
    return exit_code(failures)
