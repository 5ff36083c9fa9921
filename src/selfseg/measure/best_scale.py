"""The score at the best scale: one level for the whole dataset (ODS), or one for each image (OIS)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selfseg.core.errors import InputError
from selfseg.measure._table import Floats
from selfseg.measure.boundary import BoundaryCounts
from selfseg.measure.scales import ScaleScores


@dataclass(frozen=True)
class BestScale:
    """A score at the level that is best for the whole dataset (ODS) and at that which is best for each image (OIS).

    Attributes
    ----------
    ods, ois
        The two scores. Both choose the level by the truth: they are oracles.
    level
        The level of `ods`.
    best
        For the covering: each truth region takes its best level. For the boundary F: average precision. Else None.
    """

    ods: float
    ois: float
    level: float
    best: float | None = None


@dataclass(frozen=True)
class OdsOis:
    """Best-scale scores of a dataset; `boundary` is None where boundaries were not scored."""

    covering: BestScale
    rand: BestScale
    variation: BestScale
    boundary: BestScale | None


def ods_ois(images: Sequence[ScaleScores]) -> OdsOis:
    """Return the scores at the best level for all images, and at the best level of each, as in the Berkeley bench.

    Rand index and variation are means over images, coverings are pooled by area, boundary counts are summed. The best
    level is chosen for each measure on its own.

    Raises
    ------
    InputError
        If there is no image, or the images have different levels.
    """
    if not images:
        raise InputError("images", expected="at least one image", got="none", fix="score some images first")
    levels = images[0].levels
    for image in images:
        if not np.array_equal(image.levels, levels):
            got = f"{len(levels)} levels and {len(image.levels)} others"
            raise InputError("images", expected="the same levels for all", got=got, fix="score all at one list")
    area = sum(image.area for image in images)
    covered = np.stack([image.covered for image in images])
    best = sum(image.covered_best for image in images) / area
    covering = _best(covered.sum(0) / area, float(covered.max(1).sum()) / area, levels, best)
    rand = np.stack([image.rand for image in images])
    variation = np.stack([image.variation for image in images])
    return OdsOis(
        covering,
        _best(rand.mean(0), float(rand.max(1).mean()), levels),
        _best(-variation.mean(0), float(variation.min(1).mean()), levels, sign=-1.0),
        _best_boundary(images, levels),
    )


def _best(curve: Floats, ois: float, levels: Floats, best: float | None = None, sign: float = 1.0) -> BestScale:
    top = int(np.argmax(curve))
    return BestScale(sign * float(curve[top]), ois, float(levels[top]), best)


def _best_boundary(images: Sequence[ScaleScores], levels: Floats) -> BestScale | None:
    if not all(len(image.boundaries) == len(levels) for image in images):
        return None
    nothing = BoundaryCounts(0, 0, 0, 0)
    pooled = [sum((image.boundaries[k] for image in images), nothing) for k in range(len(levels))]
    chosen = sum((max(image.boundaries, key=lambda counts: counts.f) for image in images), nothing)
    recall, precision = np.array([c.recall for c in pooled]), np.array([c.precision for c in pooled])
    # Berkeley's area under the curve: precision is interpolated at 100 recalls, and is 0 outside the curve.
    order = np.argsort(recall, kind="stable")
    grid = np.linspace(0.0, 1.0, 101)
    area = float(np.interp(grid, recall[order], precision[order], left=0.0, right=0.0).sum() * 0.01)
    return _best(np.array([c.f for c in pooled]), chosen.f, levels, area)
