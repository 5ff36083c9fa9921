"""Pixel classifier: a forest on filters of every pixel, learned from a few strokes, in 2D and 3D.

The way of ilastik (Berg et al., Nature Methods 16, 2019): each pixel is described by Gaussians of its channels and, at several scales, by
the gradient, the eigenvalues of the Hessian and those of the structure tensor of the lightness. Extremely randomised trees (Geurts,
Ernst & Wehenkel, Machine Learning 2006) learn from the pixels under the strokes of all images; a class is as likely as the mean
share that it has in the leaves. Nothing is learned from pixels without a stroke, so that the answer takes less than a second.

Frozen features of a network that learned elsewhere (`nets.backbones`) can stand beside the filters: fixed random mixtures of the
channels of its coarsest maps, between whose cells is interpolated.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter
from torch import Tensor

from selfseg.core.seed import generator
from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.nets.backbones import FrozenFeatures, on_grid
from selfseg.regions.pixel_forest import PixelForest
from selfseg.sample.augment import labelled_parts

Array = NDArray[np.float32]

ENDS = 3.0
"""Standard deviations after which a Gaussian ends."""

WINDOW = 2.0
"""Standard deviation of the window of the structure tensor, in those of its gradient."""

N_MAPS = 3
"""Maps of the network that count: the last, coarsest ones."""

FOREST = tuple(one.name for one in fields(PixelForest))


class PixelClassifierConfig(MethodConfig):
    """Options of the pixel classifier."""

    scales: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Standard deviations of the filters, in pixels, fine to coarse: the sizes of structures that separate the classes."""
    n_trees: int = Field(default=16, ge=1, le=500)
    """Trees of the forest."""
    depth: int = Field(default=8, ge=1, le=30)
    """Largest depth of a tree."""
    leaf: int = Field(default=3, ge=1)
    """Least pixels of a leaf."""
    most_pixels: int = Field(default=2000, ge=1)
    """Pixels of a class that are learned from, drawn evenly over all its strokes: each class counts alike."""
    network: str = ""
    """Frozen features beside the filters: efficientnet-lite0, or a folder or hub name for transformers (pip install 'selfseg[features]');
    empty = none."""
    network_sha256: str = ""
    """Hash of its weights. It is filled in when a model is fitted; a stored model takes no others."""
    as_rgb: tuple[int, ...] = ()
    """Channels, from 0, that are red, green and blue to the network; one = grey; empty = RGB as it is, of other images their mean."""
    n_mixtures: int = Field(default=16, ge=1)
    """Mixtures of the channels of each of the network's last three maps."""


