"""Networks as a user might write them, for `networks=pixel_networks`: they look at 3x3 pixels and no further."""

from torch import nn

KIND = {2: nn.Conv2d, 3: nn.Conv3d}


def encoder(n_channels, n_features, n_dims):
    return nn.Sequential(KIND[n_dims](n_channels, n_features, 3, padding=1), nn.Tanh())


def decoder(n_features, n_channels, n_dims):
    return KIND[n_dims](n_features, n_channels, 1)
