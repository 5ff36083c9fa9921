"""What each object of a label image is like: size, place, shape and intensity, in physical units. 2D and 3D."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError, explain
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
    """
    steps, names = _checked(objects, intensities or {}, spacing, letters)
    where = np.nonzero(objects)
    ids, owner = np.unique(objects[where], return_inverse=True)
    counts = np.bincount(owner, minlength=len(ids)).astype(np.int64)
    size = counts * math.prod(steps)
    columns: Columns = {"id": ids.astype(np.int64), "pixels": counts, "size": size}
    means = [np.bincount(owner, axis, len(ids)) / np.maximum(counts, 1) for axis in where]
    for letter, mean, step in zip(names, means, steps, strict=True):
        columns[f"centroid_{letter}"] = (mean + 0.5) * step
    columns["equivalent_diameter"] = 2 * np.sqrt(size / np.pi) if len(steps) == 2 else np.cbrt(6 * size / np.pi)
    columns |= _axes(where, owner, means, counts, steps)
    columns |= _boxes(where, owner, len(ids), objects.shape, names)
    order = np.argsort(owner, kind="stable")
    for name, values in (intensities or {}).items():
        columns |= _intensity(name, np.asarray(values)[where][order], owner[order], len(ids))
    return columns


def _checked(
    objects: NDArray[Any], intensities: Mapping[str, NDArray[Any]], spacing: Sequence[float] | None, letters: str | None
) -> tuple[tuple[float, ...], str]:
    """Return the spacing and the lower-case names of the axes."""
    if objects.dtype.kind not in "iu" or objects.ndim not in (2, 3) or objects.min(initial=0) < 0:
        got, fix = f"{objects.dtype} in {objects.ndim}D", "give ids of 1 and more, 0 = none"
        raise UsageError(explain("objects", expected="integers of 0 or more in 2D or 3D", got=got, fix=fix))
    for name, values in intensities.items():
        if values.shape != objects.shape:
            expected, fix = str(list(objects.shape)), "give one value a pixel"
            raise UsageError(explain(f"intensities {name}", expected=expected, got=str(list(values.shape)), fix=fix))
    names = (letters or "ZYX"[3 - objects.ndim :]).lower()
    steps = tuple(float(step) for step in spacing) if spacing is not None else (1.0,) * objects.ndim
    if len(steps) != objects.ndim or len(names) != objects.ndim or min(steps) <= 0:
        got, fix = f"spacing {steps}, axes {names}", "give one of each an axis"
        raise UsageError(explain("objects", expected=f"{objects.ndim} sizes and letters", got=got, fix=fix))
    return steps, names


def _axes(
    where: tuple[NDArray[np.intp], ...],
    owner: NDArray[np.intp],
    means: list[Floats],
    counts: NDArray[np.int64],
    steps: tuple[float, ...],
) -> Columns:
    n_dims, n_objects = len(steps), len(counts)
    covariance = np.zeros((n_objects, n_dims, n_dims))
    offsets = [(axis - mean[owner]) * step for axis, mean, step in zip(where, means, steps, strict=True)]
    for i in range(n_dims):
        for j in range(i, n_dims):
            moment = np.bincount(owner, offsets[i] * offsets[j], n_objects) / np.maximum(counts, 1)
            covariance[:, i, j] = covariance[:, j, i] = moment + (steps[i] ** 2 / 12 if i == j else 0.0)
    largest_first = np.linalg.eigvalsh(covariance)[:, ::-1].clip(min=0)
    factor = 4.0 if n_dims == 2 else 2 * math.sqrt(5)
    return {name: factor * np.sqrt(largest_first[:, i]) for i, name in enumerate(AXIS_NAMES[n_dims])}


def _boxes(
    where: tuple[NDArray[np.intp], ...], owner: NDArray[np.intp], n_objects: int, shape: tuple[int, ...], names: str
) -> Columns:
    columns: Columns = {}
    edge = np.zeros(n_objects, bool)
    for letter, places, n in zip(names, where, shape, strict=True):
        low, high = np.full(n_objects, n, np.int64), np.zeros(n_objects, np.int64)
        np.minimum.at(low, owner, places)
        np.maximum.at(high, owner, places + 1)
        columns[f"{letter}_min"], columns[f"{letter}_max"] = low, high
        edge |= (n > 1) & ((low == 0) | (high == n))
    columns["touches_edge"] = edge
    return columns


def _intensity(name: str, values: NDArray[Any], owner: NDArray[np.intp], n_objects: int) -> Columns:
    """Return the statistics of one channel; pixels are sorted by object."""
    finite = np.isfinite(values)
    values, owner = values[finite].astype(np.float64), owner[finite]
    counts = np.bincount(owner, minlength=n_objects)
    some, full = counts > 0, np.full(n_objects, np.nan)
    columns = {f"{kind}_{name}": full.copy() for kind in ("mean", "std", "min", "max")}
    if not len(values):
        return dict(columns)
    starts = (np.cumsum(counts) - counts)[some]
    mean = np.add.reduceat(values, starts) / counts[some]
    columns[f"mean_{name}"][some] = mean
    deviation = values - np.repeat(mean, counts[some])
    columns[f"std_{name}"][some] = np.sqrt(np.add.reduceat(deviation**2, starts) / counts[some])
    columns[f"min_{name}"][some] = np.minimum.reduceat(values, starts)
    columns[f"max_{name}"][some] = np.maximum.reduceat(values, starts)
    return dict(columns)
