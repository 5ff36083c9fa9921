"""The commands that learn and segment: segment, fit, predict. Heavy imports happen inside them, so that help answers at once."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from selfseg.apps.cli.parameters import (
    Axes,
    Classes,
    Clean,
    Dask,
    Device,
    Frames,
    Inputs,
    InSequence,
    Instances,
    Labels,
    LabelsAs,
    Limit,
    LinkFrames,
    MaskFiles,
    Memory,
    MethodName,
    NFrames,
    Ngff,
    Numbers,
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
    Slices,
    Superpixels,
    Tree,
    Windows,
    Write,
    app,
    memory_bytes,
    object_options,
    settings_of,
    verdict,
)
from selfseg.core.errors import UsageError, explain
from selfseg.core.processes import own_place


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
    superpixels: Superpixels = None,
    mask: MaskFiles = None,
    prepare: Prepare = None,
    refine: Refine = None,
    instances: Instances = None,
    clean: Clean = None,
    numbers: Numbers = False,
    tree: Tree = False,
    axes: Axes = None,
    frames: Frames = None,
    n_frames: NFrames = None,
    slices: Slices = None,
    windows: Windows = None,
    sequence: InSequence = None,
    link: LinkFrames = False,
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
    from selfseg.pipeline.frame_choice import parse_numbers
    from selfseg.read import find_inputs, with_masks

    bar = Bar(quiet)
    writer = LabelWriter(tuple(write or ("tiff",)), ngff)  # a mistake in it is found before the learning, not after
    model = Segmenter(**_options(method, classes, preset, seed, prepare, refine, device, set_), clean=clean)
    then: dict[str, Any] = {"instances": object_options(instances), "memory": memory_bytes(memory)}
    how: dict[str, Any] = {
        "scribbles": scribbles,
        "superpixels": superpixels,
        "resume": resume,
        "overwrite": overwrite,
        "axes": axes,
        "frames": parse_numbers(frames),
        "n_frames": n_frames,
        "slices": slices,
        "windows": windows,
        "memory": memory_bytes(memory),
        "compiled": compile_,
        "progress": bar,
    }
    shown = with_masks(find_inputs(reference or inputs, None if reference else limit), mask)
    model.fit(shown, out=out / "model", **how)
    where: dict[str, Any] = {"axes": axes, "limit": limit, "write": writer.kinds, "ngff": ngff, **then}
    where |= {"slices": slices, "sequence": sequence, "link": link}
    where |= {"look": {"numbers": numbers}, "superpixels": superpixels, "mask": mask, "tree": tree}
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
    superpixels: Superpixels = None,
    mask: MaskFiles = None,
    truth: Annotated[
        Path | None, Parameter(help="Truth of training images: scores beside the losses; nothing is learned from it.")
    ] = None,
    prepare: Prepare = None,
    refine: Refine = None,
    clean: Clean = None,
    axes: Axes = None,
    frames: Frames = None,
    n_frames: NFrames = None,
    slices: Slices = None,
    windows: Windows = None,
    device: Device = "auto",
    set_: Settings = [],  # noqa: B006 (read only)
    limit: Limit = None,
    memory: Memory = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    compile_: Annotated[
        bool | None, Parameter(name="--compile", help="Compile the networks; without it, where it pays.")
    ] = None,
    checkpoint_every: Annotated[float, Parameter(help="Seconds between two checkpoints.")] = 20.0,
    preview_every: Annotated[float, Parameter(help="Seconds between two preview pictures.")] = 10.0,
    quiet: Quiet = False,
) -> int:
    """Learn a model from images; OUT becomes the model folder. Under torchrun, its processes learn it together."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.pipeline import Segmenter
    from selfseg.pipeline.frame_choice import parse_numbers
    from selfseg.read import find_inputs, with_masks

    place = own_place()
    bar = Bar(quiet or not place.first)
    model = Segmenter(**_options(method, classes, preset, seed, prepare, refine, device, set_), clean=clean)
    how: dict[str, Any] = {
        "labels": labels,
        "labels_as": labels_as,
        "scribbles": scribbles,
        "superpixels": superpixels,
        "truth": truth,
        "resume": resume,
        "overwrite": overwrite,
        "axes": axes,
        "frames": parse_numbers(frames),
        "n_frames": n_frames,
        "slices": slices,
        "windows": windows,
        "memory": memory_bytes(memory),
        "compiled": compile_,
        "shared": place.world > 1,
    }
    shown = with_masks(find_inputs(inputs, limit), mask)
    model.fit(shown, out=out, checkpoint_every=checkpoint_every, preview_every=preview_every, progress=bar, **how)
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
    slices: Slices = None,
    sequence: InSequence = None,
    link: LinkFrames = False,
    refine: Annotated[
        str | None, Parameter(help="Refine the result in another way than the model's own: crf=key:value,..., or none.")
    ] = None,
    edits: Annotated[
        Path | None,
        Parameter(help="Repeat what was done to the classes by hand: the edits.json of a run of the studio."),
    ] = None,
    instances: Instances = None,
    clean: Annotated[
        str | None,
        Parameter(help="Clean the labels in another way than the model's own: objects:200,holes:100, or none."),
    ] = None,
    numbers: Numbers = False,
    tree: Tree = False,
    superpixels: Superpixels = None,
    mask: MaskFiles = None,
    device: Device = "auto",
    limit: Limit = None,
    memory: Memory = None,
    write: Write = None,
    ngff: Ngff = "0.5",
    dask: Dask = None,
    networks: Annotated[
        str | None, Parameter(help="Module with networks of your own that the model was made with: it will be run.")
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Segment images with a model that has learned before."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.pipeline import load
    from selfseg.pipeline import predict as run
    from selfseg.pipeline.edited import read_edits

    bar = Bar(quiet)
    fitted = load(model, device, networks)
    if refine is not None:
        fitted.set_params(refine=refine)
    where: dict[str, Any] = {"axes": axes, "limit": limit, "write": write or "tiff", "ngff": ngff}
    where |= {"instances": object_options(instances), "memory": memory_bytes(memory), "dask": dask}
    if clean is not None:
        fitted.set_params(clean=clean)
    where |= {"slices": slices, "sequence": sequence, "link": link}
    where |= {"look": {"numbers": numbers}, "superpixels": superpixels, "mask": mask, "tree": tree}
    where["edits"] = None if edits is None else read_edits(edits)
    failures = run(fitted, inputs, out, progress=bar, **where)
    bar.say(f"labels, overlays and {out / 'report.html'} are written")
    return verdict(failures)
