"""A 2D model on a volume: slice by slice across one axis, or across several and averaged."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from selfseg.core.axes import spatial_axes
from selfseg.core.image import Image
from selfseg.read.frames import Frames

Plane = tuple[NDArray[np.float32], NDArray[np.bool_] | None]
"""Probabilities ``[K Y X]`` of a slice, and where it was looked at ``[Y X]`` (None = everywhere)."""


def predict_slices(
    assign: Callable[[Image], Plane],
    volume: Image,
    axes: Sequence[str],
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Plane:
    """Return class probabilities of a volume from those of its slices; each voxel has the mean over the axes that saw it.

    Parameters
    ----------
    assign
        Gives the probabilities of one slice at its own size. One slice is at work at a time.
    volume
        An image with Z, and without T.
    axes
        Letters out of Z Y X: the axes across which it is cut.
    tick
        Called with the number of slices done and of all.

    Returns
    -------
    tuple
        ``[K *S]`` float32, and ``[*S]`` bool, False where no slice was looked at (None = nowhere).
    """
    letters = spatial_axes(volume.axes)
    stacks = [Frames.along(volume, axis) for axis in axes]
    total = sum(stack.n_frames for stack in stacks)
    probabilities: NDArray[np.float32] | None = None
    seen: NDArray[np.uint8] | None = None
    done = 0
    for stack in stacks:
        for number in range(stack.n_frames):
            values, inside = assign(stack.frame(number))
            if probabilities is None or seen is None:
                probabilities = np.zeros((len(values), *volume.spatial_shape), np.float32)
                seen = np.zeros(volume.spatial_shape, np.uint8)
            where = tuple(number if letter == stack.axis else slice(None) for letter in letters)
            probabilities[(slice(None), *where)] += values if inside is None else values * inside
            seen[where] += np.uint8(1) if inside is None else inside.view(np.uint8)
            done += 1
            tick(done, total)
    if probabilities is None or seen is None:
        raise ValueError(f"slices of {volume.name}: expected at least one")
    if len(stacks) > 1 or not seen.all():
        probabilities[:, seen == 0] = 1 / len(probabilities)
        probabilities /= np.maximum(seen, 1)
    return probabilities, None if seen.all() else seen > 0
