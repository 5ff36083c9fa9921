"""Connected components of an image larger than memory: found block by block, linked where blocks touch."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as graph_components

from selfseg.core.errors import UsageError
from selfseg.regions.connect import connected_components
from selfseg.tiling.tiles import Grid, Region


class StoredLabels(Protocol):
    """An array in a file (zarr, HDF5) or in memory, read and written region by region."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its axes."""

    def __getitem__(self, region: Any) -> Any: ...

    def __setitem__(self, region: Any, values: Any) -> None: ...


def link_components(
    labels: StoredLabels,
    out: StoredLabels,
    sides: Sequence[int],
    classes: Sequence[int] | None = None,
    min_size: int = 1,
    tick: Callable[[int], None] | None = None,
) -> int:
    """Number the parts of equal label that hang together by faces, wherever blocks cut them.

    Two passes over the blocks: the first numbers the components of each block and notes which of them touch across a face;
    the second writes the numbers of the linked ones. The partition is that of the whole image at once.

    Parameters
    ----------
    labels
        Class ids ``[*S]``, 2D or 3D, 0 = ignore.
    out
        Array of the same shape for the numbers, uint32 or uint64: 0 = no component, 1..N in the order of the blocks.
    sides
        Sizes of a block; multiples of the arrays' chunks.
    classes
        Ids of the classes whose parts are numbered; None = all but 0.
    min_size
        Components of fewer pixels get 0.
    tick
        Is told the number of block visits that are done, of two for each block.

    Returns
    -------
    int
        Number of components N.

    Raises
    ------
    UsageError
        If the shapes differ.
    """
    if tuple(labels.shape) != tuple(out.shape):
        got, fix = str(tuple(out.shape)), "make it of the labels' shape"
        raise UsageError("components", expected=f"an array of shape {tuple(labels.shape)}", got=got, fix=fix)
    grid = Grid(tuple(labels.shape), tuple(sides), 0)
    visits = 0
    sizes: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]  # of the number 0
    links: list[NDArray[np.int64]] = []
    n_parts = 0
    for place in grid.places():
        core = grid.tile(place).core
        block = np.asarray(labels[core])
        inside = block > 0 if classes is None else np.isin(block, list(classes)) & (block > 0)
        parts = connected_components(np.where(inside, block.astype(np.int64), -1)).astype(np.int64) + 1
        sizes.append(np.bincount(parts.ravel())[1:])
        parts[parts > 0] += n_parts
        n_parts += len(sizes[-1])
        out[core] = parts
        links += [_touching(labels, out, block, parts, core, axis) for axis in range(block.ndim) if place[axis] > 0]
        visits += 1
        if tick is not None:
            tick(visits)
    numbers, n_kept = _linked(np.concatenate(sizes), links, min_size)
    for place in grid.places():
        core = grid.tile(place).core
        out[core] = numbers[np.asarray(out[core]).astype(np.int64)]
        visits += 1
        if tick is not None:
            tick(visits)
    return n_kept


def _touching(
    labels: StoredLabels, out: StoredLabels, block: NDArray[Any], parts: NDArray[np.int64], core: Region, axis: int
) -> NDArray[np.int64]:
    """Return the pairs ``[N 2]`` of numbers of equal label on both sides of the first face of a block along an axis."""
    before = tuple(slice(a.start - 1, a.start) if i == axis else a for i, a in enumerate(core))
    first = tuple(slice(0, 1) if i == axis else slice(None) for i in range(block.ndim))
    here, there = parts[first].ravel(), np.asarray(out[before]).astype(np.int64).ravel()
    equal = (here > 0) & (there > 0) & (block[first].ravel() == np.asarray(labels[before]).ravel())
    return np.unique(np.stack([there[equal], here[equal]], axis=1), axis=0)


def _linked(sizes: NDArray[np.int64], links: list[NDArray[np.int64]], min_size: int) -> tuple[NDArray[np.int64], int]:
    """Return the final number of each first one, 0 staying 0, in the order of the first of those that are linked."""
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *links])
    n = len(sizes)
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, group = graph_components(graph, directed=False)
    first = np.full(n, n)
    np.minimum.at(first, group, np.arange(n))
    totals = np.bincount(group, sizes, minlength=n)
    order = np.argsort(first, kind="stable")
    kept = (totals[order] >= min_size) & (totals[order] > 0)
    number = np.zeros(n, np.int64)
    number[order[kept]] = np.arange(1, int(kept.sum()) + 1)
    return number[group], int(kept.sum())
