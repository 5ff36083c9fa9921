"""Stability: does the segmentation stay when the seed, or the image a little, is another?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from selfseg.core.errors import InputError
from selfseg.core.seed import generator
from selfseg.measure._table import Floats, Labels, check_labels
from selfseg.measure.partition import adjusted_rand_index

NOISE, TONE, SHRINK = 0.02, 0.05, 0.9
"""Defaults of `small_changes`."""


@dataclass(frozen=True)
class LabelChange:
    """A changed image and the way back.

    Attributes
    ----------
    name
        What was done.
    image
        ``[*S C]`` float64, the changed image; its size may be another.
    undo
        Brings labels of the changed image, integers ``[*S]``, back to the pixels of the original.
    """

    name: str
    image: Floats
    undo: Callable[[ArrayLike], Labels]


def small_changes(
    image: ArrayLike, seed: int = 0, noise: float = NOISE, tone: float = TONE, shrink: float = SHRINK
) -> list[LabelChange]:
    """Return an image with noise, in other tones, and smaller: what a good segmentation should not mind.

    Segment each, and compare: ``stability([segment(image)] + [c.undo(segment(c.image)) for c in changes])``.

    Parameters
    ----------
    image
        ``[*S C]`` finite values.
    seed
        Of noise and tones.
    noise
        Standard deviation of the added Gaussian noise, as a share of the image's range.
    tone
        Each channel is multiplied by 1 +- at most this, about the least value of the image.
    shrink
        Factor of the size, more than 0 and at most 1; values are interpolated linearly, labels come from the nearest pixel.

    Returns
    -------
    list of LabelChange
        "noise", "tone" and "shrink". Values stay within the range of the image.

    Raises
    ------
    InputError
        If the image has no channel axis, values are not finite, or a number is out of its range.
    """
    picture = np.asarray(image, np.float64)
    if picture.ndim < 2 or picture.size == 0 or not np.isfinite(picture).all():
        got = f"shape {picture.shape}" if np.isfinite(picture).all() else "NaN or infinite values"
        raise InputError("image", expected="finite [*S C]", got=got, fix="put channels last")
    if noise < 0 or not 0 <= tone < 1 or not 0 < shrink <= 1:
        got = f"noise={noise}, tone={tone}, shrink={shrink}"
        expected = "noise of 0 or more, tone in 0-1, shrink above 0 and up to 1"
        raise InputError("small changes", expected=expected, got=got, fix="see small_changes")
    low, high = float(picture.min()), float(picture.max())
    grain = generator(seed, "noise").normal(0.0, noise * (high - low), picture.shape)
    gain = 1.0 + generator(seed, "tone").uniform(-tone, tone, picture.shape[-1])
    return [
        LabelChange("noise", np.clip(picture + grain, low, high), _same),
        LabelChange("tone", np.clip(low + (picture - low) * gain, low, high), _same),
        _shrunk(picture, shrink),
    ]


def _same(labels: ArrayLike) -> Labels:
    return check_labels(labels, "labels")


def _shrunk(picture: Floats, factor: float) -> LabelChange:
    from scipy.ndimage import map_coordinates

    full = picture.shape[:-1]
    small = tuple(max(1, round(n * factor)) for n in full)
    # A pixel covers a unit square: the centre i + 1/2 of one grid lies at (i + 1/2) n / m of the other.
    there = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(full, small, strict=True)]
    grid = np.meshgrid(*there, indexing="ij")
    channels = [map_coordinates(picture[..., c], grid, order=1, mode="nearest") for c in range(picture.shape[-1])]
    back = [((np.arange(n) + 0.5) * m / n).astype(np.intp) for n, m in zip(full, small, strict=True)]
    return LabelChange(
        "shrink", np.stack(channels, axis=-1), lambda labels: check_labels(labels, "labels")[np.ix_(*back)]
    )


def stability(runs: Sequence[ArrayLike], ignore: int | None = None) -> float:
    """Return the mean adjusted Rand index over all pairs of runs: large is good.

    Parameters
    ----------
    runs
        Two or more label arrays ``[*S]`` of one image: other seeds, or slightly changed images brought back into place.
    ignore
        Label, in the second of a pair, of pixels to leave out.
    """
    if len(runs) < 2:
        raise InputError("runs", expected="two or more", got=str(len(runs)), fix="segment again with other seeds")
    return float(np.mean([adjusted_rand_index(a, b, ignore) for a, b in combinations(runs, 2)]))
