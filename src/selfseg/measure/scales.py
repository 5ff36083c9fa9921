"""Scores over scales: every level of a merge tree or of a list, and the best for a dataset (ODS) or each image (OIS)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfseg.core.errors import InputError
from selfseg.measure._table import Counts, Floats, Labels, Table, Truths, check_labels, contingencies
from selfseg.measure.boundary import BoundaryCounts, boundary_counts
from selfseg.measure.overlap import best_ious
from selfseg.measure.partition import information_scores, pair_scores


@dataclass(frozen=True)
class ScaleScores:
    """Scores of one image at every level.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import list_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> list_scores([labels, truth], [truth]).n_regions.tolist()
    [2, 2]
    """

    levels: Floats
    """``[L]`` the levels as they were given."""
    n_regions: Counts
    """``[L]`` regions with pixels that count."""
    rand: Floats
    variation: Floats
    """``[L]`` probabilistic Rand index, and variation of information in bits: means over annotators."""
    covered: Floats
    """``[L]`` sum over all truth regions of area x best IoU."""
    covered_best: float
    """The same sum where each truth region takes its best level."""
    area: float
    """Pixels times annotators: `covered` over `area` is the covering."""
    boundaries: tuple[BoundaryCounts, ...] = ()
    """Boundary counts of each level; empty where they were not asked for."""

    @property
    def covering(self) -> Floats:
        """Covering at each level: ``[L]``."""
        return self.covered / self.area


def tree_scores(
    superpixels: ArrayLike,
    parents: ArrayLike,
    altitudes: ArrayLike,
    truths: Truths,
    levels: ArrayLike,
    by: Literal["altitude", "regions"] = "altitude",
    ignore: int | None = None,
    boundaries: bool = False,
) -> ScaleScores:
    """Score every level of a merge tree. Pixels are counted once: tables of coarser levels are sums of finer ones.

    Parameters
    ----------
    superpixels
        ``[*S]`` integers 0..R-1; pixels at -1 lie outside the tree and are one region of their own at every level.
    parents
        ``[2R-1]`` parent of each node, above the node's own index; the root, the last, is its own. Leaves come first.
    altitudes
        ``[2R-1]``, not falling from a node to its parent.
    truths
        One annotator ``[*S]``, or several: a sequence, or an array ``[A *S]``.
    levels
        ``[L]`` altitudes at or below which everything is merged, or numbers of regions (see `by`).
    by
        ``"altitude"``, or ``"regions"``: the lowest merges are done until that number of regions is left (at most R).
    ignore
        Truth value of pixels to leave out.
    boundaries
        Match boundaries too. That looks at the pixels of every level, and is much slower.

    Raises
    ------
    InputError
        As in `contingency`; also if the tree does not fit the superpixels or is not a tree.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import tree_scores
    >>> superpixels = np.array([[0, 0, 1, 2]])
    >>> scores = tree_scores(superpixels, [3, 3, 4, 4, 4], [0, 0, 0, 0.1, 0.5], [superpixels > 1], levels=[0, 0.2, 1])
    >>> scores.n_regions.tolist(), scores.covering.round(3).tolist()
    ([3, 2, 1], [0.75, 1.0, 0.625])
    """
    pixels = check_labels(superpixels, "superpixels")
    up, heights = _check_tree(pixels, np.asarray(parents), np.asarray(altitudes))
    asked = np.atleast_1d(np.asarray(levels, np.float64))
    finest_first = np.argsort(asked if by == "altitude" else -asked, kind="stable")
    tables = contingencies(pixels, truths, ignore)
    gather = _Gather(tables, asked)
    for k in finest_first:
        # The last entry, which -1 finds, is the region outside the tree.
        top = np.append(_tops(up, _merged(heights, asked[k], by)), len(up))
        tables = [table.regrouped(top[table.row_labels]) for table in tables]
        gather.add(int(k), tables)
        if boundaries:
            gather.boundaries[int(k)] = boundary_counts(top[pixels], truths, ignore=ignore)
    return gather.scores()


def list_scores(
    segmentations: Iterable[ArrayLike],
    truths: Truths,
    levels: ArrayLike | None = None,
    ignore: int | None = None,
    boundaries: bool = False,
) -> ScaleScores:
    """Score a list of segmentations of one image, for example by one method at several scales. See `tree_scores` for the other arguments.

    Parameters
    ----------
    segmentations
        Integer arrays ``[*S]``, in the same order for every image. They may come one by one from a generator.
    levels
        ``[L]`` what to call the segmentations; None = 0, 1, ...

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import list_scores
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> scores = list_scores([labels, truth], [truth])
    >>> scores.covering.round(3).tolist()
    [0.583, 1.0]
    """
    gather: _Gather | None = None
    for k, labels in enumerate(segmentations):
        tables = contingencies(labels, truths, ignore)
        gather = gather or _Gather(tables, np.zeros(0))
        gather.add(k, tables)
        if boundaries:
            gather.boundaries[k] = boundary_counts(labels, truths, ignore=ignore)
    if gather is None:
        raise InputError("segmentations", expected="at least one", got="none", fix="give a list of label arrays")
    n = len(gather.rows)
    gather.levels = np.arange(n, dtype=np.float64) if levels is None else np.asarray(levels, np.float64)
    if gather.levels.shape != (n,):
        raise InputError(
            "levels",
            expected="one for each segmentation",
            got=f"levels of shape {gather.levels.shape} and {n} segmentations",
            fix="leave them out or match them",
        )
    return gather.scores()


@dataclass(frozen=True)
class BestScale:
    """A score at the level that is best for the whole dataset (ODS) and at that which is best for each image (OIS).

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import list_scores, ods_ois
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> ods_ois([list_scores([labels, truth], [truth])]).covering.level
    1.0
    """

    ods: float
    ois: float
    """The two scores. Both choose the level by the truth: they are oracles."""
    level: float
    """The level of `ods`."""
    best: float | None = None
    """For the covering: each truth region takes its best level. For the boundary F: average precision. Else None."""


@dataclass(frozen=True)
class OdsOis:
    """Best-scale scores of a dataset; `boundary` is None where boundaries were not scored.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import list_scores, ods_ois
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> round(ods_ois([list_scores([labels, truth], [truth])]).variation.ods, 3)
    0.0
    """

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

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import list_scores, ods_ois
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> best = ods_ois([list_scores([labels, truth], [truth]), list_scores([truth, labels], [truth])])
    >>> round(best.covering.ods, 3), round(best.covering.ois, 3)
    (0.792, 1.0)
    """
    if not images:
        raise InputError("images", expected="at least one image", got="none", fix="score some images first")
    levels = images[0].levels
    for image in images:
        if not np.array_equal(image.levels, levels):
            raise InputError(
                "images",
                expected="the same levels for all",
                got=f"{len(levels)} levels and {len(image.levels)} others",
                fix="score all at one list",
            )
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


