"""W-Net: an encoder cuts the image into soft segments, a decoder must rebuild the image from them alone.

Xia & Kulis, "W-Net: A Deep Model for Fully Unsupervised Image Segmentation", 2017. Two U-Nets in series: the first gives each
pixel K probabilities, trained by the soft normalised cut; the second reads nothing but these and rebuilds the image, and its
error moves both. Two optimiser steps a batch, as in the paper: the cut moves the encoder, then the reconstruction moves all.

The paper's table needs its last steps too, a fully connected CRF and a merge tree by contours: `refine`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from selfseg.losses.affinity import Affinity, association_sums
from selfseg.losses.area import area_too_large
from selfseg.losses.imbalance import imbalance
from selfseg.losses.reconstruction import reconstruction
from selfseg.losses.soft_ncut import soft_ncut
from selfseg.losses.window_affinity import window_affinity
from selfseg.methods._base import Batch, Method
from selfseg.methods._wnet_options import WNetConfig
from selfseg.nets.population import calibrate_batch_norms, give_unit_variance, lifts_to_win
from selfseg.nets.unet import UNet, UNetShape
from selfseg.regions.closest import merge_by_cut
from selfseg.sample.patches import random_windows


class WNet(Method):
    """W-Net (see the module's docstring)."""

    Config = WNetConfig
    config: WNetConfig
    distributed_unsupported = None
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
        "nuclei": {"classes": 2, "iterations": 600},
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
            **{"prepare": "size=224,range", "patch": None, "batch_size": 10, "n_segments": 20, "min_share": 0.0},
            **{"width": 64, "depth": 4, "norm": "batch", "dropout": 0.65, "contrast_start": False, "balance": 0.0},
            **{"iterations": 50000, "optimizer": "sgd", "decay_every": 1000, "sigma_intensity": 10 / 255},
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

    def n_steps(self, n_images: int) -> int:
        batches = -(-n_images // min(self.config.batch_size, n_images))
        return max(self.config.iterations, self.config.min_epochs * batches if batches > 1 else 0)

    def optimizers(self) -> dict[str, Optimizer]:
        make: Any = partial(SGD, momentum=self.config.momentum) if self.config.optimizer == "sgd" else Adam
        self._optimizers = {"both": make(self.parameters(), lr=self.config.learning_rate)}
        if self.config.alternate and self.config.cut:
            self._optimizers["encoder"] = make(self.encoder.parameters(), lr=self.config.learning_rate)
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
        return (self.encoder(images).float() + self.lift.view(1, -1, *(1,) * self.n_dims)).softmax(1)

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
        """Fix the statistics of batch norms, drop dead segments, and merge to `classes` if asked: always the pair that cuts most."""
        self.eval()
        calibrate_batch_norms(self, lambda: (self.decoder(self.segments(batch.images)) for batch in batches()))
        wanted = self.config.classes
        areas, between, volume = association_sums(self._hard(batches))
        alive = areas > self.config.min_share * areas.sum()
        if not bool(alive.any()) or (wanted is not None and int(alive.sum()) < wanted):
            alive[areas.argsort(descending=True, stable=True)[: wanted or 1]] = True
        living = alive.nonzero().flatten()
        inside, sizes = between[living][:, living].cpu().numpy(), volume[living].cpu().numpy()
        groups = torch.from_numpy(merge_by_cut(inside, sizes, wanted or len(living)))
        self.class_of.fill_(-1)
        self.class_of[living] = groups.to(self.class_of.device)
        if wanted is not None:
            rows = ((self.assign(batch.images).log(), batch.valid) for batch in batches())
            self.lift[living] += lifts_to_win(rows, wanted, self.config.min_share)[groups].to(self.lift)

    def _hard(self, batches: Callable[[], Iterable[Batch]]) -> Iterator[tuple[Tensor, Affinity]]:
        """Yield the segments with each pixel for its likeliest alone (where the encoder is not sure, overlap is no likeness)."""
        for batch in batches():
            hard = F.one_hot(self.segments(batch.images).argmax(1), self.config.k).movedim(-1, 1).float()  # [B K *S]
            counted = hard if batch.valid is None else hard * batch.valid[:, None]
            yield counted, self._affinity(batch.images, batch.valid)

    def assign(self, images: Tensor) -> Tensor:
        """Return the probabilities of the living segments, summed within merged classes: ``[B K *S]``."""
        self.encoder.eval()
        probabilities = self.segments(images)
        self.encoder.train(self.training)
        if self.training:
            return probabilities
        living = (self.class_of >= 0).nonzero().flatten()
        probabilities = probabilities[:, living] / probabilities[:, living].sum(1, keepdim=True).clamp(min=1e-30)
        merged = probabilities.new_zeros(len(images), self.n_classes, *probabilities.shape[2:])
        return merged.index_add_(1, self.class_of[living], probabilities)

    def training_bytes(self, n_pixels: int) -> int:
        """Estimate from the maps that both U-Nets keep for the backward pass; coarser levels together take as much as the first."""
        if self.config.patch is not None:
            n_pixels = min(n_pixels, self._side(self.config.patch) ** self.n_dims * self.config.batch_size)
        return 4 * n_pixels * (48 * self.config.width + 12 * self.config.k)
