"""The commands. Heavy imports happen inside them, so that help answers at once."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from selfseg.apps.cli.parameters import (
    Axes,
    Classes,
    Device,
    Inputs,
    Instances,
    Labels,
    LabelsAs,
    Limit,
    Memory,
    MethodName,
    Ngff,
    Out,
    Overwrite,
    Prepare,
    Preset,
    Quiet,
    Refine,
    Resume,
    Scribbles,
    Seed,
    Settings,
    Write,
    app,
    memory_bytes,
    object_options,
    settings_of,
    verdict,
)
from selfseg.core.errors import UsageError, explain


def _options(
    method: str,
    classes: str,
    preset: str,
    seed: int,
    prepare: str | None,
    refine: str | None,
    device: str,
    settings: list[str],
) -> dict[str, Any]:
    if classes != "auto" and not classes.isdigit():
        raise UsageError(
            explain(
                "--classes", expected="a whole number from 1 to 255, or auto", got=repr(classes), fix="check the number"
            )
        )
    n_classes = None if classes == "auto" else int(classes)
    return {
        "method": method,
        "n_classes": n_classes,
        "preset": preset,
        "seed": seed,
        "prepare": prepare,
        "device": device,
        "options": settings_of(settings),
        "refine": refine,
    }


@app.command
def segment(
    inputs: Inputs,
    /,
    *,
    out: Out,
    method: MethodName = "feature_clustering",
    classes: Classes = "auto",
    preset: Preset = "default",
    seed: Seed = 0,
    reference: Annotated[
        list[str] | None,
        Parameter(negative="", help="Learn from these images, then segment INPUT with what was learned."),
    ] = None,
    scribbles: Scribbles = None,
    prepare: Prepare = None,
    refine: Refine = None,
    instances: Instances = None,
    axes: Axes = None,
    device: Device = "auto",
    set_: Settings = [],  # noqa: B006 (read only)
    limit: Limit = None,
    memory: Memory = None,
    write: Write = None,
    ngff: Ngff = "0.5",
    resume: Resume = False,
    overwrite: Overwrite = False,
    compile_: Annotated[
        bool | None, Parameter(name="--compile", help="Compile the networks; without it, where it pays.")
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Learn from images and segment them, in one go."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.export.label_files import LabelWriter
    from selfseg.pipeline import Segmenter, predict

    bar = Bar(quiet)
    writer = LabelWriter(tuple(write or ("tiff",)), ngff)  # a mistake in it is found before the learning, not after
    model = Segmenter(**_options(method, classes, preset, seed, prepare, refine, device, set_))
    then: dict[str, Any] = {"instances": object_options(instances), "memory": memory_bytes(memory)}
    how: dict[str, Any] = {
        "scribbles": scribbles,
        "resume": resume,
        "overwrite": overwrite,
        "axes": axes,
        "compiled": compile_,
        "progress": bar,
    }
    model.fit(reference or inputs, out=out / "model", limit=None if reference else limit, **how)
    where: dict[str, Any] = {"axes": axes, "limit": limit, "write": writer.kinds, "ngff": ngff, **then}
    failures = predict(model, inputs, out, failures=model.failures_, progress=bar, **where)
    bar.say(f"{len(model.table_)} classes; labels, overlays and {out / 'report.html'} are written")
    return verdict(failures)


@app.command
def fit(
    inputs: Inputs,
    /,
    *,
    out: Out,
    method: MethodName = "feature_clustering",
    classes: Classes = "auto",
    preset: Preset = "default",
    seed: Seed = 0,
    labels: Labels = None,
    labels_as: LabelsAs = "sparse",
    scribbles: Scribbles = None,
    truth: Annotated[
        Path | None, Parameter(help="Truth of training images: scores beside the losses; nothing is learned from it.")
    ] = None,
    prepare: Prepare = None,
    refine: Refine = None,
    axes: Axes = None,
    device: Device = "auto",
    set_: Settings = [],  # noqa: B006 (read only)
    limit: Limit = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    compile_: Annotated[
        bool | None, Parameter(name="--compile", help="Compile the networks; without it, where it pays.")
    ] = None,
    checkpoint_every: Annotated[float, Parameter(help="Seconds between two checkpoints.")] = 20.0,
    preview_every: Annotated[float, Parameter(help="Seconds between two preview pictures.")] = 10.0,
    quiet: Quiet = False,
) -> int:
    """Learn a model from images; OUT becomes the model folder."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.pipeline import Segmenter

    bar = Bar(quiet)
    model = Segmenter(**_options(method, classes, preset, seed, prepare, refine, device, set_))
    how: dict[str, Any] = {
        "labels": labels,
        "labels_as": labels_as,
        "scribbles": scribbles,
        "truth": truth,
        "resume": resume,
        "overwrite": overwrite,
        "axes": axes,
        "limit": limit,
        "compiled": compile_,
    }
    model.fit(inputs, out=out, checkpoint_every=checkpoint_every, preview_every=preview_every, progress=bar, **how)
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
    axes: Axes = None,
    refine: Annotated[
        str | None, Parameter(help="Refine the result in another way than the model's own: crf=key:value,..., or none.")
    ] = None,
    edits: Annotated[
        Path | None,
        Parameter(help="Repeat what was done to the classes by hand: the edits.json of a run of the studio."),
    ] = None,
    instances: Instances = None,
    device: Device = "auto",
    limit: Limit = None,
    memory: Memory = None,
    write: Write = None,
    ngff: Ngff = "0.5",
    quiet: Quiet = False,
) -> int:
    """Segment images with a model that has learned before."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.pipeline import load
    from selfseg.pipeline import predict as run
    from selfseg.pipeline.edited import read_edits

    bar = Bar(quiet)
    fitted = load(model, device)
    if refine is not None:
        fitted.set_params(refine=refine)
    where: dict[str, Any] = {"axes": axes, "limit": limit, "write": write or "tiff", "ngff": ngff}
    where |= {"instances": object_options(instances), "memory": memory_bytes(memory)}
    where["edits"] = None if edits is None else read_edits(edits)
    failures = run(fitted, inputs, out, progress=bar, **where)
    bar.say(f"labels, overlays and {out / 'report.html'} are written")
    return verdict(failures)


@app.command
def methods(name: str | None = None, /) -> None:
    """List the methods; with NAME, every option with its meaning, the presets and the network.

    Parameters
    ----------
    name
        One method.
    """
    from selfseg.apps.cli.show import show_method, show_methods

    show_methods() if name is None else show_method(name)


@app.command
def datasets(
    name: str | None = None,
    /,
    *,
    data: Annotated[
        Path | None, Parameter(name=["--data", "--out", "-o"], help="Data folder; without it, this user's cache.")
    ] = None,
    download: Annotated[bool, Parameter(negative="", help="Bring the files here, and verify them.")] = False,
    verify: Annotated[bool, Parameter(negative="", help="Name each file that is missing or differs.")] = False,
    quiet: Quiet = False,
) -> int:
    """List the datasets; with NAME, its terms, citation, splits and layout.

    Parameters
    ----------
    name
        One dataset.
    """
    from selfseg.apps.cli.datasets import run

    return run(name, data, download, verify, quiet)


@app.command
def doctor() -> int:
    """Check this installation: versions, device, speed, memory, a tiny training run."""
    from selfseg.apps.cli.doctor import examine

    return examine()


@app.command
def demo(*, out: Out = Path("demo-out"), quiet: Quiet = False) -> int:
    """Segment a real photograph that comes with scikit-image, and say where the pictures are."""
    from selfseg.apps.cli.demo import run_demo

    return run_demo(out, quiet)
