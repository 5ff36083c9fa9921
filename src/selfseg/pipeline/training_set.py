"""Training images: read, checked against each other, prepared, with their hints."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from selfseg.core.errors import InputError, SelfsegError, explain
from selfseg.core.image import Image
from selfseg.core.progress import Progress
from selfseg.core.seed import generator
from selfseg.pipeline.supervision import Hints, LabelSet, ScribbleFiles
from selfseg.read import Source, split_frames
from selfseg.sample.prepare import Preparation, Prepared
from selfseg.sample.stream import Sample

Failure = tuple[str, str]
"""Name of an input, and the one line that says what is wrong with it."""


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
    hints
        The user's labels or scribbles; None = there are none.
    fingerprints
        SHA-256 by the name of the input.
    first
        The first image as it was read and as it was prepared, for previews.
    prepared
        Name and prepared image of each sample.
    failures
        Inputs that could not be used.
    """

    samples: list[Sample]
    preparation: Preparation
    n_channels: int
    n_dims: int
    hints: Hints | None
    fingerprints: dict[str, str]
    first: tuple[Image, Prepared]
    prepared: list[tuple[str, Prepared]]
    failures: list[Failure] = field(default_factory=list)

    @property
    def hint_values(self) -> tuple[int, ...]:
        """The user's values; hint class c of the samples stands for ``hint_values[c]``."""
        return () if self.hints is None else self.hints.values

    def digest_hints(self) -> str:
        """Return the SHA-256 of the prepared hints of all samples; empty where there are none."""
        if self.hints is None:
            return ""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(b"none" if sample.hints is None else sample.hints.tobytes())
        return digest.hexdigest()

    def labelled(self) -> "TrainingSet":
        """Return the training set without the images that have no label.

        Raises
        ------
        InputError
            If no image has one.
        """
        has = [sample.hints is not None and bool((sample.hints >= 0).any()) for sample in self.samples]
        samples = [sample for sample, found in zip(self.samples, has, strict=True) if found]
        prepared = [pair for pair, found in zip(self.prepared, has, strict=True) if found]
        if not samples:
            raise InputError(explain("labels", expected="some labelled pixels", got="none", fix="check the labels"))
        return replace(self, samples=samples, prepared=prepared)


def read_all(sources: Sequence[Source], axes: str | None, progress: Progress) -> tuple[dict[str, Image], list[Failure]]:
    """Read every input; those that fail are named and left out.

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
            images[source.name] = source.read(axes)
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
        failures.append((name, explain(name, expected=expected, got=got, fix="convert it, or train on it separately")))
    return failures


def build_training_set(
    sources: Sequence[Source],
    prepare: str,
    wanted: LabelSet | ScribbleFiles | None,
    axes: str | None,
    progress: Progress,
) -> TrainingSet:
    """Read, check and prepare the training images of a model.

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
    """
    images, failures = read_all(sources, axes, progress)
    failures += _drop_strangers(images)
    hints = None if wanted is None else wanted.read(images)
    preparation = Preparation.parse(prepare).fit(frame for image in images.values() for frame in split_frames(image))
    samples: list[Sample] = []
    named: list[tuple[str, Prepared]] = []
    first: tuple[Image, Prepared] | None = None
    for name, image in images.items():
        try:
            frames = [(frame, preparation.apply(frame)) for frame in split_frames(image)]
        except InputError as error:
            failures.append((name, str(error)))
            continue
        for number, (frame, prepared) in enumerate(frames):
            for note in prepared.notes:
                progress.say(f"{name}: {note}")
            first = first or (frame, prepared)
            classes = None if hints is None else hints.prepared(name, number, preparation, prepared)
            samples.append(Sample(prepared.array, prepared.valid, classes))
            named.append((name, prepared))
    if first is None:
        raise InputError(failures[-1][1])
    used = set(images) - {name for name, _ in failures}
    fingerprints = {source.name: source.fingerprint() for source in sources if source.name in used}
    channels, dims = _kind(first[0])
    return TrainingSet(samples, preparation, channels, dims, hints, fingerprints, first, named, failures)


@dataclass(frozen=True)
class Split:
    """Training samples, and those that are held out: never learned from."""

    learned: list[Sample]
    held: list[Sample]
    held_names: list[str]


def split_sources(data: TrainingSet, share: float, seed: int) -> Split:
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
    return Split(learned, [data.samples[i] for i in sorted(held)], sorted({groups[i] for i in held}))
