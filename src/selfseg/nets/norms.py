"""Normalisation: batch norms over all processes that share a batch, norms over the pixels that count, features on a fixed scale.

Statistics of the training images are put into a network at the start (the scale of its response) and at the end (batch norms).
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from selfseg.kernels.layout import runs_on_channels_last
from selfseg.regions.clusters import winning_offsets
from selfseg.sample.device import with_most_digits
from selfseg.sample.shared_batch import is_shared, total_moments

FeatureScale = Literal["effect", "total", "each", "none"]

EPS = 1e-5
"""Added to the variance, as in `torch.nn.BatchNorm2d`."""

FEATURE_EPS = 1e-8
"""Added to the variance of features on a fixed scale: those that do not vary stay 0."""

MIN_FUSED_PIXELS = 1024
"""Smallest image for which ReLU and norm in one kernel are faster."""

MOST_PIXELS = 200_000
"""Pixels that decide which clusters win; of more, every n-th is looked at."""


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over all processes that share the batch; alone it is that, with sums that no number of threads changes."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B C Y X]``."""
        if self.training and is_shared():
            return _shared_batch_norm(self, x)
        n = x.numel() // x.shape[1]
        if not self.training or n < 2 or x.is_contiguous() or not runs_on_channels_last(x, 1):
            return super().forward(x)
        from selfseg.kernels.batch_norm import batch_norm

        moments = torch.empty(2, x.shape[1], dtype=torch.float64)
        y = batch_norm(x, self.weight, self.bias, False, self.eps, moments)
        mean, variance = moments.to(self.weight.dtype)
        _follow(self, mean, variance, n)
        return y


class BatchNorm3d(nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` over all processes that share the batch; alone it is just that."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B C Z Y X]``."""
        return _shared_batch_norm(self, x) if self.training and is_shared() else super().forward(x)


@torch.no_grad()
def _follow(layer: Any, mean: Tensor, variance: Tensor, counted: Any) -> None:
    """Move the running statistics towards those of a batch of `counted` pixels, as torch does."""
    n = torch.as_tensor(counted)
    layer.num_batches_tracked += 1
    pace = 1 / int(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, pace)
    layer.running_var.lerp_((variance * n / (n - 1).clamp(min=1)).to(variance.dtype), pace)


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm`; each image in one thread where a fixed order is asked for (`sample.device.in_fixed_order`)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B C *S]``."""
        wanted = torch.are_deterministic_algorithms_enabled() and not torch.compiler.is_compiling()
        if not wanted or x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        result: Tensor = _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return result


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        from selfseg.kernels.convolution import run_alone

        C, n = x.shape[1], x[0, 0].numel()
        y = torch.empty_like(x)

        def work(image: int, stop: int) -> tuple[Tensor, Tensor]:
            part = x[image:stop]
            result, *moments = torch.ops.aten.native_group_norm(part, weight, bias, len(part), C, n, groups, eps)
            y[image:stop] = result
            return moments[0], moments[1]

        ctx.moments = run_alone(work, len(x), len(x))
        ctx.save_for_backward(x, weight)
        ctx.groups = groups
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        from selfseg.kernels.convolution import run_alone

        x, weight = ctx.saved_tensors
        C, n, dx = x.shape[1], x[0, 0].numel(), torch.empty_like(x)
        if not x.is_contiguous() and x.ndim == 4:
            gradient = gradient.contiguous(memory_format=torch.channels_last)

        def work(image: int, stop: int) -> tuple[Tensor, Tensor]:
            sizes, asked = (stop - image, C, n, ctx.groups), [True, True, True]
            back = torch.ops.aten.native_group_norm_backward
            part, dw, db = back(gradient[image:stop], x[image:stop], *ctx.moments[image], weight, *sizes, asked)
            dx[image:stop] = part
            return dw, db

        parts = run_alone(work, len(x), len(x))
        dw, db = (torch.stack(each).sum(0) for each in zip(*parts, strict=True))
        return dx, dw, db, None, None


def _shared_batch_norm(layer: Any, x: Tensor) -> Tensor:
    """Normalise ``x [B C *S]`` by the statistics of the whole batch, and move the running ones as torch does.

    Ioffe & Szegedy, ICML 2015; the running variance is the unbiased one.
    """
    variance, mean = torch.var_mean(x.to(layer.weight.dtype), dim=[0, *range(2, x.ndim)], correction=0)
    mean, variance, counted = total_moments(mean, variance, x.numel() // x.shape[1])
    _follow(layer, mean, variance, counted)
    scale = layer.weight * (variance + layer.eps).rsqrt()
    return (x * column(scale, x) + column(layer.bias - mean * scale, x)).to(x.dtype)


class PixelNorm(nn.Module):
    """Normalise each channel of ``[B C *S]`` to mean 0 and variance 1 over all valid pixels of a batch, then scale and shift it.

    In training mode the statistics are those of the batch (biased variance, equation 1 of Ioffe and Szegedy 2015). In
    evaluation mode they are the buffers `mean` and `variance`, which `set_statistics` fills. `rectify`: a ReLU comes before the norm.
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
        if valid is None and self.training and runs_on_channels_last(x, MIN_FUSED_PIXELS):
            from selfseg.kernels.batch_norm import batch_norm

            return batch_norm(x, self.weight, self.bias, self.rectify, EPS)
        x = F.relu(x) if self.rectify else x
        if valid is None and self.training and not is_shared():
            # Not F.batch_norm: that refuses a batch of a single pixel, which here gives the bias.
            return torch.batch_norm(x, self.weight, self.bias, None, None, True, 0.0, EPS, torch.backends.cudnn.enabled)
        mean, variance = moments(x, valid) if self.training else (self.mean, self.variance)
        scale = self.weight * (variance + EPS).rsqrt()
        y = x * column(scale, x) + column(self.bias - mean * scale, x)
        return y if valid is None else y.where(valid.unsqueeze(1), 0.0)

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
            rows = rows[valid] if valid is not None else rows.reshape(-1, x.shape[1])  # [N C]
            if len(rows) == 0:
                continue
            rows = with_most_digits(rows)
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


