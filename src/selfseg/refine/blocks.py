"""Connected parts of a label image in blocks: found block by block, linked where blocks touch, and numbered as in the whole image."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as graph_components

from selfseg.regions.graph import adjacency, connected_components
from selfseg.tiling.tiles import Grid, Region

NO_PART, NO_PAIR = np.zeros(0, np.int64), np.zeros((0, 2), np.int64)

Tick = Callable[[int], None]


class LabelArray(Protocol):
    """An array in memory or in a file (NumPy, zarr, HDF5), read and written region by region."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its axes."""

    @property
    def dtype(self) -> Any:
        """Type of its values."""

    def __getitem__(self, region: Any) -> Any: ...

    def __setitem__(self, region: Any, values: Any) -> None: ...


class Faces:
    """The last layers of blocks, kept until the next block along each axis comes. Blocks come in row order of their places."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, tuple[int, ...]], list[NDArray[Any]]] = {}

    def meet(
        self, place: Sequence[int], last: Sequence[bool], *values: NDArray[Any]
    ) -> list[tuple[int, list[NDArray[Any]], list[NDArray[Any]]]]:
        """Return what lies on both sides of the faces between a block at a place of the grid and those before it.

        `last` is True if no block follows along each axis. For each axis with a block before this one: the axis, and `values`
        ``[*s]`` before and behind the face, flat.
        """
        met = []
        for axis, ends in enumerate(last):
            before = self._kept.pop((axis, tuple(place)), None)
            if before is not None:
                met.append((axis, before, [np.take(value, 0, axis).ravel() for value in values]))
            if not ends:
                after = tuple(n + (i == axis) for i, n in enumerate(place))
                self._kept[axis, after] = [np.take(value, -1, axis).ravel() for value in values]
        return met


@dataclass(frozen=True)
class PartGraph:
    """Connected parts of equal label, and which of them touch."""

    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    first: NDArray[np.int64]
    """``[R]`` label, number of pixels, and flat number of the first pixel of each part."""
    is_open: NDArray[np.bool_]
    """``[R]``: the part touches the border of the image, or a pixel that takes no part."""
    edges: NDArray[np.int64]
    lengths: NDArray[np.int64]
    """``[E 2]`` parts that share a face, and ``[E]`` the number of such faces."""

    def contract(
        self, links: NDArray[np.int64], labels: NDArray[np.int64] | None = None
    ) -> tuple["PartGraph", NDArray[np.int64]]:
        """Join the parts of each pair of `links` ``[L 2]``, which have equal `labels` ``[R]`` (None = as they are).

        Return the graph of joined parts, in the order of their first pixels, and ``[R]``, to which of them each part belongs.
        """
        n = len(self.sizes)
        matrix = coo_array((np.ones(len(links), np.int8), links.T), shape=(n, n))
        count, component = graph_components(matrix, directed=False)
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, component, self.first)
        number = np.empty(count, np.int64)
        number[np.argsort(first)] = np.arange(count)
        joined = number[component]
        sizes, is_open, new_labels = np.zeros(count, np.int64), np.zeros(count, np.bool_), np.zeros(count, np.int64)
        np.add.at(sizes, joined, self.sizes)
        np.logical_or.at(is_open, joined, self.is_open)
        new_labels[joined] = self.labels if labels is None else labels
        edges = np.sort(joined[self.edges], axis=1)
        apart = edges[:, 0] != edges[:, 1]
        keys, which = np.unique(edges[apart, 0] * count + edges[apart, 1], return_inverse=True)
        lengths = np.zeros(len(keys), np.int64)
        np.add.at(lengths, which, self.lengths[apart])
        pairs = np.stack(np.divmod(keys, max(count, 1)), axis=1)
        return PartGraph(new_labels, sizes, np.sort(first), is_open, pairs, lengths), joined


@dataclass
class _Found:
    """Lists of what the blocks hold, block by block."""

    columns: list[tuple[NDArray[np.int64], ...]] = field(default_factory=lambda: [(NO_PART,) * 3])
    edges: list[NDArray[np.int64]] = field(default_factory=lambda: [NO_PAIR])
    lengths: list[NDArray[np.int64]] = field(default_factory=lambda: [NO_PART])
    links: list[NDArray[np.int64]] = field(default_factory=lambda: [NO_PAIR])
    opened: list[NDArray[np.int64]] = field(default_factory=lambda: [NO_PART])


class BlockParts:
    """The connected parts of a label image, wherever blocks cut them.

    In memory are a block, the faces of those blocks that wait for their next neighbour, and the graph.

    Parameters
    ----------
    labels
        ``[*S]`` integers, 2D or 3D.
    sides
        Sizes of a block; None = the whole image is one block.
    classes
        Labels whose parts are found; None = all. 0 and less takes no part.
    with_edges
        Find out as well which parts touch, and which are open.
    tick
        Called with the number of blocks that are done.
    """

    graph: PartGraph
    """The parts of the whole image, in the order of their first pixels."""
    owner: NDArray[np.int64]
    """``[P]`` part of the whole image for each part of a block."""

    def __init__(
        self,
        labels: LabelArray,
        sides: Sequence[int] | None = None,
        classes: Sequence[int] | None = None,
        with_edges: bool = False,
        tick: Tick | None = None,
    ) -> None:
        shape = tuple(labels.shape)
        self.grid = Grid(shape, shape if sides is None else tuple(sides), 0)
        self._labels, self._classes, self._with_edges = labels, classes, with_edges
        self._ends: list[int] = [0]
        found, faces = _Found(), Faces()
        for done, (place, core) in enumerate(self._cores(), 1):
            block, parts = self._read(core)
            self._add(place, core, block, parts, found, faces)
            if tick is not None:
                tick(done)
        part_labels, sizes, first = (np.concatenate(column) for column in zip(*found.columns, strict=True))
        is_open = np.zeros(self._ends[-1], np.bool_)
        is_open[np.concatenate(found.opened)] = True
        edges, lengths = np.concatenate(found.edges), np.concatenate(found.lengths)
        raw = PartGraph(part_labels, sizes, first, is_open, edges, lengths)
        self.graph, self.owner = raw.contract(np.concatenate(found.links))

    def write(self, out: LabelArray, values: NDArray[Any], tick: Tick | None = None) -> None:
        """Write the value of each part of the whole image ``[R]``, and 0 outside, into `out`, which may be the labels themselves."""
        ends = itertools.pairwise(self._ends)
        for done, ((_, core), (start, stop)) in enumerate(zip(self._cores(), ends, strict=True), 1):
            _, parts = self._read(core)
            out[core] = np.append(values[self.owner[start:stop]], 0).astype(out.dtype)[parts]
            if tick is not None:
                tick(done)

    def _cores(self) -> Iterator[tuple[tuple[int, ...], Region]]:
        return ((place, self.grid.tile(place).core) for place in self.grid.places())

    def _read(self, core: Region) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the labels of a block, -1 = takes no part, and its parts 0, 1, 2, ... in the order of their first pixels."""
        block = np.asarray(self._labels[core])
        inside = block > 0 if self._classes is None else (block > 0) & np.isin(block, list(self._classes))
        chosen = np.where(inside, block.astype(np.int64), -1)
        return chosen, connected_components(chosen)

    def _add(
        self,
        place: tuple[int, ...],
        core: Region,
        block: NDArray[np.int64],
        parts: NDArray[np.int32],
        found: _Found,
        faces: Faces,
    ) -> None:
        before, flat = self._ends[-1], parts.ravel()
        # each part has a number above all before it
        first = np.flatnonzero(np.diff(np.maximum.accumulate(np.append(-1, flat))))
        pixels = [i + edge.start for i, edge in zip(np.unravel_index(first, block.shape), core, strict=True)]
        sizes = np.bincount(flat[flat >= 0], minlength=len(first)).astype(np.int64)
        places = np.ravel_multi_index(pixels, self.grid.shape).astype(np.int64)
        found.columns.append((block.ravel()[first], sizes, places))
        self._ends.append(before + len(first))
        numbers = np.where(parts >= 0, parts.astype(np.int64) + before, -1)
        if self._with_edges:
            graph = adjacency(parts)
            found.edges.append(graph.edges.astype(np.int64) + before)
            found.lengths.append(graph.length.astype(np.int64))
            found.opened.append(_opened(numbers, core, self.grid.shape))
        last = [edge.stop == n for edge, n in zip(core, self.grid.shape, strict=True)]
        for _, (there, label), (here, own) in faces.meet(place, last, numbers, block):
            both = (there >= 0) & (here >= 0)
            same = both & (label == own)
            found.links.append(np.unique(np.stack([there[same], here[same]], axis=1), axis=0))
            if self._with_edges:
                pairs = np.stack([there, here], axis=1)
                edges, lengths = np.unique(pairs[both & ~same], axis=0, return_counts=True)
                found.edges.append(edges)
                found.lengths.append(lengths.astype(np.int64))
                found.opened.append(np.unique(pairs[(there >= 0) != (here >= 0)].max(axis=1)))


def _opened(numbers: NDArray[np.int64], core: Region, shape: Sequence[int]) -> NDArray[np.int64]:
    """Return the parts of a block at the border of the image, or beside a pixel of the block that takes no part."""
    found = []
    for axis, (edge, n) in enumerate(zip(core, shape, strict=True)):
        lines = np.moveaxis(numbers, axis, 0)
        found += [lines[:1]] * (edge.start == 0) + [lines[-1:]] * (edge.stop == n)
        found += [lines[1:][lines[:-1] < 0], lines[:-1][lines[1:] < 0]]
    every = np.unique(np.concatenate([numbers[:0].ravel(), *(part.ravel() for part in found)]))
    return every[every >= 0]
