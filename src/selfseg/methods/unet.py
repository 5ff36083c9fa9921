"""U-Net: the supervised pupil. It learns from labels, complete or not: a person's, or those that another method made.

Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015. A contracting and an
expanding path with crops of the one joined to the other; random views of few images, deformed elastically; a cross entropy
that is louder between objects that nearly touch. The preset ``paper`` is their network, without padding, and their loss.

Some images are held out, before any view is drawn; the weights that do best on these are kept.

With `distance` the network also learns how deep each pixel lies in its object, as StarDist does (Schmidt et al., MICCAI 2018): objects
are then the basins, inside the mask without its holes, of the distance to its border and of the learned one.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from selfseg.kernels.layout import softmax
from selfseg.losses import count_labels, weighted
from selfseg.losses.supervised import (
    PixelMaps,
    binary_cross_entropy,
    class_weights,
    count_pairs,
    distance_error,
    mean_iou,
    soft_dice,
    weighted_cross_entropy,
)
from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.nets.unet import UNet, UNetShape, cut_back, he_init, mean_over_symmetries, mirror_frame
from selfseg.regions import blobs
from selfseg.sample.augment import Augmentation, Views, labelled_parts, labelled_pixels, random_views
from selfseg.sample.device import fused, most_digits
from selfseg.sample.shared_batch import is_shared, largest, total

LOOKS = 20
"""How often over the training the held-out images are looked at."""

LEARNED, DEPTH = 1.0, 1.0
"""Pixels that the learned distance (0-1) counts for beside the distance to the border of the mask; least depth of the pass between two
objects below the lower of their tops, in pixels."""

OBJECT_SIDE = 64
"""Largest width, in pixels, of objects that are the same in parts as in the whole image."""

OVERLAP = 4
"""Tiles of the training size overlap by a quarter of their side."""

KEPT = "kept."
"""Before the names of the best weights so far, in `UNetMethod.state`."""


class UNetConfig(MethodConfig):
    """Options of U-Net."""

    batch_size: int = Field(default=2, ge=1)
    """Images in one optimiser step, one view of each."""
    width: int = Field(default=16, ge=2)
    """Channels of the first module; each pooling doubles them. The paper: 64."""
    depth: int = Field(default=3, ge=1, le=6)
    """Poolings. The paper: 4."""
    padded: bool = True
    """Convolutions keep the size, and maps grow by interpolation; false = as published: no padding, transposed convolutions."""
    norm: Literal["batch", "group", "none"] = "group"
    """Normalisation before each ReLU. `batch` is quicker, and exact in tiles (`group` looks at the whole image), but it fails where images
    of several kinds, dark and bright ones, are learned together. The paper: none."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the values dropped at the end of the contracting path while training, in its last two modules."""
    iterations: int = Field(default=600, ge=1)
    """Batches."""
    patch: int | None = Field(default=256, ge=8)
    """Side of the views, in pixels; empty = the whole image. Images that are shorter give views of their own size."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or stochastic gradient descent with momentum as in the paper."""
    learning_rate: float = Field(default=0.002, gt=0)
    """Step size at the start."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """The step size falls to 0 along half a cosine, or stays."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of `sgd`. The paper: 0.99."""
    cross_entropy: float = Field(default=1.0, ge=0)
    """Weight of the cross entropy. 0 switches it off."""
    binary: float = Field(default=0.0, ge=0)
    """Weight of the binary cross entropy, class by class. 0 switches it off."""
    dice: float = Field(default=0.0, ge=0)
    """Weight of the soft Dice loss. 0 switches it off."""
    class_balance: float = Field(default=0.0, ge=0, le=1)
    """How far pixels of rare classes weigh more: 0 = not, 1 = every class weighs the same in all, as in the paper."""
    border: float = Field(default=0.0, ge=0)
    """Extra weight of a pixel of class 1 between two objects, the parts of other classes (the paper's w0 = 10). 0 = nothing."""
    border_sigma: float = Field(default=5.0, gt=0)
    """Fall-off of that weight with the distances to both objects, in pixels of the prepared image (the paper's sigma)."""
    distance: float = Field(default=0.0, ge=0)
    """Weight of the error of the distance inside objects, the parts of all classes but the first; above 0 the method finds objects."""
    min_size: int = Field(default=20, ge=1)
    """Least size of an object that is found so, in pixels."""
    elastic: float = Field(default=10.0, ge=0)
    """Standard deviation of the random displacements on a grid of 3 points a side, in pixels (less in small views); 0 = none."""
    rotation: float = Field(default=180.0, ge=0, le=180)
    """Largest angle by which a view is turned, in degrees; a volume turns about its first axis."""
    mirror: bool = True
    """Half of the views are mirrored, along each axis."""
    grey: float = Field(default=0.1, ge=0)
    """Variation of contrast (standard deviation of its logarithm) and of brightness (in standard deviations of the view)."""
    noise: float = Field(default=0.0, ge=0)
    """Most noise that views get, in standard deviations of the view: where new images will be noisier than those learned from."""
    scale: float = Field(default=0.0, ge=0, le=3)
    """Largest change of size either way, as a power of 2: 1 = from half to twice the size."""
    gamma: float = Field(default=0.0, ge=0)
    """Variation of the gamma of views (standard deviation of its logarithm)."""
    light: float = Field(default=0.0, ge=0)
    """Uneven light in views (standard deviation of the logarithm of a smooth field)."""
    blur: float = Field(default=0.0, ge=0)
    """Most blur of views, the standard deviation of a Gaussian in pixels."""
    validation: float = Field(default=0.2, ge=0, lt=1)
    """Share of the images that is held out; the weights with the best mean IoU on these are kept (classes weighed as in the loss). 0 = the
    last weights."""
    tiled: bool = False
    """Prediction in overlapping tiles as large as the views (`patch`): a group norm, which looks at all that it is given, then gives a
    large image what it gave the views, and parts of an image what it gives the whole. Takes 1.8 times as long."""
    symmetries: bool = False
    """Prediction averages over the 8 mirrored and turned images: 8 times the time."""

    @model_validator(mode="after")
    def _learns(self) -> "UNetConfig":
        if not self.cross_entropy and not self.binary and not self.dice:
            raise ValueError("cross_entropy, binary and dice are all 0: nothing would be learned")
        return self


