"""Differentiable feature clustering (Kim, Kanezaki & Tanaka, IEEE TIP 29, 2020, arXiv:2007.09990), on one or many images.

A small network at full resolution gives every pixel a response to each of q clusters, normalised per cluster. It is
trained on its own decision (similarity) and towards smooth responses (continuity); clusters die out as it learns, and
those that survive are the classes. Scribbles, and bounds on the area of a class, steer it.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import SGD, Optimizer

from selfseg.kernels.layout import softmax
from selfseg.losses import count_labels, weighted
from selfseg.losses.area import area_too_large, area_too_small
from selfseg.losses.clustering import clustering_terms, similarity
from selfseg.losses.supervised import scribble
from selfseg.methods.base import (
    Batch,
    Memo,
    Method,
    MethodConfig,
    exactly_k_classes,
    sum_within_classes,
    summed_by_lists,
)
from selfseg.nets.pixel_cnn import PixelCNN
from selfseg.regions.clusters import merge_closest
from selfseg.sample.device import fused, with_most_digits
from selfseg.sample.shared_batch import is_shared, total

AXES = {2: ("y", "x"), 3: ("z", "y", "x")}


class FeatureClusteringConfig(MethodConfig):
    """Options of differentiable feature clustering."""

    n_features: int = Field(default=100, ge=1, le=4096)
    """Channels of the feature maps (the paper's p)."""
    n_clusters: int = Field(default=100, ge=2, le=255)
    """Clusters at the start (the paper's q). Training lets them die; the survivors are the classes."""
    n_convolutions: int = Field(default=2, ge=1, le=16)
    """Components of 3x3 convolution, ReLU and batch normalisation (the paper's M); each sees one pixel further."""
    prepare: str = "size=240,auto"
    """Preparation of every image, in order, as named steps. Stored and repeated at prediction. Learning at 240 pixels on the
    longer side costs little in quality and much less time; `--preset full` keeps the images' own size."""
    iterations: int = Field(default=40, ge=1)
    """Optimiser steps (the paper's T), if `epochs` is empty; more where `min_epochs` asks for more."""
    min_epochs: int = Field(default=10, ge=1)
    """With many images, each is seen at least this many times."""
    epochs: int | None = Field(default=None, ge=1)
    """Passes over all training images; replaces `iterations` and `min_epochs`."""
    border: Literal["repeat", "zeros"] = "repeat"
    """Padding of the convolutions beyond the image: its outermost pixels again, or zeros as in the paper, which often gives the
    image a frame of its own class. Batches that are masked or padded see zeros."""
    min_classes: int = Field(default=3, ge=1)
    """Training stops once no more clusters than this are left over all training images (the paper's minimum of labels)."""
    learning_rate: float = Field(default=0.1, gt=0)
    """Step size of stochastic gradient descent."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of stochastic gradient descent."""
    similarity: float = Field(default=1.0, ge=0)
    """Weight of the similarity loss: cross-entropy with the network's own decision. 0 switches it off."""
    continuity: float = Field(default=5.0, ge=0)
    """Weight of the continuity loss (the paper's mu): mean difference of neighbouring responses. 0 switches it off."""
    nu_y: float = Field(default=1.0, ge=0)
    """Share of the vertical differences in the continuity loss. 0 switches them off."""
    nu_x: float = Field(default=1.0, ge=0)
    """Share of the horizontal differences in the continuity loss. 0 switches them off."""
    nu_z: float = Field(default=1.0, ge=0)
    """Share of the differences between planes of a volume in the continuity loss. 0 switches them off."""
    too_large: float = Field(default=0.0, ge=0)
    """Weight of the loss on classes that take more than `max_area`. 0 switches it off."""
    max_area: float = Field(default=0.6, gt=0, le=1)
    """Largest share of a batch's pixels that a class may take without loss."""
    too_small: float = Field(default=0.0, ge=0)
    """Weight of the loss on living classes that take less than `min_area`. 0 switches it off."""
    min_area: float = Field(default=0.01, gt=0, le=1)
    """Smallest share of a batch's pixels that a living class may take without loss."""
    scribble: float = Field(default=0.5, ge=0)
    """Weight of the cross-entropy with the user's scribbles, where there are any. 0 switches it off."""

    @model_validator(mode="after")
    def _consistent(self) -> "FeatureClusteringConfig":
        if self.n_classes is not None and self.n_classes > self.n_clusters:
            raise ValueError(f"at most n_clusters={self.n_clusters} classes")
        return self


class FeatureClustering(Method):
    """Differentiable feature clustering. See the module's docstring; `FeatureClusteringConfig` lists every option."""

    Config = FeatureClusteringConfig
    config: FeatureClusteringConfig
    uses_annotations, distributed_unsupported = True, None
    on_host = ("living", "hinted")
    class_of: Tensor
    areas: Tensor
    living: Tensor
    hinted: Tensor
    live = (
        *("iterations", "min_epochs", "min_classes", "learning_rate", "momentum", "similarity", "continuity"),
        *("nu_x", "nu_y", "nu_z", "too_large", "max_area", "too_small", "min_area", "scribble"),
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"prepare": "size=200,auto", "iterations": 30},
        "full": {"prepare": "auto"},
        "paper": {"prepare": "auto", "iterations": 1000, "border": "zeros"},
    }
    deviations = (
        "prediction uses the statistics of the training images, frozen; the authors' code normalises every image by its own",
        "channels are in RGB order; the authors' code reads BGR, which changes nothing but the random start",
    )

    def __init__(self, config: FeatureClusteringConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        self.net = PixelCNN(n_channels, config.n_features, config.n_clusters, config.n_convolutions, n_dims)
        self.register_buffer("class_of", torch.arange(config.n_clusters))  # cluster -> class, -1 = dead
        self.register_buffer("areas", torch.zeros(config.n_clusters, dtype=torch.int64))  # hard areas in this epoch
        self.register_buffer("living", torch.ones(config.n_clusters, dtype=torch.bool))  # of the last whole epoch
        self.register_buffer("hinted", torch.zeros(config.n_clusters, dtype=torch.bool))  # clusters with a scribble
        if config.n_classes is not None:
            for name, parameter in self.net.named_parameters():  # the last weights that had classes enough
                self.register_buffer(_kept(name), parameter.detach().clone())

    @property
    def n_classes(self) -> int:
        """Number of classes that `assign` returns: all clusters while training, the living or merged ones after."""
        return self.config.n_clusters if self.training else int(self.class_of.max()) + 1

    @property
    def context(self) -> int:
        """One pixel for each 3x3 convolution."""
        return self.config.n_convolutions

    def optimizers(self) -> dict[str, Optimizer]:
        """Return one: stochastic gradient descent with momentum over all weights."""
        rate, momentum = self.config.learning_rate, self.config.momentum
        return {"net": SGD(self.net.parameters(), lr=rate, momentum=momentum, **fused(self.device))}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield once: similarity, continuity, area and scribble terms of the batch, each with its weight (paper eq. 1)."""
        config = self.config
        response = self._response(batch.images, batch.valid)  # [B q *S]
        similar, differences, labels = clustering_terms(response, batch.valid)
        self._count(labels, batch)
        terms: dict[str, Tensor] = {}
        if config.similarity > 0:
            terms["similarity"] = weighted(config.similarity, self._similar(response, similar, labels, batch))
        shares = [getattr(config, f"nu_{axis}") for axis in AXES[self.n_dims]]
        if config.continuity > 0 and any(shares):
            parts = (weighted(share, difference) for share, difference in zip(shares, differences, strict=True))
            terms["continuity"] = weighted(config.continuity, reduce(operator.add, parts))
        if config.too_large > 0 or config.too_small > 0:
            terms.update(self._area_terms(softmax(response), batch.valid))
        if batch.annotations is not None and config.scribble > 0:
            terms["scribble"] = weighted(config.scribble, scribble(response, batch.annotations))
        yield "net", terms

    def _response(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalised response ``[B q *S]``, with the image's border as configured."""
        framed = self._framed(images, valid)
        response: Tensor = self.net(framed, valid)
        if framed is images:
            return response
        if response.device.type != "cpu":
            return F.pad(response, (-self.context,) * 2 * self.n_dims)  # one launch, each way
        inside: Any = (..., *(slice(self.context, -self.context),) * self.n_dims)
        last = torch.channels_last if self.n_dims == 2 else torch.contiguous_format
        return response[inside].contiguous(memory_format=last)

    def _framed(self, images: Tensor, valid: Tensor | None) -> Tensor:
        """Images with their outermost pixels repeated as far as the response at the border looks."""
        if self.config.border == "zeros" or valid is not None:
            return images
        return F.pad(images, (self.context,) * 2 * self.n_dims, mode="replicate")

    def _similar(self, response: Tensor, similar: Tensor, labels: Tensor, batch: Batch) -> Tensor:
        """Similarity on the pixels without a scribble only, where there are scribbles."""
        if batch.annotations is None:
            return similar
        free = batch.annotations < 0 if batch.valid is None else batch.valid & (batch.annotations < 0)
        return similarity(response, labels, free)

    def _area_terms(self, probabilities: Tensor, valid: Tensor | None) -> dict[str, Tensor]:
        terms = {}
        if self.config.too_large > 0:
            terms["too_large"] = self.config.too_large * area_too_large(probabilities, self.config.max_area, valid)
        if self.config.too_small > 0:
            terms["too_small"] = self.config.too_small * area_too_small(probabilities, self.config.min_area, valid)
        return terms

    @torch.no_grad()
    def _count(self, labels: Tensor, batch: Batch) -> None:
        """Count the living clusters over whole epochs; keep the weights while there are at least as many as asked for."""
        if is_shared():
            self.areas += total(count_labels(labels, len(self.areas), batch.valid))
        else:
            count_labels(labels, len(self.areas), batch.valid, into=self.areas)
        if batch.annotations is not None:
            self.hinted |= (total(count_labels(batch.annotations, len(self.hinted), batch.annotations >= 0)) > 0).cpu()
        if not batch.ends_epoch:
            return
        self.living = self.areas.cpu() > 0
        self.areas.zero_()
        if self.config.n_classes is not None and int(self.living.sum()) >= self.config.n_classes:
            now = dict(self.net.named_parameters())
            for name, parameter in now.items():  # one launch copies all where they lie alike in memory
                if getattr(self, _kept(name)).stride() != parameter.stride():
                    setattr(self, _kept(name), torch.empty_like(parameter))
            torch._foreach_copy_([getattr(self, _kept(name)) for name in now], list(now.values()))

    def status(self) -> dict[str, int]:
        """Return the number of living clusters."""
        return {"classes": int(self.living.sum())}

    def stop_reason(self) -> str | None:
        """Stop once the living clusters are down to `min_classes`, `n_classes` or the number of scribbled classes."""
        floor = max(self.config.min_classes, self.config.n_classes or 0, int(self.hinted.sum()))
        living = int(self.living.sum())
        return f"{living} classes are left" if living <= floor else None

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Freeze the statistics over the training images, drop dead clusters, merge the closest to `n_classes` if asked."""
        areas, means = self._freeze(batches)
        wanted = self.config.n_classes
        if wanted is not None and int((areas > 0).sum()) < wanted:
            for name, parameter in self.net.named_parameters():
                parameter.data.copy_(getattr(self, _kept(name)))
            areas, means = self._freeze(batches)

        def merge(living: Tensor, n: int) -> NDArray[np.integer]:
            sizes, apart = areas[living].clamp(min=1).cpu().numpy(), self.hinted[living.cpu()].numpy()
            return merge_closest(means[living].cpu().numpy(), sizes, apart, n)

        self.class_of.copy_(exactly_k_classes(areas, wanted, merge))

    @torch.no_grad()
    def _freeze(self, batches: Callable[[], Iterable[Batch]]) -> tuple[Tensor, Tensor]:
        """Fix the normalisation; return the hard area [q] and the mean response [q q] of each cluster, in float64."""
        self.net.calibrate(lambda: ((self._framed(b.images, b.valid), b.valid) for b in batches()))
        self.eval()
        q = self.config.n_clusters
        areas = torch.zeros(q, dtype=torch.int64, device=self.class_of.device)
        sums = with_most_digits(torch.zeros(q, q, device=self.class_of.device))
        for batch in batches():
            response = self._response(batch.images).movedim(1, -1).reshape(-1, q)  # [N q]
            if batch.valid is not None:
                response = response[batch.valid.reshape(-1)]
            labels = response.argmax(1)
            areas += count_labels(labels, q)
            sums += torch.zeros(q, q, device=sums.device).index_add_(0, labels, response.float())
        return areas, sums / areas.clamp(min=1)[:, None]

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return the softmax of the response over the living clusters, summed within merged classes: ``[B K *S]``."""
        response = self._response(images).float()  # [B q *S]
        if self.training:
            return softmax(response)
        living = self.class_of >= 0
        probabilities = softmax(response[:, living])
        if int(living.sum()) == self.n_classes:  # nothing to sum: a change of order
            return probabilities[:, self.class_of[living].argsort()]
        return sum_within_classes(probabilities, self.class_of)

    def portable(self) -> Callable[[Tensor], Tensor]:
        net, living = self.net.plain(), [i for i, one in enumerate(self.class_of.tolist()) if one >= 0]
        border = (self.context,) * 2 * self.n_dims
        inside: Any = (..., *(slice(self.context, -self.context),) * self.n_dims)

        def assign(images: Tensor) -> Tensor:
            if self.config.border == "zeros":
                response = net(images)
            else:
                response = net(F.pad(images, border, mode="replicate"))[inside]
            return summed_by_lists(response[:, living].softmax(1), self.class_of)

        return assign

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state; where it was of a run without `n_classes`, its weights are the last that had classes enough."""
        kept = {_kept(name): state[f"net.{name}"] for name, _ in self.net.named_parameters() if f"net.{name}" in state}
        own = self.state()
        super().adopt({name: tensor for name, tensor in {**kept, **state}.items() if name in own})

    def training_bytes(self, n_pixels: int) -> int:
        """Estimate from the feature maps that a step keeps: those of the textbook form (`docs/benchmark.md`)."""
        maps = 5 * self.config.n_convolutions + 8
        return 4 * n_pixels * maps * max(self.config.n_features, self.config.n_clusters)

    def prediction_bytes(self, n_pixels: int) -> int:
        """Estimate from the maps at one convolution, framed and unfolded: 2150 bytes a pixel measured at 100 features, 100 clusters."""
        return 24 * n_pixels * max(self.config.n_features, self.config.n_clusters)


def _kept(name: str) -> str:
    return "kept_" + name.replace(".", "_")
