"""Batch normalisation over the pixels that count, with population statistics that are computed, not averaged."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfseg.nets.fused_norm import fused_norm, fused_norm_pays
from selfseg.sample.shared_batch import is_shared, total_moments

EPS = 1e-5
"""Added to the variance, as in `torch.nn.BatchNorm2d`."""


class PixelNorm(nn.Module):
    """Normalise each channel to mean 0 and variance 1 over all valid pixels of a batch, then scale and shift it.

    In training mode the statistics are those of the batch (biased variance, equation 1 of Ioffe and Szegedy 2015). In
    evaluation mode they are the buffers `mean` and `variance`, which `set_statistics` fills.

    Parameters
    ----------
    n_channels
        Channels C of the input ``[B C *S]``.
    rectify
        Apply a ReLU before normalising (the order of the paper: convolution, ReLU, normalisation).
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, n_channels: int, rectify: bool = False) -> None:
        super().__init__()
        self.rectify = rectify
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.bias = nn.Parameter(torch.zeros(n_channels))
        self.register_buffer("mean", torch.zeros(n_channels))
        self.register_buffer("variance", torch.ones(n_channels))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return ``[B C *S]``, 0 where `valid` ``[B *S]`` is False."""
        if valid is None and self.training and fused_norm_pays(x):
            return fused_norm(x, self.weight, self.bias, self.rectify, EPS)
        x = F.relu(x) if self.rectify else x
        if valid is None and self.training and not is_shared():
            # Not F.batch_norm: that refuses a batch of a single pixel, which here gives the bias.
            return torch.batch_norm(x, self.weight, self.bias, None, None, True, 0.0, EPS, torch.backends.cudnn.enabled)
        mean, variance = moments(x, valid) if self.training else (self.mean, self.variance)
        scale = self.weight * (variance + EPS).rsqrt()
        y = x * _column(scale, x) + _column(self.bias - mean * scale, x)
        return y if valid is None else y.where(valid.unsqueeze(1), y.new_zeros(()))

    def frozen_scale_shift(self) -> tuple[Tensor, Tensor]:
        """Return (scale, shift), ``[C]`` each: in evaluation mode the layer is ``x * scale + shift``."""
        scale = self.weight * (self.variance + EPS).rsqrt()
        return scale, self.bias - self.mean * scale

    @torch.no_grad()
    def set_statistics(self, parts: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        """Take mean and variance over the valid pixels of all `parts` (x ``[B C *S]``, valid ``[B *S]``), in float64.

        Parts are merged by the update of Chan, Golub and LeVeque (1983). Without a valid pixel nothing changes.
        """
        count, mean, deviation = 0, torch.zeros(()), torch.zeros(())
        for x, valid in parts:
            x = F.relu(x) if self.rectify else x
            rows = x.movedim(1, -1)
            rows = (rows[valid] if valid is not None else rows.reshape(-1, x.shape[1])).double()  # [N C]
            if len(rows) == 0:
                continue
            part_mean = rows.mean(dim=0)
            part_deviation = (rows - part_mean).square().sum(dim=0)
            if count == 0:
                count, mean, deviation = len(rows), part_mean, part_deviation
                continue
            total, step = count + len(rows), part_mean - mean
            deviation = deviation + part_deviation + step.square() * (count * len(rows) / total)
            mean, count = mean + step * (len(rows) / total), total
        if count:
            self.mean.copy_(mean)
            self.variance.copy_(deviation / count)


def moments(x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance ``[C]`` of ``x [B C *S]`` over the pixels that are `valid` ``[B *S]``.

    Of a batch that processes share, over all of it.
    """
    axes = [0, *range(2, x.ndim)]
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # bfloat16 has three digits, too few for a mean of many
    if valid is None:
        variance, mean = torch.var_mean(x, dim=axes, correction=0)
        return total_moments(mean, variance, x.numel() // x.shape[1])[:2]
    counted = valid.unsqueeze(1)
    n = valid.sum().clamp(min=1)
    mean = x.where(counted, x.new_zeros(())).sum(dim=axes) / n
    centred = (x - _column(mean, x)).where(counted, x.new_zeros(()))
    return total_moments(mean, centred.square().sum(dim=axes) / n, valid.sum())[:2]


def _column(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1,) * (x.ndim - 2))
