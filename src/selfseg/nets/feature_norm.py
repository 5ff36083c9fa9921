"""Features on a fixed scale, so that a distance between them cannot be made small by making the features small."""

from typing import Literal

import torch
from torch import Tensor, nn

from selfseg.nets.pixel_norm import moments

FeatureScale = Literal["effect", "total", "each", "none"]

EPS = 1e-8
"""Added to the variance: features that do not vary stay 0."""


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
        ``effect`` = turned so that a squared distance is the squared change of the rebuilt image that a small step of that kind
        makes, and multiplied by one factor, so that the mean variance is 1: features that the decoder does not read, or that
        cancel each other, count nothing. ``total`` = the one factor alone; ``each`` = every feature has variance 1; ``none`` = left
        as they are.
    """

    mean: Tensor
    variance: Tensor
    effect: Tensor
    turn: Tensor

    def __init__(self, n_features: int, scale: FeatureScale = "effect") -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("variance", torch.ones(n_features))
        self.register_buffer("effect", torch.zeros(n_features, n_features, dtype=torch.float64))
        self.register_buffer("turn", torch.eye(n_features))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return ``[B F *S]``; while learning, the gradient is that of normalising over the `valid` ``[B *S]`` pixels."""
        if self.scale == "none" or not (self.training and x.requires_grad):
            return self.scaled(x, self.mean, self.variance)
        x = self._turned(x)
        shift, spread = _column(self.mean, x), _column(self._deviation(self.variance), x)
        mean, variance = moments(x, valid)
        centre, deviation = _column(mean, x), _column(self._deviation(variance), x)
        y = (x - centre) / deviation
        return y * (deviation / spread).detach() + ((centre - shift) / spread).detach()

    def scaled(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Return ``[B F *S]`` by given statistics ``[F]``."""
        if self.scale == "none":
            return x
        return (self._turned(x) - _column(mean, x)) / _column(self._deviation(variance), x)

    def rescaled(self, rows: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Return rows ``[N F]`` on the scale that were on the scale of other statistics ``[F]``."""
        if self.scale == "none":
            return rows
        raw = rows * self._deviation(variance) + mean
        return (raw - self.mean) / self._deviation(self.variance)

    def _turned(self, x: Tensor) -> Tensor:
        if self.scale != "effect":
            return x
        return torch.einsum("fg,bg...->bf...", self.turn, x)

    def _deviation(self, variance: Tensor) -> Tensor:
        shared = variance if self.scale == "each" else variance.mean().expand_as(variance)
        return (shared + EPS).sqrt()

    @torch.no_grad()
    def add_effect(self, slopes: Tensor, valid: Tensor | None) -> None:
        """Take note of the slopes ``[B F *S]`` of the rebuilt image, summed with random signs, along the features.

        The mean of products of such sums is the sum of products of derivatives, J'J (Hutchinson 1990).
        """
        rows = slopes.movedim(1, -1)
        rows = (rows.reshape(-1, slopes.shape[1]) if valid is None else rows[valid]).double()
        self.effect += rows.T @ rows

    @torch.no_grad()
    def settle(self, rows: Tensor, turn: bool = False) -> None:
        """Take the statistics of raw rows ``[N F]``, in float64; with `turn` also the root of what was noted of effects.

        Nothing changes without a row.
        """
        if not len(rows) or self.scale == "none":
            return
        if turn and bool(self.effect.any()):
            values, vectors = torch.linalg.eigh(self.effect / self.effect.diagonal().mean())
            self.turn.copy_(vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T)
        variance, mean = torch.var_mean(self._turned(rows).double(), 0, correction=0)
        self.mean.copy_(mean)
        self.variance.copy_(variance)

    @torch.no_grad()
    def follow(self, x: Tensor, valid: Tensor | None, pace: float = 0.02) -> None:
        """Move the statistics towards those of a batch ``[B F *S]`` by the share `pace`; nothing without a valid pixel."""
        if self.scale == "none" or (valid is not None and not bool(valid.any())):
            return
        mean, variance = moments(self._turned(x.float()), valid)
        self.variance.lerp_(variance + (1 - pace) * (mean - self.mean).square(), pace)
        self.mean.lerp_(mean, pace)


def _column(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1,) * (x.ndim - 2))
