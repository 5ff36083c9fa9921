"""K-means: classes of pixels by colour, or by texture, one set of centres for all images.

No network: a few seconds for a folder, in 2D and 3D. Each pixel is its colour (Lab of three channels, else the channels) and its texture
in three bands (`regions.texture.appearance`), smoothed; k-means with several starts finds the centres in a sample of the pixels of all
training images. A pixel belongs to each class by the distance between its features and the centre.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.ndimage import gaussian_filter
from torch import Tensor

from selfseg.kernels.layout import softmax
from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.regions.texture import BANDS, appearance
from selfseg.sample.choose import spread_rows
from selfseg.sample.k_means import k_means

TEXTURE_REACH = math.ceil(sum(4 * math.sqrt(b**2 - a**2) for a, b in itertools.pairwise(BANDS)) + 3 * 3.0) + 4
"""Pixels around one that its texture depends on: the Gaussians of `band_energy` one after the other."""


class KMeansConfig(MethodConfig):
    """Options of k-means."""

    n_clusters: int = Field(default=5, ge=1, le=255)
    """Classes, if `n_classes` is empty."""
    colour: float = Field(default=1.0, ge=0)
    """Weight of colour; 0 = texture alone."""
    lightness: float = Field(default=0.5, ge=0)
    """Weight of lightness (and of channels that are not colours) against a and b: shading changes lightness most."""
    texture: float = Field(default=0.0, ge=0)
    """Weight of texture in three bands; 0 = colour alone."""
    smooth: float = Field(default=2.0, ge=0)
    """Standard deviation of a Gaussian over colours, in pixels."""
    softness: float = Field(default=4.0, gt=0)
    """Standard deviation of a pixel's membership of a class, a Gaussian of their distance, in units of Lab."""


class KMeans(Method):
    """Classes of pixels by colour and texture. See the module's text."""

    Config = KMeansConfig
    distributed_unsupported = "it has nothing to learn by gradients; it takes a few seconds"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"texture": {"colour": 0.25, "texture": 30.0}}
    config: KMeansConfig
    centres: Tensor

    def __init__(self, config: KMeansConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        self._spacing = config.distances(n_dims)
        width = n_channels + (len(BANDS) - 1) * (config.texture > 0)
        self.register_buffer("centres", torch.zeros(config.n_classes or config.n_clusters, width))

    @property
    def n_classes(self) -> int:
        """Number of centres."""
        return len(self.centres)

    @property
    def context(self) -> int:
        """Reach of the smoothing, and of texture where it counts."""
        unit = min(self._spacing)
        return math.ceil((max(4 * self.config.smooth, TEXTURE_REACH if self.config.texture else 0) + 1) / unit)

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Do nothing: the centres are found in `finish`."""
        yield from ()

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Find the centres, dark to bright."""
        rows = spread_rows(self._features(image)[valid] for batch in batches() for image, valid, _ in batch.each())
        centres = k_means(rows, len(self.centres), seed=0, restarts=3).centres
        order = np.lexsort(centres.numpy().T[::-1])
        self.centres = centres[torch.from_numpy(order)].to(self.device)

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return the memberships of each pixel, ``[B K *S]`` float32, of prepared images ``[B C *S]``."""
        features = torch.stack([self._features(image) for image in images])  # [B *S F]
        gaps = torch.stack([(features - centre).square().sum(-1) for centre in self.centres.cpu()], 1)
        return softmax(-gaps / (2 * self.config.softness**2)).to(images.device)

    def training_bytes(self, n_pixels: int) -> int:
        """Return the memory of features and their copies of one image."""
        return 4 * n_pixels * (4 * self.centres.shape[1] + 2 * len(self.centres))

    def _features(self, image: Tensor) -> Tensor:
        """Return the features ``[*S F]`` of a prepared image ``[C *S]``, on the CPU."""
        config = self.config
        plain = np.moveaxis(image.detach().float().cpu().numpy(), 0, -1)
        found = appearance(plain, config.lightness, config.texture, self._spacing)
        colour, texture = found[..., : 1 - len(BANDS)] * np.float32(config.colour), found[..., 1 - len(BANDS) :]
        sigmas = [config.smooth / unit for unit in self._spacing]
        if config.smooth:
            colour = np.stack(
                [gaussian_filter(plane, sigmas, mode="nearest") for plane in np.moveaxis(colour, -1, 0)], -1
            )
        both = np.concatenate([colour, texture], -1) if config.texture else colour
        return torch.from_numpy(np.ascontiguousarray(both, np.float32))
