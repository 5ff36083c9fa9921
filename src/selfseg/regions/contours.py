"""Contours of a picture, without labels: local gradients, the spectral part of the whole picture, and the merge tree of both.

Two cues, each ``[8 Y X]``, boundary strength at 8 angles:

- ``local``: the mean of half-disc gradients of brightness, colour and texture, at three radii each (`regions.oriented_gradient`).
- ``pmi``: normalised cuts of the mutual information of colours that meet in this picture (`regions.spectral`).

Their weighted sum goes through the oriented watershed (`regions.watershed`). Berkeley's weights were learned on human labels;
here the parts of a cue weigh the same, and the weights between cues make their strong boundaries about equally strong.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.regions.graph import RegionGraph, check_picture, check_shape
from selfseg.regions.merge_tree import MergeTree, merge
from selfseg.regions.oriented_gradient import enlarge, fit_parabolas, half_disc_gradient, quantise
from selfseg.regions.spectral import normalised_cuts, pmi_affinity, spectral_gradient
from selfseg.regions.texture import rgb_to_lab, textons

CUES: Mapping[str, float] = {"local": 1.0, "pmi": 2.0}
"""Cues and their weights. Berkeley's third cue, cuts of the intervening contour, adds nothing to these two (EXPERIMENTS.md)."""

BINS = 25
"""Bins of the histograms of brightness and colour (Berkeley's)."""

COLOUR_RANGE = (-73.0, 95.0)
"""Range of Lab's a and b that the bins cover (Berkeley's)."""

NODES = 45000
"""Pictures with more pixels are reduced to about this many for normalised cuts: larger ones cost time, and give little."""

SPECTRAL_SCALE = 6.5
"""Puts the derivative of eigenvectors, which are scaled to 0-1 and weighted to sum 1, on the scale of half-disc gradients."""

SIZE_POWER, FEATURE_POWER = 0.15, 0.25
"""Exponents of size and of squared difference in the cost of a merge; that of strength is 1."""


def contour_strength(
    image: NDArray[Any], cues: Mapping[str, float] = CUES, mask: NDArray[np.bool_] | None = None, seed: int = 0
) -> NDArray[np.float32]:
    """Measure the strength of boundaries at 8 angles.

    Parameters
    ----------
    image
        ``[Y X C]``, values 0-1. Three channels are RGB; of others, each is a brightness. NaN and inf count as 0.
    cues
        Weights of ``local`` and ``pmi``; one left out counts 0.
    mask
        ``[Y X]`` bool; pixels at False are left out of half discs.
    seed
        Of the k-means behind textons and colour words, and of the start of eigenvectors.

    Returns
    -------
    ndarray
        ``[8 Y X]`` float32, about 0-1; plane k is for a boundary at k pi / 8 from the X axis towards growing Y.

    Raises
    ------
    UsageError
        If the image is not ``[Y X C]``, the mask does not fit, or a cue is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.contours import contour_strength
    >>> photo = np.zeros((32, 32, 3))
    >>> photo[:, 16:] = 1
    >>> strength = contour_strength(photo, cues={"local": 1.0})
    >>> strength.shape
    (8, 32, 32)
    """
    _check(image, cues, mask)
    lab = _lab(image)
    total = np.zeros((8, *image.shape[:2]), np.float32)
    if cues.get("local"):
        total += np.float32(cues["local"]) * _local(lab, mask, seed)
    if cues.get("pmi"):
        factor = max(1, round(np.sqrt(image.shape[0] * image.shape[1] / NODES)))
        affinity = pmi_affinity(_shrink(lab, factor), seed=seed)
        total += np.float32(cues["pmi"]) * _cut(affinity, image.shape[:2], factor, seed)
    return total