class PixelClassifier(Method):
    """Classes of pixels from strokes. See the module's text."""

    Config = PixelClassifierConfig
    config: PixelClassifierConfig
    uses_annotations, needs_annotations = True, True
    on_host = tuple(f"forest_{name}" for name in FOREST)  # evaluated there, in float64
    distributed_unsupported = "it has nothing to learn by gradients; it takes a second"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fine": {"scales": (0.7, 1.0, 1.6)},
        "wide": {"scales": (1.0, 2.0, 4.0, 8.0)},
        "network": {"network": "efficientnet-lite0"},
    }
    seed: Tensor

    def __init__(self, config: PixelClassifierConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        self._spacing = config.distances(n_dims)
        self.frozen: FrozenFeatures | None = None
        self.mixtures: list[Tensor] = []
        if config.network:
            self.frozen = FrozenFeatures(config.network, config.network_sha256, config.as_rgb, n_channels)
            self.config = config.changed(network_sha256=self.frozen.weights.sha256)
            self.mixtures = [mixture(config.n_mixtures, width) for width in self.frozen.channels[-N_MAPS:]]
        self.register_buffer("seed", torch.randint(2**31 - 1, (1,)))
        for name in FOREST:
            self.register_buffer(f"forest_{name}", torch.zeros(0))

    @property
    def n_classes(self) -> int:
        """Classes of the strokes."""
        return self.config.n_classes or 2

    @property
    def context(self) -> int | None:
        """Reach of the coarsest structure tensor (its gradient, then its window), and of the network."""
        widest = max(self.config.scales, default=0.0) / min(self._spacing)
        reach = 2 + math.ceil(ENDS * widest) + math.ceil(ENDS * WINDOW * widest)
        if self.frozen is None:
            return reach
        return None if self.frozen.context is None else max(reach, self.frozen.context)

    @property
    def multiple(self) -> int:
        return super().multiple if self.frozen is None else self.frozen.multiple

    @property
    def relies_on(self) -> str:
        return super().relies_on if self.frozen is None else self.frozen.described

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Do nothing: `finish` learns, from the strokes of all images at once."""
        yield from ()

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Collect the features of all pixels with a stroke, and grow the forest."""
        values, classes = [], []
        for batch in batches():
            for image, annotations in labelled_parts(batch):
                wanted = annotations.cpu().numpy()
                values.append(self.features(_plain(image))[:, wanted >= 0].T)
                classes.append(wanted[wanted >= 0])
        self.learn(np.concatenate(values), np.concatenate(classes))

    def learn(self, values: Array, classes: NDArray[np.integer]) -> None:
        """Grow the forest from features ``[P F]`` of pixels and their classes ``[P]``, 0-based."""
        rng, kept = generator(int(self.seed), "pixels"), []
        for kind in np.unique(classes):
            places = np.flatnonzero(classes == kind)
            kept.append(rng.choice(places, min(len(places), self.config.most_pixels), replace=False))
        chosen, config = np.sort(np.concatenate(kept)), self.config
        counts = np.bincount(classes[chosen])
        most = counts.max()
        again = np.concatenate(
            [np.resize(part, most) for part in kept]
        )  # classes of few pixels count as much as others
        rows = again if len(again) <= 2 * len(chosen) else chosen
        forest = PixelForest.of_classes(
            values[rows], classes[rows], int(self.seed), config.n_trees, config.depth, config.leaf
        )
        shares = np.zeros((len(forest.shares), self.n_classes))
        shares[:, np.unique(classes)] = forest.shares
        for name in FOREST:
            value = shares if name == "shares" else getattr(forest, name)
            setattr(self, f"forest_{name}", torch.from_numpy(value))

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return class probabilities ``[B K *S]`` of prepared images ``[B C *S]``; before anything is learned all alike."""
        found = [torch.from_numpy(self.classify(self.features(_plain(image)))) for image in images]
        return torch.stack(found).to(images.device)

    def classify(self, features: Array) -> Array:
        """Return class probabilities ``[K *s]`` of pixels with these features ``[F *s]``."""
        forest, shape = self._forest(), features.shape[1:]
        if forest is None:
            return np.full((self.n_classes, *shape), 1 / self.n_classes, np.float32)
        flat = forest.evaluate_classes(features.reshape(len(features), -1))
        flat /= flat.sum(0)
        return flat.reshape(-1, *shape)

    def features(self, image: Array) -> Array:
        """Return the features ``[F *S]`` of a prepared image ``[C *S]``: its channels, the filters of each scale, and the network's.

        They are float32, contiguous: what a studio keeps of an image, so that the next stroke needs none of this again.
        """
        n_dims, light = self.n_dims, image.mean(0)
        found = np.empty((self.n_features, *light.shape), np.float32)
        rows = iter(found)
        for channel in image:
            next(rows)[...] = channel
        for scale in self.config.scales:
            sigmas = [scale / unit for unit in self._spacing]
            for channel in image:
                next(rows)[...] = _smooth(channel, sigmas)
            slopes = _slopes(_smooth(light, sigmas), self._spacing)
            next(rows)[...] = np.sqrt(sum(slope * slope for slope in slopes))
            second = [_slopes(slope, self._spacing) for slope in slopes]
            hessian = {(i, j): second[i][j] for i in range(n_dims) for j in range(i, n_dims)}
            window = [WINDOW * sigma for sigma in sigmas]
            tensor = {(i, j): _smooth(slopes[i] * slopes[j], window) for i, j in hessian}
            for matrix in (hessian, tensor):
                for value in eigenvalues(matrix):
                    next(rows)[...] = value
        if self.frozen is not None:
            maps = self.frozen.maps(torch.from_numpy(image))[-N_MAPS:]
            mixed = [torch.tensordot(mix, one.float(), 1) for mix, one in zip(self.mixtures, maps, strict=True)]
            found[-self.n_frozen :] = on_grid(mixed, light.shape, 1).numpy()
        return found

    @property
    def n_features(self) -> int:
        """Number F of features of a pixel."""
        filters = len(self.config.scales) * (self.n_channels + 1 + 2 * self.n_dims)
        return self.n_channels + filters + self.n_frozen

    @property
    def n_frozen(self) -> int:
        """Number of features that come from the network."""
        return sum(map(len, self.mixtures))

    def training_bytes(self, n_pixels: int) -> int:
        """Return the memory of the features and of the filters on their way."""
        return 4 * n_pixels * (self.n_features + 16)

    def prediction_bytes(self, n_pixels: int) -> int:
        """Return the memory of features and probabilities."""
        return 4 * n_pixels * (self.n_features + 16 + 2 * self.n_classes)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state. A forest has as many nodes as it grew; what is no forest of these classes is refused."""
        self.seed = state["seed"].detach().clone()
        for name in FOREST:
            setattr(self, f"forest_{name}", state[f"forest_{name}"].detach().clone().to(self.seed.device))
        self._forest()

    def _forest(self) -> PixelForest | None:
        """Return the forest, None before it has grown; `RuntimeError` if the state is none."""
        arrays = [getattr(self, f"forest_{name}").cpu().numpy() for name in FOREST]
        if not all(len(one) for one in arrays):
            return None
        forest = PixelForest(*arrays)
        if forest.shares.shape[1:] != (self.n_classes,):
            raise RuntimeError(f"expected shares of {self.n_classes} classes, got {list(forest.shares.shape)}")
        forest.check(self.n_features)
        return forest


def mixture(n_mixtures: int, n_channels: int) -> Tensor:
    """Return fixed mixtures ``[M C]`` of channels, normal with variance 1 / C; they keep distances (Johnson & Lindenstrauss 1984)."""
    drawn = generator(0, "mixtures", n_channels).normal(size=(n_mixtures, n_channels)) / math.sqrt(n_channels)
    return torch.from_numpy(drawn.astype(np.float32))


def _plain(image: Tensor) -> Array:
    """Return a prepared image on the CPU; what is not finite counts as 0."""
    return np.nan_to_num(image.detach().float().cpu().numpy())


def _smooth(values: Array, sigmas: Sequence[float]) -> Array:
    found: Array = gaussian_filter(values, sigmas, mode="nearest", truncate=ENDS)
    return found


def _slopes(values: Array, spacing: Sequence[float]) -> list[Array]:
    """Return central differences along each axis; an axis of one pixel has none."""
    unit = min(spacing)
    return [
        np.gradient(values, step / unit, axis=axis).astype(np.float32)
        if values.shape[axis] > 1
        else np.zeros_like(values)
        for axis, step in enumerate(spacing)
    ]


def eigenvalues(matrix: Mapping[tuple[int, int], Array]) -> list[Array]:
    """Return the eigenvalues, largest first, of symmetric 2 x 2 or 3 x 3 matrices, given by their upper entries ``(i, j)``: ``[*S]`` each.

    In 3D by the cosines of a third of an angle (Smith, Communications of the ACM 4, 1961).
    """
    if len(matrix) == 3:
        middle, half = (matrix[0, 0] + matrix[1, 1]) / 2, (matrix[0, 0] - matrix[1, 1]) / 2
        apart = np.sqrt(half * half + matrix[0, 1] * matrix[0, 1])
        return [(middle + apart).astype(np.float32), (middle - apart).astype(np.float32)]
    a, b, c = (matrix[i, i].astype(np.float64) for i in range(3))
    d, e, f = (matrix[i, j].astype(np.float64) for i, j in ((0, 1), (0, 2), (1, 2)))
    mean = (a + b + c) / 3
    a, b, c = a - mean, b - mean, c - mean
    size = np.sqrt(np.maximum((a * a + b * b + c * c) / 6 + (d * d + e * e + f * f) / 3, 1e-60))
    half = (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)) / (2 * size**3)
    angle = np.arccos(np.clip(half, -1, 1)) / 3
    first, last = mean + 2 * size * np.cos(angle), mean + 2 * size * np.cos(angle + 2 * np.pi / 3)
    return [value.astype(np.float32) for value in (first, 3 * mean - first - last, last)]
