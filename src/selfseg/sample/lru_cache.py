"""What was computed of an image is kept while memory for it lasts, and found again by the image's content."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.lru_cache import LRUCache

__all__ = ["LRUCache", "image_key"]


def image_key(image: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> str:
    """Return a key that equal arrays share: their shape and a hash of their bytes."""
    digest = hashlib.blake2b(str((image.shape, image.dtype.str, valid is None)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    if valid is not None:
        digest.update(np.ascontiguousarray(valid).data)
    return digest.hexdigest()
