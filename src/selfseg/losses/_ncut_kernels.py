"""``W p`` for the weights of a window around each pixel, float32, in one pass: the heart of `soft_ncut` on a CPU.

A line is a row of pixels along X, numbered over images and slices. Pairs of lines (a, b) at most a radius apart are visited once:
their weights go into a few rows that stay in the first cache, and serve both ways, ``(Wp)_a += w p_b`` and ``(Wp)_b += w p_a``.
Lines wait in a ring of scratch memory, class by class, with zeros around them; so borders need no test, a channels-last map is
transposed on the way in, and each value of the map is read once. Shares of lines recompute the few weights that they have in
common, instead of writing to each other's lines.

`Window` says how the arrays lie; `selfseg.losses.window_affinity` fills it in.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from selfseg.losses._line_sums import LANES, eight, five, four, one, three, two

f32, u64 = np.float32, np.uint64
# 2^r for |r| <= 1/2 (Cephes, exp2f): relative error below 2e-7.
P0, P1, P2, P3, P4, P5 = (
    f32(p) for p in (1.535336188e-4, 1.339887440e-3, 9.618437357e-3, 5.550332471e-2, 2.402264791e-1, 6.931472028e-1)
)


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
    reach, most
        Largest number of lines from a line to another in its window, and largest number of dx in a group.
    margin, width, pitch
        Zeros before a line in the scratch memory, its length in whole blocks, and the distance to the next line.
    """

    image: Any
    valid: Any
    scale: Any
    groups: Any
    fall: Any
    shape: Any
    reach: int
    most: int
    margin: int
    width: int
    pitch: int


