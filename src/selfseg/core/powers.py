"""Powers for kernels: polynomials of which the compiler makes vectors, where a call to the C library for each value would stop that."""

from typing import Any

import numpy as np
from numba import njit

f32 = np.float32

# 2^r for |r| <= 1/2 (Cephes, exp2f).
P0, P1, P2, P3, P4, P5 = (
    f32(p) for p in (1.535336188e-4, 1.339887440e-3, 9.618437357e-3, 5.550332471e-2, 2.402264791e-1, 6.931472028e-1)
)

# e^r for |r| <= log(2) / 2 (Cephes, expf), and log(2) in two parts.
Q0, Q1, Q2, Q3, Q4, Q5 = (
    f32(q) for q in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 0.16666665459, 0.5)
)
LOG2_E, LN2_HIGH, LN2_LOW = f32(1.44269504), f32(0.693359375), f32(-2.12194440e-4)


@njit(inline="always")
def power_of_two(x: Any) -> Any:
    """Return ``2^x`` in float32 for ``x <= 0``, not less than ``2^-125``; relative error below 3e-7."""
    x = max(x, f32(-125))
    n = np.floor(x + f32(0.5))
    r = x - n
    y = f32((((((P0 * r + P1) * r + P2) * r + P3) * r + P4) * r + P5) * r + f32(1))
    return np.int32(y.view(np.int32) + (np.int32(n) << np.int32(23))).view(np.float32)


@njit(inline="always")
def power_of_e(x: Any) -> Any:
    """Return ``e^x`` in float32 for ``x <= 0``, not less than ``e^-87``; relative error below 3e-7."""
    x = max(x, f32(-87.0))
    n = np.floor(x * LOG2_E + f32(0.5))
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = ((((Q0 * r + Q1) * r + Q2) * r + Q3) * r + Q4) * r + Q5
    power = (np.int32(n) + np.int32(127)) << np.int32(23)
    return (p * r * r + r + f32(1)) * np.int32(power).view(np.float32)
