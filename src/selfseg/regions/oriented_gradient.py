"""Oriented gradients: how different the two halves of a disc are, for discs cut at 8 angles (Martin et al., PAMI 2004).

Around each pixel a disc of radius r is cut in two by a line at angle theta. The histograms g and h of the two halves are
compared by

    G(theta) = 1/2 sum_i (g_i - h_i)^2 / (g_i + h_i)

which is 0 where the halves are alike and 1 where they share nothing. A parabola fitted across the line, in an ellipse
along it, then takes the noise out and sharpens the ridge (Arbelaez et al., PAMI 2011, section 3.1).

Angle k of N is that of the cutting line, k pi / N from the X axis towards growing Y.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate

from selfseg.core.errors import UsageError
from selfseg.core.machine import compiled, run_shared

N_ANGLES = 8
"""Angles of the cutting line, evenly over half a turn."""

ACROSS = 0.25
"""Width of the parabola's ellipse across the line, as a share of its length (Berkeley's)."""

NARROWEST = 1.5
"""Least half axis of that ellipse, in samples: less holds too few for a parabola."""


def quantise(channel: NDArray[Any], n_words: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.uint8]:
    """Return the histogram bin 0..n_words-1 of each value of ``channel [*S]``; what lies outside goes to the end bins."""
    scaled = (np.nan_to_num(channel) - low) * (n_words / (high - low))
    return np.clip(scaled, 0, n_words - 1).astype(np.uint8)


def half_disc_gradient(
    words: NDArray[np.integer], n_words: int, radius: float, blur: float = 0.0, stride: int = 1
) -> NDArray[np.float32]:
    """Compare the histograms of the two halves of a disc, at each angle.

    Parameters
    ----------
    words
        ``[Y X]`` integers: histogram bin or texton of each pixel. Values outside 0..n_words-1 count nowhere.
    n_words
        Bins of the histograms, up to 255.
    radius
        Of the disc, in pixels. The picture is mirrored at its border.
    blur
        Standard deviation of a Gaussian over the bins, in bins: bins then have neighbours. 0 for textons, which have none.
    stride
        Only every stride-th row and column is measured (those in between still count in the histograms).

    Returns
    -------
    ndarray
        ``[8 ceil(Y / stride) ceil(X / stride)]`` float32, chi-squared distances 0-1; 0 where a half is empty.

    Raises
    ------
    UsageError
        If `words` are not integers in a plane, or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.oriented_gradient import half_disc_gradient
    >>> words = np.zeros((16, 16), np.uint8)
    >>> words[:, 8:] = 1
    >>> half_disc_gradient(words, n_words=2, radius=4).shape
    (8, 16, 16)
    """
    if words.ndim != 2 or not np.issubdtype(words.dtype, np.integer) or words.size == 0:
        raise UsageError(
            "words", expected="integers [Y X]", got=f"{words.dtype} {list(words.shape)}", fix="quantise one plane"
        )
    if not (radius >= 1 and stride >= 1 and blur >= 0 and 1 <= n_words <= 255):
        raise UsageError(
            "half discs",
            expected="positive sizes, at most 255 words",
            got=f"radius={radius}, stride={stride}, blur={blur}, n_words={n_words}",
            fix="keep radius and stride at 1 or more",
        )
    reach = int(radius)
    known = np.where((words >= 0) & (words < n_words), words, n_words).astype(np.uint8)
    padded = np.pad(known, reach, mode="symmetric")
    rows, columns = -(-words.shape[0] // stride), -(-words.shape[1] // stride)
    gradient = np.zeros((N_ANGLES, rows, columns), np.float32)
    disc, weights = _disc(radius), _bin_weights(blur)

    def compare(start: int, stop: int) -> None:
        # Memory of its own for each share, made here: what a kernel makes itself takes long to compile.
        ring = np.zeros((disc[-1, 0] + 1, n_words + 1, stride, padded.shape[1] // stride + 1), np.float32)
        planes = np.zeros((7 * N_ANGLES + 1, columns), np.float32)
        _compare_halves(start, stop, padded, disc, weights, np.zeros(n_words + 1, np.float32), ring, planes, gradient)

    run_shared(compare, rows)
    return gradient


def _disc(radius: float) -> NDArray[np.int64]:
    """Return the disc without its centre as runs along rows within one sector: row, first and last column + 1, sector 0..15, ``[P 4]``.

    Rows and columns count from the disc's corner.
    """
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = (y**2 + x**2 <= radius**2) & ((y != 0) | (x != 0))
    # A pixel on a line belongs to the half that follows; its mirror image belongs to the other, so both are as large.
    turn = np.mod(np.arctan2(y, x) / np.pi * N_ANGLES + 1e-9, 2 * N_ANGLES)
    sector = np.pad(np.where(inside, turn.astype(np.int64), -1), ((0, 0), (1, 1)), constant_values=-1)
    row, begin = np.nonzero(sector[:, 1:] != sector[:, :-1])
    begins = sector[row, begin + 1] >= 0
    end = np.append(begin[1:], 0)  # a run ends where the next one, or the outside, begins
    return np.stack([row, begin, end, sector[row, begin + 1]], -1)[begins]


def _bin_weights(blur: float) -> NDArray[np.float32]:
    """Return half a Gaussian over the bins, from its centre outwards, of which both halves sum to 1."""
    reach = int(np.ceil(3 * blur))
    weights = np.exp(-0.5 * (np.arange(reach + 1) / max(blur, 1e-6)) ** 2)
    return np.asarray(weights / (2 * weights.sum() - weights[0]), np.float32)


@compiled(inner=True)
def _spread_row(words, weights, here, sums):
    """Sum what the words of a row add to each bin, from its first column on: sums [n_words + 1, stride, X / stride], column x in
    x % stride, x // stride, without its own word. The last bin has the sum of all bins."""
    stride, n_words = sums.shape[1], len(here) - 1
    here[:] = 0
    for x in range(len(words) + 1):
        phase, place = x % stride, x // stride
        for i in range(n_words + 1):
            sums[i, phase, place] = here[i]
        word = int(words[x]) if x < len(words) else n_words
        if word < n_words:
            for i in range(max(word - len(weights) + 1, 0), min(word + len(weights), n_words)):
                weight = weights[abs(i - word)]
                here[i] += weight
                here[n_words] += weight


