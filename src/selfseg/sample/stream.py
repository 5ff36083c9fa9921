"""Batches of prepared images: a pure function of a seed and a step, so that a resumed run sees what a straight run sees."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfseg.core.seed import generator

Memo = dict[str, Any]
"""Cache of a method for one prepared image, under its own keys, for as long as the image lives (`Method.uses_memos`)."""


@dataclass(frozen=True)
class Batch:
    """Prepared training images of one step.

    Examples
    --------
    >>> import torch
    >>> from selfseg.methods import Batch
    >>> Batch(torch.zeros(2, 3, 8, 8)).images.shape
    torch.Size([2, 3, 8, 8])
    """

    images: Tensor
    """``[B C *S]`` float32."""
    valid: Tensor | None = None
    """``[B *S]`` bool, False = the pixel must not count (padding, mask, NaN); None = every pixel counts."""
    annotations: Tensor | None = None
    """``[B *S]`` int64: class wanted by the user's label or scribble, -1 = none; None = no annotations at all."""
    indices: tuple[int, ...] = (0,)
    """Which training images these are, 0-based."""
    ends_epoch: bool = True
    """True for the batch after which every training image has been seen once more."""
    first: int = 0
    """Place of the first of these images in the batch of all processes that share it."""
    memos: tuple[Memo, ...] | None = None
    """One for each image (`Memo`); None = the images have none."""
    reaches: tuple[tuple[int, ...], ...] | None = None
    """How far the pixels that count reach along each axis, of each image; None = it is asked of `valid` (`reach`)."""
    filled: tuple[bool, ...] | None = None
    """True if all pixels within that reach count; None = it is asked of `valid` (`is_filled`)."""

    def reach(self, b: int) -> list[int]:
        """Return how far the pixels that count reach along each axis, of image `b`: beyond that is padding."""
        if self.valid is None:
            return list(self.images.shape[2:])
        return list(self.reaches[b]) if self.reaches is not None else extent(self.valid[b])

    def is_filled(self, b: int) -> bool:
        """Return whether all pixels of image `b` count but for its padding."""
        if self.valid is None or self.filled is not None:
            return self.filled is None or self.filled[b]
        return bool(self.valid[b][tuple(slice(0, n) for n in self.reach(b))].all())

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on another device."""
        valid = None if self.valid is None else self.valid.to(device)
        annotations = None if self.annotations is None else self.annotations.to(device)
        return replace(self, images=self.images.to(device), valid=valid, annotations=annotations)

    def split(self, parts: int) -> list["Batch"]:
        """Cut the batch into at most `parts` smaller ones; only the last keeps `ends_epoch`."""
        if min(parts, len(self.images)) == 1:
            return [self]
        pieces = np.array_split(np.arange(len(self.images)), min(parts, len(self.images)))
        ends = [self.ends_epoch and piece is pieces[-1] for piece in pieces]
        return [replace(self._piece(piece), ends_epoch=end) for piece, end in zip(pieces, ends, strict=True)]

    def share(self, rank: int, world: int) -> "Batch | None":
        """Return the part of process `rank` out of `world`, in their order; None if there are too few images."""
        piece = np.array_split(np.arange(len(self.images)), world)[rank]
        return replace(self._piece(piece), first=int(piece[0])) if len(piece) else None

    def first_image(self) -> "Batch":
        """Return a batch of the first image alone."""
        return self._piece(np.arange(1))

    def _piece(self, places: NDArray[np.int64]) -> "Batch":
        chosen = slice(int(places[0]), int(places[-1]) + 1)
        return replace(
            self,
            images=self.images[chosen],
            valid=None if self.valid is None else self.valid[chosen],
            annotations=None if self.annotations is None else self.annotations[chosen],
            indices=self.indices[chosen],
            memos=None if self.memos is None else self.memos[chosen],
            reaches=None if self.reaches is None else self.reaches[chosen],
            filled=None if self.filled is None else self.filled[chosen],
        )

    def each(self) -> Iterator[tuple[Tensor, Tensor, Memo | None]]:
        """Yield each image ``[C *S]``, its valid pixels ``[*S]`` bool, both cut to the box of these, on the CPU, and its memo.

        Padding is cut off, not just masked: filters would carry its edge into the image.
        """
        for b, image in enumerate(self.images):
            valid = torch.ones(image.shape[1:], dtype=torch.bool) if self.valid is None else self.valid[b].cpu()
            if valid.any():
                box = [slice(int(i.min()), int(i.max()) + 1) for i in torch.nonzero(valid, as_tuple=True)]
                yield image[(slice(None), *box)].cpu(), valid[tuple(box)], None if self.memos is None else self.memos[b]


@dataclass(frozen=True)
class Sample:
    """One prepared training image.

    ``array`` float32 ``[C *s]``, ``valid`` bool ``[*s]`` or None, ``annotations`` int ``[*s]`` or None, ``memo`` its `Memo` or None.
    """

    array: NDArray[np.float32]
    valid: NDArray[np.bool_] | None = None
    annotations: NDArray[np.int64] | None = None
    memo: Memo | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels and sides ``[C *s]``."""
        return self.array.shape

    def read(self) -> "Sample":
        """Return the sample, which is in memory."""
        return self


