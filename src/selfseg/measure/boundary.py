"""Boundary precision, recall and F, with a distance tolerance and one-to-one matching as in the Berkeley bench."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfseg.measure._table import Floats, Labels, Truths, as_truths, check_labels

TOLERANCE = 0.0075
"""Matching distance of the Berkeley bench, as a share of the image diagonal."""


@dataclass(frozen=True)
class BoundaryCounts:
    """Boundary pixels and matches; those of several images are added, then divided.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import boundary_counts
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> counts = boundary_counts(truth, [truth])
    >>> counts.precision, counts.recall, counts.f
    (1.0, 1.0, 1.0)
    """

    matched_labels: int
    of_labels: int
    """Boundary pixels of the segmentation: those matched by at least one annotator, and all."""
    matched_truth: int
    of_truth: int
    """Boundary pixels of the truth: matched, and all, both summed over annotators."""

    def __add__(self, other: "BoundaryCounts") -> "BoundaryCounts":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return BoundaryCounts(*(one + two for one, two in pairs))

    @property
    def precision(self) -> float:
        """Share of the segmentation's boundary that is true; without any: 1 if the truth has none either, else 0."""
        return self.matched_labels / self.of_labels if self.of_labels else float(self.of_truth == 0)

    @property
    def recall(self) -> float:
        """Share of the true boundary that was found; without any: 1 if the segmentation has none either, else 0."""
        return self.matched_truth / self.of_truth if self.of_truth else float(self.of_labels == 0)

    @property
    def f(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2.0 * self.precision * self.recall / both if both else 0.0


def boundary_map(labels: ArrayLike) -> NDArray[np.bool_]:
    """Return where a region ends: pixels that differ from a neighbour ahead (right, below, below right), thinned in 2D.

    In 2D this gives Berkeley's stored boundary maps exactly. In other dimensions there is no thinning: it would turn
    surfaces into lines. There the map is one voxel thick except at corners.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import boundary_map
    >>> boundary_map(np.array([[1, 1, 2], [1, 1, 2]])).astype(int)
    array([[0, 1, 0],
           [0, 1, 0]])
    """
    array = check_labels(labels, "labels")
    edge = np.zeros(array.shape, bool)
    for step in product((0, 1), repeat=array.ndim):
        here = tuple(slice(0, n - s) for n, s in zip(array.shape, step, strict=True))
        ahead = tuple(slice(s, None) for s in step)
        edge[here] |= array[here] != array[ahead]
    if array.ndim != 2:
        return edge
    # Imported here: scikit-image is slow to import and most measures do without.
    from skimage.morphology import thin

    thinned: NDArray[np.bool_] = thin(edge)
    return thinned


def boundary_counts(
    labels: ArrayLike,
    truths: Truths,
    tolerance: float = TOLERANCE,
    ignore: int | None = None,
    spacing: Sequence[float] | None = None,
) -> BoundaryCounts:
    """Match the boundary of a segmentation with that of each annotator (Martin, Fowlkes & Malik 2004).

    A pixel of the segmentation counts as true if any annotator's boundary matches it; each annotator's boundary counts
    in the recall. Each matching is one-to-one, of boundary pixels at most the tolerance apart, and has as many pairs as
    can be (exact). The bench minimises distance plus 100 tolerances for each unmatched pixel (CSA, on integer costs
    with random outlier links). That too has as many pairs as can be, but for rounding, and may choose other pixels
    where several choices are equally many: recall should be the bench's, and precision, which counts pixels matched by
    any annotator, may differ a little.

    Parameters
    ----------
    labels
        Integer array ``[*S]``.
    truths
        One annotator ``[*S]``, or several: a sequence, or an array ``[A *S]``.
    tolerance
        Largest distance of a match, as a share of the diagonal of the image.
    ignore
        Truth value of pixels to leave out; boundaries on or next to them do not count, on either side.
    spacing
        Size of a pixel along each axis, for distance and diagonal alike; None = 1.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import boundary_counts
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> boundary_counts(truth, [truth]).f
    1.0
    """
    segmentation = check_labels(labels, "labels")
    scale = np.ones(segmentation.ndim) if spacing is None else np.asarray(spacing, np.float64)
    distance = tolerance * float(np.linalg.norm(np.array(segmentation.shape) * scale))
    edge = boundary_map(segmentation)
    ever_counted, ever_matched = np.zeros(edge.shape, bool), np.zeros(edge.shape, bool)
    found = total = 0
    for truth in as_truths(truths, segmentation.shape):
        counts = _counted(truth, ignore)
        ours, theirs = np.nonzero(edge & counts), np.nonzero(boundary_map(truth) & counts)
        matched = match_points(np.stack(ours, 1) * scale, np.stack(theirs, 1) * scale, distance)
        ever_counted |= counts
        ever_matched[tuple(axis[matched >= 0] for axis in ours)] = True
        found, total = found + int((matched >= 0).sum()), total + len(theirs[0])
    return BoundaryCounts(int(ever_matched.sum()), int((edge & ever_counted).sum()), found, total)


def boundary_f(labels: ArrayLike, truths: Truths, tolerance: float = TOLERANCE, ignore: int | None = None) -> float:
    """Return the boundary F measure of one image (see `boundary_counts`).

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.measure import boundary_f
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> labels = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
    >>> round(boundary_f(labels, [truth, labels]), 4)
    0.6667
    """
    return boundary_counts(labels, truths, tolerance, ignore).f


def match_points(first: Floats, second: Floats, distance: float) -> NDArray[np.int64]:
    """Return, for each point of `first`, the point of `second` that it is paired with, or -1: ``[N]``.

    The pairing is one-to-one, its pairs are at most `distance` apart, and no pairing has more pairs.

    Parameters
    ----------
    first, second
        ``[N D]``, ``[M D]`` coordinates.
    distance
        Largest distance of a pair, in the unit of the coordinates.
    """
    from scipy.spatial import KDTree

    # numba is slow to import and only this measure needs it.
    from selfseg.measure._matching import largest_matching

    if len(first) == 0 or len(second) == 0:
        return np.full(len(first), -1, np.int64)
    near = KDTree(first).sparse_distance_matrix(KDTree(second), distance, output_type="ndarray")
    # Nearest pairs first: among equally large matchings that tends to the nearer one. Ties go by position.
    order = np.lexsort((near["j"], near["i"], near["v"]))
    ends = near["i"][order].astype(np.int64), near["j"][order].astype(np.int64)
    return largest_matching(*ends, len(first), len(second))


def _counted(truth: Labels, ignore: int | None) -> NDArray[np.bool_]:
    if ignore is None or not (truth == ignore).any():
        return np.ones(truth.shape, bool)
    from scipy.ndimage import binary_dilation

    blind: NDArray[np.bool_] = binary_dilation(truth == ignore, np.ones((3,) * truth.ndim, np.bool_))
    return ~blind
