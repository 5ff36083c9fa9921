"""Fully connected encoder and decoder for `networks=dense_networks`: convolutions of one pixel, so that each pixel is a point."""

import itertools

from torch import nn

WIDTHS = (128, 128, 256)
"""Hidden layers of the encoder; the decoder has them in reverse."""


def _layers(sizes: list[int], n_dims: int) -> nn.Sequential:
    kind = {2: nn.Conv2d, 3: nn.Conv3d}[n_dims]
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [kind(n_in, n_out, 1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def encoder(n_channels: int, n_features: int, n_dims: int) -> nn.Module:
    return _layers([n_channels, *WIDTHS, n_features], n_dims)


def decoder(n_features: int, n_channels: int, n_dims: int) -> nn.Module:
    return _layers([n_features, *WIDTHS[::-1], n_channels], n_dims)
