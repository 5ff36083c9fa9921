"""Criteria for a segmentation without truth: uniformity, contrast, separation, code length, reconstruction, stability.

None of them is a substitute for truth: on natural photographs each picks the level worse than one fixed level does, and
most just count regions (measured in docs/label_free.md). Some are better when large, some when small; each docstring states which.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfseg.core.errors import InputError
from selfseg.core.seed import generator
from selfseg.measure._table import Floats, Labels, check_counted, check_labels
from selfseg.measure.partition import adjusted_rand_index

BITS_PER_STEP = float(np.log2(3.0))
"""A boundary goes straight on, left or right at each step."""

SINGULAR = 1e-9
"""A direction in which a region is this much shorter than in its longest has no slope."""

NOISE, TONE, SHRINK = 0.02, 0.05, 0.9
"""Defaults of `small_changes`."""


@dataclass(frozen=True)
class Regions:
    """The pixels that count: region ``[N]``, values ``[N C]``; and on the grid: ``[*S]`` (-1 elsewhere), ``[*S C]``."""

    index: NDArray[np.intp]
    values: Floats
    grid: NDArray[np.intp]
    picture: Floats

    @property
    def areas(self) -> Floats:
        """Pixels of each region: ``[R]``."""
        return np.bincount(self.index).astype(np.float64)

    def squared_errors(self) -> Floats:
        """Sum of squared deviations from the region's mean, for each region and channel: ``[R C]``."""
        means = self.sums(self.values) / self.areas[:, None]
        return self.sums((self.values - means[self.index]) ** 2)

    def sums(self, values: Floats) -> Floats:
        """Sum ``[N C]`` values over each region: ``[R C]``."""
        return np.stack([np.bincount(self.index, channel) for channel in values.T], axis=1)


def prepare(labels: ArrayLike, image: ArrayLike, ignore: int | None) -> Regions:
    """Return the regions of labels ``[*S]`` with the values of an image ``[*S]`` or ``[*S C]``, or raise `InputError`."""
    array: Labels = check_labels(labels, "labels")
    picture = np.asarray(image, np.float64)
    picture = picture[..., None] if picture.shape == array.shape else picture
    if picture.shape[:-1] != array.shape:
        raise InputError(
            "labels and image",
            expected="equal sizes",
            got=f"labels of shape {array.shape} and image of shape {picture.shape}",
            fix="give matching arrays, channels last",
        )
    used = np.ones(array.shape, bool) if ignore is None else array != ignore
    check_counted(used, ignore, "labels")
    if not np.isfinite(picture[used]).all():
        raise InputError(
            "image", expected="finite values", got="NaN or infinite values", fix="label those pixels as ignored"
        )
    grid = np.full(array.shape, -1, np.intp)
    grid[used] = _renumbered(array[used])
    return Regions(grid[used], picture[used], grid, picture)


def _renumbered(values: Labels) -> NDArray[np.intp]:
    """Return ``values [N]`` as 0..R-1, in their order."""
    low, high = int(values.min()), int(values.max())
    if high - low > len(values):
        return np.unique(values, return_inverse=True)[1]
    # Counting instead of sorting: every criterion starts here.
    shifted = values.astype(np.intp) - low
    rank = np.cumsum(np.bincount(shifted) > 0) - 1
    return np.asarray(rank[shifted], np.intp)


