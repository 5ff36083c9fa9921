"""Separation: objects that touch get a border of background between them, so that classes alone still tell them apart."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def separate_objects(objects: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the objects with every pixel set to background that has another object among its neighbours, diagonals included.

    Objects that do not touch keep all their pixels; between two that do, two pixels of background are left.

    Parameters
    ----------
    objects
        ``[*S]``, 0 = background, each other value one object; negative = unknown, which is kept and touches nothing.

    References
    ----------
    Ronneberger, Fischer and Brox, U-Net, MICCAI 2015, section 3: "a pre-defined separation border".
    """
    labels = np.asarray(objects, np.int64)
    inside = labels > 0
    above = labels.max(initial=0) + 1  # not the largest integer: scipy's filters compute in double precision
    low = ndimage.minimum_filter(np.where(inside, labels, above), 3, mode="nearest")
    high = ndimage.maximum_filter(np.where(inside, labels, 0), 3, mode="nearest")
    return np.where(inside & ((low != labels) | (high != labels)), 0, labels)
