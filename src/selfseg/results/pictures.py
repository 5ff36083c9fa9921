"""Pictures of how a method sees an image."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.image import Image
from selfseg.core.palette import class_colours
from selfseg.export.display import displayed
from selfseg.methods.base import Method
from selfseg.sample.prepare import PreparedImage


def method_pictures(method: Method, prepared: PreparedImage) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures of a method by name, ``[H W 3]`` uint8; of volumes the middle slice. Empty if it has none."""
    image = torch.from_numpy(prepared.array).to(method.device)
    made = method.pictures(image, prepared.memo) if method.uses_memos else method.pictures(image)
    return {name: _drawn(picture.cpu().numpy(), prepared.array) for name, picture in made.items()}


def _drawn(picture: NDArray[Any], prepared: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture as RGB: labels ``[*S]`` in the colours of classes, all else as `shown`."""
    if picture.dtype.kind == "f":
        return shown(picture, prepared)
    plane = picture[len(picture) // 2] if picture.ndim == 3 else picture
    colours = np.array([(0, 0, 0, 0), *class_colours(int(plane.max()))], np.uint8)
    coloured: NDArray[np.uint8] = colours[plane][..., :3]
    return coloured


def shown(picture: NDArray[np.float32], prepared: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture ``[C *S]`` or ``[C H W]`` as RGB, on the scale of the prepared image ``[C *S]``, whose extremes it is cut to."""
    low, high = float(prepared.min()), float(prepared.max())
    if len(picture) == 3 and low >= 0 and high <= 1:
        low, high = 0.0, 1.0  # colours as they are, like the photograph itself
    levels = np.clip((picture - low) / max(high - low, 1e-12), 0, 1)
    plain = np.moveaxis((levels * 255 + 0.5).astype(np.uint8), 0, -1)
    middle: NDArray[np.uint8] = plain[len(plain) // 2] if plain.ndim == 4 else plain
    if middle.shape[-1] == 1:
        return np.repeat(middle, 3, -1)
    picture_rgb: NDArray[np.uint8] = displayed(Image(middle, "YXC"), [0])[0]
    return picture_rgb
