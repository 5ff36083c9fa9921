"""Linking over time: each frame's probabilities averaged with those of the frame before, where the picture is the same.

With q(p) the pixel of frame t-1 from which pixel p of frame t came (`regions.motion`), I the prepared pictures and P the
probabilities,

    a_t(p)  = strength exp(-mean_{r near p} |I_t(r) - I_{t-1}(q(r))|^2 / (2 sigma^2)),
    P~_t(p) = (1 - a_t(p)) P_t(p) + a_t(p) P~_{t-1}(q(p)),

and a_t(p) = 0 where the way back from q(p) does not lead to p: an exponential average along the motion (a recursive filter), which
forgets where the picture changes. It looks at one frame before and none ahead, so that memory is constant and the first frames do
not depend on the last. The mean over a square around p keeps the weights in one piece: where a block was matched wrongly, single
pixels look alike by chance.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from selfseg.regions.motion import follow

STRENGTH = 0.8
"""Share of the frame before where the picture is the same: an average over about 1 / (1 - 0.8) = 5 frames."""

LIKENESS = 0.1
"""sigma, as a share of the range of the frame."""

SQUARE = 9
"""Side of the square over which likeness is averaged, in pixels."""


@dataclass
class Link:
    """Links the frames of one sequence, given one after the other."""

    strength: float = STRENGTH
    """0-1 without 1."""
    likeness: float = LIKENESS
    """sigma as a share of the range (from the 1st to the 99th percentile) of the frame."""
    _picture: NDArray[np.float32] | None = field(default=None, repr=False)
    _linked: NDArray[np.float32] | None = field(default=None, repr=False)

    def __call__(self, probabilities: NDArray[np.float32], picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of the next frame, linked to those before.

        Parameters
        ----------
        probabilities
            ``[K Y X]``, sums to 1 over K.
        picture
            ``[C Y X]``, the prepared frame.
        """
        linked = probabilities
        if self._picture is not None and self._linked is not None and self._picture.shape == picture.shape:
            linked = self._average(probabilities, picture, self._picture, self._linked)
        self._picture, self._linked = picture, linked
        return linked

    def _average(
        self,
        probabilities: NDArray[np.float32],
        picture: NDArray[np.float32],
        before: NDArray[np.float32],
        linked: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        found, known = follow(before.mean(0), picture.mean(0))
        origin = found.ravel()
        low, high = np.percentile(picture, (1, 99))
        sigma = np.float32(max(1e-6, self.likeness * float(high - low)))
        flat = picture.reshape(len(picture), -1)
        gap = np.square(flat - before.reshape(len(before), -1)[:, origin]).mean(0).reshape(known.shape)
        near = uniform_filter(gap, SQUARE, mode="nearest")
        weight = (np.float32(self.strength) * np.exp(-near / (2 * sigma**2)) * known).ravel()
        now = probabilities.reshape(len(probabilities), -1)
        then = linked.reshape(len(linked), -1)[:, origin]
        return (now + weight * (then - now)).reshape(probabilities.shape)