@compiled(inner=True)
def _sum_sectors(ring, bin_, top, disc, sectors):
    """Sum one bin over the sectors of a row of discs, sectors [16 X]. Row r of the picture is ring[r % R] of ring [R bins stride X']."""
    sectors[:] = 0
    columns, stride = sectors.shape[1], ring.shape[2]
    for n in range(len(disc)):
        row = ring[(top + disc[n, 0]) % len(ring), bin_]
        first, last, total = disc[n, 1] // stride, disc[n, 2] // stride, sectors[disc[n, 3]]
        before, until = (
            row[disc[n, 1] % stride, first : first + columns],
            row[disc[n, 2] % stride, last : last + columns],
        )
        for x in range(columns):
            total[x] += until[x] - before[x]


@compiled(inner=True, error_model="numpy")  # a check for zero would keep it from vectorising
def _compare_bin(sectors, upto, of_half, of_rest, total):
    """Add one bin to the chi-squared distances total [A X]; of_half and of_rest [A X] are 1 / pixels of the half and of the rest.

    upto [17 X] takes the sums of the sectors before each: its first row stays 0, its last is the whole disc.
    """
    n_angles, columns = total.shape
    for s in range(2 * n_angles):
        before, sector, after = upto[s], sectors[s], upto[s + 1]
        for x in range(columns):
            after[x] = before[x] + sector[x]
    whole = upto[2 * n_angles]
    for a in range(n_angles):
        before, after, per_half, per_rest, distance = upto[a], upto[a + n_angles], of_half[a], of_rest[a], total[a]
        for x in range(columns):
            half = after[x] - before[x]
            g, h = half * per_half[x], (whole[x] - half) * per_rest[x]
            distance[x] += (g - h) * (g - h) / (abs(g) + abs(h) + np.float32(1e-12))


