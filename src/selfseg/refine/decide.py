"""From class probabilities to labels: summing clusters to classes, deciding, and cleaning what is too small."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as graph_components

from selfseg.core.classes import IGNORE, ClassTable
from selfseg.core.errors import UsageError
from selfseg.core.progress import Progress, Silent
from selfseg.core.steps import Bounds, Parameter, StepKind, parse_calls
from selfseg.refine.blocks import BlockParts, LabelArray, PartGraph


def class_probabilities(clusters: NDArray[np.float32], table: ClassTable) -> NDArray[np.float32]:
    """Sum the probabilities ``[R *S]`` of the clusters of each class: ``[K *S]``, channel k belongs to label k + 1."""
    if all(len(item.sources) == 1 for item in table.classes):
        return clusters[[item.sources[0] for item in table.classes]]
    return np.stack([clusters[list(item.sources)].sum(0) for item in table.classes])


def decide(probabilities: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> NDArray[np.integer]:
    """Return the label of the most likely class, 1..K, and 0 where a pixel is not valid; ties go to the smaller label.

    The type is the smallest unsigned integer that holds K.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.refine.decide import decide
    >>> classes = np.zeros((2, 8, 8), np.float32)
    >>> classes[0, :, :4] = classes[1, :, 4:] = 0.8
    >>> classes[1, :, :4] = classes[0, :, 4:] = 0.2
    >>> decide(classes)[0]
    array([1, 1, 1, 1, 2, 2, 2, 2], dtype=uint8)
    """
    kind = np.min_scalar_type(len(probabilities))
    labels = np.ones(probabilities.shape[1:], kind)
    most = np.array(probabilities[0])
    for label, channel in enumerate(probabilities[1:], 2):  # channel by channel: argmax over a first axis is slow
        labels[channel > most] = label
        np.maximum(most, channel, out=most)
    if valid is not None:
        labels[~valid] = IGNORE
    return labels


SIZE = (Parameter("size", Bounds(0, whole=True), meaning="pixels"),)
KINDS = {
    "objects": StepKind("objects", "remove connected parts of fewer pixels", SIZE),
    "holes": StepKind("holes", "fill holes of fewer pixels", SIZE),
}


@dataclass(frozen=True)
class Cleaning:
    """Least sizes of objects and holes.

    Examples
    --------
    >>> from selfseg.refine.decide import Cleaning
    >>> Cleaning.parse("objects:200,holes:100")
    Cleaning(holes=100, objects=200)
    """

    holes: int = 0
    """Holes of fewer pixels are given to what surrounds them."""
    objects: int = 0
    """Connected parts of a class of fewer pixels are given to the neighbour with the longest common boundary."""

    @classmethod
    def parse(cls, text: str | None) -> "Cleaning":
        """Make a cleaning out of ``"objects(200), holes(100)"`` or ``"objects:200,holes:100"`` (`core.steps`).

        None, an empty text and ``none`` clean nothing; another text raises `UsageError`.
        """
        calls = parse_calls(text, KINDS, "clean")
        if len({call.name for call in calls}) < len(calls):
            raise UsageError(
                "clean", expected="each step once", got=repr(text), fix="give one size for objects, one for holes"
            )
        return cls(**{call.name: int(call.number("size")) for call in calls})

    def __str__(self) -> str:
        parts = [f"objects:{self.objects}"] * (self.objects > 0) + [f"holes:{self.holes}"] * (self.holes > 0)
        return ",".join(parts) or "none"

    def apply(self, labels: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return clean labels ``[*S]``, 2D or 3D: first holes are filled, then small parts go. 0 (ignore) stays where it is.

        A hole is a part with one neighbour that touches neither the border of the image nor an ignored pixel. Small parts that
        join each other are judged by their new size in the next round, until none is left; one without neighbours stays.
        """
        if not self.holes and not self.objects:
            return labels
        cleaned = labels.copy()
        clean_blocks(cleaned, None, self)
        return cleaned


def clean_blocks(
    labels: LabelArray, sides: Sequence[int] | None, cleaning: Cleaning, progress: Progress | None = None
) -> None:
    """Clean the labels of an image in place, block by block. The result is that of the whole image at once.

    In memory are a block, faces of blocks, and the graph of the connected parts: some integers a part and a pair of neighbours.

    Parameters
    ----------
    labels
        Class ids ``[*S]``, 0 = ignore: a NumPy array, or one in a file.
    sides
        Sizes of a block, multiples of the array's chunks; None = the whole image is one block.
    cleaning
        What goes.
    progress
        Progress reporter, in two visits of each block.
    """
    if not cleaning.holes and not cleaning.objects:
        return
    progress = progress or Silent()
    shape = tuple(labels.shape)
    n_blocks = int(np.prod([-(-n // side) for n, side in zip(shape, sides or shape, strict=True)]))
    progress.start("cleaning (blocks)", 2 * n_blocks)
    try:
        parts = BlockParts(labels, sides, with_edges=True, tick=lambda done: progress.update(done, {}))
        values = _clean_graph(parts.graph, cleaning)
        parts.write(labels, values, lambda done: progress.update(n_blocks + done, {}))
    finally:
        progress.finish()


def _clean_graph(graph: PartGraph, cleaning: Cleaning) -> NDArray[np.int64]:
    """Return the label of each part ``[R]`` after cleaning."""
    owner = np.arange(len(graph.sizes))
    for step, size in ((_fill_holes, cleaning.holes), (_absorb_small, cleaning.objects)):
        while size and (change := step(graph, size)):
            graph, joined = graph.contract(*change)
            owner = joined[owner]
    return graph.labels[owner]


def _fill_holes(graph: PartGraph, max_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return links of the holes that have no hole in them with what surrounds them, and the new labels; None = no hole."""
    both = np.concatenate([graph.edges, graph.edges[:, ::-1]])
    around = np.zeros(len(graph.sizes), np.int64)
    around[both[:, 0]] = both[:, 1]
    hole = (np.bincount(both[:, 0], minlength=len(around)) == 1) & (graph.sizes < max_size) & ~graph.is_open
    if not hole.any():
        return None
    return np.stack([np.flatnonzero(hole), around[hole]], axis=1), np.where(hole, graph.labels[around], graph.labels)


def _absorb_small(graph: PartGraph, min_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return links of parts that join one neighbour each, if they are small, and the new labels; None = no such part."""
    sizes, n_parts = graph.sizes, len(graph.sizes)
    small = sizes < min_size
    both, lengths = np.concatenate([graph.edges, graph.edges[:, ::-1]]), np.tile(graph.lengths, 2)
    source, target = both[small[both[:, 0]]].T
    # The longest shared boundary wins, then the larger neighbour, then the first in the image.
    order = np.lexsort((target, -sizes[target], -lengths[small[both[:, 0]]], source))
    moving, first = np.unique(source[order], return_index=True)
    if not len(moving):
        return None
    links = np.stack([moving, target[order[first]]], axis=1)
    ones: NDArray[Any] = np.ones(len(links), np.int8)
    count, joined = graph_components(coo_array((ones, links.T), shape=(n_parts, n_parts)), directed=False)
    # What has joined takes the label of its one member that did not move, or else of its largest.
    stays = ~np.isin(np.arange(n_parts), moving)
    rank = np.lexsort((-np.arange(n_parts), sizes, stays))
    winner = np.empty(count, np.int64)
    winner[joined[rank]] = rank
    labels = graph.labels[winner[joined]]
    alike = labels[graph.edges[:, 0]] == labels[graph.edges[:, 1]]
    return np.concatenate([links, graph.edges[alike]]), labels
