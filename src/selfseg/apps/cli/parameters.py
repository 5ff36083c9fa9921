"""The application, and the parameters that several commands share, each with its help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

app = App(
    name="selfseg",
    help="Segment images without labels: learn from your own images, then segment those and others like them.",
    version=lambda: __import__("selfseg").__version__,
)

Inputs = Annotated[list[str], Parameter(help="Images, folders (searched recursively) or globs.")]
Out = Annotated[Path, Parameter(name=["--out", "-o"], help="Folder for what comes out.")]
MethodName = Annotated[str, Parameter(help="Method; `selfseg methods` lists them.")]
Classes = Annotated[str, Parameter(help="Exact number of classes, or auto: as many as the method finds.")]
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
    Parameter(help="Refine the result: crf, or crf=weight:10,colour:0.05 to follow colours more closely; none = not."),
]
Settings = Annotated[
    list[str],
    Parameter(
        name="--set",
        negative="",
        help="Any option of the method, as key=value; may be repeated. `selfseg methods NAME` lists them.",
    ),
]
Scribbles = Annotated[
    Path | None, Parameter(help="Hints: a label image (255 = no scribble), or a folder of IMAGE_scribble.png files.")
]
Resume = Annotated[bool, Parameter(negative="", help="Go on with an interrupted run.")]
Overwrite = Annotated[bool, Parameter(negative="", help="Begin anew although the folder holds an unfinished run.")]
Limit = Annotated[int | None, Parameter(help="Use only the first so many inputs.")]
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
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Show errors only.")]


@Parameter(name="*")
@dataclass(frozen=True)
class FrameFlags:
    """Which frames of a sequence to learn from; flags of their own on the command line."""

    frames: Annotated[
        str | None,
        Parameter(
            help="Frames to learn from, such as 0,40,80: of a video, a time series, a folder, slices of a volume."
        ),
    ] = None
    n_frames: Annotated[
        int | None,
        Parameter(help="Learn from so many frames, the most different ones; 4 of a video if nothing is said."),
    ] = None
    slices: Slices = None

    def options(self) -> dict[str, Any]:
        """Return the arguments of `Segmenter.fit` that they stand for."""
        from selfseg.pipeline.frame_choice import parse_numbers

        return {"frames": parse_numbers(self.frames), "n_frames": self.n_frames, "slices": self.slices}


NO_FRAMES = FrameFlags()


def verdict(failures: list[tuple[str, str]]) -> int:
    """Name what failed once more at the end, where it is seen, and return the exit code."""
    import sys

    for _, message in failures:
        sys.stderr.write(f"selfseg: failed: {message}\n")
    return 1 if failures else 0
