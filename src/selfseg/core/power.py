"""``2^x`` for kernels: a polynomial of which the compiler makes vectors, where the library's function takes one number at a time."""

from typing import Any

import numpy as np
from numba import njit

f32 = np.float32

LOG2_E = f32(1.4426950408889634)
"""``exp(x) = 2^(x log2 e)``."""

# 2^r for |r| <= 1/2 (Cephes, exp2f): relative error below 2e-7.
P0, P1, P2, P3, P4, P5 = (
    f32(p) for p in (1.535336188e-4, 1.339887440e-3, 9.618437357e-3, 5.550332471e-2, 2.402264791e-1, 6.931472028e-1)
)


@njit(inline="always")
def power_of_two(x: Any) -> Any:
    """Return ``2^x`` in float32 for ``x <= 0``, not less than ``2^-125``; relative error below 2e-7."""
    x = max(x, f32(-125))
    n = np.floor(x + f32(0.5))
    r = x - n
    y = f32((((((P0 * r + P1) * r + P2) * r + P3) * r + P4) * r + P5) * r + f32(1))
    return np.int32(y.view(np.int32) + (np.int32(n) << np.int32(23))).view(np.float32)