class FeatureNorm(nn.Module):
    """Mean 0 and variance 1 of features ``[B F *S]`` over the training pixels, with a gradient that no change of scale can gain by.

    Batch renormalisation without scale and shift (Ioffe 2017, eq. 3): the values are those of the statistics in the buffers,
    the gradient is that of the statistics of the batch. So prediction gives what training gave, batches of a single image keep
    their differences, and the sum of squares over a batch has no gradient along a shift or a scaling of the features.

    Of the scales, ``effect`` turns features so that a squared distance is the squared change of the rebuilt image that a small step of
    that kind makes, and multiplies by one factor, so that the mean variance is 1: features that the decoder does not read, or that
    cancel each other, count nothing. ``total`` = the one factor alone; ``each`` = every feature has variance 1; ``none`` = as they are.
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
        shift, spread = column(self.mean, x), column(self._deviation(self.variance), x)
        mean, variance = moments(x, valid)
        centre, deviation = column(mean, x), column(self._deviation(variance), x)
        y = (x - centre) / deviation
        return y * (deviation / spread).detach() + ((centre - shift) / spread).detach()

    def scaled(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Return ``[B F *S]`` by given statistics ``[F]``."""
        if self.scale == "none":
            return x
        return (self._turned(x) - column(mean, x)) / column(self._deviation(variance), x)

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
        return (shared + FEATURE_EPS).sqrt()

    @torch.no_grad()
    def add_effect(self, slopes: Tensor, valid: Tensor | None) -> None:
        """Take note of the slopes ``[B F *S]`` of the rebuilt image, summed with random signs, along the features.

        The mean of products of such sums is the sum of products of derivatives, J'J (Hutchinson 1990).
        """
        rows = slopes.movedim(1, -1)
        rows = (rows.reshape(-1, slopes.shape[1]) if valid is None else rows[valid]).to(self.effect)
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
        variance, mean = torch.var_mean(with_most_digits(self._turned(rows)), 0, correction=0)
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
    mean = x.where(counted, 0.0).sum(dim=axes) / n
    centred = (x - column(mean, x)).where(counted, 0.0)
    return total_moments(mean, centred.square().sum(dim=axes) / n, valid.sum())[:2]


def column(values: Tensor, x: Tensor) -> Tensor:
    """Return ``[C]`` values in a shape that goes with ``x [B C *S]``."""
    return values.reshape(1, -1, *(1,) * (x.ndim - 2))


@torch.no_grad()
def calibrate_batch_norms(net: nn.Module, passes: Callable[[], Iterable[Any]]) -> None:
    """Replace running averages by the mean statistics of one pass over the training images; leave `net` in evaluation mode.

    `passes` returns an iterable that runs the network on one batch after the other. Without batch norms nothing is done.
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
    """Scale and shift a last convolution so that each channel of its `response` ``[B K *S]`` has mean 0 and variance 1.

    A network that has not learned answers nearly the same everywhere; equal probabilities are a stationary point of many losses.
    The response is of all processes that share the batch. A channel that is constant is only shifted.
    """
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    axes = [0, *range(2, response.ndim)]
    variance, mean = torch.var_mean(response.float(), axes, correction=0)
    mean, variance, _ = total_moments(mean, variance, response.numel() // response.shape[1])
    deviation = variance.sqrt()
    scale = torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), torch.ones_like(deviation))
    bias.copy_((bias - mean) * scale)
    weight.mul_(scale.reshape(-1, *(1,) * (weight.ndim - 1)))


def lifts_to_win(rows: Iterable[tuple[Tensor, Tensor | None]], wanted: int, least: float) -> Tensor:
    """Return what must be added to the logits so that at least `wanted` of the K clusters win somewhere: ``[K]`` float64.

    `rows` are the logits ``[B K *S]`` of each batch, and which of its pixels count ``[B *S]``, None = all. A cluster lives that wins more
    than the share `least` of the pixels (`regions.clusters.winning_offsets`).
    """
    columns = []
    for logits, valid in rows:
        flat = logits.movedim(1, 0).flatten(1)
        columns.append(flat if valid is None else flat[:, valid.flatten()])
    thinning = -(-sum(each.shape[1] for each in columns) // MOST_PIXELS)
    chosen = torch.cat([each[:, ::thinning] for each in columns], 1).clamp(min=-50).cpu().double().numpy()
    return torch.from_numpy(winning_offsets(chosen, np.ones(chosen.shape[1]), wanted, least))
