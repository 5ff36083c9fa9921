"""Border weight: background between two objects that nearly touch counts more, so that a network keeps them apart."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as connected_components
from torch import Tensor

REACH = 4
"""Objects farther than this many sigmas are not looked at: what is left out is below w0 exp(-8)."""


def border_weight(objects: NDArray[np.integer], w0: float = 10.0, sigma: float = 5.0) -> NDArray[np.float32]:
    r"""Return the extra weight of each background pixel between two near objects, ``[*S]`` float32.

    .. math:: w(x) = w_0 \exp\left(-\frac{(d_1(x) + d_2(x))^2}{2 \sigma^2}\right)

    d are the distances to the nearest and to the second nearest object, in pixels; `objects` ``[*S]`` are integers, 0 = background, each
    other value one object. `w0` is the largest weight, `sigma` its fall-off in pixels. Pixels within an object, and those without two
    objects within reach, get 0. Ronneberger, Fischer and Brox, U-Net, MICCAI 2015, equation 2 (w0 = 10, sigma about 5 pixels).
    """
    labels = np.asarray(objects)
    reach = int(np.ceil(REACH * sigma))
    first, second = (np.full(labels.shape, np.inf, np.float32) for _ in range(2))
    values = np.unique(labels[labels > 0])
    dense = np.where(labels > 0, np.searchsorted(values, labels) + 1, 0)
    for number, box in enumerate(ndimage.find_objects(dense), 1):
        around = tuple(
            slice(max(0, part.start - reach), min(n, part.stop + reach))
            for part, n in zip(box, labels.shape, strict=True)
        )
        distance = ndimage.distance_transform_edt(dense[around] != number).astype(np.float32)
        second[around] = np.minimum(second[around], np.maximum(first[around], distance))
        first[around] = np.minimum(first[around], distance)
    gain = w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2))
    result: NDArray[np.float32] = np.where(dense > 0, 0.0, gain).astype(np.float32)
    return result


class BorderWeights:
    """Border weights of the training images (`border_weight`), each computed when it is first asked for; no state."""

    def __init__(self, w0: float, sigma: float) -> None:
        self.w0, self.sigma = w0, sigma
        self._known: dict[int, Tensor] = {}

    def of(self, index: int, labels: Tensor) -> Tensor:
        """Return the weights of image `index` ``[*S]``; its objects are the connected parts of every class but the first, 0."""
        if index not in self._known:
            objects = connected_components(labels.clamp(min=0).cpu().numpy(), background=0, connectivity=1)
            self._known[index] = torch.from_numpy(border_weight(objects, self.w0, self.sigma)).half()
        return self._known[index].to(labels.device).float()
