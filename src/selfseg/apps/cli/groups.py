"""Options that several commands share, as groups: each is told once, with what the pipeline is given for it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from selfseg.apps.cli.parameters import (
    Axes,
    Classes,
    Clean,
    Device,
    Frames,
    InSequence,
    Instances,
    Limit,
    LinkFrames,
    MaskFiles,
    Memory,
    MethodName,
    NFrames,
    Ngff,
    Numbers,
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
    memory_bytes,
    object_options,
    settings_of,
)
from selfseg.core.errors import UsageError

if TYPE_CHECKING:
    from selfseg.learning.segmenter import Segmenter
    from selfseg.read import Source


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the inputs are and where to compute: the options of segment, fit and predict."""

    axes: Axes = None
    slices: Slices = None
    superpixels: Superpixels = None
    mask: MaskFiles = None
    limit: Limit = None
    memory: Memory = None
    device: Device = "auto"
    quiet: Quiet = False

    def sources(self, inputs: list[str], limited: bool = True) -> "list[Source]":
        """Find the inputs, with their masks."""
        from selfseg.read import find_inputs, with_masks

        return with_masks(find_inputs(inputs, self.limit if limited else None), self.mask)

    def how(self) -> dict[str, Any]:
        """Return what both learning and prediction are told."""
        plain: dict[str, Any] = {"axes": self.axes, "slices": self.slices, "superpixels": self.superpixels}
        return plain | {"memory": memory_bytes(self.memory)}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Learning:
    """What is learned, how, and from which parts of the inputs: the options of segment and fit."""

    method: MethodName = "feature_clustering"
    classes: Classes = "auto"
    preset: Preset = "default"
    seed: Seed = 0
    scribbles: Scribbles = None
    prepare: Prepare = None
    refine: Refine = None
    clean: Clean = None
    frames: Frames = None
    n_frames: NFrames = None
    windows: Windows = None
    set_: Settings = field(default_factory=list)
    resume: Resume = False
    overwrite: Overwrite = False
    compile_: Annotated[
        bool | None, Parameter(name="--compile", help="Compile the networks; without it, where it pays.")
    ] = None

    def model(self, device: str) -> "Segmenter":
        """Return the model that is to be learned.

        Raises
        ------
        UsageError
            If an option is wrong.
        """
        from selfseg.learning.segmenter import Segmenter

        if self.classes != "auto" and not self.classes.isdigit():
            expected, fix = "a whole number from 1 to 255, or auto", "check the number"
            raise UsageError("--classes", expected=expected, got=repr(self.classes), fix=fix)
        return Segmenter(
            self.method,
            n_classes=None if self.classes == "auto" else int(self.classes),
            preset=self.preset,
            seed=self.seed,
            prepare=self.prepare,
            device=device,
            options=settings_of(self.set_),
            refine=self.refine,
            clean=self.clean,
        )

    def how(self) -> dict[str, Any]:
        """Return what learning is told."""
        from selfseg.core.options import parse_numbers

        return {
            "scribbles": self.scribbles,
            "frames": parse_numbers(self.frames),
            "n_frames": self.n_frames,
            "windows": self.windows,
            "resume": self.resume,
            "overwrite": self.overwrite,
            "compiled": self.compile_,
        }


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Writing:
    """What comes out: the options of segment and predict."""

    sequence: InSequence = None
    link: LinkFrames = False
    instances: Instances = None
    numbers: Numbers = False
    tree: Tree = False
    write: Write = None
    ngff: Ngff = "0.5"

    def how(self) -> dict[str, Any]:
        """Return what prediction is told; mistakes are found here, before any work.

        Raises
        ------
        UsageError
            If a format or a kind of object is unknown.
        """
        from selfseg.export.label_files import LabelWriter

        writer = LabelWriter(tuple(self.write or ("tiff",)), self.ngff)
        return {
            "sequence": self.sequence,
            "link": self.link,
            "instances": object_options(self.instances),
            "look": {"numbers": self.numbers},
            "tree": self.tree,
            "write": writer.kinds,
            "ngff": self.ngff,
        }
