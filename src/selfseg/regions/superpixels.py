"""Superpixels of a prepared image, by SLIC or by watershed, and how far the colours of neighbours are apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from selfseg.regions.graph import RegionGraph, adjacency, region_means
from selfseg.regions.merge_tree import MergeTree, merge
from selfseg.regions.slic import slic
from selfseg.regions.texture import LIGHTNESS, colour_channels, gradient_strength
from selfseg.regions.watershed import watershed

IMAGE_WEIGHT = 0.5
"""Weight of the image against probabilities in the merge tree, as in `refine.hierarchy`."""

TREE_SIGMA = 1.5
"""Smoothing before boundaries are measured for the merge tree, in the unit of the spacing."""

Distance = Literal["values", "lab"]


@dataclass(frozen=True)
class SuperpixelRecipe:
    """How superpixels are made.

    Examples
    --------
    >>> from selfseg.regions.superpixels import SuperpixelRecipe
    >>> SuperpixelRecipe("watershed", size=50).compactness
    10.0
    """

    kind: Literal["slic", "watershed"] = "slic"
    """``slic`` or ``watershed``."""
    number: int | None = None
    """Superpixels of an image, about; None = by `size`."""
    size: float = 24.0
    """Mean size of a superpixel in pixels (voxels)."""
    compactness: float = 10.0
    """How round they are: SLIC's m, in units of Lab; or that of the watershed, in Lab a pixel."""
    sigma: float = 1.0
    """Smoothing before they are made, in the unit of the spacing."""
    spacing: Sequence[float] = ()
    """Size of a pixel along each spatial axis; empty = 1."""


def make_superpixels(
    image: NDArray[Any], recipe: SuperpixelRecipe, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Cut a prepared image ``[C *S]`` into superpixels ``[*S]`` int32, 0..R-1, and -1 where `valid` ``[*S]`` is False.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.superpixels import SuperpixelRecipe, make_superpixels
    >>> make_superpixels(np.zeros((3, 32, 32), np.float32), SuperpixelRecipe(size=64)).shape
    (32, 32)
    """
    channels = colour_channels(np.moveaxis(image, 0, -1))
    units = tuple(recipe.spacing) or (1.0,) * (image.ndim - 1)
    # Both kinds begin with a grid over the whole image, of which a mask takes its share.
    wanted = max(1, round(channels[..., 0].size / recipe.size) if recipe.number is None else recipe.number)
    if recipe.kind == "watershed":
        strength = gradient_strength(channels, recipe.sigma, units)
        return watershed(strength, wanted, recipe.compactness, units, valid)
    if recipe.sigma > 0:
        sigmas = [recipe.sigma / unit for unit in units]
        for c in range(channels.shape[-1]):
            channels[..., c] = gaussian_filter(channels[..., c], sigmas, mode="nearest")
    return slic(channels, wanted, recipe.compactness, units, mask=valid)


def neighbour_distances(
    image: NDArray[Any], superpixels: NDArray[np.integer], graph: RegionGraph, kind: Distance = "values"
) -> NDArray[np.float64]:
    """Return the Euclidean distance of the mean colours of the two ends of each edge of a graph, ``[E]``.

    ``values``: of the own values of an image ``[C *S]``. ``lab``: of `colour_channels` / 100, so that black and white are 1 apart too.
    """
    features = (
        np.moveaxis(np.nan_to_num(image), 0, -1)
        if kind == "values"
        else colour_channels(np.moveaxis(image, 0, -1)) / LIGHTNESS
    )
    means = region_means(superpixels, features, graph.n_regions)
    return np.sqrt(((means[graph.edges[:, 0]] - means[graph.edges[:, 1]]) ** 2).sum(-1))


def probability_tree(
    image: NDArray[Any], superpixels: NDArray[np.int32], probabilities: NDArray[Any], spacing: Sequence[float] = ()
) -> MergeTree:
    """Return the merge tree of superpixels by their class probabilities first, and by the image where these are alike.

    The cost of a merge is that of `refine.hierarchy`: ``(n_a n_b / ((n_a + n_b) N))^0.4 |m_a - m_b| g_ab``, with the square roots of
    the probabilities and the colours times 0.5 as features m, and g the mean gradient of these along the common boundary.

    Parameters
    ----------
    image
        ``[C *S]``.
    superpixels
        ``[*S]``, 0..R-1, -1 outside.
    probabilities
        ``[K R]``.
    spacing
        Size of a pixel along each axis; empty = 1.
    """
    units = tuple(spacing) or (1.0,) * superpixels.ndim
    roots = np.sqrt(np.clip(probabilities, 0, 1)).astype(np.float32).T  # [R K]
    roots = np.concatenate([roots[:, roots.max(0, initial=0) > 0], np.zeros((len(roots), 1), np.float32)], 1)
    colour = colour_channels(np.moveaxis(image, 0, -1)) * np.float32(IMAGE_WEIGHT / LIGHTNESS)
    features = np.concatenate([np.where((superpixels >= 0)[..., None], roots[superpixels], 0), colour], -1)
    graph = adjacency(superpixels, gradient_strength(features, TREE_SIGMA, units), units, len(roots))
    means = region_means(superpixels, features, len(roots))
    return merge(graph, means, size_power=0.4, feature_power=0.5, strength_power=1.0)
