"""An image and the window around each of its pixels, as flat arrays for `_ncut_kernels`."""

from typing import Any, NamedTuple

import numpy as np

from selfseg.losses._line_sums import LANES


class Window(NamedTuple):
    """The image and its window.

    Attributes
    ----------
    image
        Flat ``[B C L X]``, float32, finite.
    valid
        Flat ``[B L X]``, float32: 1 = counts, 0 = has no weight to anything. Empty: all count.
    scale
        ``[B]``: ``log2(e) / sigma_intensity^2``.
    groups
        ``[G 5]`` int64: (dz, dy, first dx, number of dx, first tap) of each line displacement, not negative in (dz, dy).
    fall
        For each tap ``log2(e) |X|^2 / sigma_space^2``.
    shape
        ``(B, C, Z, Y, X)``.
    taps
        ``[E 5]`` int64: (dz, dy, dx, of a, of b), a place relative to a pixel of line a, with the code of its weight to that
        pixel, and to the pixel below, of line b: 0 = none, 1 = itself, 2 + 2t = tap t, 3 + 2t = tap t of the place itself.
    reach
        Largest number of lines from a line to another in its window.
    margin, width, pitch
        Zeros before a line in the scratch memory, its length in whole blocks, and the distance to the next line.
    """

    image: Any
    valid: Any
    scale: Any
    groups: Any
    fall: Any
    taps: Any
    shape: Any
    reach: int
    margin: int
    width: int
    pitch: int


def lay_out(image: Any, valid: Any, scale: Any, offsets: list[tuple[int, ...]], fall: Any, shape: Any) -> Window:
    """Return the `Window` of these arrays (see there), where `offsets` are those of the taps: half of the window, in order."""
    groups: dict[tuple[int, int], list[int]] = {}
    for tap, (dz, dy, dx) in enumerate(offsets):
        groups.setdefault((dz, dy), [dx, 0, tap])[1] += 1  # in order, so the dx of a group follow each other
    table = np.array([(*lines, *run) for lines, run in groups.items()], np.int64).reshape(-1, 5)
    codes = {(0, 0, 0): 1}
    for tap, (dz, dy, dx) in enumerate(offsets):
        codes[dz, dy, dx], codes[-dz, -dy, -dx] = 2 + 2 * tap, 3 + 2 * tap
    places = sorted({*codes} | {(dz, dy + 1, dx) for dz, dy, dx in codes})
    taps = [(dz, dy, dx, codes.get((dz, dy, dx), 0), codes.get((dz, dy - 1, dx), 0)) for dz, dy, dx in places]
    reach = int((table[:, 0] * shape[3] + table[:, 1]).max(initial=0))
    farthest = max((abs(dx) for _, _, dx in offsets), default=0)
    margin, width = (-(-n // LANES) * LANES for n in (farthest, shape[4]))
    return Window(image, valid, scale, table, fall, np.array(taps), shape, reach, margin, width, width + margin)
