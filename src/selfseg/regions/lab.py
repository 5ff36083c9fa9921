"""sRGB to CIE Lab (D65, 2 degrees), quick enough to run before superpixels: both curves come from tables."""

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.threads import run_shared

TABLE = 4096
"""Steps of each table. With linear interpolation the error of L, a and b stays below .01."""

WHITE = (0.95047, 1.0, 1.08883)
TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the sRGB curve, Lab's cube root curve (each over 0-1, one spare entry) and RGB -> XYZ / white."""
    x = np.arange(TABLE + 2) / TABLE
    linear = np.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    root = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    matrix = np.array(TO_XYZ) / np.array(WHITE)[:, None]
    return linear.astype(np.float32), root.astype(np.float32), matrix.astype(np.float32)


@njit(cache=True, nogil=True)
def _look_up(table, value):
    position = min(max(value, np.float32(0)), np.float32(1)) * np.float32(TABLE)
    index = int(position)
    return table[index] + (position - np.float32(index)) * (table[index + 1] - table[index])


@njit(cache=True, nogil=True)
def _convert(start, stop, rgb, linear, root, matrix, lab):
    for i in range(start, stop):
        r, g, b = _look_up(linear, rgb[i, 0]), _look_up(linear, rgb[i, 1]), _look_up(linear, rgb[i, 2])
        x = _look_up(root, matrix[0, 0] * r + matrix[0, 1] * g + matrix[0, 2] * b)
        y = _look_up(root, matrix[1, 0] * r + matrix[1, 1] * g + matrix[1, 2] * b)
        z = _look_up(root, matrix[2, 0] * r + matrix[2, 1] * g + matrix[2, 2] * b)
        lab[i, 0] = np.float32(116) * y - np.float32(16)
        lab[i, 1] = np.float32(500) * (x - y)
        lab[i, 2] = np.float32(200) * (y - z)


def rgb_to_lab(rgb: NDArray[Any]) -> NDArray[np.float32]:
    """Convert sRGB colours to CIE Lab under D65: L in 0-100, a and b about -100 to 100, within .02 of the closed form.

    Parameters
    ----------
    rgb
        ``[*S 3]``, red, green, blue in 0-1; values outside are clipped, NaN counts as 0.

    Raises
    ------
    UsageError
        If the last axis is not 3 long.
    """
    if rgb.ndim < 1 or rgb.shape[-1] != 3:
        raise UsageError("colours", expected="[*S 3]", got=str(list(rgb.shape)), fix="put the channels last")
    flat = np.ascontiguousarray(np.nan_to_num(rgb.reshape(-1, 3)), np.float32)
    lab = np.empty_like(flat)
    if len(flat):
        run_shared(_convert, len(flat), flat, *_tables(), lab)
    return lab.reshape(rgb.shape)
