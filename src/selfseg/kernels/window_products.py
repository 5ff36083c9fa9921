"""``W p`` for the weights of a window around each pixel, float32, in one pass: the heart of `losses.soft_ncut` on a CPU.

A line is a row of pixels along X, numbered over images and slices. Lines wait in a ring of scratch memory, class by class, with
zeros around them; so borders need no test, a channels-last map is transposed on the way in, and each value of the map is read
once. The weights between a line and those after it wait in a ring too: each is computed once, and used from both ends. Two
neighbouring lines are summed together (`_line_sums`), since most of their neighbours are the same. Shares of lines recompute the
few weights that they have in common.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from selfseg.core.machine import compiled, run_shared
from selfseg.core.powers import power_of_two
from selfseg.kernels._line_sums import LANES, eight, five, four, one, three, two
from selfseg.kernels.layout import Offsets, as_lines

f32, u64 = np.float32, np.uint64

MIN_PARALLEL_PAIRS = 1_000_000
"""Pairs of pixels times classes below which one thread is done before two have met."""

MIN_PARALLEL_SIZE = 100_000
"""Values below which one thread is done before two have met."""


class Window(NamedTuple):
    """Images and the window around each of their pixels, as flat arrays."""

    image: Any
    """Flat ``[B C L X]``, float32, finite."""
    valid: Any
    """Flat ``[B L X]``, float32: 1 = counts, 0 = has no weight to anything. Empty: all count."""
    scale: Any
    """``[B]``: ``log2(e) / sigma_intensity^2``."""
    groups: Any
    """``[G 5]`` int64: (dz, dy, first dx, number of dx, first tap) of each line displacement, not negative in (dz, dy)."""
    fall: Any
    """For each tap ``log2(e) |X|^2 / sigma_space^2``."""
    taps: Any
    """``[E 5]`` int64: (dz, dy, dx, of a, of b), a place relative to a pixel of line a, with the code of its weight to that
    pixel, and to the pixel below, of line b: 0 = none, 1 = itself, 2 + 2t = tap t, 3 + 2t = tap t of the place itself."""
    shape: Any
    """``(B, C, Z, Y, X)``."""
    reach: int
    """Largest number of lines from a line to another in its window."""
    margin: int
    """Zeros before a line in the scratch memory."""
    width: int
    """Length of a line there, in whole blocks."""
    pitch: int
    """Distance to the next line there."""


def lay_out(image: Tensor, valid: Tensor | None, sigma_intensity: Tensor, offsets: Offsets) -> Window:
    """Return the `Window` of images ``[B C *S]``, where `offsets` are half of it, in order, with ``|X|^2 / sigma_space^2``."""
    B, C = image.shape[:2]
    shape = B, C, *(1, *image.shape[2:])[-3:]
    half = [(0, *offset)[-3:] for offset, _ in offsets]
    groups: dict[tuple[int, int], list[int]] = {}
    for tap, (dz, dy, dx) in enumerate(half):
        groups.setdefault((dz, dy), [dx, 0, tap])[1] += 1  # in order, so the dx of a group follow each other
    table = np.array([(*lines, *run) for lines, run in groups.items()], np.int64).reshape(-1, 5)
    codes = {(0, 0, 0): 1}
    for tap, (dz, dy, dx) in enumerate(half):
        codes[dz, dy, dx], codes[-dz, -dy, -dx] = 2 + 2 * tap, 3 + 2 * tap
    places = sorted({*codes} | {(dz, dy + 1, dx) for dz, dy, dx in codes})
    taps = [(dz, dy, dx, codes.get((dz, dy, dx), 0), codes.get((dz, dy - 1, dx), 0)) for dz, dy, dx in places]
    reach = int((table[:, 0] * shape[3] + table[:, 1]).max(initial=0))
    farthest = max((abs(dx) for _, _, dx in half), default=0)
    margin, width = (-(-n // LANES) * LANES for n in (farthest, shape[4]))
    fall = (np.array([fall for _, fall in offsets], np.float64) / math.log(2)).astype(np.float32)
    counts = np.empty(0, np.float32) if valid is None else valid.float().reshape(-1).numpy()
    scale = (sigma_intensity.square().reciprocal() / math.log(2)).float().numpy()
    flat = image.float().contiguous().view(-1).numpy()
    return Window(flat, counts, scale, table, fall, np.array(taps), shape, reach, margin, width, width + margin)


def window_products(
    window: Window, probabilities: Tensor, degrees: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ``W p`` of ``p [B K *S]``, laid out as p, degrees ``[B *S]``, and ``p . W p`` and ``p . d`` ``[B K]`` float64.

    `degrees` that are known need not be computed again.
    """
    known = degrees is not None
    degrees = probabilities.new_empty((len(probabilities), *probabilities.shape[2:])) if degrees is None else degrees
    products = torch.empty_like(probabilities, memory_format=torch.preserve_format)
    source, target = as_lines(probabilities), as_lines(products)
    arguments = source.values, source.strides, probabilities.shape[1], target.values, degrees.view(-1).numpy(), known
    parts = 1 if probabilities.numel() * len(window.fall) < MIN_PARALLEL_PAIRS else None
    n = len(probabilities) * source.per_image
    association, volume = np.sum(run_shared(_window_products, n, window, *arguments, parts=parts), axis=0)
    return products, degrees, torch.from_numpy(association), torch.from_numpy(volume)