def merge_contours(graph: RegionGraph, means: NDArray[Any]) -> MergeTree:
    """Merge the basins of the oriented watershed, with mean appearances ``[R D]``. Neighbours merge in the order of

        (n_a n_b / ((n_a + n_b) N)) ^ 0.15  *  |m_a - m_b| ^ 0.5  *  mean strength of the arc between a and b

    with n the pixels of a region, N those of the picture, m the mean appearance: weak arcs, small and similar regions first.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.contours import merge_contours
    >>> from selfseg.regions.graph import adjacency
    >>> graph = adjacency(np.array([[0, 1, 2]]), np.array([[0.1, 0.1, 0.9]]))
    >>> merge_contours(graph, np.array([[0.0], [0.1], [5.0]])).n_leaves
    3
    """
    return merge(graph, means, size_power=SIZE_POWER, feature_power=FEATURE_POWER, strength_power=1.0)


def _lab(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return Lab of RGB, other channels on the scale of L (0-100): ``[Y X C]``."""
    values = np.clip(np.nan_to_num(image, posinf=0, neginf=0), 0, 1).astype(np.float32)
    return rgb_to_lab(values) if image.shape[-1] == 3 else values * np.float32(100)


def _local(lab: NDArray[np.float32], mask: NDArray[np.bool_] | None, seed: int) -> NDArray[np.float32]:
    """Return the mean ``[8 Y X]`` of the half-disc gradients of all channels of ``lab [Y X C]`` and of textons."""
    colour = lab.shape[-1] == 3
    words, count = textons(lab[..., 0] if colour else lab.mean(-1), seed=seed)
    channels = [(words, count, 0.0, (5, 10, 20))]
    for c in range(lab.shape[-1]):
        if colour and c:
            channels.append((quantise(lab[..., c], BINS, *COLOUR_RANGE), BINS, 0.05 * BINS, (5, 10, 20)))
        else:
            channels.append((quantise(lab[..., c], BINS, 0, 100), BINS, 0.1 * BINS, (3, 5, 10)))
    # Gradients of one radius are added up before the parabola is fitted: the fit is linear, and takes longer than the sum.
    sums: dict[int, NDArray[np.float32]] = {}
    for plane, n_words, blur, radii in channels:
        known = plane if mask is None else np.where(mask, plane, 255)
        for radius in radii:
            gradient = half_disc_gradient(known, n_words, radius, blur, max(1, radius // 5))
            sums[radius] = sums.get(radius, np.float32(0)) + gradient / np.float32(3 * len(channels))
    total = np.zeros((8, *lab.shape[:2]), np.float32)
    for radius, gradient in sums.items():
        stride = max(1, radius // 5)
        total += enlarge(fit_parabolas(gradient, radius / stride), stride, lab.shape[:2])
    return total


def _shrink(plane: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Average blocks of factor x factor of ``[Y X C]``; the border is repeated to fill the last ones."""
    height, width = (-(-n // factor) for n in plane.shape[:2])
    filling = [(0, height * factor - plane.shape[0]), (0, width * factor - plane.shape[1])]
    full = np.pad(plane, [*filling, (0, 0)], mode="edge")
    return np.asarray(full.reshape(height, factor, width, factor, -1).mean((1, 3)))


def _cut(affinity: Any, shape: tuple[int, int], factor: int, seed: int) -> NDArray[np.float32]:
    """Return the spectral gradient ``[8 Y X]`` of an affinity between reduced pixels, on the scale of the local cue."""
    small = tuple(-(-n // factor) for n in shape)
    vectors, eigenvalues = normalised_cuts(affinity, (small[0], small[1]), seed=seed)
    # A picture of one pixel has no eigenvectors.
    scale = SPECTRAL_SCALE / (eigenvalues**-0.5).sum() if len(eigenvalues) else 0.0
    # A sample stands at the middle of its block.
    return enlarge(spectral_gradient(vectors, eigenvalues) * np.float32(scale), factor, shape, (factor - 1) / 2)


def _check(image: NDArray[Any], cues: Mapping[str, float], mask: NDArray[np.bool_] | None) -> None:
    check_picture(image)
    check_shape("mask", mask, image.shape[:2])
    unknown = sorted(set(cues) - set(CUES))
    if unknown or not all(weight >= 0 for weight in cues.values()):
        raise UsageError(
            "cues",
            expected="weights of local and pmi, 0 or more",
            got=", ".join(f"{name}={weight}" for name, weight in cues.items()),
            fix="drop the others",
        )
