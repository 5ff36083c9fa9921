"""The shallow decoder of deep k-means for images: the features of a pixel and its neighbours give the pixel back."""

import torch.nn.functional as F
from torch import Tensor, nn

from selfseg.nets.strided_unet import he_normal
from selfseg.nets.unet import CONVOLUTION


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
        self.head = kind(width, n_out, 1)
        he_normal(self)

    def forward(self, features: Tensor) -> Tensor:
        """Return the rebuilt images ``[B C *S]``."""
        rebuilt: Tensor = self.head(self.blocks(F.relu(self.enter(features))))
        return F.relu(rebuilt) if self.rectified else rebuilt
