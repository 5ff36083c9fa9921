"""The sparse contingency table that lies under all region measures: how many pixels each pair of regions shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfseg.core.errors import InputError

Labels = NDArray[np.integer[Any]]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Truths = ArrayLike | Sequence[ArrayLike]
"""Annotators of one image: one array ``[*S]``, or several: a sequence of such arrays, or an array ``[A *S]``."""

DENSE_BINS = 1 << 22
"""A joint histogram of up to this many bins is counted densely, a larger one by sorting."""


@dataclass(frozen=True)
class Table:
    """The pairs of regions that share pixels, one entry a pair, sorted by row and then by column.

    Rows are regions of the segmentation, columns are regions of the truth. Only regions with pixels are in it.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import contingency
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> table = contingency(labels, truth)
    >>> table.row_sums.tolist(), table.column_sums.tolist(), table.ious.round(2).tolist()
    ([6, 2], [4, 4], [0.67, 0.25, 0.5])
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    """``[N]`` indices of the two regions of each entry."""
    counts: Counts
    """``[N]`` pixels that the two regions share, at least 1."""
    row_labels: Counts
    column_labels: Counts
    """``[R]``, ``[C]`` label value of each row and column, ascending."""

    @cached_property
    def row_sums(self) -> Counts:
        """Pixels of each region of the segmentation: ``[R]``."""
        return _sum_by(self.rows, self.counts, len(self.row_labels))

    @cached_property
    def column_sums(self) -> Counts:
        """Pixels of each region of the truth: ``[C]``."""
        return _sum_by(self.columns, self.counts, len(self.column_labels))

    @cached_property
    def total(self) -> int:
        """Pixels that were counted."""
        return int(self.counts.sum())

    @cached_property
    def ious(self) -> Floats:
        """Intersection over union of the two regions of each entry: ``[N]``."""
        union = self.row_sums[self.rows] + self.column_sums[self.columns] - self.counts
        return self.counts / union

    def regrouped(self, group: NDArray[np.intp]) -> "Table":
        """Return the table of a coarser segmentation, without looking at a pixel.

        Parameters
        ----------
        group
            ``[R]`` index of the region that each row becomes part of, 0 or more. The new row labels are these indices.
        """
        joint = group[self.rows].astype(np.int64) * len(self.column_labels) + self.columns
        return _from_joint(joint, self.counts, int(group.max()) + 1, self.column_labels)


def contingency(labels: ArrayLike, truth: ArrayLike, ignore: int | None = None) -> Table:
    """Count how many pixels each region of `labels` shares with each region of `truth`.

    Parameters
    ----------
    labels, truth
        Integer arrays of the same shape, of any dimension. Label values may be any integers.
    ignore
        Pixels whose *truth* has this value are left out. None = every pixel counts. The value has no special meaning in
        `labels`, so that a method gains nothing by abstaining.

    Raises
    ------
    InputError
        If an array is not of integers or is empty, the shapes differ, or every pixel is ignored.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import contingency
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> table = contingency(labels, truth)
    >>> table.counts.tolist(), table.total
    ([4, 2, 2], 8)
    """
    return contingencies(labels, [np.asarray(truth)], ignore)[0]


def contingencies(labels: ArrayLike, truths: Truths, ignore: int | None = None) -> list[Table]:
    """Count one segmentation against several annotators: one table each. See `contingency` and `Truths`.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import contingencies
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> [table.counts.tolist() for table in contingencies(labels, [truth, labels])]
    [[4, 2, 2], [6, 2]]
    """
    segmentation = check_labels(labels, "labels")
    flat = segmentation.ravel()
    tables = []
    for truth in as_truths(truths, segmentation.shape):
        if ignore is None:
            tables.append(_count(flat, truth.ravel()))
            continue
        keep = truth != ignore
        check_counted(keep, ignore)
        tables.append(_count(segmentation[keep], truth[keep]))
    return tables


def pooled(tables: Sequence[Table]) -> Table:
    """Return the sum of several tables by label value, for classes whose ids mean the same in every image.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import contingency, pooled
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> pooled([contingency(labels, truth), contingency(truth, truth)]).counts.tolist()
    [8, 2, 6]
    """
    if not tables:
        raise InputError("tables", expected="at least one table", got="none", fix="give one for each image")
    row_values = np.concatenate([table.row_labels[table.rows] for table in tables])
    column_values = np.concatenate([table.column_labels[table.columns] for table in tables])
    row_labels, rows = np.unique(row_values, return_inverse=True)
    column_labels, columns = np.unique(column_values, return_inverse=True)
    counts = np.concatenate([table.counts for table in tables])
    merged = _from_joint(rows.astype(np.int64) * len(column_labels) + columns, counts, len(row_labels), column_labels)
    return Table(merged.rows, merged.columns, merged.counts, row_labels, column_labels)


