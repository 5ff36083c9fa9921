"""Prediction is a function of a fitted method: a prepared image in, probabilities out."""

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.memory import reusing_memory
from selfseg.methods.base import Method
from selfseg.sample.stream import Memo
from selfseg.tiling.tilewise import Region, TileWise, exact_grid, memory_budget, plan_grid


def predict(
    method: Method,
    array: NDArray[np.float32],
    tile_pixels: int | None = None,
    memory: int | None = None,
    memo: Memo | None = None,
) -> NDArray[np.float32]:
    """Return class probabilities of one prepared image.

    A large image is cut into tiles with a halo of the method's context, so that the result equals that of the whole image.
    A method whose context is the whole image is given the whole image if the memory suffices; else its tiles are blended.

    Parameters
    ----------
    method
        A fitted method, on any device.
    array
        ``[C *S]`` float32.
    tile_pixels
        Largest number of pixels of a tile, where its context is finite; None = as `memory` allows.
    memory
        Most that this process may take in all, in bytes; None = by what is free.
    memo
        What a method keeps of this image (`Method.uses_memos`); used where the image is one tile.

    Returns
    -------
    ndarray
        ``[K *S]`` float32, sums to 1 over K.
    """
    shape = array.shape[1:]
    if 0 in shape:
        raise ValueError(f"image of shape {array.shape}: expected at least one pixel")

    def read(region: Region) -> NDArray[np.float32]:
        return array[(slice(None), *region)]

    if tile_pixels is not None and method.context is not None:
        grid = exact_grid(method, shape, tile_pixels)
    else:
        device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
        grid = plan_grid(method, shape, memory_budget(memory, device))
    tiles = TileWise(method, read, grid)
    if len(grid) == 1:
        return tiles.assigned(tuple(slice(0, n) for n in shape), memo)
    result = np.zeros((method.n_classes, *shape), np.float32)
    with reusing_memory():
        for place in grid.places():
            tile = grid.tile(place)
            part = tiles.assigned(tile.outer)
            if tiles.exact:
                result[(slice(None), *tile.core)] = part[(slice(None), *tile.inner)]
            else:
                result[(slice(None), *tile.outer)] += grid.weights(place, tile.outer) * part
    return result