@compiled(inner=True)
def _is_empty(ring, bin_, width):
    """Return whether no row of the ring [R bins stride X'] has anything in a bin: its sums over whole rows, `width` wide, are 0."""
    for slot in range(len(ring)):  # noqa: SIM110 (a generator would be compiled, slowly)
        if ring[slot, bin_, width % ring.shape[2], width // ring.shape[2]] > 0:
            return False
    return True


@compiled(inner=True, error_model="numpy")
def _weigh_halves(sectors, of_half, of_rest):
    """Write 1 / pixels of the half discs and of the rest, [A X], of all bins' sectors [16 X]; 0 where one of the two is empty."""
    n_angles, columns = of_half.shape
    for a in range(n_angles):
        for x in range(columns):
            inside, outside = np.float32(0), np.float32(0)
            for s in range(n_angles):
                inside += sectors[a + s, x]
                outside += sectors[(a + s + n_angles) % (2 * n_angles), x]
            both = inside >= 0.5 and outside >= 0.5
            of_half[a, x] = 1 / inside if both else 0
            of_rest[a, x] = 1 / outside if both else 0


@compiled()
def _compare_halves(start, stop, padded, disc, weights, here, ring, planes, gradient):
    """Fill the rows ``start..stop`` of gradient [A Y X] from a picture of words with a border of the disc's reach.

    A row of discs is done at a time, bin by bin, so that the inner loops run along the row.
    """
    n_angles, n_words, stride = len(gradient), ring.shape[1] - 1, ring.shape[2]
    size, columns, width = len(ring), gradient.shape[2], padded.shape[1]
    sectors, upto = planes[: 2 * n_angles], planes[2 * n_angles : 4 * n_angles + 1]
    of_half, of_rest = planes[4 * n_angles + 1 : 5 * n_angles + 1], planes[5 * n_angles + 1 : 6 * n_angles + 1]
    total = planes[6 * n_angles + 1 :]
    filled = start * stride
    for row in range(start, stop):
        top = row * stride
        for y in range(max(filled, top), top + size):
            _spread_row(padded[y], weights, here, ring[y % size])
        filled = top + size
        _sum_sectors(ring, n_words, top, disc, sectors)
        _weigh_halves(sectors, of_half, of_rest)
        total[:] = 0
        for i in range(n_words):
            if not _is_empty(ring, i, width):
                _sum_sectors(ring, i, top, disc, sectors)
                _compare_bin(sectors, upto, of_half, of_rest, total)
        for a in range(n_angles):
            for x in range(columns):
                gradient[a, row, x] = np.float32(0.5) * total[a, x]


def _parabola_kernel(radius: float, angle: float) -> NDArray[np.float64]:
    """Return the weights with which an ellipse of samples gives the height, at its centre, of a parabola fitted across it."""
    along, across = max(NARROWEST, radius), max(NARROWEST, radius * ACROSS)
    reach = int(along)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    inside = (u / along) ** 2 + (v / across) ** 2 <= 1
    design = np.stack([np.ones(inside.sum()), v[inside], v[inside] ** 2], -1)
    kernel = np.zeros(inside.shape)
    kernel[inside] = np.linalg.pinv(design)[0]
    return kernel


def fit_parabolas(gradient: NDArray[np.floating], radius: float) -> NDArray[np.float32]:
    """Smooth each angle's gradient ``[A Y X]`` along its line, and sharpen it across: an oriented Savitzky-Golay filter, cut off at 0.

    `radius` is the half axis of the ellipse along the line, in samples.
    """
    angles = np.arange(len(gradient)) * (np.pi / len(gradient))

    def fit(start: int, stop: int) -> list[NDArray[Any]]:
        return [correlate(gradient[k], _parabola_kernel(radius, angles[k]), mode="mirror") for k in range(start, stop)]

    fitted = [plane for part in run_shared(fit, len(gradient)) for plane in part]
    return np.maximum(np.stack(fitted), 0).astype(np.float32)


def enlarge(
    samples: NDArray[np.floating], stride: int, shape: tuple[int, int], first: float = 0.0
) -> NDArray[np.float32]:
    """Interpolate samples of every stride-th row and column, ``[A y x]``, to all pixels, ``[A Y X]`` float32.

    `first` is the row and column of the first sample; pixels before the first and after the last take those.
    """
    out = np.asarray(samples, np.float32)
    for axis, size in ((1, shape[0]), (2, shape[1])):
        place = np.clip((np.arange(size) - first) / stride, 0, out.shape[axis] - 1)
        low = np.minimum(place.astype(np.intp), max(out.shape[axis] - 2, 0))
        share = (place - low).astype(np.float32).reshape((-1, 1) if axis == 1 else (1, -1))
        high = np.minimum(low + 1, out.shape[axis] - 1)
        out = out.take(low, axis) * (1 - share) + out.take(high, axis) * share
    return out
