"""The network of differentiable feature clustering: M x (conv 3 -> ReLU -> norm), then conv 1 -> norm. No pooling."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfseg.kernels.convolution import conv3x3, direct_conv
from selfseg.nets.norms import PixelNorm

Batches = Iterable[tuple[Tensor, Tensor | None]]


class PixelCNN(nn.Module):
    """Map every pixel of ``[B C *S]`` and its neighbourhood to a normalised response over K clusters (q in the paper).

    ``M x (conv 3x3, pad 1 -> ReLU -> norm)``, then ``conv 1x1 -> norm``. The last norm is the "response normalisation"
    of the paper: every cluster axis has mean 0 and variance 1, which lets every cluster win somewhere. (Kim, Kanezaki and Tanaka,
    "Unsupervised learning of image segmentation based on differentiable feature clustering", IEEE TIP 2020, section III.)

    In training mode the norms use the statistics of the valid pixels of the batch. In evaluation mode they use frozen
    statistics, which `calibrate` computes; after it, for one image, both modes give the same response.

    Examples
    --------
    >>> import torch
    >>> from selfseg.nets import PixelCNN
    >>> network = PixelCNN(in_channels=3, n_features=8, n_out=5)
    >>> network(torch.zeros(1, 3, 16, 20)).shape
    torch.Size([1, 5, 16, 20])
    """

    def __init__(
        self, in_channels: int, n_features: int = 100, n_out: int = 100, n_convolutions: int = 2, n_dims: int = 2
    ) -> None:
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[n_dims]
        widths = [in_channels, *[n_features] * n_convolutions]
        self.convs = nn.ModuleList(conv(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(PixelNorm(n_features, rectify=True) for _ in self.convs)
        self.head = conv(widths[-1], n_out, 1)
        self.head_norm = PixelNorm(n_out)
        self.n_dims = n_dims

    @property
    def context(self) -> int:
        """Pixels of halo that the response at a pixel depends on, on each side: one for each 3x3 convolution."""
        return len(self.convs)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the normalised response ``[B K *S]`` of images ``x [B C *S]``; 0 where `valid` ``[B *S]`` is False.

        What stands in pixels that are not valid, NaN included, changes nothing. None = all are valid.
        """
        x = _zero_invalid(x, valid)
        if x.device.type == "cpu" and self.n_dims == 2 and not torch.is_grad_enabled():
            x = x.contiguous(memory_format=torch.channels_last)
        if not self.training:
            return self._frozen_response(x, valid)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(_convolve(conv, x), valid)
        response: Tensor = self.head_norm(_convolve(self.head, x), valid)
        return response

    def _frozen_response(self, x: Tensor, valid: Tensor | None) -> Tensor:
        for conv, norm in zip(self.convs[:-1], self.norms[:-1], strict=True):
            # This norm cannot be folded into the next convolution: its shift stops at the border, padded by zeros.
            x = norm(_convolve(conv, x), valid)
        weight, bias = self._folded_head()
        shape = (*weight.shape, *(1,) * self.n_dims)
        convolve = F.conv2d if self.n_dims == 2 else F.conv3d
        return _zero_invalid(
            convolve(F.relu(_convolve(self.convs[-1], x), inplace=True), weight.reshape(shape), bias), valid
        )

    def plain(self) -> nn.Sequential:
        """Return the response in evaluation mode as plain layers of torch, which give the same up to rounding."""
        layers: list[nn.Module] = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            scale, shift = _as_norm(norm).frozen_scale_shift()
            layers += [deepcopy(conv), nn.ReLU(), _scaling(scale, shift, self.n_dims)]
        scale, shift = self.head_norm.frozen_scale_shift()
        plain = nn.Sequential(*layers, deepcopy(self.head), _scaling(scale, shift, self.n_dims))
        return plain.eval().requires_grad_(False)

    def _folded_head(self) -> tuple[Tensor, Tensor]:
        """Return weight ``[K p]`` and bias ``[K]`` of last hidden norm, head and last norm as one 1x1 convolution."""
        weight, bias = self.head.weight.flatten(1), cast(Tensor, self.head.bias)
        in_scale, in_shift = _as_norm(self.norms[-1]).frozen_scale_shift()
        out_scale, out_shift = self.head_norm.frozen_scale_shift()
        bias = (bias + weight @ in_shift) * out_scale + out_shift
        return weight * in_scale * out_scale[:, None], bias

    @torch.no_grad()
    def calibrate(self, batches: Callable[[], Batches]) -> None:
        """Set the frozen statistics of every norm to those of all given pixels, exactly, layer by layer.

        `batches` is called once for each norm (M + 1 times) and gives one pass over images ``[B C *S]`` with valid ``[B *S]`` or None.
        """
        was_training = self.training
        self.eval()
        for depth, norm in enumerate([*self.norms, self.head_norm]):
            _as_norm(norm).set_statistics(self._inputs_of_norm(depth, batches()))
        self.train(was_training)

    def _inputs_of_norm(self, depth: int, batches: Batches) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield what norm number `depth` sees, with the norms before it frozen."""
        for x, valid in batches:
            x = _zero_invalid(x, valid)
            for conv, norm in zip(self.convs[:depth], self.norms[:depth], strict=True):
                x = norm(_convolve(conv, x), valid)
            yield (_convolve(self.convs[depth], x) if depth < len(self.convs) else _convolve(self.head, x)), valid


def _as_norm(module: nn.Module) -> PixelNorm:
    """Give a member of a `ModuleList` its type."""
    return cast(PixelNorm, module)


def _convolve(conv: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(conv, nn.Conv2d):
        return cast(Tensor, conv(x))
    apply = conv3x3 if conv.kernel_size == (3, 3) else direct_conv
    return apply(x, conv.weight, cast(Tensor, conv.bias))


def _scaling(scale: Tensor, shift: Tensor, n_dims: int) -> nn.Module:
    """Return the layer ``x * scale + shift``, channel by channel: a batch norm of mean 0 and variance 1."""
    layer = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[n_dims](len(scale), eps=0.0)
    layer.weight.data.copy_(scale)
    layer.bias.data.copy_(shift)
    return layer


def _zero_invalid(x: Tensor, valid: Tensor | None) -> Tensor:
    return x if valid is None else x.where(valid.unsqueeze(1), 0.0)
