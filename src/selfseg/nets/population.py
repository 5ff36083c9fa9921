"""Statistics of images put into a network: batch norms at the end of the training, the scale of the response at its start."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from selfseg.regions.closest import winning_offsets
from selfseg.sample.shared_batch import total_moments


@torch.no_grad()
def calibrate_batch_norms(net: nn.Module, passes: Callable[[], Iterable[Any]]) -> None:
    """Replace running averages by the mean statistics of one pass over the training images, all else in evaluation mode.

    Parameters
    ----------
    net
        The network; left in evaluation mode. Without batch norms nothing is done.
    passes
        Returns an iterable that runs the network on one batch after the other.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    net.eval()
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    deque(passes(), maxlen=0)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()


@torch.no_grad()
def give_unit_variance(layer: nn.Module, response: Tensor) -> None:
    """Scale and shift a last convolution so that each channel of its response has mean 0 and variance 1.

    A network that has not learned answers nearly the same everywhere; equal probabilities are a stationary point of many losses.

    Parameters
    ----------
    layer
        A convolution with a bias.
    response
        What it gives now, ``[B K *S]``, of all processes that share the batch. A channel that is constant is only shifted.
    """
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    axes = [0, *range(2, response.ndim)]
    variance, mean = torch.var_mean(response.float(), axes, correction=0)
    mean, variance, _ = total_moments(mean, variance, response.numel() // response.shape[1])
    deviation = variance.sqrt()
    scale = torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), torch.ones_like(deviation))
    bias.copy_((bias - mean) * scale)
    weight.mul_(scale.reshape(-1, *(1,) * (weight.ndim - 1)))


MOST_PIXELS = 200_000
"""Pixels that decide which clusters win; of more, every n-th is looked at."""


def lifts_to_win(rows: Iterable[tuple[Tensor, Tensor | None]], wanted: int, least: float) -> Tensor:
    """Return what must be added to the logits so that at least `wanted` of the clusters win somewhere (`regions.closest.winning_offsets`).

    Parameters
    ----------
    rows
        Logits ``[B K *S]`` of each batch, and which of its pixels count ``[B *S]``; None = all.
    wanted
        From 1 to K.
    least
        Share of the pixels that a cluster must exceed to count as living.

    Returns
    -------
    Tensor
        ``[K]`` float64; zeros where enough win as they are.
    """
    columns = []
    for logits, valid in rows:
        flat = logits.movedim(1, 0).flatten(1)
        columns.append(flat if valid is None else flat[:, valid.flatten()])
    thinning = -(-sum(each.shape[1] for each in columns) // MOST_PIXELS)
    chosen = torch.cat([each[:, ::thinning] for each in columns], 1).clamp(min=-50).cpu().double().numpy()
    return torch.from_numpy(winning_offsets(chosen, np.ones(chosen.shape[1]), wanted, least))
