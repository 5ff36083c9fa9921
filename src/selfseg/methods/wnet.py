"""W-Net: an encoder cuts the image into soft segments, a decoder must rebuild the image from them alone.

Xia & Kulis, "W-Net: A Deep Model for Fully Unsupervised Image Segmentation", 2017. Two U-Nets in series: the first gives each
pixel K probabilities, trained by the soft normalised cut; the second reads nothing but these and rebuilds the image, and its
error moves both. Two optimiser steps a batch, as in the paper: the cut moves the encoder, then the reconstruction moves all.

The paper's table needs its last steps too, a fully connected CRF and a merge tree by contours: `refine`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from selfseg.kernels.layout import softmax
from selfseg.losses.area import area_too_large, imbalance
from selfseg.losses.reconstruction import reconstruction
from selfseg.losses.soft_ncut import Affinity, association_sums, soft_ncut, window_affinity
from selfseg.methods.base import (
    Batch,
    Memo,
    Method,
    MethodConfig,
    exactly_k_classes,
    sum_within_classes,
    summed_by_lists,
)
from selfseg.nets.norms import calibrate_batch_norms, give_unit_variance, lifts_to_win
from selfseg.nets.unet import UNet, UNetShape
from selfseg.regions.clusters import merge_by_cut
from selfseg.sample.device import fused
from selfseg.sample.patches import random_windows

DEFAULT_CLUSTERS = 8
"""Soft segments where neither these nor the classes are given."""


class WNetConfig(MethodConfig):
    """Options of W-Net."""

    prepare: str = "percentile=1:99.5"
    """Preparation of every image, in order, as named steps: ``rescale=0.5,range``. Stored and repeated at prediction."""
    batch_size: int = Field(default=2, ge=1)
    """Images, or windows of them, in one optimiser step. Whole images of different sizes are padded, and the padding is masked."""
    n_clusters: int | None = Field(default=None, ge=2, le=255)
    """Soft segments of the encoder (the paper's K); empty = `n_classes`, or 8. Dead ones are dropped; the closest merge down to
    `n_classes`."""
    width: int = Field(default=16, ge=2)
    """Channels of the first module; each pooling doubles them. The paper: 64."""
    depth: int = Field(default=3, ge=1, le=6)
    """Poolings of each U-Net. The paper: 4, which makes 18 modules."""
    separable: bool = True
    """Depthwise-separable convolutions, but in the first and the last module of each U-Net."""
    norm: Literal["batch", "group", "none"] = "group"
    """Normalisation after each ReLU: over the batch as in the paper, over groups of channels of each image, or none."""
    up: Literal["transposed", "linear"] = "transposed"
    """Up-convolution: transposed 2x2 as in the paper, or linear interpolation and a 1x1 convolution."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the values dropped after each module while training. The paper: 0.65."""
    iterations: int = Field(default=400, ge=1)
    """Batches. At least `min_epochs` passes over the images are made."""
    min_epochs: int = Field(default=1, ge=1)
    """Least passes over the images, where there are several batches of them."""
    patch: int | None = Field(default=128, ge=8)
    """Side of the square, in pixels, cut out of each image at random in every batch (3D: a cube of as many voxels); empty = all of it."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or stochastic gradient descent as in the paper."""
    learning_rate: float = Field(default=0.003, gt=0)
    """Step size at the start."""
    decay: float = Field(default=0.1, gt=0, le=1)
    """Factor of the step size every `decay_every` batches."""
    decay_every: int | None = Field(default=None, ge=1)
    """Batches between two decays; empty = none. The paper: 1000."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of `sgd`."""
    alternate: bool = True
    """Two steps a batch, the cut on the encoder and then the reconstruction on both; false = one step on their sum."""
    cut: float = Field(default=1.0, ge=0)
    """Weight of the soft normalised cut, which is divided by K so that it lies in 0-1. 0 switches it off."""
    reconstruction: float = Field(default=1.0, ge=0)
    """Weight of the mean squared error of the rebuilt image. 0 switches it off."""
    radius: int = Field(default=5, ge=2)
    """Pixels nearer than this are neighbours in the cut (the paper's r = 5)."""
    sigma_intensity: float | None = Field(default=None, gt=0)
    """Fall-off of the cut's weights with the difference of pixel values, in units of the prepared image; empty = from the
    image's own gradients. The paper: 10 of 255."""
    sigma_space: float = Field(default=4.0, gt=0)
    """Fall-off of the cut's weights with distance, in pixels (the paper's 4)."""
    balance: float = Field(default=0.1, ge=0)
    """Weight of the entropy that the mean segment shares lack: against collapse into few segments. 0 switches it off."""
    too_large: float = Field(default=0.0, ge=0)
    """Weight of the loss on segments that take more than `max_area`. 0 switches it off."""
    max_area: float = Field(default=0.6, gt=0, le=1)
    """Largest share of a batch's pixels that a segment may take without loss."""
    contrast_start: bool = True
    """Scale the encoder's first response to unit variance over the first batch: equal probabilities are a stationary point of the cut."""
    min_share: float = Field(default=0.001, ge=0, lt=1)
    """Segments that win less than this share of the training pixels are dropped at the end."""

    @property
    def k(self) -> int:
        """The number K of soft segments."""
        return self.n_clusters or max(2, self.n_classes or DEFAULT_CLUSTERS)

    @model_validator(mode="after")
    def _consistent(self) -> "WNetConfig":
        if self.n_classes is not None and self.n_classes > self.k:
            raise ValueError(f"at most n_clusters={self.k} classes")
        if not self.cut and not self.reconstruction:
            raise ValueError("cut and reconstruction are both 0: nothing would be learned")
        return self


class WNet(Method):
    """W-Net (see the module's docstring)."""

    Config = WNetConfig
    config: WNetConfig
    distributed_unsupported = None
    renamed: ClassVar[Mapping[str, str]] = {"n_segments": "n_clusters"}
    on_host = ("batches_done",)
    class_of: Tensor
    lift: Tensor
    batches_done: Tensor
    live = (
        *("iterations", "min_epochs", "learning_rate", "decay", "decay_every", "momentum", "cut"),
        *("reconstruction", "sigma_intensity", "sigma_space", "balance", "too_large", "max_area", "min_share"),
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "fast": {"iterations": 100},
        "nuclei": {"n_classes": 2, "iterations": 600},
        # Smoothing is worth .04 in V_rand on electron micrographs (EXPERIMENTS.md).
        "em": {"n_classes": 2, "iterations": 150, "prepare": "smooth=2,percentile=1:99.5"},
        # The cut alone parts a volume of small bright nuclei into large blobs of noise (EXPERIMENTS.md): the reconstruction leads.
        "volume": {
            "patch": 160,
            "depth": 2,
            "width": 12,
            "radius": 2,
            "batch_size": 1,
            "alternate": False,
            "reconstruction": 30.0,
            "balance": 0.0,
            "iterations": 200,
        },
        "paper": {
            **{"prepare": "size=224,auto", "patch": None, "batch_size": 10, "n_clusters": 20, "min_share": 0.0},
            **{"width": 64, "depth": 4, "norm": "batch", "dropout": 0.65, "contrast_start": False, "balance": 0.0},
            **{
                "iterations": 50000,
                "optimizer": "sgd",
                "decay_every": 1000,
                "sigma_intensity": 10 / 255,
                "precision": "bfloat16",
            },
        },
    }
    deviations = (
        "images keep their proportions, the longer side 224 pixels, and are not squashed to 224 x 224",
        "the number of segments, 20, is not in the paper; nor are momentum, .9, and the place of the dropout, after each module",
        "the cut is divided by K and the squared error by the number of values: the paper does not say how it balances them",
    )

    def __init__(self, config: WNetConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        layers = config.model_dump(include={"width", "depth", "separable", "norm", "up", "dropout"})
        shape = UNetShape(n_dims=n_dims, **layers)
        self.encoder = UNet(n_channels, config.k, shape)
        self.decoder = UNet(config.k, n_channels, shape)
        self.register_buffer("class_of", torch.arange(config.k))  # segment -> class, -1 = dropped
        self.register_buffer("lift", torch.zeros(config.k))  # raises segments that win nowhere but must
        self.register_buffer("batches_done", torch.zeros((), dtype=torch.int64))
        self._optimizers: dict[str, Optimizer] = {}

    @property
    def n_classes(self) -> int:
        return self.config.k if self.training else int(self.class_of.max()) + 1

    @property
    def uses_triton(self) -> bool:
        return self.config.cut > 0

    def optimizers(self) -> dict[str, Optimizer]:
        make: Any = partial(SGD, momentum=self.config.momentum) if self.config.optimizer == "sgd" else Adam
        how = {"lr": self.config.learning_rate, **fused(self.device)}
        self._optimizers = {"both": make(self.parameters(), **how)}
        if self.config.alternate and self.config.cut:
            self._optimizers["encoder"] = make(self.encoder.parameters(), **how)
        return self._optimizers

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield the cut for the encoder, then the reconstruction for both (paper, section 3.3); or their sum at once."""
        config = self.config
        images, valid = batch.images, batch.valid
        if config.patch is not None:
            images, valid = random_windows(images, valid, self._side(config.patch))
        self._begin(images)
        affinity = self._affinity(images, valid) if config.cut else None
        if config.alternate and config.cut:
            yield "encoder", self._cut_terms(self.segments(images), affinity, valid)
            if config.reconstruction:
                yield "both", self._reconstruction(self.segments(images), images, valid)
            return
        segments = self.segments(images)
        rebuilt = self._reconstruction(segments, images, valid) if config.reconstruction else {}
        yield "both", self._cut_terms(segments, affinity, valid) | rebuilt

    def _side(self, patch: int) -> int:
        """Return the side of a window of about patch x patch pixels, a multiple of what the poolings need."""
        return max(1, round(patch ** (2 / self.n_dims) / self.encoder.multiple)) * self.encoder.multiple

    def segments(self, images: Tensor) -> Tensor:
        """Return the encoder's soft segments ``[B K *S]`` of ``[B C *S]``."""
        return softmax(self.encoder(images).float() + self.lift.view(1, -1, *(1,) * self.n_dims))

    def rebuild(self, images: Tensor) -> Tensor:
        return self.decoder(self.segments(images)).float()

    def _cut_terms(self, segments: Tensor, affinity: Affinity | None, valid: Tensor | None) -> dict[str, Tensor]:
        config, terms = self.config, {}
        if affinity is not None:
            terms["cut"] = config.cut / config.k * soft_ncut(segments, affinity)
        if config.balance:
            terms["balance"] = config.balance * imbalance(segments, valid)
        if config.too_large:
            terms["too_large"] = config.too_large * area_too_large(segments, config.max_area, valid)
        return terms

    def _reconstruction(self, segments: Tensor, images: Tensor, valid: Tensor | None) -> dict[str, Tensor]:
        error = reconstruction(self.decoder(segments).float(), images, valid)
        return {"reconstruction": self.config.reconstruction * error}

    def _affinity(self, images: Tensor, valid: Tensor | None) -> Affinity:
        config = self.config
        sigma: float | Literal["auto"] = "auto" if config.sigma_intensity is None else config.sigma_intensity
        return window_affinity(images, config.radius, sigma, config.sigma_space, config.distances(self.n_dims), valid)

    @torch.no_grad()
    def _begin(self, images: Tensor) -> None:
        """Set the step size of this batch; before the first one, give the response unit variance in each segment."""
        config = self.config
        if config.contrast_start and not int(self.batches_done):
            give_unit_variance(self.encoder.head, self.encoder(images))
        if config.decay_every is not None:
            parts = min(config.accumulate, config.batch_size)
            decays = int(self.batches_done) // parts // config.decay_every
            for optimizer in self._optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * config.decay**decays
        self.batches_done += 1

    @torch.no_grad()
    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fix the statistics of batch norms, drop dead segments, and merge to `n_classes` if asked: always the pair that cuts most."""
        self.eval()
        calibrate_batch_norms(self, lambda: (self.decoder(self.segments(batch.images)) for batch in batches()))
        wanted = self.config.n_classes
        areas, between, volume = association_sums(self._hard(batches))

        def merge(living: Tensor, n: int) -> NDArray[np.integer]:
            return merge_by_cut(between[living][:, living].cpu().numpy(), volume[living].cpu().numpy(), n)

        self.class_of.copy_(exactly_k_classes(areas, wanted, merge, self.config.min_share))
        if wanted is not None:
            rows = ((self.assign(batch.images).log(), batch.valid) for batch in batches())
            lifts = lifts_to_win(rows, wanted, self.config.min_share).to(self.lift)
            living = self.class_of >= 0
            self.lift[living] += lifts[self.class_of[living]]

    def _hard(self, batches: Callable[[], Iterable[Batch]]) -> Iterator[tuple[Tensor, Affinity]]:
        """Yield the segments with each pixel for its likeliest alone (where the encoder is not sure, overlap is no likeness)."""
        for batch in batches():
            hard = F.one_hot(self.segments(batch.images).argmax(1), self.config.k).movedim(-1, 1).float()  # [B K *S]
            counted = hard if batch.valid is None else hard * batch.valid[:, None]
            yield counted, self._affinity(batch.images, batch.valid)

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return the probabilities of the living segments, summed within merged classes: ``[B K *S]``."""
        self.encoder.eval()
        probabilities = self.segments(images)
        self.encoder.train(self.training)
        if self.training:
            return probabilities
        probabilities = probabilities[:, self.class_of >= 0]
        return sum_within_classes(probabilities / probabilities.sum(1, keepdim=True).clamp(min=1e-30), self.class_of)

    def portable(self) -> Callable[[Tensor], Tensor]:
        living = [i for i, one in enumerate(self.class_of.tolist()) if one >= 0]

        def assign(images: Tensor) -> Tensor:
            probabilities = self.segments(images)[:, living]
            return summed_by_lists(probabilities / probabilities.sum(1, keepdim=True).clamp(min=1e-30), self.class_of)

        return assign

    def training_bytes(self, n_pixels: int) -> int:
        """Estimate from the maps that both U-Nets keep for the backward pass; coarser levels together take as much as the first."""
        if self.config.patch is not None:
            n_pixels = min(n_pixels, self._side(self.config.patch) ** self.n_dims * self.config.batch_size)
        return 4 * n_pixels * (48 * self.config.width + 12 * self.config.k)
