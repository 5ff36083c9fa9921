"""Prediction in parts, made small enough for a test: blocks of 32 pixels, images in zarr, and a kill after some blocks.

The blocks are those of the fixture `small_blocks` of `conftest`.
"""

from pathlib import Path

import zarr

from selfseg.core.progress import Silent
from selfseg.read import open_lazy
from selfseg.segmenting.images import Settings, segment_stored
from selfseg.segmenting.trees import store_tree

QUICK = {"iterations": 5, "n_features": 8, "n_clusters": 8}


class Killed(BaseException):
    """What stands for a kill: nothing catches it."""


class KilledAfter(Silent):
    """Counts finished blocks, and dies after some of them."""

    def __init__(self, n_blocks=10**9):
        self.left, self.seen, self.total = n_blocks, [], 0

    def start(self, task, total, done=0):
        self.total = total

    def update(self, done, values):
        self.seen.append(done)
        assert values["Mpx/s"] > 0
        self.left -= 1
        if not self.left:
            raise Killed


def stored(path, data, axes):
    """An image in zarr, opened without reading it."""
    array = zarr.create_array(path, shape=data.shape, chunks=(32,) * data.ndim, dtype=data.dtype)
    array[...] = data
    return open_lazy(path, axes)


def contents(folder: Path):
    """The bytes of all files in a folder, by their path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def predict_large(model, image, out, memory=None, progress=None, executor=None, **settings):
    """Segment an image in its file with a fitted `Segmenter`, block by block."""
    return segment_stored(
        model.fitted, image, out, Settings(memory, progress=progress or Silent(), **settings), executor
    )


def large_tree(model, result, out, memory=None, **options):
    """Build the merge tree of what `predict_large` returned."""
    return store_tree(model.fitted, result, out, Settings(memory), **options)
