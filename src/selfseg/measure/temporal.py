"""Flicker: how often labels change from frame to frame where the picture does not.

A pixel p of frame t is compared with pixel q(p) of frame t-1 if the picture stayed: |I_t(p) - I_{t-1}(q(p))| is at most a
tolerance in every channel. The score is the share of the compared pixels whose labels differ,

    F = sum_t sum_p [stayed and L_t(p) != L_{t-1}(q(p))] / sum_t sum_p [stayed].

With q(p) = p it is the flicker in place; with q from the motion between the frames it follows what moves. The second is one
minus the pixel accuracy of the labels warped from the frame before, on the pixels that are not occluded: the temporal
consistency of Varghese et al. (CVPR Workshops 2020), who take the mean IoU instead, with the mask of Lai et al.'s warping error
(ECCV 2018): pixels to which the way back does not lead are left out. Good segmentations of what really changes lose nothing by
it; a constant label has F = 0, so that it is worth looking at beside other measures only.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.regions.motion import follow

TOLERANCE = 0.02
"""Change of a channel, as a share of the range of its type or values, up to which a pixel stayed."""

LONGEST = 640
"""Frames whose longer side has more pixels than this are compared shrunk by a whole factor."""


class FlickerCount(NamedTuple):
    """Pixels whose label changed, and pixels that were compared.

    Examples
    --------
    >>> from selfseg.measure import FlickerCount
    >>> FlickerCount(changed=1, compared=8).share
    0.125
    """

    changed: int
    compared: int

    @property
    def share(self) -> float:
        """The flicker score, 0-1; NaN if nothing was compared."""
        return self.changed / self.compared if self.compared else float("nan")

    def plus(self, other: "FlickerCount") -> "FlickerCount":
        """Return the counts of both."""
        return FlickerCount(self.changed + other.changed, self.compared + other.compared)


def flicker(
    labels: NDArray[np.integer],
    labels_before: NDArray[np.integer],
    image: NDArray[Any],
    image_before: NDArray[Any],
    tolerance: float,
    origin: NDArray[np.intp] | None = None,
) -> FlickerCount:
    """Count label changes between two frames where the picture stayed.

    Parameters
    ----------
    labels, labels_before
        ``[Y X]``; 0 = ignore, not compared.
    image, image_before
        ``[Y X]`` or ``[Y X C]``.
    tolerance
        In the image's unit (`TOLERANCE` is a share of its range).
    origin
        ``[Y X]``, flat number of the pixel of the frame before that each pixel came from; None = the same one.

    Raises
    ------
    InputError
        If sizes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import flicker
    >>> before, after = np.array([[1, 1, 2]]), np.array([[1, 2, 2]])
    >>> picture = np.zeros((1, 3), np.float32)
    >>> flicker(before, after, picture, picture, tolerance=0.02)
    FlickerCount(changed=1, compared=3)
    """
    if labels.shape != labels_before.shape or image.shape != image_before.shape or image.shape[:2] != labels.shape:
        sizes = ", ".join(str(one.shape) for one in (labels, labels_before, image, image_before))
        raise InputError(
            "flicker", expected="frames and labels of one size", got=sizes, fix="give two frames and their labels"
        )
    now = image.reshape(labels.size, -1).astype(np.float32)
    then = image_before.reshape(labels.size, -1).astype(np.float32)
    old = labels_before.ravel()
    if origin is not None:
        then, old = then[origin.ravel()], old[origin.ravel()]
    new = labels.ravel()
    stayed = (np.abs(now - then) <= tolerance).all(1) & (new > 0) & (old > 0)
    return FlickerCount(int((stayed & (new != old)).sum()), int(stayed.sum()))


class FlickerMeter:
    """Counts the flicker of a sequence, given frame by frame: in place, and following the motion between the frames.

    Frames larger than `LONGEST` are shrunk by a whole factor, the picture by means over blocks and the labels to the one at
    the middle of each block, so that the noise of single pixels does not hide that they stayed.

    Parameters
    ----------
    tolerance
        As a share of the range of the frames: of 0-255 for 8 bits, else of the values of the first frame.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import FlickerMeter
    >>> meter = FlickerMeter()
    >>> picture = np.zeros((8, 8, 1), np.float32)
    >>> meter.add(np.ones((8, 8), int), picture)
    >>> meter.add(np.ones((8, 8), int), picture)
    >>> meter.describe()
    'flicker: 0.00% of the pixels that did not change have another label than before; 0.00% following the motion'
    """

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        self.tolerance = tolerance
        self.in_place = FlickerCount(0, 0)
        self.following = FlickerCount(0, 0)
        self._before: tuple[NDArray[np.integer], NDArray[np.float32]] | None = None
        self._range = 0.0

    def add(self, labels: NDArray[np.integer], image: NDArray[Any]) -> None:
        """Compare a frame, labels ``[Y X]`` and image ``[Y X C]``, with the one before."""
        factor = min(-(-max(labels.shape) // LONGEST), *labels.shape)
        small = _shrunk(image, factor)
        ids = labels[factor // 2 :: factor, factor // 2 :: factor][: small.shape[0], : small.shape[1]]
        if not self._range:
            self._range = 255.0 if image.dtype == np.uint8 else float(np.ptp(small)) or 1.0
        if self._before is not None and self._before[0].shape == ids.shape:
            old_ids, old = self._before
            limit = self.tolerance * self._range
            origin, known = follow(old.mean(-1), small.mean(-1))
            self.in_place = self.in_place.plus(flicker(ids, old_ids, small, old, limit))
            self.following = self.following.plus(flicker(ids * known, old_ids, small, old, limit, origin))
        self._before = (ids, small)

    def describe(self) -> str:
        """Return the scores in a sentence."""
        if not self.in_place.compared:
            return "flicker: nothing to compare"
        text = f"flicker: {self.in_place.share:.2%} of the pixels that did not change have another label than before"
        return f"{text}; {self.following.share:.2%} following the motion" if self.following.compared else text


def _shrunk(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Return the means over blocks of `factor` pixels on each side ``[y x C]``; what is left over at the ends is cut."""
    rows, columns = (n // factor for n in image.shape[:2])
    blocks = image[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, *image.shape[2:])
    return np.asarray(np.nan_to_num(blocks.mean((1, 3), dtype=np.float32), posinf=0, neginf=0), np.float32)
