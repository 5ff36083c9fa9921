"""Batch norms at prediction: the statistics of the training images as they are at the end, not as they drifted there."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


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
