"""Measures of each object of a label image: size, place, shape and intensity, in physical units. 2D and 3D."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.measure._table import Floats

Columns = dict[str, NDArray[Any]]

AXIS_NAMES = {2: ("major_axis", "minor_axis"), 3: ("major_axis", "middle_axis", "minor_axis")}


def measure_objects(
    objects: NDArray[np.integer],
    intensities: Mapping[str, NDArray[Any]] | None = None,
    spacing: Sequence[float] | None = None,
    letters: str | None = None,
) -> Columns:
    """Measure every object, in time linear in pixels.

    Coordinates have their origin at the outer corner of the first pixel, whose centre is half a pixel away, as in
    ImageJ. Axes are those of the ellipse (ellipsoid) with the object's second moments, where each pixel counts as a
    small box: 4 sqrt(l) in 2D, 2 sqrt(5 l) in 3D, l = the eigenvalues of its covariance.

    Parameters
    ----------
    objects
        ``[*S]`` ids, 0 = none; an id is one object, connected or not.
    intensities
        By name, values ``[*S]`` of a channel. Values that are not finite do not count.
    spacing
        Size of a pixel along each axis; None = 1.
    letters
        Names of the axes, ``"YX"`` or ``"ZYX"`` if not given.

    Returns
    -------
    dict
        Columns ``[N]`` in the order of ids: ``id``; ``pixels``; ``size`` (area or volume); ``centroid_y``, ...;
        ``equivalent_diameter`` (of the disc or ball of that size); ``major_axis``, ``minor_axis`` (in 3D also
        ``middle_axis``); ``y_min``, ``y_max``, ... (box in pixels, half open); ``touches_edge`` (of the image: it may go
        on beyond); for each channel ``mean_NAME``, ``std_NAME``, ``min_NAME``, ``max_NAME``, NaN where no value counts.

    Raises
    ------
    UsageError
        If `objects` are not integers of 0 or more in 2D or 3D, or another argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import measure_objects
    >>> objects = np.array([[0, 1, 1], [0, 0, 2]])
    >>> table = measure_objects(objects, spacing=(0.5, 0.5))
    >>> table["pixels"].tolist(), table["size"].tolist()
    ([2, 1], [0.5, 0.25])
    """
    if objects.dtype.kind not in "iu" or objects.ndim not in (2, 3) or objects.min(initial=0) < 0:
        raise UsageError(
            "objects",
            expected="integers of 0 or more in 2D or 3D",
            got=f"{objects.dtype} in {objects.ndim}D",
            fix="give ids of 1 and more, 0 = none",
        )
    ids, numbers = np.unique(objects, return_inverse=True)
    if ids[:1].tolist() != [0]:
        ids, numbers = np.append(0, ids), numbers + 1
    sums = ObjectSums(objects.shape, len(ids) - 1, spacing, letters)
    sums.add(numbers.reshape(objects.shape), intensities)
    return {**sums.columns(), "id": ids[1:].astype(np.int64)}


class ObjectSums:
    """Sums behind `measure_objects` (see there for the other arguments), for an image that may be larger than memory.

    Parameters
    ----------
    shape
        Sizes of the whole image's axes.
    n_objects
        Number N of objects; their ids are 1..N.

    Raises
    ------
    UsageError
        If the image is not 2D or 3D, or `spacing` or `letters` do not fit it.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import ObjectSums
    >>> objects = np.array([[0, 1, 1], [0, 0, 2]])
    >>> sums = ObjectSums(objects.shape, n_objects=2)
    >>> sums.add(objects[:1])
    >>> sums.add(objects[1:], start=(1, 0))
    >>> sums.columns()["pixels"].tolist()
    [2, 1]
    """

    def __init__(
        self, shape: Sequence[int], n_objects: int, spacing: Sequence[float] | None = None, letters: str | None = None
    ) -> None:
        n_dims = len(shape)
        self.shape, self.n_objects = tuple(shape), n_objects
        self.names = (letters or "ZYX"[3 - n_dims :]).lower()
        self.steps = tuple(float(step) for step in spacing) if spacing is not None else (1.0,) * n_dims
        if n_dims not in (2, 3) or len(self.steps) != n_dims or len(self.names) != n_dims or min(self.steps) <= 0:
            raise UsageError(
                "objects",
                expected=f"{n_dims} sizes and letters",
                got=f"spacing {self.steps}, axes {self.names}",
                fix="give one of each an axis",
            )
        self._counts = np.zeros(n_objects, np.int64)
        self._means = np.zeros((n_dims, n_objects))
        self._moments = np.zeros((n_dims, n_dims, n_objects))
        self._low = np.full((n_dims, n_objects), np.iinfo(np.int64).max)
        self._high = np.zeros((n_dims, n_objects), np.int64)
        self._channels: dict[str, _Values] = {}

    def add(
        self,
        objects: NDArray[np.integer],
        intensities: Mapping[str, NDArray[Any]] | None = None,
        start: Sequence[int] | None = None,
    ) -> None:
        """Take in one region.

        Parameters
        ----------
        objects
            Ids ``[*s]``, 0 = none.
        intensities
            By name, values ``[*s]``; the same names in every region.
        start
            Where the region begins in the image; None = at its first pixel.
        """
        for name, values in (intensities or {}).items():
            if values.shape != objects.shape:
                expected, fix = str(list(objects.shape)), "give one value a pixel"
                what = f"intensities {name}"
                raise UsageError(what, expected=expected, got=str(list(values.shape)), fix=fix)
        where = np.nonzero(objects)
        # an object of its own for each one that is here: arrays of N for each small region would take too long
        here, owner = np.unique(objects[where].astype(np.int64) - 1, return_inverse=True)
        places = [axis + first for axis, first in zip(where, start or (0,) * len(where), strict=True)]
        self._add_places(places, here, owner)
        order = np.argsort(owner, kind="stable")
        for name, values in (intensities or {}).items():
            channel = self._channels.setdefault(name, _Values(self.n_objects))
            channel.add(np.asarray(values)[where][order], here, owner[order])

    def _add_places(self, places: list[NDArray[np.int64]], here: NDArray[np.int64], owner: NDArray[np.intp]) -> None:
        """Join counts, means and moments to those so far (Chan, Golub & LeVeque 1983, eq. 2.1, for covariances)."""
        n, before = np.bincount(owner, minlength=len(here)), self._counts[here]
        share = n / np.maximum(n + before, 1)
        means = np.array([np.bincount(owner, axis, len(here)) for axis in places]) / np.maximum(n, 1)
        moved = means - self._means[:, here]
        away = [axis - mean[owner] for axis, mean in zip(places, means, strict=True)]
        for i, j in np.ndindex(self._moments.shape[:2]):
            inner = np.bincount(owner, away[i] * away[j], len(here))
            self._moments[i, j, here] += inner + moved[i] * moved[j] * before * share
        self._means[:, here] += moved * share
        self._counts[here] += n
        for axis, place in enumerate(places):
            np.minimum.at(self._low[axis], here[owner], place)
            np.maximum.at(self._high[axis], here[owner], place + 1)

    def columns(self) -> Columns:
        """Return the measures of all objects, as `measure_objects` does; ids are 1..N."""
        n_dims, steps = len(self.shape), np.array(self.steps)
        size = self._counts * math.prod(self.steps)
        found: Columns = {"id": np.arange(1, self.n_objects + 1), "pixels": self._counts.copy(), "size": size}
        for letter, mean, step in zip(self.names, self._means, self.steps, strict=True):
            found[f"centroid_{letter}"] = (mean + 0.5) * step
        found["equivalent_diameter"] = 2 * np.sqrt(size / np.pi) if n_dims == 2 else np.cbrt(6 * size / np.pi)
        covariance = self._moments / np.maximum(self._counts, 1) + np.eye(n_dims)[:, :, None] / 12
        covariance = (covariance * (steps[:, None] * steps)[:, :, None]).transpose(2, 0, 1)
        largest_first = np.linalg.eigvalsh(covariance)[:, ::-1].clip(min=0)
        factor = 4.0 if n_dims == 2 else 2 * math.sqrt(5)
        for i, name in enumerate(AXIS_NAMES[n_dims]):
            found[name] = factor * np.sqrt(largest_first[:, i])
        edge = np.zeros(self.n_objects, bool)
        for letter, n, low, high in zip(self.names, self.shape, self._low, self._high, strict=True):
            found[f"{letter}_min"], found[f"{letter}_max"] = low.copy(), high.copy()
            edge |= (n > 1) & ((low == 0) | (high == n))
        found["touches_edge"] = edge
        for name, channel in self._channels.items():
            found |= channel.columns(name)
        return found


class _Values:
    """Statistics of one channel over each object."""

    def __init__(self, n_objects: int) -> None:
        self.counts = np.zeros(n_objects, np.int64)
        self.means, self.squares = np.zeros(n_objects), np.zeros(n_objects)
        self.low, self.high = np.full(n_objects, np.inf), np.full(n_objects, -np.inf)

    def add(self, values: NDArray[Any], here: NDArray[np.int64], owner: NDArray[np.intp]) -> None:
        """Take in values that are sorted by owner, the place of their object in `here`."""
        finite = np.isfinite(values)
        values, owner = values[finite].astype(np.float64), owner[finite]
        if not len(values):
            return
        n = np.bincount(owner, minlength=len(here))
        some, n = n > 0, n[n > 0]
        starts, at = np.cumsum(n) - n, here[some]
        mean: Floats = np.add.reduceat(values, starts) / n
        squares = np.add.reduceat((values - np.repeat(mean, n)) ** 2, starts)
        before, moved = self.counts[at], mean - self.means[at]
        self.squares[at] += squares + moved**2 * (before * n / (before + n))
        self.means[at] += moved * (n / (before + n))
        self.counts[at] += n
        self.low[at] = np.minimum(self.low[at], np.minimum.reduceat(values, starts))
        self.high[at] = np.maximum(self.high[at], np.maximum.reduceat(values, starts))

    def columns(self, name: str) -> Columns:
        """Return the columns of this channel, NaN where no value counts."""
        none = self.counts == 0
        deviation = np.sqrt(self.squares / np.maximum(self.counts, 1))
        statistics = {"mean": self.means, "std": deviation, "min": self.low, "max": self.high}
        return {f"{kind}_{name}": np.where(none, np.nan, column) for kind, column in statistics.items()}
