"""The commands that learn and segment: segment, fit, predict. Heavy imports happen inside them, so that help answers at once."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.groups import Learning, Reading, Writing
from selfseg.apps.cli.parameters import Dask, Inputs, Labels, LabelsAs, Out, app, verdict
from selfseg.core.processes import own_rank

READING, LEARNING, WRITING = Reading(), Learning(), Writing()
"""Every option as it is where nothing is said."""


@app.command
def segment(
    inputs: Inputs,
    /,
    *,
    out: Out,
    reference: Annotated[
        list[str] | None,
        Parameter(negative="", help="Learn from these images, then segment INPUT with what was learned."),
    ] = None,
    learning: Learning = LEARNING,
    reading: Reading = READING,
    writing: Writing = WRITING,
) -> int:
    """Learn from images and segment them, in one go."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.learning.run import predict

    bar, then, model = Bar(reading.quiet), writing.how(), learning.model(reading.device)
    how = learning.how() | reading.how()
    model.fit(reading.sources(reference or inputs, reference is None), out=out / "model", progress=bar, **how)
    then |= reading.how() | {"limit": reading.limit, "mask": reading.mask}
    failures = predict(model, inputs, out, failures=model.failures_, progress=bar, **then)
    bar.say(f"{len(model.table_)} classes; labels, overlays and {out / 'report.html'} are written")
    return verdict(failures)


@app.command
def fit(
    inputs: Inputs,
    /,
    *,
    out: Out,
    labels: Labels = None,
    labels_as: LabelsAs = "sparse",
    truth: Annotated[
        Path | None, Parameter(help="Truth of training images: scores beside the losses; nothing is learned from it.")
    ] = None,
    checkpoint_every: Annotated[float, Parameter(help="Seconds between two checkpoints.")] = 20.0,
    preview_every: Annotated[float, Parameter(help="Seconds between two preview pictures.")] = 10.0,
    learning: Learning = LEARNING,
    reading: Reading = READING,
) -> int:
    """Learn a model from images; OUT becomes the model folder. Under torchrun, its processes learn it together."""
    from selfseg.apps.cli.bar import Bar

    place = own_rank()
    bar, model = Bar(reading.quiet or not place.first), learning.model(reading.device)
    how = learning.how() | reading.how() | {"labels": labels, "labels_as": labels_as, "truth": truth}
    how |= {"checkpoint_every": checkpoint_every, "preview_every": preview_every, "shared": place.world > 1}
    model.fit(reading.sources(inputs), out=out, progress=bar, **how)
    for _, message in model.failures_:
        bar.say(message)
    bar.say(f"{len(model.table_)} classes; the model is in {out}")
    return verdict(model.failures_)


@app.command
def predict(
    model: Annotated[Path, Parameter(help="Model folder that fit or segment wrote.")],
    inputs: Inputs,
    /,
    *,
    out: Out,
    refine: Annotated[
        str | None, Parameter(help="Refine the result in another way than the model's own: crf=key:value,..., or none.")
    ] = None,
    clean: Annotated[
        str | None,
        Parameter(help="Clean the labels in another way than the model's own: objects:200,holes:100, or none."),
    ] = None,
    edits: Annotated[
        Path | None,
        Parameter(help="Repeat what was done to the classes by hand: the edits.json of a run of the studio."),
    ] = None,
    dask: Dask = None,
    networks: Annotated[
        str | None, Parameter(help="Module with networks of your own that the model was made with: it will be run.")
    ] = None,
    reading: Reading = READING,
    writing: Writing = WRITING,
) -> int:
    """Segment images with a model that has learned before."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.learning.run import load
    from selfseg.learning.run import predict as run
    from selfseg.refine.edits import read_edits

    bar, how = Bar(reading.quiet), writing.how()
    fitted = load(model, reading.device, networks)
    fitted.set_params(**{key: value for key, value in {"refine": refine, "clean": clean}.items() if value is not None})
    how |= reading.how() | {"limit": reading.limit, "mask": reading.mask, "dask": dask}
    how["edits"] = None if edits is None else read_edits(edits)
    failures = run(fitted, inputs, out, progress=bar, **how)
    bar.say(f"labels, overlays and {out / 'report.html'} are written")
    return verdict(failures)
