"""Truths as datasets hand them out: one integer array, annotators first."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.read.labels import read_truths


def stacked_truths(path: Path) -> NDArray[Any]:
    """Return the truth of one image, ``[A *S]`` integers, as the file has them.

    Raises
    ------
    InputError
        If the file is missing or no label image, or its annotators' images differ in size.
    """
    truths = read_truths(path)
    shapes = {truth.shape for truth in truths}
    if len(shapes) != 1:
        got = f"{len(shapes)} sizes" if shapes else "no annotator"
        raise InputError(f"labels {path}", expected="annotators of one size", got=got, fix="check the file")
    return np.stack(truths)


def binary_truth(path: Path) -> NDArray[np.uint8]:
    """Return the truth of one image whose values are 0 and anything above: ``[1 *S]`` uint8 of 0 and 1.

    Raises
    ------
    InputError
        As for `stacked_truths`, and if there are several annotators.
    """
    truths = stacked_truths(path)
    if len(truths) > 1:
        raise InputError(f"labels {path}", expected="one mask", got=f"{len(truths)} annotators", fix="check the file")
    return (truths > 0).astype(np.uint8)
