"""Classes decided region by region: W-Net's last step, with contours of the image and of the probabilities.

Xia & Kulis 2017, section 4: the boundaries of the class map are weighed by contour strength, and weak ones are merged away. Here the
probabilities' own gradient is one of the contour cues, so that a boundary that the model sees counts although the picture is faint.
"""

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.refine.hierarchy import Hierarchy, hierarchy
from selfseg.regions.contours import contour_strength
from selfseg.regions.graph import region_means
from selfseg.sample.prepare import Preparation


def contour_tree(
    probabilities: NDArray[np.float32], image: Image, valid: NDArray[np.bool_] | None, learned: float
) -> Hierarchy:
    """Build the merge tree of an image's contours and the gradient of its class probabilities.

    Parameters
    ----------
    probabilities
        ``[K Y X]``.
    image
        The image as it was read, 2D. Values of 8 bits are used as they are, others between their percentiles 1 and 99.8.
    valid
        ``[Y X]``, False = outside; None = all inside.
    learned
        Weight of the probabilities' gradient against the contours (`refine.hierarchy`).

    Raises
    ------
    InputError
        If the image is a volume.
    """
    if probabilities.ndim != 3:
        got, fix = f"axes {image.axes}", "refine volumes with crf"
        raise InputError(f"{image.name}: contours", expected="an image with axes YX", got=got, fix=fix)
    steps = "range" if image.data.dtype == np.uint8 else "percentile=1:99.8"
    picture = Preparation.parse(steps).fit([image]).apply(image).array
    contours = contour_strength(np.moveaxis(picture, 0, -1), mask=valid)
    return hierarchy(probabilities, picture, mask=valid, contours=contours, learned_weight=learned)


def region_probabilities(probabilities: NDArray[np.float32], regions: NDArray[np.integer]) -> NDArray[np.float32]:
    """Give every pixel of a region the region's mean probabilities.

    Parameters
    ----------
    probabilities
        ``[K *S]``.
    regions
        ``[*S]``, 0..R-1; pixels of -1 keep their own.
    """
    means = region_means(regions, np.moveaxis(probabilities, 0, -1)).astype(np.float32)  # [R K]
    inside = regions >= 0
    return np.where(inside, np.moveaxis(means[np.where(inside, regions, 0)], -1, 0), probabilities)
