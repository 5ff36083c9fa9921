"""Objects of dense volumes: small, sure nodes of the component tree as seeds, grown inside a local mask.

Saddles between touching nuclei are nearly as bright as the nuclei, so that no disjoint set of nodes holds them whole. The tree is that
of the local contrast, the logarithm of the volume smoothed a little over that smoothed much; scores count shape and step, and not size.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from selfseg.regions import blobs
from selfseg.regions.component_tree import component_tree
from selfseg.regions.teacher import NOISY, Facts, Picture, contrasts, scores, typical_contrast

WIDE = 0.8
"""Smoothing of what a voxel is compared with, over the diameter of an object."""

LEAST_SEED, LARGEST_VOLUME, SURE_VOLUME, LIFT = 10, 0.05, 0.1, 0.5
"""Least voxels of a seed; largest share of the volume; least step over that of nine in ten seeds; lift over the range."""


def local_contrast(light: NDArray[np.float32], facts: Facts, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Return the logarithm of a volume smoothed by one voxel, over that of one smoothed by `facts.wide` voxels ``[Z Y X]``.

    `spacing` is the size of a voxel along each axis, 1 = the finest.
    """

    def level(sigma: float) -> NDArray[np.float32]:
        smooth = gaussian_filter(light, [sigma / one for one in spacing], truncate=3.0)
        return np.asarray(np.log(np.maximum(smooth - np.float32(facts.floor), 0) + np.float32(facts.lift)))

    return level(1.0) - level(facts.wide)


def volume_facts(picture: Picture, facts: Facts, spacing: Sequence[float], contrast: float) -> Facts:
    """Return what is fixed before objects are found in volumes like this one.

    Parameters
    ----------
    picture
        A volume with bright objects.
    facts
        Polarity, sizes, and the reach of the local contrast.
    spacing
        Size of a voxel along each axis, 1 = the finest.
    contrast
        Least contrast of an object, as a share of the typical one.
    """
    from skimage.filters import threshold_otsu  # here, since images in 2D do without it

    floor, top = np.percentile(picture.light, (0.5, 99.8))
    facts = replace(facts, floor=float(floor), lift=max(LIFT * float(top - floor), 1e-6))
    local = local_contrast(picture.light, facts, spacing)
    largest = min(facts.largest, LARGEST_VOLUME * picture.light.size)
    facts = replace(facts, low=float(local.min()), high=float(local.max()), largest=largest)
    _, steps = _seeds(local, facts)
    if not len(steps):
        return facts
    facts = replace(
        facts,
        step=SURE_VOLUME * float(np.percentile(steps, 90)),
        spread=max(float(local.std()), 1e-6),
        level=max(0.0, float(threshold_otsu(local))),
        noise=picture.noise() / NOISY,
    )
    labels, _ = volume_objects(picture, facts, spacing)
    return replace(facts, contrast=contrast * typical_contrast(contrasts(labels, picture.light), blobs.areas(labels)))


def _seeds(local: NDArray[np.float32], facts: Facts) -> tuple[blobs.Labels, NDArray[np.float64]]:
    """Return the small, sure nodes of a volume ``[*S]``, steep enough, and their steps: size counts nothing."""
    tree = component_tree(local, LEAST_SEED, limits=(facts.low, facts.high))
    chosen = tree.best_disjoint(scores(tree, 0.0, LEAST_SEED, facts.largest, 0.0))
    chosen = chosen[tree.steps[chosen] >= facts.step]
    return tree.labels(chosen), tree.steps[chosen]


def volume_objects(
    picture: Picture, facts: Facts, spacing: Sequence[float]
) -> tuple[blobs.Labels, NDArray[np.float32]]:
    """Return the objects of a volume ``[Z Y X]``, whatever their contrast, and how sure each voxel is, 0-1.

    Seeds grow by the watershed of the smoothed volume where the local contrast is above the larger of 0 and Otsu's
    threshold: dense tissue has none between objects and ground. Arguments are those of `volume_facts`.
    """
    from skimage.segmentation import watershed  # here, since images in 2D do without it

    local = local_contrast(picture.light, facts, spacing)
    seeds, _ = _seeds(local, facts)
    mask = (local > facts.level) | (seeds > 0)
    if picture.valid is not None:
        mask &= picture.valid
    smooth = gaussian_filter(picture.light, [1.5 / one for one in spacing])
    labels = blobs.number(watershed(-smooth, seeds, mask=mask).astype(np.int32))
    sure = 1 / (1 + np.exp(np.clip((np.float32(facts.level) - local) / np.float32(facts.spread), -30, 30)))
    return labels, sure.astype(np.float32)