class Readable(Protocol):
    """A training image in memory, or one that is read when a batch wants it (`sample.window_samples`)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels and sides ``[C *s]``."""

    @property
    def annotations(self) -> NDArray[np.integer] | None:
        """Labels or scribbles ``[*s]``; None = none."""

    def read(self) -> Sample:
        """Return it in memory."""


class Stream:
    """Batches over a fixed list of samples, shuffled anew in every epoch; the last, smaller batch of an epoch is kept.

    Samples of one batch that differ in size are padded with zeros at the end of each axis to the largest of them, and the
    padding is marked as not valid.

    Parameters
    ----------
    samples
        Prepared training images, all with the same number of channels and of spatial axes.
    batch_size
        Images in a batch.
    seed
        Decides the order of the images.
    """

    def __init__(self, samples: Sequence[Readable], batch_size: int, seed: int) -> None:
        self.samples = samples
        self.batch_size = min(batch_size, len(samples))
        self.seed = seed
        self.steps_per_epoch = -(-len(samples) // self.batch_size)
        self._only: Batch | None = None

    def batch(self, step: int) -> Batch:
        """Return the batch of step 0, 1, 2, ...; of a single image in memory it is always the same object."""
        if len(self.samples) == 1 and isinstance(self.samples[0], Sample):
            self._only = self._only or self._collate([0], ends_epoch=True)
            return self._only
        epoch, position = divmod(step, self.steps_per_epoch)
        order = generator(self.seed, "epoch", epoch).permutation(len(self.samples))
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        return self._collate([int(i) for i in chosen], ends_epoch=position == self.steps_per_epoch - 1)

    def once(self) -> Iterator[Batch]:
        """Iterate over every sample alone, in order."""
        for index in range(len(self.samples)):
            yield self._collate([index], ends_epoch=index == len(self.samples) - 1)

    def _collate(self, indices: list[int], ends_epoch: bool) -> Batch:
        chosen = [self.samples[i].read() for i in indices]
        shapes = [sample.array.shape[1:] for sample in chosen]
        shape = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        images = torch.zeros(len(chosen), chosen[0].array.shape[0], *shape)
        ragged = any(s != shape for s in shapes)
        valid = (
            torch.zeros(len(chosen), *shape, dtype=torch.bool)
            if ragged or any(s.valid is not None for s in chosen)
            else None
        )
        annotated = any(s.annotations is not None for s in chosen)
        annotations = torch.full((len(chosen), *shape), -1, dtype=torch.int64) if annotated else None
        for b, sample in enumerate(chosen):
            inside: Any = (..., *(slice(0, n) for n in sample.array.shape[1:]))
            images[b][inside] = torch.from_numpy(sample.array)
            if valid is not None:
                valid[b][inside] = True if sample.valid is None else torch.from_numpy(sample.valid)
            if annotations is not None and sample.annotations is not None:
                annotations[b][inside] = torch.from_numpy(sample.annotations)
        memos = tuple(sample.memo for sample in chosen if sample.memo is not None)
        kept = memos if len(memos) == len(chosen) else None
        batch = Batch(images, valid, annotations, tuple(indices), ends_epoch, memos=kept)
        if valid is None:
            return batch
        batch = replace(batch, reaches=tuple(tuple(extent(one)) for one in valid))
        return replace(batch, filled=tuple(batch.is_filled(b) for b in range(len(images))))


def extent(inside: Tensor) -> list[int]:
    """Return how far the valid pixels ``[*S]`` reach along each axis; the whole axis if there are none."""
    axes = range(inside.ndim)
    lines = [inside.any(dim=[other for other in axes if other != axis]) if inside.ndim > 1 else inside for axis in axes]
    used = [line.cpu().nonzero() for line in lines]
    return [int(found[-1]) + 1 if len(found) else n for found, n in zip(used, inside.shape, strict=True)]
