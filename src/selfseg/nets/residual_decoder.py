"""The shallow decoder of deep k-means for images: the features of a pixel and its neighbours give the pixel back."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfseg.nets.pixel_norm import moments
from selfseg.nets.population import give_unit_variance
from selfseg.nets.strided_unet import StridedUNet, he_normal
from selfseg.nets.unet import CONVOLUTION

START = 0.1
"""Factor of the last weights at the start: the rebuilt image is then nearly its mean."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with ReLU, added to what came in (He et al. 2016)."""

    def __init__(self, width: int, n_dims: int) -> None:
        super().__init__()
        kind = CONVOLUTION[n_dims]
        self.layers = nn.Sequential(
            kind(width, width, 3, padding=1), nn.ReLU(), kind(width, width, 3, padding=1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B W *S]`` of ``[B W *S]``."""
        y: Tensor = x + self.layers(x)
        return y


class ResidualDecoder(nn.Module):
    """One convolution, residual blocks, a 1x1 convolution: ``[B F *S]`` to ``[B C *S]``.

    With 64 features in, one channel out, width 8 and 3 blocks it has 8,129 parameters.

    Parameters
    ----------
    n_in, n_out
        Features F and channels C.
    width
        Channels within.
    blocks
        Residual blocks.
    n_dims
        2 or 3.
    rectified
        End with a ReLU, for images that are nowhere negative.
    """

    def __init__(
        self, n_in: int, n_out: int, width: int = 8, blocks: int = 3, n_dims: int = 2, rectified: bool = False
    ) -> None:
        super().__init__()
        kind = CONVOLUTION[n_dims]
        self.rectified = rectified
        self.enter = kind(n_in, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width, n_dims) for _ in range(blocks)))
        self.head: nn.Module = kind(width, n_out, 1)
        he_normal(self)

    def forward(self, features: Tensor) -> Tensor:
        """Return the rebuilt images ``[B C *S]``."""
        rebuilt: Tensor = self.head(self.blocks(F.relu(self.enter(features))))
        return F.relu(rebuilt) if self.rectified else rebuilt


@torch.no_grad()
def start_near(encoder: nn.Module, decoder: nn.Module, images: Tensor, valid: Tensor | None) -> None:
    """Scale the last layers so that features begin with variance 1, and rebuilt images with the mean of the images.

    Otherwise the first hundred steps only learn that mean. Features behind a ReLU are left as they are, and so are networks of
    the user's own.
    """
    if not (isinstance(encoder, StridedUNet) and isinstance(decoder, ResidualDecoder)):
        return
    if not encoder.rectified:
        give_unit_variance(encoder.head, encoder(images))
    decoder.head.get_parameter("weight").mul_(START)
    decoder.head.get_parameter("bias").copy_(moments(images, valid)[0])
