"""SP-WNet: dense features that must rebuild the image from patches of many sizes, cut into segments on a superpixel graph.

Leng et al., "Unsupervised few-shot image segmentation with dense feature learning and sparse clustering", VISAPP 2024. Two U-Nets in
series, as in W-Net. The softmax of the first one's features is all that the second sees of the image, and it must rebuild whole
images and random patches. The mean feature of each superpixel has a label; pixels should be sure of the label of their superpixel,
and superpixels be like their neighbours. Learned on a few frames or slices, it segments the others like them.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Adam, Optimizer

from selfseg.core.seed import derive
from selfseg.losses.affinity import Affinity, association
from selfseg.losses.reconstruction import reconstruction
from selfseg.methods._base import Batch, Method
from selfseg.methods._sp_wnet_graph import SuperpixelGraph, SuperpixelGraphs
from selfseg.methods._sp_wnet_options import LIVE, PRESETS, SPWNetConfig
from selfseg.methods._sp_wnet_terms import pixel_affinity, segment_terms
from selfseg.nets.mirror import cut_middle, mirror_frame
from selfseg.nets.pixel_norm import PixelNorm
from selfseg.nets.population import calibrate_batch_norms, give_unit_variance
from selfseg.nets.region_pool import region_mean, region_votes, spread
from selfseg.nets.unet import UNet, UNetShape
from selfseg.regions.closest import merge_by_cut, winning_offsets
from selfseg.regions.merge_tree import MergeTree
from selfseg.regions.superpixels import probability_tree
from selfseg.sample.patches import (
    PatchPosition,
    PatchShape,
    cut,
    drawn_once,
    equal_pixel_shapes,
    extent,
    patch_sheet,
    redrawn,
    with_boundaries,
)
from selfseg.sample.shared_batch import in_turn, own_weight, sharing

REBUILDING = ("rc_image", "rc_patches")
"""Terms that the warm-up leaves alone."""

LEAST_LOGIT = -30.0
"""Log-probability below which a class is as good as impossible."""

MOST_NODES = 100_000
"""Superpixels or pixels of all images that are looked at where dead labels must be raised."""


class SPWNet(Method):
    """SP-WNet. See the module's docstring; `SPWNetConfig` lists every option."""

    Config = SPWNetConfig
    config: SPWNetConfig
    presets = PRESETS
    live = LIVE
    uses_superpixels, distributed_unsupported, prefers_bf16_on_cpu = True, None, False
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
        self.encoder = UNet(n_channels, config.n_features, shape)
        self.norm = PixelNorm(config.n_features) if config.response_norm else None
        self.decoder = UNet(config.n_features, n_channels, shape)
        self.shapes = tuple(PatchShape(row[:-1], row[-1]) for row in config.patch_shapes) or equal_pixel_shapes(
            config.patch_sides, config.patches_of_largest, n_dims
        )
        self.register_buffer("class_of", torch.arange(config.n_features))  # label -> class, -1 = dropped
        self.register_buffer("offsets", torch.zeros(config.n_features))  # raise classes that win nowhere but must
        self.register_buffer("batches_done", torch.zeros((), dtype=torch.int64))
        self.register_buffer("epochs_done", torch.zeros((), dtype=torch.int64))
        self.register_buffer("patch_seed", torch.randint(2**62, ()))
        self.graphs = SuperpixelGraphs(config)

    @property
    def n_classes(self) -> int:
        """Number of classes that `assign` returns: all labels while training, the living or merged ones after."""
        return int(self.class_of.max()) + 1

    def n_steps(self, n_images: int) -> int:
        """Return `iterations`, at least `min_epochs` passes over the images."""
        batches = -(-n_images // min(self.config.batch_size, n_images))
        return max(self.config.iterations, self.config.min_epochs * batches if batches > 1 else 0)

    def optimizers(self) -> dict[str, Optimizer]:
        """Return one, over the weights of both networks."""
        return {"both": Adam(self.parameters(), lr=self.config.learning_rate)}

    def features(self, images: Tensor, valid: Tensor | None = None, framed: bool = True) -> Tensor:
        """Return the dense features ``[B K *S]``, not yet softmax, of ``[B C *S]``: whole images (framed) or patches."""
        response = self._response(images, framed)
        return response if self.norm is None else self.norm(response, valid)

    def _response(self, images: Tensor, framed: bool = True) -> Tensor:
        """Return the encoder's response ``[B K *S]``, float32; framed = with the border of a whole image."""
        if self.config.border == "zeros" or not framed:
            return self.encoder(images).float()
        width = 2 ** (self.config.depth + 1)
        wider = mirror_frame(images, width, [width] * self.n_dims)
        return cut_middle(self.encoder(wider), images.shape[2:]).float()

    def decode(self, features: Tensor) -> Tensor:
        """Return the image ``[B C *S]`` that the second network makes of features ``[B K *S]``."""
        rebuilt: Tensor = self.decoder(features.softmax(1))
        return rebuilt.float()

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield once: all terms, means over the images of the batch (the origin weighs the first of n images n times)."""
        config = self.config
        if config.contrast_start and not int(self.batches_done):
            with torch.no_grad():
                give_unit_variance(self.encoder.head, self._response(batch.images))
        rows: list[dict[str, Tensor]] = []
        whole = (config.beta_rc_image, config.beta_cut, config.beta_sim, config.beta_con, config.beta_balance)
        features = self.features(batch.images, batch.valid) if any(beta is not None for beta in whole) else None
        rebuilt = None if features is None or config.beta_rc_image is None else self.decode(features)
        with in_turn():
            seeds = [int(torch.randint(2**62, ())) for _ in batch.images]
        with sharing(None):  # what follows is of single images
            for b, image in enumerate(batch.images):
                valid = None if batch.valid is None else batch.valid[b]
                terms: dict[str, Tensor] = {}
                if rebuilt is not None:
                    terms["rc_image"] = _error(rebuilt[b], image, valid)
                if config.beta_rc_patches is not None:
                    terms["rc_patches"] = self._patch_error(image, valid, batch.indices[b], seeds[b])
                if features is not None:
                    terms |= segment_terms(config, features[b : b + 1], image, valid, self.graphs.of(image, valid))
                rows.append(terms)
        risen = min(1.0, int(self.batches_done) / config.warm_up) if config.warm_up else 1.0
        betas = {name: getattr(config, f"beta_{name}") * (1 if name in REBUILDING else risen) for name in rows[0]}
        self.batches_done += 1
        self.epochs_done += batch.ends_epoch
        betas = {name: beta * own_weight(len(rows)) for name, beta in betas.items()}
        yield "both", {name: beta * torch.stack([row[name] for row in rows]).mean() for name, beta in betas.items()}

    def _patch_error(self, image: Tensor, valid: Tensor | None, index: int, seed: int) -> Tensor:
        """Return the mean over patch shapes of the squared error of one mini-batch of each."""
        inside = list(image.shape[1:]) if valid is None else extent(valid)
        errors = []
        for places in self._places(inside, index, seed):
            patches = cut(image, places)
            counted = None if valid is None else cut(valid[None], places)[:, 0]
            errors.append(reconstruction(self.decode(self.features(patches, counted, framed=False)), patches, counted))
        return torch.stack(errors).mean()

    def _places(self, inside: list[int], index: int, seed: int) -> list[list[PatchPosition]]:
        config, window = self.config, None
        if config.patch_window:
            ends = zip(config.patch_window[::2], config.patch_window[1::2], inside, strict=True)
            window = [(min(int(low * n), n - 1), max(math.ceil(high * n), 1)) for low, high, n in ends]
        if config.redraw:
            return redrawn(inside, self.shapes, seed, window)
        own = derive(int(self.patch_seed), index)
        return drawn_once(inside, self.shapes, config.patch_batches, int(self.epochs_done), own, window)

    def take_superpixels(self, image: NDArray[np.float32], superpixels: NDArray[np.integer]) -> None:
        """Keep the user's own superpixels; see `Method.take_superpixels`."""
        self.graphs.take(image, superpixels)

    def _pooled(self, features: Tensor, graph: SuperpixelGraph | None) -> Tensor:
        """Return the logits ``[1 K R]`` of superpixels, or ``[1 K *S]`` without any, of features ``[1 K *S]``."""
        if graph is None:
            return features
        if self.config.region_label == "mean":
            return region_mean(features, graph.regions)
        return (region_votes(features, graph.regions) + 1e-6).log() - graph.regions.sizes.clamp(min=1).log()

    def _classes(self, logits: Tensor) -> Tensor:
        """Return class probabilities ``[1 K n]`` of logits ``[1 K n]``: of the living labels, summed within merged classes."""
        living = (self.class_of >= 0).nonzero().flatten()
        probabilities = logits[:, living].softmax(1)
        merged = probabilities.new_zeros(1, self.n_classes, *probabilities.shape[2:])
        merged.index_add_(1, self.class_of[living], probabilities)
        lifts = self.offsets[: self.n_classes].view(1, -1, *(1,) * (merged.ndim - 2))
        return (merged.clamp(min=math.exp(LEAST_LOGIT)).log() + lifts).softmax(1) if bool(lifts.any()) else merged

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fix the statistics of batch norms, drop dead labels, and merge to `classes` if asked: always the pair that cuts most.

        The cut is that of the superpixel graph, edges weighted by the boundary that two share and by their likeness. If fewer
        labels live than are asked for, the likeliest of the dead are raised until they win somewhere.
        """
        self.eval()
        calibrate_batch_norms(self, lambda: (self.decode(self.features(batch.images)) for batch in batches()))
        if self.norm is not None:
            with torch.no_grad():
                self.norm.set_statistics((self._response(batch.images), batch.valid) for batch in batches())
        areas, between, volume = self._sums(batches)
        alive, wanted = areas > self.config.min_share * areas.sum(), self.config.classes
        if not bool(alive.any()) or (wanted is not None and int(alive.sum()) < wanted):
            alive[areas.argsort(descending=True, stable=True)[: wanted or 1]] = True
        living = alive.nonzero().flatten()
        inside, sizes = between[living][:, living].cpu().numpy(), volume[living].cpu().numpy()
        groups = torch.from_numpy(merge_by_cut(inside, sizes, wanted or len(living)))
        self.class_of.fill_(-1)
        self.class_of[living] = groups.to(self.class_of.device)
        if wanted is not None:
            self._raise(batches, wanted)

    @torch.no_grad()
    def _nodes(self, batches: Callable[[], Iterable[Batch]]) -> Iterator[tuple[Tensor, Tensor, Affinity]]:
        """Yield the logits ``[1 K n]`` of the superpixels (or pixels) of each image, their pixels, and their ties."""
        for batch in batches():
            for b, response in enumerate(self.features(batch.images).split(1)):
                image, valid = batch.images[b], None if batch.valid is None else batch.valid[b]
                graph = self.graphs.of(image, valid)
                logits = self._pooled(response, graph)
                if graph is not None:
                    yield logits, graph.regions.sizes, graph.ties
                else:
                    counted = torch.ones_like(image[0]) if valid is None else valid
                    yield logits, counted.long(), pixel_affinity(self.config, image, valid)

    @torch.no_grad()
    def _sums(self, batches: Callable[[], Iterable[Batch]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return areas ``[K]``, association ``[K K]`` between labels and their volume ``[K]``, over all images, in float64.

        Soft areas count for a millionth, so that the areas of dead labels have an order.
        """
        k, device = self.config.n_features, self.class_of.device
        areas, between, volume = (torch.zeros(n, dtype=torch.float64, device=device) for n in (k, (k, k), k))
        for logits, pixels, ties in self._nodes(batches):
            hard = F.one_hot(logits.argmax(1), k).movedim(-1, 1).float() * (pixels > 0)  # [1 K n]
            held, tied = association(hard.contiguous(), ties)
            areas += ((hard + 1e-6 * logits.softmax(1)) * pixels).flatten(2).sum((0, 2))
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

    def assign(self, images: Tensor) -> Tensor:
        """Return class probabilities ``[B K *S]``, constant over each superpixel."""
        learning = self.encoder.training
        self.encoder.eval()
        features = self.features(images)
        self.encoder.train(learning)
        rows = []
        for image, response in zip(images, features.split(1), strict=True):
            graph = self.graphs.of(image)
            found = self._classes(self._pooled(response, graph))
            if graph is not None:
                inside = graph.regions.valid
                found = spread(found, graph.regions)
                if not bool(inside.all()):
                    found = found.where(inside, self._classes(self._pooled(response, None)))
            rows.append(found)
        return torch.cat(rows)

    @torch.no_grad()
    def hierarchy(self, image: Tensor) -> tuple[NDArray[np.int32], MergeTree] | None:
        """Return the superpixels and their merge tree, by probabilities first; None without superpixels."""
        image = image.to(self.class_of.device)
        graph = self.graphs.of(image)
        if graph is None:
            return None
        found = self._classes(self._pooled(self.features(image[None]), graph))[0].cpu().numpy()
        superpixels = graph.regions.labels.cpu().numpy().astype(np.int32)
        return superpixels, probability_tree(image.cpu().numpy(), superpixels, found, self.config.spacing)

    def rebuild(self, images: Tensor) -> Tensor:
        """Return the images as the second network rebuilds them from the features of the first."""
        return self.decode(self.features(images))

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Return the rebuilt image, the boundaries of superpixels, and a sheet of the patches of one step."""
        shown, graph = super().pictures(image), self.graphs.of(image)
        if graph is not None:
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
        return 4 * (whole + patches) * (56 * self.config.width + 14 * self.config.n_features)


def _error(rebuilt: Tensor, image: Tensor, valid: Tensor | None) -> Tensor:
    return reconstruction(rebuilt[None], image[None], None if valid is None else valid[None])
