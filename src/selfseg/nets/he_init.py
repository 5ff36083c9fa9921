"""He initialisation: weights whose responses keep their variance through layers of ReLUs."""

import math

import torch
from torch import nn

KINDS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@torch.no_grad()
def he_init(net: nn.Module) -> None:
    """Draw every convolution's weights from N(0, sqrt(2 / N)), N the inputs that one of its outputs sums; biases are 0.

    A transposed convolution of stride s and kernel k sums ``(k / s)^D`` pixels of each input channel, not ``k^D``.

    References
    ----------
    He, Zhang, Ren and Sun, Delving deep into rectifiers, ICCV 2015, equation 10; N = 9 x 64 = 576 for a 3x3 convolution of 64
    channels (Ronneberger, Fischer and Brox 2015, section 3).
    """
    for layer in net.modules():
        if not isinstance(layer, KINDS) or layer.weight.is_meta:  # meta: no values, and torch would load its compiler
            continue
        taps = math.prod(layer.kernel_size) / (math.prod(layer.stride) if layer.transposed else 1)
        layer.weight.normal_(0, math.sqrt(2 / (layer.in_channels // layer.groups * taps)))
        if layer.bias is not None:
            layer.bias.zero_()
