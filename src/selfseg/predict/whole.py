"""Prediction is a function of a fitted method: a prepared image in, probabilities out."""

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.methods._base import Method
from selfseg.predict.tiles import tile_plan

TILE_PIXELS = 2**21
"""Pixels of the largest piece that is predicted at once, where the method's context is finite."""


@torch.no_grad()
def predict(method: Method, array: NDArray[np.float32], tile_pixels: int = TILE_PIXELS) -> NDArray[np.float32]:
    """Return class probabilities of one prepared image.

    An image larger than `tile_pixels` is cut into tiles with a halo of the method's context, so that the result equals that
    of the whole image; a method whose context is the whole image is given the whole image.

    Parameters
    ----------
    method
        A fitted method, on any device.
    array
        ``[C *S]`` float32.
    tile_pixels
        Largest number of pixels of a tile, without its halo.

    Returns
    -------
    ndarray
        ``[K *S]`` float32, sums to 1 over K.
    """
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    shape = array.shape[1:]
    if method.context is None or int(np.prod(shape)) <= tile_pixels:
        return _assign(method, array, device)
    result: NDArray[np.float32] | None = None
    for tile in tile_plan(shape, method.context, tile_pixels, method.multiple):
        part = _assign(method, np.ascontiguousarray(array[(slice(None), *tile.outer)]), device)
        if result is None:
            result = np.empty((len(part), *shape), np.float32)
        result[(slice(None), *tile.core)] = part[(slice(None), *tile.inner)]
    if result is None:
        raise ValueError(f"image of shape {array.shape}: expected at least one pixel")
    return result


def _assign(method: Method, array: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
    images = torch.from_numpy(array)[None].to(device)
    probabilities: NDArray[np.float32] = method.assign(images)[0].float().cpu().numpy()
    return probabilities
