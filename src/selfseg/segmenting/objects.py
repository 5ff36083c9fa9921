"""A method's own objects of an image in parts: found block by block with the method's context, and linked across faces."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from selfseg.results.instances import Numbering
from selfseg.results.model import FittedModel
from selfseg.results.result import Result
from selfseg.sample.chain import PreparedImage
from selfseg.sample.prepare import prepare
from selfseg.segmenting.blocks import frames_of, memo_of
from selfseg.segmenting.images import Settings
from selfseg.tiling.tiles import Region, grown, memory_budget, plan_grid


def own_numbering(model: FittedModel, result: Result, settings: Settings) -> Numbering | None:
    """Return what numbers the method's own objects of an image whose labels are stored; None where it cannot in parts.

    A volume that a 2D model segments, and an image that is resized by its preparation, have none in parts.
    """
    model = model.fixed()
    image = model.view(result.image)
    if model.slices_volume(image) or prepare(next(frames_of(image)), model.preparation).changes:
        return None

    def number(time: int, labels: Any, numbers: Any) -> int:
        frame = next(itertools.islice(frames_of(image), time, None))
        return number_own(model, prepare(frame, model.preparation), labels, numbers, settings.memory)

    return number


def number_own(
    model: FittedModel, prepared: PreparedImage, labels: Any, numbers: Any, memory: int | None = None
) -> int:
    """Number the method's own objects 1..N, in the order of the blocks, into `numbers` ``[*S]``; return N.

    Two parts of an object in neighbouring blocks are one where each block, looking one pixel beyond their face, sees there more of the
    other's part than of anything else. Objects smaller than the method's context come out as in the whole image.

    Parameters
    ----------
    model
        The model, fixed.
    prepared
        One image, not resized.
    labels
        Its stored class ids ``[*S]``: pixels of class 0 belong to no object.
    numbers
        Where the numbers go.
    memory
        Most that this process may take, in bytes; None = by what is free.
    """
    found = _Blocks(model, prepared, memory)
    for core, block in found:
        numbers[core] = np.where(np.asarray(labels[core]) > 0, block, 0).astype(numbers.dtype)
    joined, kept = found.joined(), np.zeros(found.count + 1, np.bool_)
    for core in found.cores():
        kept[np.unique(numbers[core])] = True
    kept[0] = False
    used = np.unique(joined[kept])
    final = np.append(0, np.searchsorted(used, joined[1:]) + 1)
    for core in found.cores():
        numbers[core] = final[np.asarray(numbers[core]).astype(np.int64)].astype(numbers.dtype)
    return len(used)


@dataclass
class _Blocks:
    """Finds the objects of each block, numbered on from those before, and remembers which are one across a face."""

    model: FittedModel
    prepared: PreparedImage
    memory: int | None
    count: int = 0
    pairs: list[NDArray[np.int64]] = field(default_factory=lambda: [np.zeros((0, 2), np.int64)])

    def __post_init__(self) -> None:
        method = self.model.method
        self.grid = plan_grid(method, self.prepared.shape, memory_budget(self.memory, method.device))
        self._seen: dict[tuple[int, tuple[int, ...]], NDArray[np.int64]] = {}

    def cores(self) -> Iterator[Region]:
        """Return the part of the image that each block decides."""
        return (self.grid.tile(place).core for place in self.grid.places())

    def __iter__(self) -> Iterator[tuple[Region, NDArray[np.int64]]]:
        for place in self.grid.places():
            core = self.grid.tile(place).core
            outer, found = self._found(core)
            inner = tuple(slice(c.start - o.start, c.stop - o.start) for c, o in zip(core, outer, strict=True))
            for axis, (edge, n) in enumerate(zip(core, self.prepared.shape, strict=True)):
                own = np.take(found[inner], 0, axis)
                if (beyond := self._seen.pop((axis, place), None)) is not None:
                    self.pairs.append(_mutual(beyond.ravel(), own.ravel()))
                if edge.stop < n:
                    after = tuple(n + (i == axis) for i, n in enumerate(place))
                    next_ = tuple(slice(s.stop, s.stop + 1) if i == axis else s for i, s in enumerate(inner))
                    self._seen[axis, after] = np.take(found[next_], 0, axis)
            yield core, found[inner]

    def _found(self, core: Region) -> tuple[Region, NDArray[np.int64]]:
        """Return the objects of a block and the context around it, numbered on from those before."""
        method, shape = self.model.method, self.prepared.shape
        step, context = method.multiple, method.context or 0
        around = grown(core, (context,) * len(shape), shape)
        outer = tuple(
            slice(s.start // step * step, min(n, -(-s.stop // step) * step)) for s, n in zip(around, shape, strict=True)
        )
        image = torch.from_numpy(np.ascontiguousarray(self.prepared.read(outer))).to(method.device)
        memo = {"memo": memo_of(self.prepared, outer)} if method.uses_memos else {}
        own = np.asarray(method.objects(image, **memo)).astype(np.int64)
        own[own > 0] += self.count
        self.count = max(self.count, int(own.max(initial=0)))
        return outer, own

    def joined(self) -> NDArray[np.int64]:
        """Return the smallest number of the object that each number belongs to ``[N + 1]``."""
        links = np.concatenate(self.pairs)
        matrix = coo_array((np.ones(len(links), np.int8), links.T), shape=(self.count + 1,) * 2)
        n, component = connected_components(matrix, directed=False)
        smallest = np.full(n, self.count + 1)
        np.minimum.at(smallest, component, np.arange(self.count + 1))
        return np.asarray(smallest[component], np.int64)


def _mutual(beyond: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs ``[L 2]`` of objects of which each covers the other most on one layer, as two blocks see it ``[P]``."""
    both = (beyond > 0) & (own > 0)
    pairs, shared = np.unique(np.stack([beyond[both], own[both]], 1), axis=0, return_counts=True)
    if not len(pairs):
        return np.zeros((0, 2), np.int64)
    best = np.ones(len(pairs), np.bool_)
    for side in range(2):
        _, which = np.unique(pairs[:, side], return_inverse=True)
        most = np.zeros(which.max() + 1, np.int64)
        np.maximum.at(most, which, shared)
        best &= shared == most[which]
    return pairs[best]