class UNetMethod(Method):
    """U-Net. See the module's docstring; `UNetConfig` lists every option."""

    Config = UNetConfig
    config: UNetConfig
    on_host = ("steps_done", "best")
    steps_done: Tensor
    class_pixels: Tensor
    best: Tensor

    uses_annotations, needs_annotations, distributed_unsupported = True, True, None
    live = (
        *("iterations", "learning_rate", "schedule", "momentum", "cross_entropy", "binary", "dice"),
        *("class_balance", "elastic", "rotation", "mirror", "grey", "noise", "scale", "gamma", "light", "blur"),
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"width": 8, "iterations": 300, "patch": 160, "norm": "batch"},
        "objects": {
            "width": 12,
            "patch": 192,
            "tiled": True,
            "iterations": 1500,
            "learning_rate": 0.004,
            "distance": 1.0,
            "min_size": 30,
            "dice": 1.0,
            "scale": 0.7,
            "gamma": 0.3,
            "light": 0.2,
            "blur": 1.0,
            "noise": 0.1,
            "validation": 0.0,
            "prepare": "percentile=1:99.8",
        },
        "paper": {
            "width": 64,
            "depth": 4,
            "padded": False,
            "norm": "none",
            "dropout": 0.5,
            "batch_size": 1,
            "patch": 388,
            "iterations": 20000,
            "optimizer": "sgd",
            "learning_rate": 0.001,
            "schedule": "constant",
            "momentum": 0.99,
            "class_balance": 1.0,
            "border": 10.0,
            "validation": 0.0,
            "precision": "bfloat16",
        },
    }
    deviations = (
        "the paper does not give the step size, 0.001, the number of steps, 20000, or the dropout, 0.5",
        "the weighted sum over pixels is divided by the sum of the weights",
        "the number of turned images that are averaged at prediction, 7 in the paper, is 8 with `symmetries`, which is off",
    )

    def __init__(self, config: UNetConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        layers: dict[str, Any] = config.model_dump(include={"width", "depth", "padded", "norm"})
        layers["up"] = "linear" if config.padded else "transposed"
        shape = UNetShape(n_dims=n_dims, norm_last=False, bottom_dropout=config.dropout, **layers)
        self.net = UNet(n_channels, self.n_classes + self.finds_objects, shape)
        he_init(self.net)
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))
        self.register_buffer("class_pixels", torch.zeros(self.n_classes, dtype=torch.int64))  # seen so far
        self.register_buffer("best", torch.tensor(-1.0))  # mean IoU on the held-out images
        self._kept: dict[str, Tensor] = {}
        self._held: Callable[[], Iterable[Batch]] | None = None
        self._maps = PixelMaps(config.border, config.border_sigma, self.finds_objects)
        self._labelled: dict[int, Tensor] = {}
        self._optimizers: dict[str, Optimizer] = {}
        self._between_steps = True

    @property
    def n_classes(self) -> int:
        return self.config.n_classes or 2

    @property
    def context(self) -> int | None:
        if self._tile_side is not None:
            return self._tile_side + OBJECT_SIDE * self.finds_objects
        if self.config.norm == "group":  # depends on the whole image
            return None
        return self.net.reach + OBJECT_SIDE * self.finds_objects

    @property
    def _tile_side(self) -> int | None:
        """Side of the tiles of a prediction; None = the image is predicted as a whole."""
        side = self.config.patch if self.config.tiled else None
        return None if side is None else -(-side // (OVERLAP * self.net.multiple)) * OVERLAP * self.net.multiple

    @property
    def finds_objects(self) -> bool:
        return self.config.distance > 0

    @property
    def multiple(self) -> int:
        return self.net.multiple if self._tile_side is None else self._tile_side - self._tile_side // OVERLAP

    @property
    def held_out(self) -> float:
        return self.config.validation

    def hold_out(self, batches: Callable[[], Iterable[Batch]]) -> None:
        self._held = batches

    def optimizers(self) -> dict[str, Optimizer]:
        sgd = partial(SGD, momentum=self.config.momentum)
        kind: Callable[..., Optimizer] = sgd if self.config.optimizer == "sgd" else Adam
        self._optimizers = {"net": kind(self.net.parameters(), lr=self.config.learning_rate, **fused(self.device))}
        return self._optimizers

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield once: the weighted cross entropy (paper, equations 1 and 2) and other terms, on one view of each image."""
        views = self._views(batch)
        if self._between_steps:  # the first part of an accumulated batch
            self._between_steps = False
            self._set_rate()
            self.steps_done += 1
        yield "net", self._terms(self.net(views.images).float(), views)
        if not self._between_steps:
            self._between_steps = True
            if int(self.steps_done) % max(1, self.config.iterations // LOOKS) == 0:
                self._validate()

    def _set_rate(self) -> None:
        done = int(self.steps_done) / self.config.iterations
        factor = (1 + math.cos(math.pi * done)) / 2 if self.config.schedule == "cosine" else 1.0
        for group in (group for made in self._optimizers.values() for group in made.param_groups):
            group["lr"] = self.config.learning_rate * factor

    def _views(self, batch: Batch) -> Views:
        """Draw one view of each image, with the maps that its loss needs."""
        config, parts = self.config, labelled_parts(batch)
        for _, annotations in parts:
            counted = annotations >= 0
            if is_shared():
                self.class_pixels += total(count_labels(annotations, self.n_classes, counted))
            else:
                count_labels(annotations, self.n_classes, counted, into=self.class_pixels)
        labelled = [
            self._labelled_pixels(index, annotations)
            for index, (_, annotations) in zip(batch.indices, parts, strict=True)
        ]
        names = ("elastic", "rotation", "mirror", "grey", "noise", "scale", "gamma", "light", "blur")
        augmentation = Augmentation(**config.model_dump(include=set(names)))
        maps = None
        if config.border or config.distance:
            maps = [
                self._maps.of(index, annotations) for index, (_, annotations) in zip(batch.indices, parts, strict=True)
            ]
        side, seed = self._side([tuple(annotations.shape) for _, annotations in parts]), int(torch.randint(2**31, ()))
        return random_views(parts, maps, side, self.net.margin, augmentation, seed, batch.first, labelled)

    def _weights(self, views: Views) -> Tensor | None:
        """Return the weight of each pixel of some views, by class and by border (paper, equation 2); None = all alike."""
        gain = views.maps[:, 0] if views.maps is not None and self.config.border else None
        if not self.config.class_balance:
            return None if gain is None else 1 + gain
        weights = class_weights(self.class_pixels, self.config.class_balance)[views.annotations.clamp(min=0)]
        return weights if gain is None else weights + gain

    def _labelled_pixels(self, index: int, annotations: Tensor) -> Tensor:
        """Return the labelled pixels of image `index`, as `sample.augment.labelled_pixels`; they stay the same."""
        if index not in self._labelled:
            self._labelled[index] = labelled_pixels(annotations)
        return self._labelled[index]

    def _side(self, sizes: list[tuple[int, ...]]) -> tuple[int, ...]:
        """Return the size of the views: `patch`, or what the largest image needs, at which every pooled map is even."""
        least = 2 * self.net.multiple  # a single pixel at the bottom has no variance
        longest = largest([max(axis) for axis in zip(*sizes, strict=True)])
        return tuple(self.net.response_side(max(least, min(n, self.config.patch or n))) for n in longest)

    def _terms(self, response: Tensor, views: Views) -> dict[str, Tensor]:
        config, terms, weights = self.config, {}, self._weights(views)
        if config.distance and views.maps is not None:
            found = distance_error(response[:, -1], views.maps[:, -1], views.annotations)
            terms["distance"] = weighted(config.distance, found)
            response = response[:, :-1]
        if config.cross_entropy:
            found = weighted_cross_entropy(response, views.annotations, weights)
            terms["cross_entropy"] = weighted(config.cross_entropy, found)
        if config.binary:
            terms["binary"] = weighted(config.binary, binary_cross_entropy(response, views.annotations, weights))
        if config.dice:
            terms["dice"] = weighted(config.dice, soft_dice(softmax(response), views.annotations))
        return terms

    @torch.no_grad()
    def _validate(self) -> None:
        """Keep the weights if they are the best so far on the held-out images, by the mean IoU over their classes.

        Pixels count there as they do in the loss: by class. Otherwise balanced classes, which make thin things thick, would be
        punished for what they were asked for, and weights from the beginning would win.
        """
        if self._held is None:
            return
        pairs: Any = 0
        for batch in self._held():
            for image, annotations in labelled_parts(batch):
                pairs = pairs + count_pairs(self.assign(image[None]).argmax(1), annotations[None], self.n_classes)
        score = mean_iou(
            pairs * class_weights(self.class_pixels, self.config.class_balance)[:, None].to(most_digits(pairs.device))
        )
        score = score.cpu()
        if bool(score > self.best):
            self.best.copy_(score)
            self._kept = {name: value.detach().clone() for name, value in self.net.state_dict().items()}

    def status(self) -> Mapping[str, float]:
        return {"best IoU": float(self.best)} if float(self.best) >= 0 else {}

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Look at the held-out images once more, and take the best weights."""
        self.eval()
        self._validate()
        self.net.load_state_dict(self._kept or self.net.state_dict())
        self._kept.clear()

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return the softmax of the response ``[B K *S]``; its mean over the 8 symmetries of the image if so configured."""
        return self._predict(images)[:, : self.n_classes]

    def _predict(self, images: Tensor) -> Tensor:
        """Return the probabilities, and behind them the distance where it is learned: ``[B K + 1 *S]``."""
        learning = self.net.training
        self.net.eval()
        averaged = self.config.symmetries and not learning
        found = self._whole(images, averaged) if self._tile_side is None else self._by_tiles(images, averaged)
        self.net.train(learning)
        return found

    def _whole(self, images: Tensor, averaged: bool) -> Tensor:
        framed = self.net.frame(images)
        found = mean_over_symmetries(self._answer, framed) if averaged else self._answer(framed)
        return cut_back(found, images.shape[2:])

    def _by_tiles(self, images: Tensor, averaged: bool) -> Tensor:
        """Return the mean of overlapping tiles, each weighed by how far from its border a pixel lies.

        Tiles begin at multiples of `multiple`; those at the end of the image are mirrored outwards to their full size.
        """
        side, shape = self._tile_side or 1, images.shape[2:]
        overlap, n_out = side // OVERLAP, self.n_classes + self.finds_objects
        total = images.new_zeros(len(images), n_out, *shape)
        weight = images.new_zeros(shape)
        starts = [range(0, max(1, n - overlap), side - overlap) if n > side else (0,) for n in shape]
        for corner in itertools.product(*starts):
            at: Any = (..., *(slice(a, a + side) for a in corner))
            part = images[at]
            missing = [min(side, n) - m for n, m in zip(shape, part.shape[2:], strict=True)]
            found = self._whole(mirror_frame(part, 0, missing), averaged)
            rise = images.new_ones(())
            for length in found.shape[2:]:
                place = torch.arange(length, device=images.device) + 0.5
                rise = rise[..., None] * (torch.minimum(place, length - place) / overlap).clamp(max=1)
            total[at] += cut_back(found * rise, part.shape[2:])
            weight[at] += cut_back(rise[None, None], part.shape[2:])[0, 0]
        return total / weight

    def portable(self) -> Callable[[Tensor], Tensor]:
        return self.assign

    def _answer(self, framed: Tensor) -> Tensor:
        response: Tensor = self.net(framed).float()
        if not self.finds_objects:
            return softmax(response)
        return torch.cat([softmax(response[:, :-1]), response[:, -1:].sigmoid()], 1)

    @torch.no_grad()
    def objects(self, image: Tensor, memo: Memo | None = None) -> NDArray[np.int32] | None:
        """Return the basins of both distances inside the mask of all classes but the first, its holes filled, ``[*S]``.

        None if no distance is learned.
        """
        if not self.finds_objects:
            return None
        found = self._predict(image[None].to(self.device))[0].cpu()
        mask = blobs.filled((found[:-1].argmax(0) > 0).int().numpy())
        height = blobs.border_distance(mask)
        height += LEARNED * found[-1].numpy()
        labels = blobs.basins(height, mask, DEPTH)
        return blobs.select(labels, blobs.areas(labels) >= self.config.min_size)

    def state(self) -> dict[str, Tensor]:
        """Return the weights, and while training the best so far beside them."""
        return dict(self.state_dict()) | {KEPT + name: value for name, value in self._kept.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._kept = {name.removeprefix(KEPT): value for name, value in state.items() if name.startswith(KEPT)}
        self.load_state_dict({name: value for name, value in state.items() if not name.startswith(KEPT)})

    def training_bytes(self, n_pixels: int) -> int:
        """Estimate from the maps that a step keeps for the backward pass; coarser levels together take as much as the first."""
        if self.config.patch is not None:
            n_pixels = min(n_pixels, (self.config.patch + 2 * self.net.margin) ** self.n_dims * self.config.batch_size)
        return 4 * n_pixels * self.config.width * 24
