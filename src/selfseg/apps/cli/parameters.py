"""The application, and the parameters that several commands share, each with its help."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from selfseg.core.errors import UsageError

if TYPE_CHECKING:
    from selfseg.pipeline.instances import ObjectOptions

app = App(
    name="selfseg",
    help="Segment images without labels: learn from your own images, then segment those and others like them.",
    version=lambda: __import__("selfseg").__version__,
    help_epilogue="Exit code: 0 done, 1 some inputs failed (the others are done), 2 bad usage, 130 stopped by Ctrl-C, 75 stopped by "
    "SIGTERM (what is done is saved; the same command goes on, fit and segment with --resume).",
    suppress_keyboard_interrupt=False,
)

Inputs = Annotated[list[str], Parameter(help="Images, folders (searched recursively) or globs.")]
Out = Annotated[Path, Parameter(name=["--out", "-o"], help="Folder for what comes out.")]
MethodName = Annotated[str, Parameter(help="Method; `selfseg methods` lists them.")]
Classes = Annotated[
    str,
    Parameter(name=("--classes", "--n-classes"), help="Exact number of classes, or auto: as many as the method finds."),
]
Preset = Annotated[str, Parameter(help="Named options of the method: default, fast, paper, ...")]
Seed = Annotated[int, Parameter(help="Seed of every random choice; the same seed gives the same labels.")]
Axes = Annotated[
    str | None, Parameter(help="Axes of the inputs, such as YXC or TYX, where files do not say or say wrong.")
]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1 or mps.")]
Prepare = Annotated[
    str | None, Parameter(help="Preparation steps, such as rescale=0.33,unsharp=5:1; kept with the model.")
]
Refine = Annotated[
    str | None,
    Parameter(
        help="Refine the result: crf, contours, crf,contours, or crf=weight:10,colour:0.05 with values; none = not."
    ),
]
Instances = Annotated[
    str | None,
    Parameter(help="Find objects too: components or watershed; `selfseg instances OUT` does so later, with options."),
]
Settings = Annotated[
    list[str],
    Parameter(
        name="--set",
        negative="",
        show_default=False,
        help="Any option of the method, as key=value; may be repeated. `selfseg methods NAME` lists them.",
    ),
]
Scribbles = Annotated[
    Path | None,
    Parameter(help="Annotations: a label image (255 = no scribble), or a folder of IMAGE_scribble.png files."),
]
Write = Annotated[
    list[str] | None,
    Parameter(
        negative="",
        help="Format of the labels: tiff (without this), ome-zarr, nifti, mrc, hdf5, numpy, dicom-seg; may be repeated.",
    ),
]
Ngff = Annotated[str, Parameter(help="Version of OME-Zarr that is written: 0.5 or 0.4.")]
Labels = Annotated[
    Path | None,
    Parameter(help="Labels of some of the images: a label image, or a folder with files of the images' names."),
]
LabelsAs = Annotated[
    str,
    Parameter(
        help="What labels mean. sparse: classes, 0 = not labelled; full: classes, 0 is one too; objects: 0 = background, "
        "every other number one object, and touching objects are set apart."
    ),
]
Superpixels = Annotated[
    Path | None,
    Parameter(help="Your own superpixels: a label image for one image, or a folder of files named like the images."),
]
MaskFiles = Annotated[
    Path | None,
    Parameter(
        name="--mask",
        help="What counts: a label image, 0 = outside, or a folder of files named like the images. Nothing is learned or "
        "segmented outside.",
    ),
]
Numbers = Annotated[
    bool, Parameter(negative="", help="Write the number of its class into each region of the overlays.")
]
Clean = Annotated[
    str | None,
    Parameter(
        help="Clean the labels: objects:200,holes:100 = parts and holes of fewer pixels go; none = not. Kept with the model."
    ),
]
Resume = Annotated[bool, Parameter(negative="", help="Go on with an interrupted run.")]
Overwrite = Annotated[bool, Parameter(negative="", help="Begin anew although the folder holds an unfinished run.")]
Limit = Annotated[int | None, Parameter(help="Use only the first so many inputs.")]
Memory = Annotated[
    str | None,
    Parameter(help="Most memory to take, such as 2GB; without it, by what is free. Larger images go in parts."),
]
Windows = Annotated[
    str | None,
    Parameter(
        help="Learn from so many windows of each image, or NUMBER:SIDE; without it, from 16 windows of what does not fit in memory."
    ),
]
Dask = Annotated[
    str | None,
    Parameter(
        help="Predict in parts on a Dask cluster: tcp://HOST:PORT of its scheduler, or local:N for N processes here. Workers must "
        "see images and OUT under the same paths; --memory is then for each of them."
    ),
]
Frames = Annotated[
    str | None,
    Parameter(
        help="Frames to learn from, such as 0,40,80: of a video, a time series, a folder, or slices of a volume."
    ),
]
NFrames = Annotated[
    int | None, Parameter(help="Learn from so many frames, the most different ones; 4 of a video if nothing is said.")
]
Slices = Annotated[
    str | None, Parameter(help="A 2D model on volumes, cut across z, y, x, or all: the mean over the three.")
]
InSequence = Annotated[
    bool | None,
    Parameter(
        name="--sequence", help="Images are the frames of one video; without it, if the model learned from frames."
    ),
]
LinkFrames = Annotated[
    bool, Parameter(name="--link", negative="", help="Link the frames of a sequence over time: labels flicker less.")
]
Tree = Annotated[
    bool, Parameter(negative="", help="Write superpixels and merge tree of each image too: `selfseg cut OUT` cuts it.")
]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Show errors only.")]


def object_options(kind: str | None) -> "ObjectOptions | None":
    """Return how objects are found if they are asked for; a misspelt kind is told before any work."""
    if kind is None:
        return None
    from selfseg.pipeline.instances import ObjectOptions

    return ObjectOptions(kind)


def memory_bytes(text: str | None) -> int | None:
    """Return the bytes that ``--memory`` says."""
    from selfseg.core.memory import parse_bytes

    return None if text is None else parse_bytes(text)


def settings_of(items: list[str]) -> dict[str, Any]:
    """Return the options that ``--set key=value`` gives.

    Raises
    ------
    UsageError
        If one has no equals sign.
    """
    import yaml

    options = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign:
            raise UsageError("--set", expected="key=value", got=repr(item), fix="write for example --set momentum=0.5")
        options[key.strip().replace("-", "_")] = yaml.safe_load(value)
    return options


def verdict(failures: list[tuple[str, str]]) -> int:
    """Name what failed once more at the end, where it is seen, and return the exit code."""
    import sys

    for _, message in failures:
        sys.stderr.write(f"selfseg: failed: {message}\n")
    return 1 if failures else 0
