"""Training images: read, checked against each other, prepared, with their hints."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, SelfsegError, UsageError, explain
from selfseg.core.image import Image
from selfseg.core.progress import Progress
from selfseg.read import Source, read_hints, split_frames
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
    hint_values
        The user's scribble values; hint class c of the samples stands for ``hint_values[c]``.
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
    hint_values: tuple[int, ...]
    fingerprints: dict[str, str]
    first: tuple[Image, Prepared]
    prepared: list[tuple[str, Prepared]]
    failures: list[Failure] = field(default_factory=list)


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
    sources: Sequence[Source], prepare: str, hints: Mapping[str, Path], axes: str | None, progress: Progress
) -> TrainingSet:
    """Read, check and prepare the training images of a model.

    Parameters
    ----------
    sources
        Inputs, not read yet.
    prepare
        Preparation steps (`selfseg.sample.prepare`).
    hints
        Scribble label files by the name of their image.
    axes
        Axes of all inputs, None = as the files say.
    progress
        Who is told about guesses and notes.
    """
    images, failures = read_all(sources, axes, progress)
    failures += _drop_strangers(images)
    hint_arrays, hint_values = _read_all_hints(images, hints)
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
        for frame, prepared in frames:
            for note in prepared.notes:
                progress.say(f"{name}: {note}")
            first = first or (frame, prepared)
            wanted = hint_arrays.get(name)
            inside = None if wanted is None else preparation.hints(wanted, prepared)
            samples.append(Sample(prepared.array, prepared.valid, inside))
            named.append((name, prepared))
    if first is None:
        raise InputError(failures[-1][1])
    used = set(images) - {name for name, _ in failures}
    fingerprints = {source.name: source.fingerprint() for source in sources if source.name in used}
    channels, dims = _kind(first[0])
    return TrainingSet(samples, preparation, channels, dims, hint_values, fingerprints, first, named, failures)


def _read_all_hints(
    images: Mapping[str, Image], hints: Mapping[str, Path]
) -> tuple[dict[str, NDArray[np.int64]], tuple[int, ...]]:
    """Read scribbles, and number their values 0, 1, 2, ... over all images; -1 stays "no scribble"."""
    arrays: dict[str, NDArray[np.int64]] = {}
    for name, path in hints.items():
        if name not in images:
            continue
        if "T" in images[name].axes:
            raise UsageError(
                explain(
                    str(path),
                    expected="scribbles on single images",
                    got=f"a series in {name}",
                    fix="give the frame as a file of its own",
                )
            )
        arrays[name] = read_hints(path, images[name].spatial_shape)
    found = [np.unique(array[array >= 0]) for array in arrays.values()]
    values = tuple(int(value) for value in np.unique(np.concatenate(found))) if found else ()
    for name, array in arrays.items():
        arrays[name] = np.where(array >= 0, np.searchsorted(values, array), -1).astype(np.int64)
    return arrays, values