def lay_out(image: Any, valid: Any, scale: Any, groups: Any, fall: Any, shape: Any, farthest: int) -> Window:
    """Return the `Window` of these arrays (see there), where `farthest` is the largest ``|dx|``."""
    reach = int((groups[:, 0] * shape[3] + groups[:, 1]).max(initial=0))
    margin, width = (-(-n // LANES) * LANES for n in (farthest, shape[4]))
    most = int(groups[:, 3].max(initial=1))
    return Window(image, valid, scale, groups, fall, shape, reach, most, margin, width, width + margin)


@njit(inline="always")
def _power(x: Any) -> Any:
    """``2^x`` for ``x <= 0``, not less than ``2^-125``."""
    x = max(x, f32(-125))
    n = np.floor(x + f32(0.5))
    r = x - n
    y = f32((((((P0 * r + P1) * r + P2) * r + P3) * r + P4) * r + P5) * r + f32(1))
    return np.int32(y.view(np.int32) + (np.int32(n) << np.int32(23))).view(np.float32)


@njit(nogil=True, cache=True, fastmath={"nsz", "contract"})
def _weigh(w: Any, w_at: Any, s: Any, a: Any, b: Any, rows: Any, pitch: Any, X: Any, scale: Any, fall: Any) -> None:
    """Fill row t of `w` with the weights between pixel x of the line at `a` and pixel x + t of the line at `b`."""
    for t in range(fall.size):
        row, there = w_at + u64(t) * pitch, b + u64(t)
        if rows == u64(1):
            for x in range(X):
                d = s[a + x] - s[there + x]
                w[row + x] = _power(-scale * (d * d) - fall[t])
            continue
        for x in range(X):
            d = s[a + x] - s[there + x]
            e = s[a + pitch + x] - s[there + pitch + x]
            w[row + x] = d * d + e * e
        for c in range(u64(2), rows):
            for x in range(X):
                d = s[a + c * pitch + x] - s[there + c * pitch + x]
                w[row + x] += d * d
        for x in range(X):
            w[row + x] = _power(-scale * w[row + x] - fall[t])


@njit(nogil=True, cache=True)
def _spread(
    s: Any, acc: Any, p: Any, p_step: Any, pitch: Any, X: Any, K: Any, w: Any, w_at: Any, w_step: Any, n: Any
) -> None:
    """``acc[k, x] += sum_t w[t, x] p[k, x + t]`` for all classes; `p_step`, `w_step` lead from one t to the next."""
    k = u64(0)
    while k < K:
        left, row = K - k, k * pitch
        to, at = acc + row, p + row
        if left >= u64(8):
            eight(s, to, at, p_step, pitch, w, w_at, w_step, n, X)
            k += u64(8)
        elif left > u64(5) or left == u64(4):
            four(s, to, at, p_step, pitch, w, w_at, w_step, n, X)
            k += u64(4)
        elif left == u64(5):
            five(s, to, at, p_step, pitch, w, w_at, w_step, n, X)
            k += u64(5)
        elif left == u64(3):
            three(s, to, at, p_step, pitch, w, w_at, w_step, n, X)
            k += u64(3)
        elif left == u64(2):
            two(s, to, at, p_step, pitch, w, w_at, w_step, n, X)
            k += u64(2)
        else:
            one(s, to, at, p_step, pitch, w, w_at, w_step, n, X)
            k += u64(1)


@njit(nogil=True, cache=True)
def _load(s: Any, slot: Any, line: Any, window: Any, pitch: Any, p: Any, strides: Any, K: Any) -> None:
    """Put the image, the mask and the classes of a line into its slot, zero where it is not valid, and clear its sums."""
    _, C, Z, Y, X = window.shape
    n_lines = Z * Y
    image, row = line // n_lines, line % n_lines
    ones = slot + u64(C) * pitch
    if window.valid.size:
        for x in range(u64(X)):
            s[ones + x] = window.valid[u64(line * X) + x]
    else:
        for x in range(u64(X)):
            s[ones + x] = f32(1)
    for c in range(C):
        to, source = slot + u64(c) * pitch, u64(((image * C + c) * n_lines + row) * X)
        for x in range(u64(X)):
            s[to + x] = window.image[source + x]
    step = u64(strides[3])
    for k in range(K):
        to, source = ones + u64(k + 1) * pitch, u64(image * strides[0] + k * strides[1] + row * strides[2])
        for x in range(u64(X)):
            s[to + x] = p[source + x * step] if s[ones + x] else f32(0)
    sums = ones + u64(K + 1) * pitch
    for x in range(u64(K + 1) * pitch):
        s[sums + x] = 0


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def _products(s: Any, p: Any, sums: Any, ones: Any, degrees: Any, line: Any, X: Any) -> tuple[float, float]:
    """Complete ``W p`` of a class by the pixel's own weight, in place, and return ``p . W p`` and ``p . d``."""
    association = volume = 0.0  # in float64: a class of 1e-25 everywhere has products that float32 cannot hold
    for x in range(X):
        value = s[p + x]
        product = (s[sums + x] + value) * s[ones + x]
        s[sums + x] = product
        association += np.float64(value) * np.float64(product)
        volume += np.float64(value) * np.float64(degrees[line + x])
    return association, volume


@njit(nogil=True, cache=True)
def _store(
    s: Any,
    slot: Any,
    line: Any,
    window: Any,
    pitch: Any,
    out: Any,
    strides: Any,
    K: Any,
    degrees: Any,
    known: Any,
    forms: Any,
) -> None:
    """Write the finished sums of a line to `out`, and its degrees unless they are known; add to ``forms [2 B K]``."""
    _, C, Z, Y, X = window.shape
    image, row = line // (Z * Y), line % (Z * Y)
    ones, at = slot + u64(C) * pitch, u64(line * X)
    jump, step = u64(K + 1) * pitch, u64(strides[3])
    if not known:
        for x in range(u64(X)):
            degrees[at + x] = (s[ones + jump + x] + f32(1)) * s[ones + x]
    for k in range(K):
        p = ones + u64(k + 1) * pitch
        association, volume = _products(s, p, p + jump, ones, degrees, at, u64(X))
        forms[0, image, k] += association
        forms[1, image, k] += volume
        to = u64(image * strides[0] + k * strides[1] + row * strides[2])
        for x in range(u64(X)):
            out[to + x * step] = s[p + jump + x]


@njit(nogil=True, cache=True)
def _pair(
    s: Any, a: Any, b: Any, w: Any, w_at: Any, group: Any, window: Any, K: Any, first: Any, forth: Any, back: Any
) -> None:
    """Add what the lines in slots `a` and `b` give to each other: `forth` is b's to a, `back` a's to b."""
    C, pitch, width = u64(window.shape[1]), u64(window.pitch), u64(window.width)
    dx, n = u64(group[2]), u64(group[3])
    values = (C + u64(first)) * pitch
    sums = values + u64(K + 1) * pitch
    classes, minus = u64(K + 1 - first), u64(np.int64(-1))
    if forth:
        _spread(s, a + sums, b + values + dx, u64(1), pitch, width, classes, w, w_at, pitch, n)
    if back:
        _spread(s, b + sums, a + values - dx, minus, pitch, width, classes, w, w_at - dx, pitch - u64(1), n)


@njit(nogil=True, cache=True)
def window_products(
    start: Any, stop: Any, window: Any, p: Any, strides: Any, K: Any, out: Any, degrees: Any, known: Any
) -> Any:
    """Fill ``W p`` (`out`, laid out as `p`) for lines start..stop; return ``p . W p`` and ``p . d``, ``[2 B K]`` float64.

    `p` is flat, `strides` leads from one (image, class, line, x) to the next; `degrees` are filled unless `known`.
    """
    B, C, Z, Y, _ = window.shape
    n_lines, reach, pitch, margin = Z * Y, window.reach, u64(window.pitch), u64(window.margin)
    size, first = u64(C + 2 * (K + 1)) * pitch, 1 if known else 0
    s = np.zeros(u64(2) * margin + u64(reach + 1) * size, np.float32)
    w = np.zeros(u64(2) * margin + u64(window.most) * pitch, np.float32)
    forms = np.zeros((2, B, K))
    loaded = max(start - reach, start // n_lines * n_lines)
    for line in range(loaded, stop):
        image, z, y = line // n_lines, line % n_lines // Y, line % Y
        while loaded <= min(line + reach, (image + 1) * n_lines - 1):
            _load(s, margin + u64(loaded % (reach + 1)) * size, loaded, window, pitch, p, strides, K)
            loaded += 1
        a = margin + u64(line % (reach + 1)) * size
        for g in range(len(window.groups)):
            group = window.groups[g]
            other = line + group[0] * Y + group[1]
            inside = z + group[0] < Z and 0 <= y + group[1] < Y
            if inside and other >= start and (line >= start or other < stop):
                b, fall = margin + u64(other % (reach + 1)) * size, window.fall[group[4] : group[4] + group[3]]
                _weigh(w, margin, s, a, b + u64(group[2]), u64(C), pitch, u64(window.width), window.scale[image], fall)
                _pair(s, a, b, w, margin, group, window, K, first, line >= start, other < stop)
        if line >= start:
            _store(s, a, line, window, pitch, out, strides, K, degrees, known, forms)
    return forms


@njit(nogil=True, cache=True, fastmath={"nsz", "contract"})
def combine(
    start: Any, stop: Any, products: Any, degrees: Any, factors: Any, lines: Any, strides: Any, out: Any
) -> None:
    """``out = f0 W p + f1 d`` for lines start..stop, with ``factors [2 B K]``; `products` and `out` are laid out alike.

    `lines` are those of one image; `degrees` are ``[B or 1, lines X]``.
    """
    K, X, step = factors.shape[2], u64(degrees.shape[1] // lines), u64(strides[3])
    for line in range(start, stop):
        image, row = line // lines, line % lines
        d = degrees[image if len(degrees) > 1 else 0]
        at = u64(row) * X
        for k in range(K):
            f0, f1 = factors[0, image, k], factors[1, image, k]
            to = u64(image * strides[0] + k * strides[1] + row * strides[2])
            for x in range(X):
                out[to + x * step] = f0 * products[to + x * step] + f1 * d[at + x]
