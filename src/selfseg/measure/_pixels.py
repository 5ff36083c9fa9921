"""What all label-free measures look at: the pixels that count, the region of each, and which pixels touch."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfseg.core.errors import InputError
from selfseg.measure._table import Floats, Labels, check_labels


@dataclass(frozen=True)
class Regions:
    """The pixels that count: region ``[N]``, values ``[N C]``; and on the grid: ``[*S]`` (-1 elsewhere), ``[*S C]``."""

    index: NDArray[np.intp]
    values: Floats
    grid: NDArray[np.intp]
    picture: Floats

    @property
    def areas(self) -> Floats:
        """Pixels of each region: ``[R]``."""
        return np.bincount(self.index).astype(np.float64)

    def squared_errors(self) -> Floats:
        """Sum of squared deviations from the region's mean, for each region and channel: ``[R C]``."""
        means = self.sums(self.values) / self.areas[:, None]
        return self.sums((self.values - means[self.index]) ** 2)

    def sums(self, values: Floats) -> Floats:
        """Sum ``[N C]`` values over each region: ``[R C]``."""
        return np.stack([np.bincount(self.index, channel) for channel in values.T], axis=1)


def prepare(labels: ArrayLike, image: ArrayLike, ignore: int | None) -> Regions:
    """Return the regions of labels ``[*S]`` with the values of an image ``[*S]`` or ``[*S C]``, or raise `InputError`."""
    array: Labels = check_labels(labels, "labels")
    picture = np.asarray(image, np.float64)
    picture = picture[..., None] if picture.shape == array.shape else picture
    if picture.shape[:-1] != array.shape:
        got = f"labels of shape {array.shape} and image of shape {picture.shape}"
        raise InputError("labels and image", expected="equal sizes", got=got, fix="give matching arrays, channels last")
    used = np.ones(array.shape, bool) if ignore is None else array != ignore
    if not used.any():
        got = f"only {ignore} in labels of shape {array.shape}"
        raise InputError("labels", expected="a pixel that counts", got=got, fix="check the ignore label")
    if not np.isfinite(picture[used]).all():
        got = "NaN or infinite values"
        raise InputError("image", expected="finite values", got=got, fix="label those pixels as ignored")
    grid = np.full(array.shape, -1, np.intp)
    grid[used] = _renumbered(array[used])
    return Regions(grid[used], picture[used], grid, picture)


def _renumbered(values: Labels) -> NDArray[np.intp]:
    """Return ``values [N]`` as 0..R-1, in their order."""
    low, high = int(values.min()), int(values.max())
    if high - low > len(values):
        return np.unique(values, return_inverse=True)[1]
    # Counting instead of sorting: every criterion starts here.
    shifted = values.astype(np.intp) - low
    rank = np.cumsum(np.bincount(shifted) > 0) - 1
    return np.asarray(rank[shifted], np.intp)


def neighbours(shape: tuple[int, ...], corners: bool) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield slices of all pairs of touching pixels, each pair once."""
    for step in product((-1, 0, 1), repeat=len(shape)):
        first = next((s for s in step if s), 0)
        if first != 1 or (not corners and sum(map(abs, step)) > 1):
            continue
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, shape, strict=True))
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, shape, strict=True))
        yield here, there
