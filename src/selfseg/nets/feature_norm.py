"""Features on a fixed scale, so that a distance between them cannot be made small by making the features small."""

from typing import Literal

import torch
from torch import Tensor, nn

from selfseg.nets.pixel_norm import moments

FeatureScale = Literal["effect", "each", "total", "none"]

EPS = 1e-8
"""Added to the variance: features that do not vary stay 0."""

LEAST_EFFECT = 1e-6
"""Of the largest effect of a feature: those with less count as if they had this."""


class FeatureNorm(nn.Module):
    """Mean 0 and variance 1 over the training pixels, with a gradient that no change of scale can gain by.

    Batch renormalisation without scale and shift (Ioffe 2017, eq. 3): the values are those of the statistics in the buffers,
    the gradient is that of the statistics of the batch. So prediction gives what training gave, batches of a single image keep
    their differences, and the sum of squares over a batch has no gradient along a shift or a scaling of the features.

    Parameters
    ----------
    n_features
        Features F of the input ``[B F *S]``.
    scale
        ``effect`` = each feature is multiplied by the change of the rebuilt image that a change of the feature makes, and all by one
        factor, so that their mean variance is 1; ``total`` = by the one factor alone; ``each`` = every feature has variance 1;
        ``none`` = left as they are.
    """

    mean: Tensor
    variance: Tensor
    effect: Tensor

    def __init__(self, n_features: int, scale: FeatureScale = "effect") -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("effect", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("variance", torch.ones(n_features))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return ``[B F *S]``; while learning, the gradient is that of normalising over the `valid` ``[B *S]`` pixels."""
        if self.scale == "none" or not (self.training and x.requires_grad):
            return self.scaled(x, self.mean, self.variance)
        shift, spread = _column(self.mean, x), _column(self._deviation(self.variance), x)
        mean, variance = moments(x, valid)
        centre, deviation = _column(mean, x), _column(self._deviation(variance), x)
        y = (x - centre) / deviation
        return y * (deviation / spread).detach() + ((centre - shift) / spread).detach()

    def scaled(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Return ``[B F *S]`` by given statistics ``[F]``."""
        if self.scale == "none":
            return x
        return (x - _column(mean, x)) / _column(self._deviation(variance), x)

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return rows ``[N F]`` on the scale."""
        return self.scaled(rows, self.mean, self.variance)

    def to_raw(self, rows: Tensor) -> Tensor:
        """Return the raw features of rows ``[N F]`` on the scale."""
        return rows if self.scale == "none" else rows * self._deviation(self.variance) + self.mean

    def _deviation(self, variance: Tensor) -> Tensor:
        if self.scale == "each":
            return (variance + EPS).sqrt()
        weight = torch.ones_like(variance)
        if self.scale == "effect" and bool(self.effect.any()):
            weight = (self.effect / self.effect.max()).clamp(min=LEAST_EFFECT).to(variance.dtype)
        return (((weight * variance).mean() + EPS) / weight).sqrt()

    @torch.no_grad()
    def add_effect(self, slopes: Tensor, valid: Tensor | None) -> None:
        """Take note of the slopes ``[B F *S]`` of the rebuilt image, summed with random signs, along each feature.

        The mean square of such a sum is the sum of squared derivatives (Hutchinson 1990).
        """
        rows = slopes.movedim(1, -1)
        rows = rows.reshape(-1, slopes.shape[1]) if valid is None else rows[valid]
        self.effect += rows.double().square().sum(0)

    @torch.no_grad()
    def follow(self, x: Tensor, valid: Tensor | None, pace: float = 0.1) -> None:
        """Move the statistics towards those of a batch ``[B F *S]`` by the share `pace`; nothing without a valid pixel."""
        if self.scale == "none" or (valid is not None and not bool(valid.any())):
            return
        mean, variance = moments(x.float(), valid)
        self.variance.lerp_(variance + (1 - pace) * (mean - self.mean).square(), pace)
        self.mean.lerp_(mean, pace)

    @torch.no_grad()
    def settle(self, rows: Tensor) -> None:
        """Take the statistics of rows ``[N F]``, in float64; nothing changes without a row."""
        if len(rows) and self.scale != "none":
            variance, mean = torch.var_mean(rows.double(), 0, correction=0)
            self.mean.copy_(mean)
            self.variance.copy_(variance)


def _column(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1,) * (x.ndim - 2))