class _Gather:
    """Collect the scores of the levels of one image, in whatever order they come."""

    def __init__(self, tables: Sequence[Table], levels: Floats) -> None:
        self.levels = levels
        self.rows: dict[int, tuple[float, float, float, float]] = {}
        self.boundaries: dict[int, BoundaryCounts] = {}
        self.areas = [table.column_sums for table in tables]
        self.best = [np.zeros(len(area)) for area in self.areas]

    def add(self, index: int, tables: Sequence[Table]) -> None:
        """Score one level: one table an annotator."""
        ious = [best_ious(table) for table in tables]
        self.best = [np.maximum(old, new) for old, new in zip(self.best, ious, strict=True)]
        covered = sum(float(area @ iou) for area, iou in zip(self.areas, ious, strict=True))
        rand = np.mean([pair_scores(table).rand for table in tables])
        bits = [information_scores(table) for table in tables]
        variation = np.mean([score.split + score.merge for score in bits])
        n_regions = max(len(table.row_labels) for table in tables)
        self.rows[index] = (n_regions, float(rand), float(variation), covered)

    def scores(self) -> ScaleScores:
        """Return what was collected, in the order of the levels."""
        n, rand, variation, covered = np.array([self.rows[k] for k in sorted(self.rows)]).reshape(-1, 4).T
        best = sum(float(area @ iou) for area, iou in zip(self.areas, self.best, strict=True))
        boundaries = tuple(self.boundaries[k] for k in sorted(self.boundaries))
        area = float(sum(areas.sum() for areas in self.areas))
        return ScaleScores(self.levels, n.astype(np.int64), rand, variation, covered, best, area, boundaries)


def _check_tree(
    superpixels: Labels, parents: NDArray[np.integer], altitudes: NDArray[np.floating]
) -> tuple[NDArray[np.intp], Floats]:
    """Return parents and altitudes as arrays of one type if they are a tree over the superpixels, else raise."""
    n = len(parents)
    if parents.ndim != 1 or altitudes.shape != parents.shape or n % 2 == 0:
        raise InputError(
            "parents and altitudes",
            expected="2R-1 values each",
            got=f"shapes {parents.shape} and {altitudes.shape}",
            fix="check the tree",
        )
    leaves = (n + 1) // 2
    low, high = int(superpixels.min()), int(superpixels.max())
    if low < -1 or high >= leaves:
        raise InputError(
            "superpixels",
            expected=f"values up to {leaves - 1}, as in the tree",
            got=f"values from {low} to {high}",
            fix="relabel",
        )
    nodes = np.arange(n)
    if parents[-1] != n - 1 or (parents[:-1] <= nodes[:-1]).any() or (parents >= n).any():
        raise InputError(
            "parents",
            expected="larger indices than the node's",
            got="a parent that does not lie above its child",
            fix="sort the nodes",
        )
    if not (altitudes[parents] >= altitudes).all():
        raise InputError(
            "altitudes", expected="no fall towards the root", got="a parent below its child", fix="make them monotone"
        )
    return parents.astype(np.intp), altitudes.astype(np.float64)


def _merged(altitudes: Floats, level: float, by: str) -> NDArray[np.bool_]:
    """Return which nodes are merged at a level: ``[2R-1]``, False for leaves."""
    leaves = (len(altitudes) + 1) // 2
    merged = np.zeros(len(altitudes), bool)
    if by == "altitude":
        merged[leaves:] = altitudes[leaves:] <= level
        return merged
    order = leaves + np.argsort(altitudes[leaves:], kind="stable")
    merged[order[: leaves - max(1, int(level))]] = True
    return merged


def _tops(parents: NDArray[np.intp], merged: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return, for each node, the highest merged node above it (or itself), by doubling jumps: ``[2R-1]``."""
    jump = np.where(merged[parents], parents, np.arange(len(parents)))
    while True:
        further = jump[jump]
        if np.array_equal(further, jump):
            return jump
        jump = further
