"""SP-WNet: dense features that must rebuild the image from patches of many sizes, cut into segments on a superpixel graph.

Leng et al., "Unsupervised few-shot image segmentation with dense feature learning and sparse clustering", VISAPP 2024. Two U-Nets in
series, as in W-Net. The softmax of the first one's features is all that the second sees of the image, and it must rebuild whole
images and random patches. The mean feature of each superpixel has a label; pixels should be sure of the label of their superpixel,
and superpixels be like their neighbours. Learned on a few frames or slices, it segments the others like them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import Adam, Optimizer

from selfseg.core.errors import UsageError
from selfseg.core.seed import derive
from selfseg.kernels.layout import softmax
from selfseg.losses import weighted
from selfseg.losses.clustering import clustering_terms, region_continuity, similarity
from selfseg.losses.reconstruction import reconstruction
from selfseg.losses.soft_ncut import Affinity, association, soft_ncut, window_affinity
from selfseg.methods._sp_wnet_graph import SuperpixelConfig, SuperpixelGraph, SuperpixelGraphs
from selfseg.methods.base import Batch, Memo, Method, exactly_k_classes, sum_within_classes
from selfseg.nets.norms import PixelNorm, calibrate_batch_norms, give_unit_variance
from selfseg.nets.region_pool import region_mean, region_votes, spread
from selfseg.nets.unet import UNet, UNetShape, cut_middle, mirror_frame
from selfseg.regions.clusters import merge_by_cut, winning_offsets
from selfseg.regions.merge_tree import MergeTree
from selfseg.regions.superpixels import probability_tree
from selfseg.sample.device import fused, most_digits
from selfseg.sample.patches import (
    PatchPosition,
    PatchShape,
    cut,
    drawn_once,
    equal_pixel_shapes,
    joined,
    one_of,
    patch_sheet,
    redrawn,
    with_boundaries,
)
from selfseg.sample.shared_batch import in_turn, is_shared, own_weight, sharing

Weight = float | None

REBUILDING = ("rc_image", "rc_patches")
"""Terms that the warm-up leaves alone."""

LEAST_LOGIT = -30.0
"""Log-probability below which a class is as good as impossible."""

MOST_NODES = 100_000
"""Superpixels or pixels of all images that are looked at where dead labels must be raised."""

ORIGIN: Mapping[str, Any] = {
    "n_clusters": 32,
    "width": 64,
    "depth": 4,
    "norm": "batch",
    "up": "transposed3",
    "border": "zeros",
    "response_norm": False,
    "contrast_start": False,
    "n_superpixels": 12000,
    "patches_of_largest": 4,
    "redraw": False,
    "learning_rate": 0.001,
    "min_share": 0.0,
}
"""Options that both demos share."""


class SPWNetConfig(SuperpixelConfig):
    """Options of SP-WNet. A weight `beta_*` that is empty switches its term off."""

    prepare: str = "size=640,auto"
    """Preparation of every image, in order, as named steps: ``rescale=0.33,unsharp=5:1``. Stored and repeated at prediction."""
    n_clusters: int = Field(default=16, ge=2, le=255)
    """Channels between the two networks, and so the largest number of labels (the demos: 32). Dead ones are dropped, and
    those that cut most merge if `n_classes` asks for fewer."""
    width: int = Field(default=8, ge=2)
    """Channels of the first module (the origin's ch_mul, 64); each pooling doubles them."""
    depth: int = Field(default=3, ge=1, le=6)
    """Poolings of each U-Net (the origin's n_blocks, 4)."""
    separable: bool = True
    """Depthwise-separable convolutions, but in the first and the last module of each U-Net."""
    norm: Literal["batch", "group", "none"] = "group"
    """Normalisation before each ReLU: over the batch as in the origin, over groups of channels of each image, or none."""
    up: Literal["transposed", "transposed3", "linear"] = "linear"
    """Up-convolution: transposed 2x2, transposed 3x3 as in the origin, or linear interpolation and a 1x1 convolution."""
    border: Literal["mirror", "zeros"] = "mirror"
    """Padding of convolutions beyond the border of a whole image: its mirror image, as wide as 2^(depth + 1) pixels, or zeros as in
    the origin, which learn where the border is. Patches are cut from the middle of things, and see zeros."""
    response_norm: bool = True
    """Normalise each channel of the features over the image, as Kim et al. 2020 do: so that every label can win. The origin
    does not."""
    contrast_start: bool = True
    """Scale the first response to unit variance over the first batch, so that no label is ahead of the others by chance."""
    region_label: Literal["mean", "majority"] = "mean"
    """Label of a superpixel: the largest channel of its mean features, or the one that is largest in most of its pixels."""
    beta_rc_image: Weight = Field(default=0.5, ge=0)
    """Weight of the squared error of whole rebuilt images."""
    beta_rc_patches: Weight = Field(default=1.0, ge=0)
    """Weight of the squared error of rebuilt patches."""
    beta_cut: Weight = Field(default=None, ge=0)
    """Weight of the normalised cut on the superpixel graph, divided by n_clusters; without superpixels on pixels."""
    beta_sim: Weight = Field(default=0.1, ge=0)
    """Weight of the cross entropy of pixels against the label of their superpixel; without superpixels against their own."""
    beta_con: Weight = Field(default=0.1, ge=0)
    """Weight of the difference of superpixels from their neighbours; without superpixels of pixels from theirs."""
    beta_balance: Weight = Field(default=None, ge=0)
    """Weight of the entropy that the mean label shares lack: against collapse into few labels. Not in the origin."""
    warm_up: int = Field(default=0, ge=0)
    """Steps over which cut, similarity, continuity and balance rise from nothing to their weights: labels are then taken from
    features that rebuild the image, not from those of a network that has learned nothing. Not in the origin."""
    patch_sides: tuple[int, ...] = (64, 96)
    """Sides of patches in pixels: every combination of them is a shape, with as many patches as make equal pixels."""
    patches_of_largest: int = Field(default=1, ge=1)
    """Patches of the largest shape that each image gives to a step."""
    patch_shapes: tuple[tuple[int, ...], ...] = ()
    """Shapes instead of `patch_sides`, each with its number of patches: ``[[64, 96, 6], [96, 96, 4]]``."""
    patch_window: tuple[float, ...] = ()
    """Part of the image that patches come from, start and stop along each axis as shares 0-1: 0.2,0.9,0,1. Empty = all of it."""
    redraw: bool = True
    """Draw patches anew at each step; false = from a pool that is drawn once, as in the origin."""
    patch_batches: int = Field(default=8, ge=1)
    """Batches of patches in the pool, where they are not redrawn (the origin's n_batches)."""
    iterations: int = Field(default=100, ge=1)
    """Optimiser steps, at least `min_epochs` passes over the images. The origin: epochs times n_batches, all images in each."""
    min_epochs: int = Field(default=1, ge=1)
    """Least passes over the images, where there are several batches of them."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Step size of Adam. The origin: 0.001."""
    radius: int = Field(default=5, ge=2)
    """Without superpixels: pixels nearer than this are neighbours in the cut."""
    sigma_intensity: float | None = Field(default=None, gt=0)
    """Without superpixels: fall-off of the cut's weights with the difference of values; empty = from the image's gradients."""
    sigma_space: float = Field(default=4.0, gt=0)
    """Without superpixels: fall-off of the cut's weights with distance, in pixels."""
    min_share: float = Field(default=0.001, ge=0, lt=1)
    """Labels that win less than this share of the training pixels are dropped at the end."""

    @model_validator(mode="after")
    def _consistent(self) -> "SPWNetConfig":
        if self.n_classes is not None and self.n_classes > self.n_clusters:
            raise ValueError(f"at most n_clusters={self.n_clusters} classes")
        if self.beta_rc_image is None and self.beta_rc_patches is None:
            raise ValueError(
                "beta_rc_image and beta_rc_patches are both empty: nothing would hold the features to the image"
            )
        if any(min(shape, default=0) < 1 for shape in self.patch_shapes) or min(self.patch_sides, default=0) < 1:
            raise ValueError("patches need sides and numbers of 1 or more")
        if len(self.patch_window) % 2 or any(
            not 0 <= low < high <= 1 for low, high in zip(self.patch_window[::2], self.patch_window[1::2], strict=True)
        ):
            raise ValueError("patch_window needs pairs of shares, each 0 <= start < stop <= 1")
        return self

    def check_axes(self, n_dims: int) -> None:
        """Raise `UsageError` where an option has values for another number of axes than the images."""
        given = [("spacing", len(self.spacing), n_dims), ("patch_window", len(self.patch_window), 2 * n_dims)]
        given += [("patch_shapes", len(row), n_dims + 1) for row in self.patch_shapes]
        for name, got, wanted in given:
            if got not in (0, wanted):
                raise UsageError(name, expected=f"{wanted} values", got=str(got), fix=f"the images are {n_dims}D")


class Part(NamedTuple):
    """Images that are normalised by themselves: `counted` ``[n *S]`` bool, None = all pixels; `image` of a batch they are patches of."""

    n_images: int
    counted: Tensor | None
    image: int = 0


class Pass(NamedTuple):
    """Images ``[B C *S]`` that go through the networks at once: framed = whole, with a border; rebuilt = also through the second."""

    images: Tensor
    parts: list[Part]
    framed: bool = False
    rebuilt: bool = True


class SPWNet(Method):
    """SP-WNet. See the module's docstring; `SPWNetConfig` lists every option."""

    Config = SPWNetConfig
    config: SPWNetConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"prepare": "size=400,auto", "iterations": 60},
        "volume": {"prepare": "auto", "depth": 2, "superpixel_size": 64.0, "patch_sides": (24, 32)},
        "cheetah": {
            **ORIGIN,
            "prepare": "border=10,rescale=0.3333333333333333,unsharp=5:1,multiple=16,auto",
            "patch_sides": (64, 96),
            "tau_con": 1.0,
            "batch_size": 4,
            "iterations": 120,
        },
        "hanyu": {
            **ORIGIN,
            "prepare": "rescale=0.25,unsharp=50:4,multiple=16,auto",
            "patch_sides": (64, 128),
            "beta_rc_image": None,
            "tau_con": 0.0,
            "batch_size": 2,
            "iterations": 80,
        },
    }
    live = (
        *("iterations", "min_epochs", "learning_rate", "beta_rc_image", "beta_rc_patches", "beta_cut", "beta_sim"),
        *("beta_con", "beta_balance", "warm_up", "redraw", "patch_batches", "min_share"),
    )
    renamed: ClassVar[Mapping[str, str]] = {"n_features": "n_clusters"}
    uses_superpixels, uses_memos, distributed_unsupported = True, True, None
    on_host = ("batches_done", "epochs_done", "patch_seed")
    class_of: Tensor
    offsets: Tensor
    batches_done: Tensor
    epochs_done: Tensor
    patch_seed: Tensor

    def __init__(self, config: SPWNetConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        config.check_axes(n_dims)
        layers = config.model_dump(include={"width", "depth", "separable", "norm", "up"})
        shape = UNetShape(n_dims=n_dims, norm_last=False, **layers)
        self.encoder = UNet(n_channels, config.n_clusters, shape)
        self.norm = PixelNorm(config.n_clusters) if config.response_norm else None
        self.decoder = UNet(config.n_clusters, n_channels, shape)
        self.shapes = tuple(PatchShape(row[:-1], row[-1]) for row in config.patch_shapes) or equal_pixel_shapes(
            config.patch_sides, config.patches_of_largest, n_dims
        )
        self.register_buffer("class_of", torch.arange(config.n_clusters))  # label -> class, -1 = dropped
        self.register_buffer("offsets", torch.zeros(config.n_clusters))  # raise classes that win nowhere but must
        self.register_buffer("batches_done", torch.zeros((), dtype=torch.int64))
        self.register_buffer("epochs_done", torch.zeros((), dtype=torch.int64))
        self.register_buffer("patch_seed", torch.randint(2**62, ()))
        self.graphs = SuperpixelGraphs(config)

    @property
    def n_classes(self) -> int:
        """Number of classes that `assign` returns: all labels while training, the living or merged ones after."""
        return int(self.class_of.max()) + 1

    @property
    def uses_triton(self) -> bool:
        return self.config.superpixels == "none"

    def optimizers(self) -> dict[str, Optimizer]:
        """Return one, over the weights of both networks."""
        return {"both": Adam(self.parameters(), lr=self.config.learning_rate, **fused(self.device))}

    def features(self, images: Tensor, valid: Tensor | None = None, framed: bool = True) -> Tensor:
        """Return the dense features ``[B K *S]``, not yet softmax, of ``[B C *S]``: whole images (framed) or patches."""
        return self._normalised(self._responses([images], [framed])[0], [Part(len(images), valid)])

    def _responses(self, images: Sequence[Tensor], framed: Sequence[bool]) -> list[Tensor]:
        """Return the encoder's responses ``[B K *S]``, float32; framed = with the border of a whole image."""
        width = 2 ** (self.config.depth + 1) if self.config.border == "mirror" else 0
        around = [[width * frame] * self.n_dims for frame in framed]
        seen = [mirror_frame(batch, more[0], more) for batch, more in zip(images, around, strict=True)]
        found = self.encoder.responses(seen)
        return [cut_middle(response, batch.shape[2:]).float() for response, batch in zip(found, images, strict=True)]

    def _normalised(self, response: Tensor, parts: Sequence[Part]) -> Tensor:
        """Return features of a response, each part normalised by itself."""
        if self.norm is None:
            return response
        pieces = [response] if len(parts) == 1 else response.split([part.n_images for part in parts])
        return joined([self.norm(piece, part.counted) for piece, part in zip(pieces, parts, strict=True)])

    def decode(self, features: Tensor) -> Tensor:
        """Return the image ``[B C *S]`` that the second network makes of features ``[B K *S]``."""
        rebuilt: Tensor = self.decoder(softmax(features))
        return rebuilt.float()

    def _through(self, passes: Sequence[Pass]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features of each pass, and the images rebuilt of those where that is asked for."""
        responses = self._responses([each.images for each in passes], [each.framed for each in passes])
        features = [self._normalised(found, each.parts) for found, each in zip(responses, passes, strict=True)]
        codes = [softmax(found) for found, each in zip(features, passes, strict=True) if each.rebuilt]
        return features, [rebuilt.float() for rebuilt in self.decoder.responses(codes)]

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield once: all terms, means over the images of the batch (the origin weighs the first of n images n times)."""
        config = self.config
        if config.contrast_start and not int(self.batches_done):
            with torch.no_grad():
                give_unit_variance(self.encoder.head, self._responses([batch.images], [True])[0])
        with in_turn():
            seeds = [int(torch.randint(2**62, ())) for _ in batch.images]
        whole, patches = self._whole(batch), self._patches(batch, seeds)
        apart = is_shared()  # patches are of single images
        responses, again = self._through(whole if apart else [*whole, *patches])
        with sharing(None):
            if apart:
                again += self._through(patches)[1]
            features = responses[0] if whole else None
            rebuilt = again.pop(0) if whole and whole[0].rebuilt else None
            errors = _patch_errors(patches, again, len(batch.images))
            rows: list[dict[str, Tensor]] = []
            for b, image in enumerate(batch.images):
                valid = None if batch.valid is None else batch.valid[b]
                terms: dict[str, Tensor] = {}
                if rebuilt is not None:
                    counted = None if valid is None else valid[None]
                    terms["rc_image"] = reconstruction(one_of(rebuilt, b), image[None], counted)
                if patches:
                    terms["rc_patches"] = errors[b]
                if features is not None:
                    graph = self.graphs.of(image, valid, _memo(batch, b), batch.reach(b))
                    terms |= self._segment_terms(one_of(features, b), image, valid, graph)
                rows.append(terms)
        risen = min(1.0, int(self.batches_done) / config.warm_up) if config.warm_up else 1.0
        betas = {name: getattr(config, f"beta_{name}") * (1 if name in REBUILDING else risen) for name in rows[0]}
        self.batches_done += 1
        self.epochs_done += batch.ends_epoch
        betas = {name: beta * own_weight(len(rows)) for name, beta in betas.items()}
        means = rows[0] if len(rows) == 1 else {name: torch.stack([row[name] for row in rows]).mean() for name in betas}
        yield "both", {name: weighted(beta, means[name]) for name, beta in betas.items()}

    def _segment_terms(
        self, features: Tensor, image: Tensor, valid: Tensor | None, graph: SuperpixelGraph | None
    ) -> dict[str, Tensor]:
        """Return cut, similarity, continuity and balance of one image, those that have a weight, not yet weighted.

        `features` are ``[1 K *S]`` float32, the image ``[C *S]``, `valid` ``[*S]`` bool or None. Without a graph all terms are on pixels.
        """
        config = self.config
        if graph is None:
            return self._pixel_terms(features, image, valid)
        terms, means = {}, region_mean(features, graph.regions)  # [1 K R]
        if config.beta_cut is not None:
            terms["cut"] = soft_ncut(softmax(means), graph.affinity) / config.n_clusters
        if config.beta_sim is not None:
            scores = means if config.region_label == "mean" else region_votes(features, graph.regions)
            target = scores.detach().argmax(1)[:, graph.regions.labels]  # [1 *S]
            inside = None if graph.regions.everywhere else graph.regions.valid[None]
            terms["sim"] = similarity(features, target, inside)
        if config.beta_con is not None:
            terms["con"] = region_continuity(means, graph.neighbours)
        if config.beta_balance is not None:
            terms["balance"] = _imbalance(means, graph.regions.sizes)
        return terms

    def _pixel_affinity(self, image: Tensor, valid: Tensor | None) -> Affinity:
        """Return the weights between near pixels of ``[C *S]``, for the cut without superpixels."""
        config = self.config
        sigma: float | Literal["auto"] = "auto" if config.sigma_intensity is None else config.sigma_intensity
        counted = None if valid is None else valid[None]
        return window_affinity(image[None], config.radius, sigma, config.sigma_space, config.spacing or None, counted)

    def _pixel_terms(self, features: Tensor, image: Tensor, valid: Tensor | None) -> dict[str, Tensor]:
        config, terms = self.config, {}
        if config.beta_cut is not None:
            terms["cut"] = soft_ncut(softmax(features), self._pixel_affinity(image, valid)) / config.n_clusters
        if config.beta_sim is not None or config.beta_con is not None:
            similar, differences, _ = clustering_terms(features, None if valid is None else valid[None])
            if config.beta_sim is not None:
                terms["sim"] = similar
            if config.beta_con is not None:
                terms["con"] = torch.stack(differences).mean()
        if config.beta_balance is not None:
            terms["balance"] = _imbalance(features, torch.ones_like(image[0]) if valid is None else valid)
        return terms

    def _whole(self, batch: Batch) -> list[Pass]:
        """Return the images of a batch, if a term is of whole images."""
        config, rebuilt = self.config, self.config.beta_rc_image is not None
        others = (config.beta_cut, config.beta_sim, config.beta_con, config.beta_balance)
        wanted = rebuilt or any(beta is not None for beta in others)
        return [Pass(batch.images, [Part(len(batch.images), batch.valid)], True, rebuilt)] if wanted else []

    def _patches(self, batch: Batch, seeds: Sequence[int]) -> list[Pass]:
        """Return one mini-batch of patches of each shape.

        Patches of one shape go through the networks together, of all images, unless a batch norm would mix their statistics.
        """
        groups: dict[Any, list[tuple[Part, Tensor]]] = {}
        for b, image in enumerate(batch.images if self.config.beta_rc_patches is not None else ()):
            valid = None if batch.valid is None or batch.is_filled(b) else batch.valid[b]
            for number, places in enumerate(self._places(batch.reach(b), batch.indices[b], seeds[b])):
                patches = cut(image, places)
                counted = None if valid is None else cut(valid[None], places)[:, 0]
                alone = b if self.config.norm == "batch" else None
                part = Part(len(patches), counted, b)
                groups.setdefault((number, patches.shape[2:], alone), []).append((part, patches))
        return [Pass(joined([each for _, each in group]), [part for part, _ in group]) for group in groups.values()]

    def _places(self, inside: list[int], index: int, seed: int) -> list[list[PatchPosition]]:
        config, window = self.config, None
        if config.patch_window:
            ends = zip(config.patch_window[::2], config.patch_window[1::2], inside, strict=True)
            window = [(min(int(low * n), n - 1), max(math.ceil(high * n), 1)) for low, high, n in ends]
        if config.redraw:
            return redrawn(inside, self.shapes, seed, window)
        own = derive(int(self.patch_seed), index)
        return drawn_once(inside, self.shapes, config.patch_batches, int(self.epochs_done), own, window)

    def _pooled(self, features: Tensor, graph: SuperpixelGraph | None) -> Tensor:
        """Return the logits ``[1 K R]`` of superpixels, or ``[1 K *S]`` without any, of features ``[1 K *S]``."""
        if graph is None:
            return features
        if self.config.region_label == "mean":
            return region_mean(features, graph.regions)
        return (region_votes(features, graph.regions) + 1e-6).log() - graph.regions.sizes.clamp(min=1).log()

    def _classes(self, logits: Tensor) -> Tensor:
        """Return class probabilities ``[1 K n]`` of logits ``[1 K n]``: of the living labels, summed within merged classes."""
        merged = sum_within_classes(softmax(logits[:, self.class_of >= 0]), self.class_of)
        lifts = self.offsets[: self.n_classes].view(1, -1, *(1,) * (merged.ndim - 2))
        return softmax(merged.clamp(min=math.exp(LEAST_LOGIT)).log() + lifts) if bool(lifts.any()) else merged

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fix the statistics of batch norms, drop dead labels, and merge to `n_classes` if asked: always the pair that cuts most.

        The cut is that of the superpixel graph, edges weighted by the boundary that two share and by their likeness. If fewer
        labels live than are asked for, the likeliest of the dead are raised until they win somewhere.
        """
        self.eval()
        calibrate_batch_norms(self, lambda: (self.decode(self.features(batch.images)) for batch in batches()))
        if self.norm is not None:
            with torch.no_grad():
                self.norm.set_statistics(
                    (self._responses([batch.images], [True])[0], batch.valid) for batch in batches()
                )
        areas, between, volume = self._sums(batches)
        wanted = self.config.n_classes

        def merge(living: Tensor, n: int) -> NDArray[np.integer]:
            return merge_by_cut(between[living][:, living].cpu().numpy(), volume[living].cpu().numpy(), n)

        self.class_of.copy_(exactly_k_classes(areas, wanted, merge, self.config.min_share))
        if wanted is not None:
            self._raise(batches, wanted)

    @torch.no_grad()
    def _nodes(self, batches: Callable[[], Iterable[Batch]]) -> Iterator[tuple[Tensor, Tensor, Affinity]]:
        """Yield the logits ``[1 K n]`` of the superpixels (or pixels) of each image, their pixels, and their ties."""
        for batch in batches():
            for b, response in enumerate(self.features(batch.images).split(1)):
                image, valid = batch.images[b], None if batch.valid is None else batch.valid[b]
                graph = self.graphs.of(image, valid, _memo(batch, b))
                logits = self._pooled(response, graph)
                if graph is not None:
                    yield logits, graph.regions.sizes, graph.ties
                else:
                    counted = torch.ones_like(image[0]) if valid is None else valid
                    yield logits, counted.long(), self._pixel_affinity(image, valid)

    @torch.no_grad()
    def _sums(self, batches: Callable[[], Iterable[Batch]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return areas ``[K]``, association ``[K K]`` between labels and their volume ``[K]``, over all images, in float64.

        Soft areas count for a millionth, so that the areas of dead labels have an order.
        """
        k, device = self.config.n_clusters, self.class_of.device
        areas, between, volume = (torch.zeros(n, dtype=most_digits(device), device=device) for n in (k, (k, k), k))
        for logits, pixels, ties in self._nodes(batches):
            hard = F.one_hot(logits.argmax(1), k).movedim(-1, 1).float() * (pixels > 0)  # [1 K n]
            held, tied = association(hard.contiguous(), ties)
            areas += ((hard + 1e-6 * softmax(logits)) * pixels).flatten(2).sum((0, 2))
            between, volume = between + held, volume + tied
        return areas, between, volume

    def _raise(self, batches: Callable[[], Iterable[Batch]], wanted: int) -> None:
        """Raise classes that win nowhere (labels that were dead, or lost to the sum of others) until all of them do."""
        rows = [
            (self._classes(logits)[0].flatten(1).log(), pixels.flatten()) for logits, pixels, _ in self._nodes(batches)
        ]
        thinning = -(-sum(len(pixels) for _, pixels in rows) // MOST_NODES)
        logits = torch.cat([row[:, ::thinning] for row, _ in rows], 1).clamp(min=LEAST_LOGIT).cpu().numpy()
        pixels = torch.cat([row[::thinning] for _, row in rows]).cpu().numpy()
        offsets = winning_offsets(logits, pixels, wanted, self.config.min_share)
        self.offsets[:wanted] = torch.from_numpy(offsets).to(self.offsets)

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return class probabilities ``[B K *S]``, constant over each superpixel."""
        learning = self.encoder.training
        self.encoder.eval()
        features = self.features(images)
        self.encoder.train(learning)
        rows = []
        for b, (image, response) in enumerate(zip(images, features.split(1), strict=True)):
            graph = self.graphs.of(image, None, None if memos is None else memos[b])
            found = self._classes(self._pooled(response, graph))
            if graph is not None:
                inside = graph.regions.valid
                found = spread(found, graph.regions)
                if not bool(inside.all()):
                    found = found.where(inside, self._classes(self._pooled(response, None)))
            rows.append(found)
        return torch.cat(rows)

    @torch.no_grad()
    def hierarchy(self, image: Tensor, memo: Memo | None = None) -> tuple[NDArray[np.int32], MergeTree] | None:
        """Return the superpixels and their merge tree, by probabilities first; None without superpixels."""
        image = image.to(self.device)
        graph = self.graphs.of(image, None, memo)
        if graph is None:
            return None
        found = self._classes(self._pooled(self.features(image[None]), graph))[0].cpu().numpy()
        superpixels = graph.regions.labels.cpu().numpy().astype(np.int32)
        return superpixels, probability_tree(image.cpu().numpy(), superpixels, found, self.config.spacing)

    def rebuild(self, images: Tensor) -> Tensor:
        """Return the images as the second network rebuilds them from the features of the first."""
        return self.decode(self.features(images))

    def pictures(self, image: Tensor, memo: Memo | None = None) -> dict[str, Tensor]:
        """Return the rebuilt image, the boundaries of superpixels, and a sheet of the patches of one step."""
        shown = super().pictures(image)
        unknown = self.config.superpixels == "given" and "superpixels" not in (memo or {})
        if not unknown and (graph := self.graphs.of(image, None, memo)) is not None:
            shown["superpixels"] = with_boundaries(image, graph.regions.labels)
        if self.config.beta_rc_patches is not None:
            with torch.random.fork_rng(devices=[]):  # a look must not change what is drawn next
                torch.manual_seed(0)
                places = self._places(list(image.shape[1:]), 0, int(torch.randint(2**62, ())))
                shown["patches"] = patch_sheet([cut(image, each) for each in places])
        return shown

    def training_bytes(self, n_pixels: int) -> int:
        """Estimate from the maps that both U-Nets keep for the backward pass, of the images and of the patches."""
        patches = sum(shape.count * math.prod(shape.sides) for shape in self.shapes) * self.config.batch_size
        whole = n_pixels if self.config.beta_rc_image is not None else n_pixels // 2
        return 4 * (whole + patches) * (56 * self.config.width + 14 * self.config.n_clusters)


def _patch_errors(passes: Sequence[Pass], rebuilt: Sequence[Tensor], n_images: int) -> list[Tensor]:
    """Return for each image the mean over patch shapes of the squared error of its patches."""
    errors: list[list[Tensor]] = [[] for _ in range(n_images)]
    for each, found in zip(passes, rebuilt, strict=True):
        sizes = [part.n_images for part in each.parts]
        alone = len(sizes) == 1  # without a launch
        pairs = [(found, each.images)] if alone else zip(found.split(sizes), each.images.split(sizes), strict=True)
        for part, (again, patches) in zip(each.parts, pairs, strict=True):
            errors[part.image].append(reconstruction(again, patches, part.counted))
    return [torch.stack(each).mean() for each in errors if each]


def _memo(batch: Batch, b: int) -> Memo | None:
    return None if batch.memos is None else batch.memos[b]


def _imbalance(logits: Tensor, weights: Tensor) -> Tensor:
    """Return 1 - entropy / log K of the mean label shares of logits ``[1 K *n]`` with weights ``[*n]``: 0 if all are equal, to 1."""
    shares = (softmax(logits) * weights).flatten(2).sum(2)[0] / weights.sum().clamp(min=1)
    return 1 + (shares * shares.clamp(min=1e-12).log()).sum() / math.log(len(shares))
