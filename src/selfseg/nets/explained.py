"""How much of the images an autoencoder explains: its error in units of their variance, averaged until it can be judged."""

import torch
from torch import Tensor, nn

from selfseg.nets.pixel_norm import moments

LEAST_BATCHES = 10
"""Batches over which the error is averaged before it is judged, at least."""

LEAST_VARIANCE = 1e-6
"""The unit of the error where images are nearly of one colour."""


class Explained(nn.Module):
    """Mean variance of the batches, and mean share of it that is left unexplained.

    Attributes
    ----------
    variance
        Mean over the batches of the variance of their pixels, float64.
    unexplained
        Mean error of at least `LEAST_BATCHES` batches, in units of that variance; 0 = not known yet.
    """

    variance: Tensor
    n_batches: Tensor
    total: Tensor
    judged: Tensor
    unexplained: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("variance", "total", "unexplained"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        for name in ("n_batches", "judged"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def look_at(self, images: Tensor, valid: Tensor | None) -> None:
        """Take the variance of a batch ``[B C *S]`` over its `valid` ``[B *S]`` pixels into the mean."""
        self.n_batches += 1
        own = moments(images, valid)[1].mean().double().clamp(min=LEAST_VARIANCE)
        self.variance += (own - self.variance) / self.n_batches

    def share(self, error: Tensor) -> Tensor:
        """Return a mean squared error as a share of the variance."""
        return error / self.variance.float()

    @torch.no_grad()
    def judge(self, share: Tensor, ends_pass: bool) -> None:
        """Take the share of a batch into account; at the end of a pass, if there were batches enough, renew `unexplained`."""
        self.total += share.detach()
        self.judged += 1
        if ends_pass and int(self.judged) >= LEAST_BATCHES:
            self.unexplained.copy_(self.total / self.judged)
            self.total.zero_()
            self.judged.zero_()

    def enough(self, target: float) -> bool:
        """Return whether the share left unexplained is known and at most `target`."""
        return 0 < float(self.unexplained) <= target
