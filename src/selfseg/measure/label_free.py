"""What can be said of a segmentation without truth: uniformity, contrast, separation, code length.

None of them is a substitute for truth: on natural photographs each picks the level worse than one fixed level does, and
most just count regions (measured in docs/label_free.md; `reconstruction` and `changes` hold the rest of the criteria).
Some are better when large, some when small; each says which.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from selfseg.core.seed import generator
from selfseg.measure._pixels import neighbours, prepare

BITS_PER_STEP = float(np.log2(3.0))
"""A boundary goes straight on, left or right at each step."""


class ClusterValidity(NamedTuple):
    """Separation of regions in feature space; NaN where it is undefined (one region, or none larger than a pixel).

    `silhouette` (-1..1) and `calinski_harabasz` are better when large, `davies_bouldin` when small.
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
    """
    regions = prepare(labels, image, ignore)
    areas, errors = regions.areas, regions.squared_errors().sum(axis=1)
    return float(np.sqrt(len(areas)) * (errors / np.sqrt(areas)).sum() / (1000.0 * areas.sum()))


def borsotti_q(labels: ArrayLike, image: ArrayLike, ignore: int | None = None) -> float:
    """Return Q = sqrt(R) / (10000 N) sum_i [e_i^2 / (1 + ln A_i) + (R(A_i) / A_i)^2]: small is good.

    Borsotti, Campadelli & Schettini 1998, eq. 3. R(A) is the number of regions of area exactly A; the rest as in
    `liu_yang`. The constants are meant for values 0-255.
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
    its weight.

    Parameters
    ----------
    labels
        Integer array ``[*S]``.
    image
        ``[*S]`` or ``[*S C]``.
    ignore
        Label of pixels to leave out.
    quantum
        Step q to which values are exact, in the unit of the image: 1 for integers.
    data_weight
        Share of pixels that are independent, 0-1.
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