def combine(products: Tensor, degrees: Tensor, factors: Tensor) -> Tensor:
    """Return ``f0 W p + f1 d`` for `products` ``[B K *S]``, `degrees` ``[B or 1, *S]`` and `factors` ``[2 B K]``, all float32."""
    out = torch.empty_like(products)
    source, target = as_lines(products), as_lines(out)
    d = degrees.reshape(len(degrees), -1).numpy()
    arguments = source.values, d, factors.numpy(), source.per_image, source.strides, target.values
    parts = 1 if products.numel() < MIN_PARALLEL_SIZE else None
    run_shared(_combine, len(products) * source.per_image, *arguments, parts=parts)
    return out


@compiled(fastmath={"nsz", "contract"})
def _weigh(s: Any, w_at: Any, a: Any, b: Any, rows: Any, pitch: Any, X: Any, scale: Any, fall: Any) -> None:
    """Fill row t at `w_at` with the weights between pixel x of the line at `a` and pixel x + t of the line at `b`."""
    for t in range(fall.size):
        row, there = w_at + u64(t) * pitch, b + u64(t)
        if rows == u64(1):
            for x in range(X):
                d = s[a + x] - s[there + x]
                s[row + x] = power_of_two(-scale * (d * d) - fall[t])
            continue
        for x in range(X):
            d = s[a + x] - s[there + x]
            e = s[a + pitch + x] - s[there + pitch + x]
            s[row + x] = d * d + e * e
        for c in range(u64(2), rows):
            for x in range(X):
                d = s[a + c * pitch + x] - s[there + c * pitch + x]
                s[row + x] += d * d
        for x in range(X):
            s[row + x] = power_of_two(-scale * s[row + x] - fall[t])


@compiled()
def _sum_lines(s: Any, taps: Any, n: Any, p: Any, a: Any, b: Any, pitch: Any, X: Any, K: Any) -> None:
    """Fill K rows at `a` and at `b` with the weighted sums of two lines; see `_line_sums`."""
    k = u64(0)
    while k < K:
        left, row = K - k, k * pitch
        source, to_a, to_b = p + row, a + row, b + row
        if left == u64(8) or left > u64(9):
            eight(s, taps, n, source, to_a, to_b, pitch, X)
            k += u64(8)
        elif left == u64(5) or left == u64(9):
            five(s, taps, n, source, to_a, to_b, pitch, X)
            k += u64(5)
        elif left >= u64(4):
            four(s, taps, n, source, to_a, to_b, pitch, X)
            k += u64(4)
        elif left == u64(3):
            three(s, taps, n, source, to_a, to_b, pitch, X)
            k += u64(3)
        elif left == u64(2):
            two(s, taps, n, source, to_a, to_b, pitch, X)
            k += u64(2)
        else:
            one(s, taps, n, source, to_a, to_b, pitch, X)
            k += u64(1)


@compiled()
def _load(s: Any, slot: Any, line: Any, window: Any, pitch: Any, p: Any, strides: Any, K: Any) -> None:
    """Put the image, the mask and the classes of a line into its slot; classes are zero where it is not valid."""
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


@compiled(fastmath={"reassoc", "nsz", "contract"})
def _inner(s: Any, p: Any, sums: Any, ones: Any, degrees: Any, at: Any, X: Any) -> tuple[float, float]:
    """Clear `sums` where the line is not valid, and return ``p . W p`` and ``p . d`` of a class."""
    association = volume = 0.0  # in float64: a class of 1e-25 everywhere has products that float32 cannot hold
    for x in range(X):
        value, product = s[p + x], s[sums + x] * s[ones + x]
        s[sums + x] = product
        association += np.float64(value) * np.float64(product)
        volume += np.float64(value) * np.float64(degrees[at + x])
    return association, volume


@compiled()
def _store(
    s: Any, slot: Any, sums: Any, line: Any, window: Any, out: Any, strides: Any, degrees: Any, known: Any, forms: Any
) -> None:
    """Write the sums of a line to `out`, and its degrees unless they are known; add to ``forms [2 B K]``."""
    _, C, Z, Y, n = window.shape
    X, pitch, step = u64(n), u64(window.pitch), u64(strides[3])
    image, row = line // (Z * Y), line % (Z * Y)
    ones, at = slot + u64(C) * pitch, u64(line) * X
    if not known:
        for x in range(X):
            degrees[at + x] = s[sums + x] * s[ones + x]
    for k in range(forms.shape[2]):
        row_k = u64(k + 1) * pitch
        association, volume = _inner(s, ones + row_k, sums + row_k, ones, degrees, at, X)
        forms[0, image, k] += association
        forms[1, image, k] += volume
        to = u64(image * strides[0] + k * strides[1] + row * strides[2])
        for x in range(X):
            out[to + x * step] = s[sums + row_k + x]


