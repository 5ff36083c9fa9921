"""A small U-Net with strided convolutions: the encoder of deep k-means for images, a feature vector for each pixel."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfseg.nets.mirror import cut_back, mirror_pad
from selfseg.nets.unet import CONVOLUTION, TRANSPOSED


class StridedUNet(nn.Module):
    """Halve the size `depth` times and come back, joining each level with its equal: ``[B C *S]`` to ``[B F *S]``, any size.

    Convolutions of 3x3 with ReLU and without normalisation; `width` channels, doubled at each level. With one channel in, 64
    features out, width 8 and depth 2 it has 23,256 parameters.

    Parameters
    ----------
    n_in, n_out
        Channels C and features F.
    width
        Channels of the first level.
    depth
        Levels below the first.
    n_dims
        2 or 3.
    rectified
        End with a ReLU, so that features are not negative; otherwise they are linear.
    """

    def __init__(
        self, n_in: int, n_out: int, width: int = 8, depth: int = 2, n_dims: int = 2, rectified: bool = False
    ) -> None:
        super().__init__()
        kind, turned = CONVOLUTION[n_dims], TRANSPOSED[n_dims]
        widths = [width * 2**level for level in range(depth + 1)]
        self.multiple = 2**depth
        self.halo = 8 * self.multiple  # more than the 5 multiples that the layers of all levels reach together
        self.rectified = rectified
        self.down = nn.ModuleList([kind(n_in, width, 3, padding=1)])
        self.strided, self.grow, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for narrow, wide in itertools.pairwise(widths):
            self.strided.append(kind(narrow, narrow, 3, stride=2, padding=1))
            self.down.append(kind(narrow, wide, 3, padding=1))
        for level in reversed(range(depth)):
            narrow, wide = widths[level], widths[level + 1]
            self.grow.append(turned(wide, narrow, 3, stride=2, padding=1, output_padding=1))
            after = [kind(wide, narrow, 3, padding=1)]
            if level:  # the outermost level has one convolution, and the head follows
                after += [nn.ReLU(), kind(narrow, narrow, 3, padding=1)]
            self.join.append(nn.Sequential(*after))
        self.head: nn.Module = kind(width, n_out, 1)
        he_normal(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features ``[B F *S]``."""
        x = mirror_pad(images, self.multiple)
        skips = []
        for level, layer in enumerate(self.down):
            x = F.relu(layer(x if level == 0 else F.relu(self.strided[level - 1](x))))
            skips.append(x)
        skips.pop()
        for grow, join in zip(self.grow, self.join, strict=True):
            x = F.relu(join(torch.cat([skips.pop(), F.relu(grow(x))], dim=1)))
        features = cut_back(self.head(x), images.shape[2:])
        return F.relu(features) if self.rectified else features


def he_normal(net: nn.Module) -> None:
    """Start convolutions with the variance that keeps that of their input through a ReLU (He et al. 2015), biases at 0."""
    for module in net.modules():
        if isinstance(module, (*CONVOLUTION.values(), *TRANSPOSED.values())):
            nn.init.kaiming_normal_(module.get_parameter("weight"), nonlinearity="relu")
            nn.init.zeros_(module.get_parameter("bias"))