def neighbours(shape: tuple[int, ...], corners: bool) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield slices of all pairs of touching pixels, each pair once."""
    for step in product((-1, 0, 1), repeat=len(shape)):
        first = next((s for s in step if s), 0)
        if first != 1 or (not corners and sum(map(abs, step)) > 1):
            continue
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, shape, strict=True))
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, shape, strict=True))
        yield here, there


class ClusterValidity(NamedTuple):
    """Separation of regions in feature space; NaN where it is undefined (one region, or none larger than a pixel).

    `silhouette` (-1..1) and `calinski_harabasz` are better when large, `davies_bouldin` when small.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import cluster_validity
    >>> features = np.array([[0.0], [0.1], [5.0], [5.1]]).reshape(2, 2, 1)
    >>> round(cluster_validity(np.array([[1, 1], [2, 2]]), features).davies_bouldin, 3)
    0.02
    """

    silhouette: float
    calinski_harabasz: float
    davies_bouldin: float


def zhang_entropy(labels: ArrayLike, image: ArrayLike, ignore: int | None = None, bins: int = 256) -> float:
    """Return Zhang, Fritts & Goldman's E, layout entropy + expected region entropy, in bits: small is good.

    E = H(region) + H(luminance | region), the joint entropy of the two (Zhang et al. 2004, eq. 4-6).

    Parameters
    ----------
    labels
        Integer array ``[*S]``.
    image
        ``[*S]`` or ``[*S C]``. Luminance is the mean over channels, cut into equal bins between its extremes.
    ignore
        Label of pixels to leave out.
    bins
        Number of luminance values.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import zhang_entropy
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> image = np.where(truth == 1, 10.0, 90.0)
    >>> zhang_entropy(truth, image) < zhang_entropy(labels, image)
    True
    """
    regions = prepare(labels, image, ignore)
    luminance = regions.values.mean(axis=1)
    low, high = float(luminance.min()), float(luminance.max())
    step = (high - low) / bins or 1.0
    level = np.minimum(((luminance - low) / step).astype(np.int64), bins - 1)
    _, counts = np.unique(regions.index * bins + level, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def liu_yang(labels: ArrayLike, image: ArrayLike, ignore: int | None = None) -> float:
    """Return Liu & Yang's F = sqrt(R) / (1000 N) sum_i e_i^2 / sqrt(A_i) (1994, eq. 1): small is good.

    e_i^2 is the summed squared distance of a region's pixels from its mean colour, A_i its area, R the number of
    regions, N the number of pixels. The constants are meant for values 0-255; see `zhang_entropy` for the arguments.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import liu_yang
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> image = np.where(truth == 1, 10.0, 90.0)
    >>> liu_yang(truth, image) < liu_yang(labels, image)
    True
    """
    regions = prepare(labels, image, ignore)
    areas, errors = regions.areas, regions.squared_errors().sum(axis=1)
    return float(np.sqrt(len(areas)) * (errors / np.sqrt(areas)).sum() / (1000.0 * areas.sum()))


def borsotti_q(labels: ArrayLike, image: ArrayLike, ignore: int | None = None) -> float:
    """Return Q = sqrt(R) / (10000 N) sum_i [e_i^2 / (1 + ln A_i) + (R(A_i) / A_i)^2]: small is good.

    Borsotti, Campadelli & Schettini 1998, eq. 3. R(A) is the number of regions of area exactly A; the rest as in
    `liu_yang`. The constants are meant for values 0-255.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import borsotti_q
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> image = np.where(truth == 1, 10.0, 90.0)
    >>> borsotti_q(truth, image) < borsotti_q(labels, image)
    True
    """
    regions = prepare(labels, image, ignore)
    areas, errors = regions.areas, regions.squared_errors().sum(axis=1)
    _, inverse, alike = np.unique(areas, return_inverse=True, return_counts=True)
    terms = errors / (1.0 + np.log(areas)) + (alike[inverse] / areas) ** 2
    return float(np.sqrt(len(areas)) * terms.sum() / (10000.0 * areas.sum()))


def zeboudj(labels: ArrayLike, image: ArrayLike, ignore: int | None = None) -> float:
    """Return Zeboudj's contrast in 0-1: large is good. The neighbourhood is the pixels that touch, corners included.

    The contrast of two pixels is their mean absolute difference over channels, as a share of the image's range. Inside
    a region I is the mean, over its pixels, of the largest contrast with a neighbour of the same region; outside, E is
    the mean, over its boundary pixels, of the largest with a neighbour of another. A region's contrast is 1 - I/E if 0
    < I < E, E if I = 0, else 0; the mean is weighted by area (Zeboudj 1988).

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import zeboudj
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> image = np.where(truth == 1, 10.0, 90.0)
    >>> zeboudj(truth, image) > zeboudj(labels, image)
    True
    """
    regions = prepare(labels, image, ignore)
    grid = regions.grid
    inside, outside = np.zeros(grid.shape), np.full(grid.shape, -1.0)
    for here, there in neighbours(grid.shape, corners=True):
        contrast = np.abs(regions.picture[here] - regions.picture[there]).mean(axis=-1)
        counts, same = (grid[here] >= 0) & (grid[there] >= 0), grid[here] == grid[there]
        for side in (here, there):
            inside[side] = np.where(counts & same, np.maximum(inside[side], contrast), inside[side])
            outside[side] = np.where(counts & ~same, np.maximum(outside[side], contrast), outside[side])
    used, span, areas = grid >= 0, float(np.ptp(regions.values)) or 1.0, regions.areas
    inner = np.bincount(regions.index, inside[used]) / areas / span
    edge = used & (outside >= 0)
    edges = np.bincount(grid[edge], minlength=len(areas))
    outer = np.bincount(grid[edge], outside[edge], len(areas)) / np.maximum(edges, 1) / span
    ratio = 1.0 - inner / np.where(outer > 0, outer, 1.0)
    contrast_of = np.where(inner == 0, outer, np.where(inner < outer, ratio, 0.0))
    return float((areas * contrast_of).sum() / areas.sum())


def boundary_edge_agreement(labels: ArrayLike, image: ArrayLike, ignore: int | None = None) -> float:
    """Return the correlation, over all pairs of touching pixels, of "a boundary runs between" with the colour step.

    -1..1, large is good; boundaries without an edge and edges without a boundary both lower it. 0 if there is no
    boundary or the image is flat. Pixels touch with their faces; the step is the Euclidean distance of the two values.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import boundary_edge_agreement
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> image = np.where(truth == 1, 10.0, 90.0)
    >>> round(boundary_edge_agreement(truth, image), 4)
    1.0
    """
    regions = prepare(labels, image, ignore)
    crossed, steps = [], []
    for here, there in neighbours(regions.grid.shape, corners=False):
        a, b = regions.grid[here], regions.grid[there]
        counts = (a >= 0) & (b >= 0)
        crossed.append((a != b)[counts])
        steps.append(np.linalg.norm(regions.picture[here] - regions.picture[there], axis=-1)[counts])
    x, y = np.concatenate(crossed).astype(np.float64), np.concatenate(steps)
    if x.size == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def description_length(
    labels: ArrayLike, image: ArrayLike, ignore: int | None = None, quantum: float = 1.0, data_weight: float = 1.0
) -> float:
    """Return the bits a pixel takes when regions are coded as Gaussians and boundaries as chains: small is good.

    Data: A/2 log2(2 pi e (variance + q^2/12) / q^2) for each region and channel. Model: log2 A for its mean and
    variance (1/2 log2 A each), log2 N for where its boundary starts, and log2 3 a step of boundary, counted once
    (Leclerc 1989 and Rissanen 1983 in spirit). Neighbouring pixels are alike, so the data term counts too much: hence
    its weight. See `zhang_entropy` for the other arguments.

    Parameters
    ----------
    quantum
        Step q to which values are exact, in the unit of the image: 1 for integers.
    data_weight
        Share of pixels that are independent, 0-1.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import description_length
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> image = np.where(truth == 1, 10.0, 90.0)
    >>> description_length(truth, image) < description_length(labels, image)
    True
    """
    regions = prepare(labels, image, ignore)
    areas, n = regions.areas, float(len(regions.index))
    variance = regions.squared_errors() / areas[:, None] + quantum**2 / 12.0
    data = (areas[:, None] / 2.0 * np.log2(2.0 * np.pi * np.e * variance / quantum**2)).sum()
    steps = 0
    for here, there in neighbours(regions.grid.shape, corners=False):
        a, b = regions.grid[here], regions.grid[there]
        steps += int(((a != b) & (a >= 0) & (b >= 0)).sum())
    model = variance.shape[1] * np.log2(areas).sum() + len(areas) * np.log2(n) + steps * BITS_PER_STEP
    return float((data_weight * data + model) / n)


def cluster_validity(
    labels: ArrayLike, features: ArrayLike, ignore: int | None = None, sample: int = 2000, seed: int = 0
) -> ClusterValidity:
    """Return silhouette, Calinski-Harabasz and Davies-Bouldin on a sample with equally many pixels of each region.

    Parameters
    ----------
    labels
        Integer array ``[*S]``.
    features
        ``[*S]`` or ``[*S C]``, on scales that may be compared.
    ignore
        Label of pixels to leave out.
    sample
        Pixels drawn in all, shared out equally, at least 2 a region; smaller regions give all they have.
    seed
        Of the draw.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import cluster_validity
    >>> features = np.array([[0.0], [0.1], [5.0], [5.1]]).reshape(2, 2, 1)
    >>> round(cluster_validity(np.array([[1, 1], [2, 2]]), features).silhouette, 3)
    0.98
    """
    from sklearn import metrics

    regions = prepare(labels, features, ignore)
    n_regions = len(regions.areas)
    order = np.lexsort((generator(seed, "cluster validity").random(len(regions.index)), regions.index))
    starts = np.concatenate([[0], np.cumsum(regions.areas).astype(np.intp)[:-1]])
    place = np.arange(len(order)) - starts[regions.index[order]]
    drawn = order[place < max(2, sample // n_regions)]
    if n_regions < 2 or len(drawn) <= n_regions:
        return ClusterValidity(float("nan"), float("nan"), float("nan"))
    values, names = regions.values[drawn], regions.index[drawn]
    scores = metrics.silhouette_score, metrics.calinski_harabasz_score, metrics.davies_bouldin_score
    return ClusterValidity(*(float(score(values, names)) for score in scores))


def reconstruction_error(labels: ArrayLike, image: ArrayLike, ignore: int | None = None, degree: int = 0) -> float:
    """Return the share of the image's variance that its regions leave unexplained: 0-1, small is good; 0 for one colour.

    sum_i sum_{x in i} |I(x) - p_i(x)|^2 / sum_x |I(x) - mean I|^2, where p_i is the polynomial of the given degree in
    the coordinates that fits region i best. Degree 0: the mean, the piecewise constant limit of Mumford & Shah 1989.
    Degree 1: a plane, Haralick & Watson's sloped facet (1981), so that shading costs nothing. No split ever raises it:
    it compares segmentations of equally many regions, and does not choose their number. See `zhang_entropy` for the
    other arguments.

    Raises
    ------
    InputError
        If the shapes differ, no pixel counts, values are not finite, or the degree is another.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import reconstruction_error
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> image = np.where(truth == 1, 10.0, 90.0)
    >>> reconstruction_error(truth, image), round(reconstruction_error(labels, image), 4)
    (0.0, 0.6667)
    """
    if degree not in (0, 1):
        raise InputError("degree", expected="0 (constant) or 1 (plane)", got=str(degree), fix="choose one of them")
    regions = prepare(labels, image, ignore)
    total = float(((regions.values - regions.values.mean(axis=0)) ** 2).sum())
    if total == 0:
        return 0.0
    error = float(regions.squared_errors().sum())
    if degree == 1:
        error -= _explained_by_slopes(regions)
    return max(0.0, error) / total


def _explained_by_slopes(regions: Regions) -> float:
    """Return the squared error that the best slopes take away: sum_i trace(B_i^T A_i^+ B_i).

    A_i ``[D D]`` are the scatter of the coordinates of region i, B_i ``[D C]`` those of coordinates with values.
    """
    places = np.argwhere(regions.grid >= 0).astype(np.float64)
    away, deviation = (_centred(regions, array) for array in (places, regions.values))
    n_dims, n_channels = away.shape[1], deviation.shape[1]
    products = [away[:, i] * away[:, j] for i in range(n_dims) for j in range(n_dims)]
    scatter = regions.sums(np.stack(products, axis=1)).reshape(-1, n_dims, n_dims)
    products = [away[:, i] * deviation[:, c] for i in range(n_dims) for c in range(n_channels)]
    cross = regions.sums(np.stack(products, axis=1)).reshape(-1, n_dims, n_channels)
    inverse = np.linalg.pinv(scatter, rcond=SINGULAR, hermitian=True)
    return float(np.einsum("rdc,rde,rec->", cross, inverse, cross))


def _centred(regions: Regions, values: Floats) -> Floats:
    """Return ``values [N C]`` less the mean of their region."""
    return values - (regions.sums(values) / regions.areas[:, None])[regions.index]


@dataclass(frozen=True)
class LabelChange:
    """A changed image and the way back.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import small_changes
    >>> change = small_changes(np.zeros((8, 8, 3), np.uint8))[-1]
    >>> change.undo(np.ones(change.image.shape[:2], int)).shape
    (8, 8)
    """

    name: str
    """Kind of change."""
    image: Floats
    """``[*S C]`` float64, the changed image; its size may be another."""
    undo: Callable[[ArrayLike], Labels]
    """Brings labels of the changed image, integers ``[*S]``, back to the pixels of the original."""


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

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import small_changes
    >>> [change.name for change in small_changes(np.zeros((8, 8, 3), np.uint8))]
    ['noise', 'tone', 'shrink']
    """
    picture = np.asarray(image, np.float64)
    if picture.ndim < 2 or picture.size == 0 or not np.isfinite(picture).all():
        raise InputError(
            "image",
            expected="finite [*S C]",
            got=f"shape {picture.shape}" if np.isfinite(picture).all() else "NaN or infinite values",
            fix="put channels last",
        )
    if noise < 0 or not 0 <= tone < 1 or not 0 < shrink <= 1:
        raise InputError(
            "small changes",
            expected="noise of 0 or more, tone in 0-1, shrink above 0 and up to 1",
            got=f"noise={noise}, tone={tone}, shrink={shrink}",
            fix="see small_changes",
        )
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
    from scipy.ndimage import zoom

    full = picture.shape[:-1]
    small = tuple(max(1, round(n * factor)) for n in full)
    # A pixel covers a unit square (grid_mode): the centre i + 1/2 of one grid lies at (i + 1/2) n / m of the other.
    factors = [m / n for n, m in zip(full, small, strict=True)]
    image = zoom(picture, [*factors, 1], order=1, mode="nearest", grid_mode=True)
    back = [((np.arange(n) + 0.5) * m / n).astype(np.intp) for n, m in zip(full, small, strict=True)]
    return LabelChange("shrink", image, lambda labels: check_labels(labels, "labels")[np.ix_(*back)])


def stability(runs: Sequence[ArrayLike], ignore: int | None = None) -> float:
    """Return the mean adjusted Rand index over all pairs of runs: large is good.

    Parameters
    ----------
    runs
        Two or more label arrays ``[*S]`` of one image: other seeds, or slightly changed images brought back into place.
    ignore
        Label, in the second of a pair, of pixels to leave out.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import stability
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> round(stability([truth, truth, labels]), 4)
    0.44
    """
    if len(runs) < 2:
        raise InputError("runs", expected="two or more", got=str(len(runs)), fix="segment again with other seeds")
    return float(np.mean([adjusted_rand_index(a, b, ignore) for a, b in combinations(runs, 2)]))
