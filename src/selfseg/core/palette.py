"""Colours of classes: an id has one colour everywhere, and colour-blind people can tell them apart."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError

MOST = 255
"""Largest number of classes that have a colour of their own."""

SAFE = ("e69f00", "56b4e9", "009e73", "332288", "f0e442", "cc79a7", "d55e00", "0072b2")
"""The first eight: Okabe and Ito, "Color Universal Design" (2008), with Tol's indigo in place of black, hues apart."""

DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
"""Linear RGB as it looks without M cones: Machado, Oliveira and Fernandes (2009), table 1, severity 1."""

PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
"""Linear RGB as it looks without L cones: the same source."""

NEAR_IDS = 3
"""How many of the ids before a new one must differ from it more than the others do."""

NEAR_WEIGHT = 0.4
"""Distances to those ids count this much, so that they have to be 1 / 0.4 = 2.5 times as large."""

GRID = 8
"""Values of each of red, green and blue among which the further colours are chosen."""

COLOUR_BLIND_WEIGHT = 2.0
"""Distances seen without M or L cones count this much: with 1, the further colours would be blues and greens alone."""

_TO_XYZ = np.array(
    ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
)
_WHITE = np.array((0.95047, 1.0, 1.08883))


def class_colours(n: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return the colours of the classes 1..n.

    The first eight are a published set. Each further colour is the one, out of a grid over sRGB, that is farthest in
    CIELAB from all before it, as the least of what a full eye and (weighted) eyes without M or L cones see. The last
    few ids count more, so that neighbouring ids differ well.

    Parameters
    ----------
    n
        Number of colours, 0 to 255. The first k are the same for every n >= k.

    Returns
    -------
    tuple
        `n` tuples of red, green, blue, alpha, each 0-255; alpha is 255.

    Raises
    ------
    UsageError
        If `n` is out of range.
    """
    if not 0 <= n <= MOST:
        raise UsageError("number of colours", expected=f"0 to {MOST}", got=str(n), fix="merge some classes first")
    colours = _safe() if n <= len(SAFE) else _extended()
    return tuple((int(red), int(green), int(blue), 255) for red, green, blue in colours[:n])


def relative_luminance(rgb: tuple[int, ...]) -> float:
    """Return the luminance 0-1 of an sRGB colour (WCAG 2.2), for choosing dark or light text on it."""
    return float(_linear(np.array([rgb[:3]], np.float64))[0] @ _TO_XYZ[1])


def seen_lab(rgb: NDArray[np.float64], cones: tuple[tuple[float, ...], ...] | None = None) -> NDArray[np.float64]:
    """Return the CIELAB values (D65) that an eye sees.

    Parameters
    ----------
    rgb
        sRGB values 0-255 ``[N 3]``.
    cones
        `DEUTERANOPIA`, `PROTANOPIA`, or None for an eye with all three cones.

    Returns
    -------
    NDArray
        L*, a*, b* ``[N 3]``.
    """
    linear = _linear(rgb)
    if cones is not None:
        linear = np.clip(linear @ np.array(cones).T, 0.0, 1.0)
    ratio = linear @ _TO_XYZ.T / _WHITE
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def _linear(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    share = rgb / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _safe() -> NDArray[np.float64]:
    return np.array([list(bytes.fromhex(code)) for code in SAFE], np.float64)


@lru_cache(maxsize=1)
def _extended() -> NDArray[np.float64]:
    """Return all colours ``[255 3]``: the safe ones, then the farthest points of the grid, one after the other."""
    steps = np.linspace(0, 255, GRID).round()
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = seen_lab(grid)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    useful = (lab[:, 0] > 25) & (lab[:, 0] < 92) & (chroma > 15) & (chroma < 100)  # no greys: they look like no class
    grid = np.concatenate([_safe(), grid[useful]])
    distances = np.minimum(_distances(grid), COLOUR_BLIND_WEIGHT * _distances(grid, DEUTERANOPIA))
    np.minimum(distances, COLOUR_BLIND_WEIGHT * _distances(grid, PROTANOPIA), out=distances)
    order = list(range(len(SAFE)))
    nearest = distances[order].min(axis=0)
    for _ in range(MOST - len(SAFE)):
        recent = distances[order[-NEAR_IDS:]].min(axis=0)
        order.append(int(np.argmax(np.minimum(nearest, NEAR_WEIGHT * recent))))
        np.minimum(nearest, distances[order[-1]], out=nearest)
    return grid[order]


def _distances(rgb: NDArray[np.float64], cones: tuple[tuple[float, ...], ...] | None = None) -> NDArray[np.float32]:
    """Return the CIELAB distance of every pair of colours that an eye sees ``[N N]``."""
    lab = seen_lab(rgb, cones).astype(np.float32)
    squares = np.einsum("nc,nc->n", lab, lab)
    between: NDArray[np.float32] = np.sqrt(np.maximum(squares[:, None] + squares - 2 * lab @ lab.T, 0.0))
    return between
