"""The region adjacency graph of an image larger than memory: added up block by block, linked where blocks touch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.regions.graph import RegionGraph, adjacency, face_areas, region_sums

MOST_REGIONS = 2**31 - 1
"""Regions that an edge can name."""


class BlockGraph:
    """Adds up regions that each lie within one block; those on both sides of a face between blocks are neighbours.

    The graph and the means are those of the whole image at once, up to the numbering. What is in memory are its edges, and one
    layer of pixels on the faces of the blocks that still wait for their next neighbour.

    Parameters
    ----------
    n_features
        Features of a pixel.
    spacing
        Size of a pixel along each axis: faces count by their area; None = 1.

    Attributes
    ----------
    n_regions
        Regions so far.
    """

    def __init__(self, n_features: int, spacing: Sequence[float] | None = None) -> None:
        self.n_regions = 0
        self._spacing = None if spacing is None else tuple(spacing)
        self._edges: list[NDArray[np.int64]] = []
        self._length: list[NDArray[np.float64]] = []
        self._total: list[NDArray[np.float64]] = []
        self._sizes: list[NDArray[np.int64]] = []
        self._sums: list[NDArray[np.float64]] = [np.zeros((0, n_features))]
        self._faces: dict[tuple[int, tuple[int, ...]], tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def add(
        self,
        place: Sequence[int],
        labels: NDArray[np.integer],
        features: NDArray[Any],
        strength: NDArray[Any],
        last: Sequence[bool],
    ) -> NDArray[np.int64]:
        """Take in a block; blocks come in row order of their places.

        Parameters
        ----------
        place
            Its place in the grid of blocks.
        labels
            ``[*s]`` regions 0..R-1 of this block, each in use, -1 = outside.
        features
            ``[*s D]``.
        strength
            ``[*s]`` boundary strength of each pixel.
        last
            Whether no block follows along each axis.

        Returns
        -------
        ndarray
            ``[*s]`` the numbers of the regions in the whole image, -1 = outside.

        Raises
        ------
        UsageError
            If there are more regions than can be numbered.
        """
        graph = adjacency(labels, strength, self._spacing)
        numbers = np.where(labels >= 0, labels.astype(np.int64) + self.n_regions, -1)
        self._put(graph.edges.astype(np.int64) + self.n_regions, graph.length, graph.strength * graph.length)
        self._sizes.append(graph.sizes)
        self._sums.append(region_sums(labels, features, graph.n_regions))
        self.n_regions += graph.n_regions
        if self.n_regions > MOST_REGIONS:
            fix = "use larger superpixels"
            raise UsageError("superpixels", expected=f"at most {MOST_REGIONS}", got="more", fix=fix)
        for axis, area in enumerate(face_areas(labels.ndim, self._spacing)):
            before = self._faces.pop((axis, tuple(place)), None)
            if before is not None:
                self._link(before, (_layer(numbers, axis, 0), _layer(strength, axis, 0)), area)
            if not last[axis]:
                after = tuple(n + (i == axis) for i, n in enumerate(place))
                self._faces[axis, after] = (_layer(numbers, axis, -1), _layer(strength, axis, -1).astype(np.float64))
        return numbers

    def _put(self, edges: NDArray[np.int64], length: NDArray[np.float64], total: NDArray[np.float64]) -> None:
        self._edges.append(edges)
        self._length.append(length)
        self._total.append(total)

    def _link(
        self, there: tuple[NDArray[Any], NDArray[Any]], here: tuple[NDArray[Any], NDArray[Any]], area: float
    ) -> None:
        """Join the regions that touch across a face; a region before it has the smaller number."""
        both = (there[0] >= 0) & (here[0] >= 0)
        pairs = np.stack([there[0][both], here[0][both]], -1)
        strength = (there[1][both] + here[1][both]) * (area / 2)
        edges, which = np.unique(pairs, axis=0, return_inverse=True)
        which = which.reshape(-1)
        length = np.bincount(which, minlength=len(edges)) * area
        total: NDArray[np.float64] = np.bincount(which, strength, len(edges)).astype(np.float64)
        self._put(edges, length.astype(np.float64), total)

    def finish(self) -> tuple[RegionGraph, NDArray[np.float64]]:
        """Return the graph of all regions, and their mean features ``[R D]``."""
        edges = np.concatenate([np.zeros((0, 2), np.int64), *self._edges]).astype(np.int32)
        length, total = (np.concatenate([np.zeros(0), *parts]) for parts in (self._length, self._total))
        order = np.lexsort((edges[:, 1], edges[:, 0]))
        sizes = np.concatenate([np.zeros(0, np.int64), *self._sizes])
        graph = RegionGraph(edges[order], length[order], (total / np.maximum(length, 1e-300))[order], sizes)
        return graph, np.concatenate(self._sums) / np.maximum(sizes, 1)[:, None]


def _layer(values: NDArray[Any], axis: int, at: int) -> NDArray[Any]:
    """Return the pixels of the first (0) or last (-1) layer along an axis, flat."""
    return np.take(values, at, axis).ravel()
