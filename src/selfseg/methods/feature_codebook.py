"""Feature codebook: k-means on frozen features, one codebook for all images, so that a class is the same thing in each of them.

Users of frozen features (DINO and others) run k-means on those of one image, and get other classes in the next. Here every pixel of every
image has the features of a network that learned elsewhere (`nets.backbones`), on one grid; principal components of the features over all
training images (Pearson 1901) keep what varies; k-means finds the codebook in a sample of all images. A pixel belongs to each class by
the distance between its features and the entry.

The maps are coarse, so that classes do not end at edges: `--refine contours` gives each region between contours one class, and `crf`
lets pixels of like colour agree; the presets `contours` and `crf` do. Volumes are seen slice by slice. Nothing learns by gradients.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from selfseg.kernels.layout import softmax
from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.nets.backbones import FrozenFeatures, on_grid
from selfseg.sample.choose import spread_rows
from selfseg.sample.device import full_float32
from selfseg.sample.k_means import k_means

RESTARTS = 8
"""Runs of k-means that the codebook is the best of."""


class FeatureCodebookConfig(MethodConfig):
    """Options of the feature codebook."""

    n_clusters: int = Field(default=8, ge=1, le=255)
    """Entries of the codebook, if `n_classes` is empty."""
    features: str = "efficientnet-lite0"
    """The frozen network: efficientnet-lite0, or a folder or hub name for transformers (pip install 'selfseg[features]')."""
    features_sha256: str = ""
    """Hash of its weights. It is filled in when a model is fitted; a stored model takes no others."""
    as_rgb: tuple[int, ...] = ()
    """Channels, from 0, that are red, green and blue to the network; one = grey; empty = RGB as it is, of other images their mean."""
    n_maps: int = Field(default=3, ge=1)
    """Maps of the network that count, the last and coarsest ones; they weigh the same."""
    n_components: int = Field(default=32, ge=1)
    """Principal components of the features that are kept."""
    stride: int = Field(default=4, ge=1)
    """Pixels between the points at which features are compared."""
    softness: float = Field(default=0.5, gt=0)
    """Standard deviation of a pixel's membership of a class, a Gaussian of their distance, in units of the typical distance."""


class FeatureCodebook(Method):
    """One codebook of frozen features for all images. See the module's text."""

    Config = FeatureCodebookConfig
    config: FeatureCodebookConfig
    uses_memos = True
    distributed_unsupported = "it has nothing to learn by gradients; it takes some tenths of a second an image"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"contours": {}, "crf": {}}
    refinements: ClassVar[Mapping[str, str]] = {"contours": "contours", "crf": "crf"}
    mean: Tensor
    components: Tensor
    centres: Tensor
    typical: Tensor

    def __init__(self, config: FeatureCodebookConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        self.features = FrozenFeatures(config.features, config.features_sha256, config.as_rgb, n_channels)
        self.config = config.changed(features_sha256=self.features.weights.sha256)
        self.widths = self.features.channels[-config.n_maps :]
        width, kept = sum(self.widths), min(config.n_components, sum(self.widths))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("components", torch.zeros(width, kept))
        self.register_buffer("centres", torch.zeros(config.n_classes or config.n_clusters, kept))
        self.register_buffer("typical", torch.ones(()))  # mean squared distance to the nearest entry

    @property
    def n_classes(self) -> int:
        return len(self.centres)

    @property
    def context(self) -> int | None:
        return self.features.context

    @property
    def multiple(self) -> int:
        return self.features.multiple * self.config.stride

    @property
    def relies_on(self) -> str:
        return self.features.described

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Do nothing: the codebook is made in `finish`."""
        yield from ()

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Find principal components and codebook in a sample of all images."""
        rows = spread_rows(self._rows(*one) for batch in batches() for one in batch.each())
        with full_float32(rows.device):
            mean, deviation = rows.mean(0), rows.std(0, correction=0).clamp(min=1e-6)
            # Each map has the same variance in all, however many channels it has.
            scale = torch.cat([deviation.new_full((n,), n**-0.5) for n in self.widths]) / deviation
            even = ((rows - mean) * scale).double()
            _, directions = torch.linalg.eigh(even.T @ even)  # ascending
            kept = directions.flip(1)[:, : self.components.shape[1]].float()
            kept = kept * torch.where(kept.gather(0, kept.abs().argmax(0, keepdim=True)) < 0, -1.0, 1.0)
            found = k_means((rows - mean) * scale @ kept, len(self.centres), seed=0, restarts=RESTARTS)
            self.mean.copy_(mean)
            self.components.copy_(scale[:, None] * kept)
            self.centres.copy_(found.centres)
            self.typical.fill_(max(found.inertia / len(rows), 1e-12))

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        memos = memos or [{} for _ in images]
        return torch.stack([self._assign_one(image, memo) for image, memo in zip(images, memos, strict=True)])

    def training_bytes(self, n_pixels: int) -> int:
        """Return the memory of the network's widest maps, and of the features on their grid."""
        return n_pixels * (300 + 8 * sum(self.widths) // self.config.stride**2)

    def prediction_bytes(self, n_pixels: int) -> int:
        return self.training_bytes(n_pixels) + 16 * n_pixels * self.n_classes

    def _planes(self, image: Tensor, memo: Memo | None) -> Tensor:
        """Return the features of an image ``[C *S]`` on the grid, ``[F *s]`` on the CPU."""
        maps = self.features.maps(image.to(self.centres.device), memo)
        return on_grid(maps[-self.config.n_maps :], image.shape, self.config.stride)

    def _rows(self, image: Tensor, valid: Tensor, memo: Memo | None) -> Tensor:
        """Return the features of those points of the grid that count, ``[N F]``."""
        step = self.config.stride
        planes, inside = self._planes(image, memo), valid[..., ::step, ::step]
        rows = planes.flatten(1).T[inside.flatten()]
        return rows if len(rows) else planes.flatten(1).T[:1]

    def _assign_one(self, image: Tensor, memo: Memo) -> Tensor:
        with torch.no_grad(), full_float32(image.device):
            planes = self._planes(image, memo).to(self.centres)
            rows = (planes.flatten(1).T - self.mean) @ self.components
            gaps = torch.cdist(rows, self.centres, compute_mode="donot_use_mm_for_euclid_dist").square()
            logits = (-gaps / (2 * self.config.softness**2 * self.typical)).T.reshape(-1, *planes.shape[1:])
            slices = logits.movedim(1, 0) if image.ndim == 4 else logits[None]  # [Z K h w]
            step = self.config.stride
            grown = F.interpolate(slices, [n * step for n in slices.shape[2:]], mode="bilinear", align_corners=False)
            grown = grown[..., : image.shape[-2], : image.shape[-1]]
            whole = grown.movedim(0, 1) if image.ndim == 4 else grown[0]
            return softmax(whole[None])[0].to(image.device)
