"""Measures of objects as CSV: one line an object, for spreadsheets, R and pandas."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.files import writing


def write_object_table(path: Path | str, tables: Sequence[Mapping[str, NDArray[Any] | Sequence[Any]]]) -> int:
    """Write the columns of several images below each other as CSV in UTF-8.

    Parameters
    ----------
    tables
        Columns of equal length by name, one table an image. Where a table lacks a column of another, its fields are
        empty; so are NaN. Truth values are 0 and 1, floating values have 7 digits.

    Returns
    -------
    int
        Number of lines below the header.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    names = list(dict.fromkeys(name for table in tables for name in table))
    n_lines = 0
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(names)
        for table in tables:
            length = max((len(column) for column in table.values()), default=0)
            columns = [_texts(table[name]) if name in table else [""] * length for name in names]
            rows.writerows(zip(*columns, strict=True))
            n_lines += length
    return n_lines


def _texts(column: NDArray[Any] | Sequence[Any]) -> list[Any]:
    values = np.asarray(column)
    if values.dtype.kind == "f":
        return ["" if np.isnan(value) else f"{value:.7g}" for value in values.tolist()]
    return values.astype(int).tolist() if values.dtype.kind == "b" else values.tolist()