def check_labels(labels: ArrayLike, name: str) -> Labels:
    """Return `labels` as an array if it is a non-empty array of integers or booleans, else raise `InputError`."""
    array = np.asarray(labels)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype == np.uint64 and array.size:
        largest = int(array.max())
        if largest > np.iinfo(np.int64).max:
            raise InputError(name, expected="labels below 2**63", got=str(largest), fix="renumber the labels")
        array = array.astype(np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            name,
            expected="an array of integer labels",
            got=f"{array.dtype} of shape {array.shape}",
            fix="convert it, as by .astype(int)",
        )
    if array.size == 0:
        raise InputError(name, expected="at least one pixel", got=f"shape {array.shape}", fix="check the file")
    return array


def check_counted(counts: NDArray[np.bool_], ignore: int | None, name: str = "truth") -> None:
    """Raise `InputError` if no pixel counts, since all of them have the value to leave out."""
    if not counts.any():
        raise InputError(
            name,
            expected="a pixel that counts",
            got=f"only {ignore} in all of shape {counts.shape}",
            fix="check the ignore label",
        )


def as_truths(truths: Truths, shape: tuple[int, ...]) -> list[Labels]:
    """Return the annotators' arrays, each checked to be of `shape`; one array of that shape is one annotator."""
    annotators = _annotators(truths, len(shape))
    if not annotators:
        raise InputError("truths", expected="at least one annotator", got="none", fix="give a truth")
    checked = [check_labels(truth, "truth") for truth in annotators]
    for truth in checked:
        if truth.shape != shape:
            raise InputError(
                "labels and truth",
                expected="equal shapes",
                got=f"labels of shape {shape} and truth of shape {truth.shape}",
                fix="compare matching images",
            )
    return checked


def _annotators(truths: Any, n_dims: int) -> list[Any]:
    """Tell one array from several: a list of arrays is several, a list of numbers or of lists is one array."""
    if isinstance(truths, np.ndarray):
        return list(truths) if truths.ndim == n_dims + 1 else [truths]
    if isinstance(truths, Sequence) and (
        len(truths) == 0 or isinstance(truths[0], np.ndarray) or np.ndim(truths[0]) >= n_dims
    ):
        return list(truths)
    return [truths]


def _count(rows: Labels, columns: Labels) -> Table:
    """Build a table from flat arrays."""
    row_low, column_low = int(rows.min()), int(columns.min())
    n_rows, n_columns = int(rows.max()) - row_low + 1, int(columns.max()) - column_low + 1
    if n_rows * n_columns <= DENSE_BINS:
        # In place: at this size the time goes into passes over memory.
        joint = rows.astype(np.int64)
        joint -= row_low
        joint *= n_columns
        joint += columns
        joint -= column_low
        bins = np.bincount(joint)
        keys = np.flatnonzero(bins)
        row_labels, row_index = np.unique(keys // n_columns + row_low, return_inverse=True)
        column_labels, column_index = np.unique(keys % n_columns + column_low, return_inverse=True)
        return Table(row_index, column_index, bins[keys].astype(np.int64), row_labels, column_labels)
    row_labels, row_index = np.unique(rows, return_inverse=True)
    column_labels, column_index = np.unique(columns, return_inverse=True)
    keys, counts = np.unique(row_index * len(column_labels) + column_index, return_counts=True)
    width = len(column_labels)
    parts = row_labels.astype(np.int64), column_labels.astype(np.int64)
    return Table(keys // width, keys % width, counts.astype(np.int64), *parts)


def _from_joint(joint: Counts, counts: Counts, n_rows: int, column_labels: Counts) -> Table:
    """Sum `counts` over equal joint keys ``row * C + column``. Every row below `n_rows` must occur or be dropped."""
    width = len(column_labels)
    if n_rows * width <= max(DENSE_BINS >> 6, 4 * len(joint)):
        dense = _sum_by(joint, counts, n_rows * width)
        keys = np.flatnonzero(dense)
        sums = dense[keys]
    else:
        keys, inverse = np.unique(joint, return_inverse=True)
        sums = _sum_by(inverse, counts, len(keys))
    row_labels, rows = np.unique(keys // width, return_inverse=True)
    return Table(rows, keys % width, sums, row_labels, column_labels)


def _sum_by(index: NDArray[np.intp], values: Counts, size: int) -> Counts:
    # Weights of a bincount are floats: exact for sums below 2**53 pixels.
    return np.bincount(index, weights=values, minlength=size).astype(np.int64)