@compiled()
def _weigh_line(s: Any, line: Any, start: Any, window: Any, lines: Any, weights: Any) -> None:
    """Fill the weights between `line` and the lines after it that a share from `start` on needs."""
    _, C, Z, Y, _ = window.shape
    pitch, a = u64(window.pitch), lines[line % len(lines)]
    image, z, y = line // (Z * Y), line // Y % Z, line % Y
    for g in range(len(window.groups)):
        dz, dy, dx, n, tap = window.groups[g]
        other = line + dz * Y + dy
        if z + dz < Z and 0 <= y + dy < Y and other >= start:
            b, to = lines[other % len(lines)] + u64(dx), weights[line % len(weights)] + u64(tap) * pitch
            _weigh(s, to, a, b, u64(C), pitch, u64(window.width), window.scale[image], window.fall[tap : tap + n])


@compiled()
def _tap_row(code: Any, here: Any, there: Any, dx: Any, ends: Any, pitch: Any) -> Any:
    """Return where the weights of a tap begin, out of those of the line `here`, or of its partner `there`; see `Window.taps`."""
    if code < 2:
        return ends[code]
    row = u64(code // 2 - 1) * pitch
    return there + row + u64(dx) if code % 2 else here + row


@compiled()
def _aim(line: Any, two: Any, window: Any, lines: Any, weights: Any, ends: Any, taps: Any) -> int:
    """Write the places of all values and weights that `line` and the next (if `two`) need into `taps`; return their number."""
    _, _, Z, Y, _ = window.shape
    pitch, z, y, n = u64(window.pitch), line // Y % Z, line % Y, 0
    here = weights[line % len(weights)]
    beside = weights[(line + 1) % len(weights)]
    last_dz, last_dy = Z, Y
    values, there, inside = here, here, False
    for i in range(len(window.taps)):
        dz, dy, dx, of_a, of_b = window.taps[i]
        if dz != last_dz or dy != last_dy:  # places are in order: those of a line follow each other
            last_dz, last_dy, other = dz, dy, line + dz * Y + dy
            inside = 0 <= z + dz < Z and 0 <= y + dy < Y
            values, there = lines[other % len(lines)], weights[other % len(weights)]
        if inside and (of_a or (of_b and two)):
            taps[3 * n] = values + u64(dx)
            taps[3 * n + 1] = _tap_row(of_a, here, there, dx, ends, pitch)
            taps[3 * n + 2] = _tap_row(of_b if two else 0, beside, there, dx, ends, pitch)
            n += 1
    return n


@compiled()
def _window_products(
    start: Any, stop: Any, window: Any, p: Any, strides: Any, K: Any, out: Any, degrees: Any, known: Any
) -> Any:
    """Fill ``W p`` (`out`, laid out as `p`) for lines start..stop; return ``p . W p`` and ``p . d``, ``[2 B K]`` float64.

    `p` is flat, `strides` leads from one (image, class, line, x) to the next; `degrees` are filled unless `known`.
    """
    B, C, Z, Y, _ = window.shape
    n_lines, reach, pitch, margin = Z * Y, window.reach, u64(window.pitch), u64(window.margin)
    first, classes = u64(1 if known else 0), u64(K + 1)
    # Scratch: zeros, ones, sums of two lines, values of the lines in reach of these, weights of those in reach before them.
    ends = (margin, margin + pitch)
    sums = ends[1] + pitch
    lines = sums + pitch * u64(2) * classes + pitch * (u64(C) + classes) * np.arange(2 * reach + 2).astype(np.uint64)
    weights = (
        lines[-1] + pitch * (u64(C) + classes) + pitch * u64(len(window.fall)) * np.arange(reach + 2).astype(np.uint64)
    )
    s = np.zeros(weights[-1] + pitch * u64(len(window.fall)) + margin, np.float32)
    s[ends[1] : sums] = 1
    taps, forms = np.empty(3 * len(window.taps), np.uint64), np.zeros((2, B, K))
    line = loaded = weighed = start
    while line < stop:
        floor = line // n_lines * n_lines
        if line in (start, floor):
            loaded = weighed = max(line - reach, floor)
        two = line + 1 < stop and (line + 1) % Y > 0
        last = line + 1 if two else line
        while loaded <= min(last + reach, floor + n_lines - 1):
            _load(s, lines[loaded % len(lines)], loaded, window, pitch, p, strides, K)
            loaded += 1
        while weighed <= last:
            _weigh_line(s, weighed, line, window, lines, weights)
            weighed += 1
        n = _aim(line, two, window, lines, weights, ends, taps)
        row = first * pitch
        a, b = sums + row, sums + classes * pitch + row
        _sum_lines(s, taps, u64(n), u64(C) * pitch + row, a, b, pitch, u64(window.width), classes - first)
        _store(s, lines[line % len(lines)], sums, line, window, out, strides, degrees, known, forms)
        if two:
            _store(
                s, lines[last % len(lines)], sums + classes * pitch, last, window, out, strides, degrees, known, forms
            )
        line = last + 1
    return forms


@compiled(fastmath={"nsz", "contract"})
def _combine(
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
