"""From ids to colours: the class table as an array to index with a label image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.palette import MOST, class_colours


def colour_table(table: ClassTable | None, largest: int = 0) -> NDArray[np.uint8]:
    """Return the colours of the ids 0, 1, 2, ...

    Parameters
    ----------
    table
        Classes whose colours are used. Ids that it does not hold get those of `class_colours`, over and over.
    largest
        Largest id in the label image.

    Returns
    -------
    NDArray
        Red, green, blue, alpha ``[n 4]`` uint8, with n > `largest` and n > every id of the table. Row 0 (ignore) is
        transparent.
    """
    classes = table.classes if table is not None else ()
    n_ids = max([largest, *(item.id for item in classes)])
    colours = np.zeros((n_ids + 1, 4), np.uint8)
    if n_ids:
        palette = np.array(class_colours(min(n_ids, MOST)), np.uint8)
        colours[1:] = palette[np.arange(n_ids) % len(palette)]
    for item in classes:
        colours[item.id] = item.rgba
    return colours


def labels_picture(labels: NDArray[Any], table: ClassTable | None = None) -> NDArray[np.uint8]:
    """Return the class colours of a label image: red, green, blue, alpha ``[*S 4]`` uint8. Ignored pixels are transparent.

    Parameters
    ----------
    labels
        Ids ``[*S]``, 0 = ignore.
    table
        Colours of the ids, as in `colour_table`.
    """
    picture: NDArray[np.uint8] = colour_table(table, int(labels.max(initial=0)))[labels]
    return picture
