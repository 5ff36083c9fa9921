"""Training images: read, checked against each other, prepared, with their annotations."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from selfseg.core.errors import Failure, InputError, SelfsegError
from selfseg.core.image import Image
from selfseg.core.progress import Progress
from selfseg.core.seed import generator
from selfseg.learning.supervision import Annotations, LabelSet, ScribbleFiles
from selfseg.learning.window_choice import WindowChoice, digest_windows, show_window
from selfseg.read import Source, split_frames
from selfseg.sample.prepare import Preparation, Prepared
from selfseg.sample.stream import Readable, Sample
from selfseg.sample.window_samples import WindowSample, window_pixels


@dataclass(frozen=True)
class TrainingSet:
    """Prepared training images.

    Attributes
    ----------
    samples
        One for each image or time point.
    preparation
        The preparation, with its global statistics fitted on these images.
    n_channels, n_dims
        What all of them have.
    annotations
        The user's labels or scribbles; None = there are none.
    fingerprints
        SHA-256 by the name of the input.
    first
        The first image as it was read and as it was prepared, for previews.
    prepared
        Name and prepared image, or window, of each sample.
    failures
        Inputs that could not be used.
    windows
        Number of windows of each image that is learned from in windows, by name.
    """

    samples: list[Readable]
    preparation: Preparation
    n_channels: int
    n_dims: int
    annotations: Annotations | None
    fingerprints: dict[str, str]
    first: tuple[Image, Prepared]
    prepared: list[tuple[str, Prepared | WindowSample]]
    failures: list[Failure] = field(default_factory=list)
    windows: dict[str, int] = field(default_factory=dict)

    @property
    def annotation_values(self) -> tuple[int, ...]:
        """The user's values; annotation class c of the samples stands for ``annotation_values[c]``."""
        return () if self.annotations is None else self.annotations.values

    def digest_annotations(self) -> str:
        """Return the SHA-256 of the prepared annotations of all samples; empty where there are none."""
        if self.annotations is None:
            return ""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(b"none" if sample.annotations is None else sample.annotations.tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the files of images that are learned from in windows."""
        for _, prepared in self.prepared:
            if isinstance(prepared, WindowSample):
                prepared.windowed.image.close()

    def labelled(self) -> "TrainingSet":
        """Return the training set without the images that have no label.

        Raises
        ------
        InputError
            If no image has one.
        """
        has = [sample.annotations is not None and bool((sample.annotations >= 0).any()) for sample in self.samples]
        samples = [sample for sample, found in zip(self.samples, has, strict=True) if found]
        prepared = [pair for pair, found in zip(self.prepared, has, strict=True) if found]
        if not samples:
            raise InputError("labels", expected="some labelled pixels", got="none", fix="check the labels")
        return replace(self, samples=samples, prepared=prepared)


def read_all(
    sources: Sequence[Source], axes: str | None, progress: Progress, windows: WindowChoice, channels: Any = None
) -> tuple[dict[str, Image], list[Failure]]:
    """Read every input, or open it if it is learned from in windows; those that fail are named and left out.

    Raises
    ------
    SelfsegError
        If none can be read: the error of the first.
    """
    images: dict[str, Image] = {}
    failures: list[Failure] = []
    first_error: SelfsegError | None = None
    for source in sources:
        try:
            images[source.name] = (windows.open(source, axes) or source.read(axes)).select_channels(channels)
        except SelfsegError as error:
            failures.append((source.name, str(error)))
            first_error = first_error or error
            continue
        if images[source.name].guessed_axes:
            progress.say(
                f"{source.name}: the file does not name its axes; read as {images[source.name].axes} (--axes overrides)"
            )
    if not images and first_error is not None:
        raise first_error
    return images, failures


def _kind(image: Image) -> tuple[int, int]:
    return image.n_channels, len(image.spatial_shape)


def _drop_strangers(images: dict[str, Image]) -> list[Failure]:
    """Take out images that differ from most of the others in channels or dimensions, and name them."""
    common = Counter(_kind(image) for image in images.values()).most_common(1)[0][0]
    failures = []
    for name in [name for name, image in images.items() if _kind(image) != common]:
        got = "{} channel(s), {}D".format(*_kind(images.pop(name)))
        expected = "{} channel(s), {}D, as most training images have".format(*common)
        failures.append(
            (name, str(InputError(name, expected=expected, got=got, fix="convert it, or train on it separately")))
        )
    return failures


def build_training_set(
    sources: Sequence[Source],
    prepare: str,
    wanted: LabelSet | ScribbleFiles | None,
    axes: str | None,
    progress: Progress,
    windows: WindowChoice | None = None,
    channels: Any = None,
) -> TrainingSet:
    """Read, check and prepare the training images of a model; open those that are learned from in windows.

    Parameters
    ----------
    sources
        Inputs, not read yet.
    prepare
        Preparation steps (`selfseg.sample.prepare`).
    wanted
        Labels or scribbles, not read yet; None = there are none.
    axes
        Axes of all inputs, None = as the files say.
    progress
        Who is told about guesses and notes.
    windows
        Which images are learned from in windows; None = those that do not fit in memory.
    channels
        Channels to use (`Image.select_channels`); None = all.
    """
    windows = windows or WindowChoice()
    images, failures = read_all(sources, axes, progress, windows, channels)
    failures += _drop_strangers(images)
    annotations = None if wanted is None else wanted.read(images)
    preparation = Preparation.parse(prepare).fit_pixels(partial(_pixels, images, windows.seed))
    made = _Making(preparation, annotations, windows, progress)
    for source in sources:
        try:
            if (image := images.get(source.name)) is not None:
                made.add(source, image)
        except InputError as error:
            failures.append((source.name, str(error)))
    if made.first is None:
        raise InputError(failures[-1][1])
    channels, dims = _kind(made.first[0])
    kinds = (preparation, channels, dims, annotations, made.fingerprints)
    return TrainingSet(made.samples, *kinds, made.first, made.prepared, failures, made.windows)


def _pixels(images: Mapping[str, Image], seed: int, before: Preparation) -> Iterator[NDArray[Any]]:
    """Yield the valid pixels ``[N C]`` of all images after some steps, image by image, or window by window."""
    for image in images.values():
        if not image.in_memory:
            yield from window_pixels(image, before, seed)
        else:
            yield from (before.pixels(frame) for frame in split_frames(image))


class _Making:
    """Prepares one image after the other."""

    def __init__(
        self, preparation: Preparation, annotations: Annotations | None, windows: WindowChoice, progress: Progress
    ) -> None:
        self.preparation, self.annotations, self.choice, self.progress = preparation, annotations, windows, progress
        self.samples: list[Readable] = []
        self.prepared: list[tuple[str, Prepared | WindowSample]] = []
        self.fingerprints: dict[str, str] = {}
        self.windows: dict[str, int] = {}
        self.first: tuple[Image, Prepared] | None = None

    def add(self, source: Source, image: Image) -> None:
        """Prepare an image, or choose its windows.

        Raises
        ------
        InputError
            If that is not possible; nothing is added then.
        """
        if not image.in_memory:
            self._open(source.name, image)
            return
        frames = [(frame, self.preparation.apply(frame)) for frame in split_frames(image)]
        for number, (frame, prepared) in enumerate(frames):
            for note in prepared.notes:
                self.progress.say(f"{source.name}: {note}")
            self.first = self.first or (frame, prepared)
            classes = (
                None
                if self.annotations is None
                else self.annotations.prepared(source.name, number, self.preparation, prepared)
            )
            self.samples.append(Sample(prepared.array, prepared.valid, classes))
            self.prepared.append((source.name, prepared))
        self.fingerprints[source.name] = source.fingerprint()

    def _open(self, name: str, image: Image) -> None:
        cut = self.choice.cut(image, name, self.preparation, self.annotations, self.progress)
        self.fingerprints[name] = digest_windows(cut)
        self.first = self.first or show_window(cut[0])
        self.windows[name] = len(cut)
        self.samples += cut
        self.prepared += [(name, sample) for sample in cut]


@dataclass(frozen=True)
class HoldOut:
    """Training samples, and those that are held out: never learned from."""

    learned: list[Readable]
    held: list[Readable]
    held_names: list[str]


def split_sources(data: TrainingSet, share: float, seed: int) -> HoldOut:
    """Hold out a share of the images, by source and before anything is drawn from them, so that no frame or view leaks.

    Parameters
    ----------
    data
        The training set.
    share
        Share of the sources, rounded; of a single series its last frames. Nothing is held out if less than one half of a
        source, or all of them, would be.
    seed
        Decides which.
    """
    groups = [name for name, _ in data.prepared]
    if len(set(groups)) == 1:  # the last frames of a series: neighbours resemble each other
        places = list(range(len(groups)))
        held = set(places[len(places) - round(share * len(places)) :])
    else:
        names = list(dict.fromkeys(groups))
        drawn = generator(seed, "validation").permutation(len(names))[: round(share * len(names))]
        chosen = {names[i] for i in drawn}
        held = {i for i, name in enumerate(groups) if name in chosen}
    if len(held) == len(groups):
        held = set()
    learned = [sample for i, sample in enumerate(data.samples) if i not in held]
    return HoldOut(learned, [data.samples[i] for i in sorted(held)], sorted({groups[i] for i in held}))
