"""Batch normalisation whose statistics are those of the whole batch, also where several processes share it, on any device."""

from typing import Any

import torch
from torch import Tensor, nn

from selfseg.sample.shared_batch import is_shared, total_moments


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over all processes that share the batch; alone it is just that."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B C Y X]``."""
        return shared_batch_norm(self, x) if self.training and is_shared() else super().forward(x)


class BatchNorm3d(nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` over all processes that share the batch; alone it is just that."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B C Z Y X]``."""
        return shared_batch_norm(self, x) if self.training and is_shared() else super().forward(x)


def shared_batch_norm(layer: Any, x: Tensor) -> Tensor:
    """Normalise ``x [B C *S]`` by the statistics of the whole batch, and move the running ones as torch does.

    Ioffe & Szegedy, ICML 2015; the running variance is the unbiased one.
    """
    column = (1, -1, *(1,) * (x.ndim - 2))
    variance, mean = torch.var_mean(x.to(layer.weight.dtype), dim=[0, *range(2, x.ndim)], correction=0)
    mean, variance, counted = total_moments(mean, variance, x.numel() // x.shape[1])
    with torch.no_grad():
        n = torch.as_tensor(counted)
        layer.num_batches_tracked += 1
        pace = 1 / int(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
        layer.running_mean.lerp_(mean, pace)
        layer.running_var.lerp_((variance * n / (n - 1).clamp(min=1)).to(variance.dtype), pace)
    scale = layer.weight * (variance + layer.eps).rsqrt()
    return (x * scale.reshape(column) + (layer.bias - mean * scale).reshape(column)).to(x.dtype)
