"""Hysteresis: a class keeps the weak pixels of its probability that hang together with a strong one (Canny, PAMI 1986).

Which weak pixels do is known only once all blocks of an image are there. Until then they are labels of their own: K plus the label
that the pixel has if it is not kept. `link_blocks` then finds the parts over all blocks; an image in memory is one block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as graph_components

from selfseg.core.errors import UsageError
from selfseg.refine.blocks import BlockParts, LabelArray

WEAK, STRONG = 1, 2


@dataclass(frozen=True)
class Hysteresis:
    """Two thresholds on the probability of one class.

    Attributes
    ----------
    low, high
        Pixels above `low` are weak, above `high` strong.
    label
        The class, 1..K; 0 = the last one, the brightest of a model that learned without labels.

    Examples
    --------
    >>> from selfseg.refine.hysteresis import Hysteresis
    >>> Hysteresis(low=0.3, high=0.7, label=2)
    Hysteresis(low=0.3, high=0.7, label=2)
    """

    low: float
    high: float
    label: int = 0

    def mark(self, probabilities: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> NDArray[np.integer]:
        """Return the label of each pixel ``[*S]`` of probabilities ``[K *S]``, where it is weak K plus its label without the class.

        0 where a pixel is not valid. A pixel that is not weak has the likeliest of the other classes. Raise `UsageError` if there is
        no such class, or no other.
        """
        n_classes, label = len(probabilities), self.of(len(probabilities))
        others = np.delete(np.arange(n_classes), label - 1)
        second = (others[np.argmax(probabilities[others], 0)] + 1).astype(np.min_scalar_type(2 * n_classes))
        own = probabilities[label - 1]
        marks = np.where(own > self.high, second.dtype.type(label), second)
        marks[(own > self.low) & (own <= self.high)] += second.dtype.type(n_classes)
        if valid is not None:
            marks[~valid] = 0
        return marks

    def of(self, n_classes: int) -> int:
        """Return the label of the class among `n_classes`; `UsageError` if there is no such class, or no other."""
        label = self.label or n_classes
        if n_classes < 2 or label > n_classes:
            raise UsageError(
                "hysteresis",
                expected=f"a class up to {n_classes} and at least two classes",
                got=f"class {label} of {n_classes}",
                fix="give another label, or a model with more classes",
            )
        return label

    def apply(self, probabilities: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Return probabilities ``[K *S]`` of a whole image after which the likeliest class is the one decided here.

        Where another class was the likeliest, it gives all that it has to the one that is decided.
        """
        labels = self.mark(probabilities, valid)
        link_blocks(labels, None, len(probabilities), self.of(len(probabilities)))
        wanted = np.maximum(labels.astype(np.intp), 1)[None] - 1
        likeliest = probabilities.argmax(0)[None]
        moving = (likeliest != wanted) & (labels > 0)
        refined = probabilities.copy()
        taken = np.where(moving, np.take_along_axis(refined, likeliest, 0), 0)
        np.put_along_axis(refined, wanted, np.take_along_axis(refined, wanted, 0) + taken, 0)
        np.put_along_axis(refined, likeliest, np.take_along_axis(refined, likeliest, 0) - taken, 0)
        return refined


class _Candidates:
    """Values of marks for `BlockParts`: 1 weak, 2 strong, 0 other; and its output: 1 where a weak pixel is kept."""

    def __init__(self, marks: LabelArray, n_classes: int, label: int) -> None:
        self._marks, self._n_classes, self._label = marks, n_classes, label
        self.shape, self.dtype = tuple(marks.shape), np.dtype(np.uint8)

    def __getitem__(self, region: Any) -> NDArray[np.uint8]:
        marks = np.asarray(self._marks[region])
        return np.where(marks == self._label, STRONG, np.where(marks > self._n_classes, WEAK, 0)).astype(np.uint8)

    def __setitem__(self, region: Any, kept: NDArray[np.uint8]) -> None:
        marks = np.asarray(self._marks[region])
        decided = np.where(kept > 0, self._label, marks - np.minimum(marks, self._n_classes))
        self._marks[region] = np.where(marks > self._n_classes, decided, marks).astype(marks.dtype)


def link_blocks(marks: LabelArray, sides: Sequence[int] | None, n_classes: int, label: int) -> None:
    """Decide the weak pixels of `Hysteresis.mark` in place, block by block: the result is that of the whole image at once.

    Parameters
    ----------
    marks
        ``[*S]``: a NumPy array, or one in a file. Weak pixels that hang together by faces with a strong one get the class.
    sides
        Sizes of a block, multiples of the array's chunks; None = the whole image is one block.
    n_classes
        K.
    label
        The class.
    """
    candidates = _Candidates(marks, n_classes, label)
    parts = BlockParts(candidates, sides, with_edges=True)
    graph = parts.graph
    n = len(graph.sizes)
    matrix = coo_array((np.ones(len(graph.edges), np.int8), graph.edges.T), shape=(n, n))
    count, group = graph_components(matrix, directed=False)
    strong = np.zeros(count, np.bool_)
    strong[group[graph.labels == STRONG]] = True
    parts.write(candidates, strong[group].astype(np.uint8))
