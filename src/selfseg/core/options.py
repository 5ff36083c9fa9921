"""Public options: each is written once, for the command line, Python and forms.

The docstring under a field is its help text, one line long. Values that may be text (``memory="2GB"``, ``frames="0,40,80"``)
are checked at once, so that mistakes are found before any work.
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, dataclass_transform

from selfseg.core.errors import UsageError
from selfseg.core.machine import parse_bytes
from selfseg.core.progress import Progress

T = TypeVar("T")

Slices = Literal["z", "y", "x", "all"]
Channels = str | int | Sequence[str | int] | None


def check_names(names: Iterable[str], known: Sequence[str], what: str = "option") -> None:
    """Raise `UsageError` unless all names are known ones, with the known name that is nearest to the first unknown one."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1, 0.5)
            raise UsageError(
                f"{what} {name!r}",
                expected=f"one of {', '.join(known)}",
                got=name,
                fix=f"did you mean {near[0]}?" if near else "check the name",
            )


@dataclass_transform(eq_default=False, kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def options(cls: type[T]) -> type[T]:
    """Make an option class: a frozen dataclass that names the nearest option when one is unknown."""
    made = dataclass(eq=False, kw_only=True, frozen=True)(cls)
    init: Callable[..., None] = made.__init__

    @functools.wraps(init)
    def checked(self: T, *args: Any, **values: Any) -> None:
        check_names(values, option_names(type(self)))
        init(self, *args, **values)

    made.__init__ = checked  # type: ignore[assignment]
    return made


def option_names(*kinds: type) -> list[str]:
    """Return the names of the options of some classes, in order, each once."""
    return list(dict.fromkeys(one.name for kind in kinds for one in fields(kind)))


def share_out(values: Mapping[str, Any], *kinds: type) -> list[Any]:
    """Make one instance of each option class; an option that several have goes to each of them.

    Raise `UsageError` if an option is of none of the classes.
    """
    check_names(values, option_names(*kinds))
    own = [set(option_names(kind)) for kind in kinds]
    return [
        kind(**{name: value for name, value in values.items() if name in names})
        for kind, names in zip(kinds, own, strict=True)
    ]


def _parse_numbers(given: str | Sequence[int] | None) -> tuple[int, ...] | None:
    if not isinstance(given, str):
        return None if given is None else tuple(given)
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", given):
        raise UsageError(
            "--frames", expected="whole numbers with commas", got=repr(given), fix="write for example --frames 0,40,80"
        )
    return tuple(int(word) for word in given.split(","))


@options
class ComputeOptions:
    """Where to compute."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


@options
class LoadOptions(ComputeOptions):
    """Options for loading a model."""

    networks: str | None = None
    """Module with your own networks, which the model was made with. Importing it runs its code."""


@options
class LearnerOptions(ComputeOptions):
    """Options that a method and a distilled U-Net have in common."""

    preset: str = "default"
    """Named options of the method: default, fast, paper, ..."""
    seed: int = 0
    """Seed of every random choice; the same seed gives the same labels."""
    prepare: str | None = None
    """Preparation steps, such as rescale=0.33,unsharp=5:1; stored with the model. Default: those of the preset."""
    options: Mapping[str, Any] | None = None
    """Any option of the method, as key=value; repeatable. `selfseg methods NAME` lists them."""


AUTO = "auto"
"""Name of the method that follows from the inputs (`selfseg.learning.default_method`)."""


@options
class ModelOptions(LearnerOptions):
    """Options that make a model: the arguments of `selfseg.Segmenter`."""

    method: str = field(default=AUTO, kw_only=False)
    """Method; `selfseg methods` lists them. auto: contours of images in 2D; feature_clustering of volumes, sequences, annotated
    images and those larger than memory."""
    n_classes: int | Literal["auto"] | None = field(default=None, kw_only=False)
    """Exact number of classes, or auto: as many as the method finds. Default: auto."""
    refine: str | None = None
    """Refinement: crf, contours, hysteresis, several by commas, or crf(weight=10, colour=0.05); none disables. Stored with the model."""
    clean: str | None = None
    """Cleaning: objects:200,holes:100 = least sizes of parts and holes in px; none disables. Stored with the model."""
    channels: Channels = None
    """Channels to use, in this order: names or numbers from 0, comma separated. Stored with the model. Default: all."""


@options
class InputOptions:
    """Options for finding inputs."""

    axes: str | None = None
    """Axes of the inputs, such as YXC or TYX, where files lack them or name them wrongly."""
    limit: int | None = None
    """Use only the first N inputs."""


@options
class ReadOptions(InputOptions):
    """Options for reading inputs, for learning and for prediction alike."""

    slices: Slices | None = None
    """Use a 2D model on volumes, cut across z, y, x, or all: the mean over the three."""
    superpixels: Any = None
    """Your own superpixels: a label image for one image, or a folder of files named like the images; in Python also a list of arrays."""
    mask: Any = None
    """Label image, or folder of files named like the images: pixels of 0 are neither learned from nor segmented; in Python also arrays."""
    memory: int | str | None = None
    """Largest amount of memory to use, such as 2GB. Default: by the free memory. Larger images are processed in parts."""

    def __post_init__(self) -> None:
        if self.slices not in (None, "z", "y", "x", "all"):
            raise UsageError("--slices", expected="z, y, x or all", got=repr(self.slices), fix="choose one")
        _ = self.memory_bytes  # a mistake is found now

    @property
    def memory_bytes(self) -> int | None:
        """Most memory to take, in bytes; None = by what is free."""
        return parse_bytes(self.memory) if isinstance(self.memory, str) else self.memory


@options
class ResumeOptions:
    """Options for a run that may have been interrupted, and for its scores."""

    truth: Any = None
    """Truth of some of the images: scores beside the losses; nothing is learned from it."""
    resume: bool = False
    """Continue an interrupted run."""
    overwrite: bool = False
    """Start again although the folder holds an unfinished run."""


@options
class FitOptions(ResumeOptions, ReadOptions):
    """Options for learning, beside those of the model: the keyword arguments of `selfseg.Segmenter.fit`."""

    labels: Any = None
    """Labels of some images: a label image, or a folder of files named like them; in Python also a list of arrays."""
    labels_as: Literal["sparse", "full", "objects"] | None = None
    """Meaning of 0 in labels: not labelled (sparse), a class (full), background of numbered objects (objects). Default: sparse, but full
    where the labels hold 0 and one other value, such as 255, alone."""
    scribbles: Any = None
    """Annotations: a label image (255 = no scribble), or a folder of IMAGE_scribble.png files; in Python also a list of arrays."""
    frames: str | Sequence[int] | None = None
    """Frames to learn from, such as 0,40,80: of a video, a time series, a folder, or slices of a volume."""
    n_frames: int | None = None
    """Learn from N frames, the most different ones. Default: 4 of a video."""
    windows: str | int | None = None
    """Train on N windows per image, or NUMBER:SIDE. Default: 16, only for images larger than memory."""
    compiled: bool | None = None
    """Compile the networks where that pays: it takes a minute or more, and the steps after take less. Default: no."""
    record: bool = False
    """On a CUDA GPU, record each network's pass and launch it as one (CUDA graphs): for steps that last as long as their launches."""
    deterministic: bool = False
    """The same seed learns the same on a GPU too, and with any number of threads on a CPU, by slower operations."""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """Precision of training: float32, bfloat16, or float16 (CUDA GPUs before Ampere). Default: float32, or the lower one of the preset."""
    checkpoint_every: float = 20.0
    """Seconds between two checkpoints."""
    preview_every: float = 10.0
    """Seconds between two preview pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = self.frame_numbers
        if numbers is not None and self.n_frames is not None:
            raise UsageError(
                "--frames", expected="no --n-frames beside it", got="both", fix="give --frames or --n-frames"
            )
        if numbers is not None and (not numbers or min(numbers) < 0):
            raise UsageError(
                "--frames", expected="numbers from 0 on", got=str(self.frames), fix="write for example --frames 0,40,80"
            )
        if self.n_frames is not None and self.n_frames < 1:
            raise UsageError(
                "--n-frames", expected="1 or more", got=str(self.n_frames), fix="write for example --n-frames 4"
            )

    @property
    def frame_numbers(self) -> tuple[int, ...] | None:
        """Frames to learn from; None = the most different ones."""
        return _parse_numbers(self.frames)


@options
class RunOptions:
    """Folder, reporter and controls of a run: not on the command line."""

    out: str | Path | None = None
    """Folder of the model. While learning it holds the checkpoint, the journal and previews."""
    progress: Progress | None = None
    """Progress reporter."""
    shared: bool = False
    """Learn together with the other processes that torchrun has started."""
    keep_checkpoints: bool = False
    """Keep every checkpoint in `out`, so that a run can be forked from any of them."""
    begin: str | Path | None = None
    """Checkpoint of another run to begin from."""
    preview: Callable[[Any, Any, int], None] | None = None
    """Called with method, training set and number of finished steps, instead of writing previews to `out`."""
    control: Any = None
    """Source of pauses and of changed options: a `selfseg.train.loop.Control`."""
    changed: Callable[[int, Mapping[str, Any]], None] | None = None
    """Called with the step and the options after options have changed."""


@options
class PredictOptions(ReadOptions):
    """Options for segmenting into a folder: the keyword arguments of `selfseg.predict`."""

    sequence: bool | None = None
    """Images are the frames of one video, and a time series is one. Default: if the model learned from frames."""
    link: bool = False
    """Link the frames of a sequence over time: labels flicker less, and objects keep their ids (tracks.csv)."""
    instances: Any = None
    """Find objects too: components or watershed. Default: own, where the method finds objects itself; none = not."""
    numbers: bool = False
    """Write the number of its class into each region of the overlays."""
    opacity: float = 0.45
    """Share of the class colours in the overlays, 0 to 1."""
    tree: bool = False
    """Write superpixels and merge tree of each image too: `selfseg cut OUT` cuts it."""
    write: str | Sequence[str] = ("tiff",)
    """Format of the labels: tiff, ome-zarr, nifti, mrc, hdf5, numpy, dicom-seg; repeatable."""
    ngff: str = "0.5"
    """Version of OME-Zarr that is written: 0.5 or 0.4."""
    confidence_map: bool = False
    """Write the probability of the chosen class of each pixel: confidence/NAME.tif, float16."""
    probability_maps: bool = False
    """Write the probability of each class, a channel each: probabilities/NAME.tif, float16."""
    edits: Any = None
    """Repeat what was done to the classes by hand: the edits.json of a run of the studio; in Python also `Edits`."""
    read_ahead: bool = False
    """Read the next image while one is segmented, and copy it to a CUDA GPU: two are in memory then."""
    dask: str | None = None
    """Predict in parts on a Dask cluster, tcp://HOST:PORT or local:N, whose workers see the same paths."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.maps and self.edits is not None:
            raise UsageError(
                "--edits",
                expected="no maps beside it: probabilities are those of the model's own classes",
                got=" and ".join(self.maps),
                fix="predict once with the maps and once with --edits",
            )

    @property
    def maps(self) -> tuple[str, ...]:
        """Maps to write: ``"confidence"``, ``"probabilities"``, both or none."""
        wanted = {"confidence": self.confidence_map, "probabilities": self.probability_maps}
        return tuple(name for name, asked in wanted.items() if asked)


@options
class DistillOptions(LearnerOptions, InputOptions, ResumeOptions):
    """Options of teaching a U-Net: the keyword arguments of `selfseg.learning.distill.distill`."""

    confidence: float | None = None
    """Pixels (objects) of which the teacher is less sure are not learned from; half of each class is kept. Default: 0.9; of objects 0.7."""
    preset: str = AUTO
    """Named options of the U-Net: objects, fast, default, ... auto: objects if the teacher finds objects, else fast."""
    truth_as: Literal["sparse", "full", "objects"] | None = None
    """Meaning of the values of truth: as for the labels of `selfseg fit`."""
