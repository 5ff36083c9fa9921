"""Connected regions: components of equal labels, and small regions merged into the neighbour most like them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.regions._connect_kernels import components, merge_rounds, relabel, sizes_and_sums, small_contacts
from selfseg.regions.graph import check_labels


def connected_components(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Give every face-connected part of equal labels a number of its own.

    Parameters
    ----------
    labels
        ``[*S]`` integers in 2D or 3D; negative values are outside and stay -1.

    Returns
    -------
    ndarray
        ``[*S]`` int32, 0..R-1 in the order of the first pixels, -1 outside.

    Raises
    ------
    UsageError
        If labels are not integers.
    """
    check_labels(labels)
    # Unsigned labels have no -1; int64 has, and keeps them apart.
    flat = np.ascontiguousarray(labels, np.int32 if labels.dtype == np.int32 else np.int64).ravel()
    parts = np.empty(flat.size, np.int32)
    components(flat, _volume(labels.shape), parts)
    return parts.reshape(labels.shape)


def number_by_first_pixel(labels: NDArray[np.int32], n_labels: int) -> NDArray[np.int32]:
    """Renumber labels 0..R-1 without gaps in the order of their first pixels; -1 stays.

    Parameters
    ----------
    labels
        ``[*S]`` int32 below `n_labels`, negative = outside.
    n_labels
        One more than the largest label; some may be unused.
    """
    flat = labels.ravel()
    first = np.full(n_labels + 1, flat.size, np.int64)
    # Backwards, so that the first pixel of each label is written last. Label -1 lands in the spare last place.
    first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)
    order = np.argsort(first[:-1], kind="stable")
    number = np.empty(n_labels + 1, np.int32)
    number[order] = np.arange(n_labels, dtype=np.int32)
    number[-1] = -1
    return number[labels]


def merge_small(
    labels: NDArray[np.int32], features: NDArray[Any], min_size: float, groups: NDArray[np.integer] | None = None
) -> NDArray[np.int32]:
    """Merge regions of fewer than `min_size` pixels into the neighbour of nearest mean feature, until none is left.

    Parameters
    ----------
    labels
        ``[*S]`` int32, 0..R-1, -1 outside.
    features
        ``[*S C]``, what similarity is judged by (squared Euclidean distance of means).
    min_size
        Pixels. A small region without neighbours stays.
    groups
        ``[*S]`` integers, the same over each region: only regions of one group merge.

    Returns
    -------
    ndarray
        ``[*S]`` int32, 0..R-1 without gaps, in the order of their first pixels.
    """
    n_regions = int(labels.max(initial=-1)) + 1
    flat, shape = np.ascontiguousarray(labels, np.int32).ravel(), _volume(labels.shape)
    values = np.nan_to_num(np.asarray(features, np.float64)).reshape(flat.size, -1)
    sizes, sums = np.zeros(n_regions), np.zeros((n_regions, values.shape[1]))
    sizes_and_sums(flat, values, sizes, sums)
    group = np.zeros(n_regions, np.int64)
    if groups is not None:
        group[flat[flat >= 0]] = groups.ravel()[flat >= 0]
    small = sizes < min_size
    contacts = np.empty((2 * labels.ndim * int(sizes[small].sum()), 2), np.int32)
    n_contacts = small_contacts(flat, shape, small, group, contacts)
    parent = np.arange(n_regions, dtype=np.int32)
    merge_rounds(contacts[:n_contacts], sizes, sums, min_size, parent)
    merged = np.empty(flat.size, np.int32)
    relabel(flat, parent, np.full(n_regions, -1, np.int32), merged)
    return merged.reshape(labels.shape)


def _volume(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a shape of up to three axes as (Z, Y, X)."""
    z, y, x = (1, 1, 1, *shape)[-3:]
    return z, y, x
