"""Regions of a merge tree, and a codebook of their mean features: the common part of `region_merging` and `contours`.

1. A prepared image becomes features: Lab colour (three channels) or the channels themselves, and texture (`regions.texture.appearance`).
2. `partition` cuts it into superpixels with a graph of neighbours; these merge, cheapest first (`regions.merge_tree.merge`).
3. The tree is cut at one level, the same for every image. It was chosen once, on training photographs.
4. The regions of all training images are clustered (Ward, then k-means). The clusters are the classes.
   A region belongs to each class by the distance between its mean features and the class centre.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.regions.clusters import codebook
from selfseg.regions.graph import RegionGraph, region_means
from selfseg.regions.merge_tree import MergeTree, merge
from selfseg.regions.texture import BANDS, appearance

NOWHERE = 1e6
"""Coordinate of a class without any region: so far away that nothing is ever assigned to it."""

Segments = tuple[NDArray[np.int32], MergeTree, NDArray[np.float64]]
"""Superpixels ``[*S]``, their merge tree, their mean features ``[R D]``."""


class RegionConfig(MethodConfig):
    """Options of the merge tree and of the codebook."""

    level: float = Field(default=9.0, ge=0)
    """Cost up to which regions are merged. Larger = fewer regions."""
    lightness: float = Field(default=0.5, ge=0)
    """Weight of lightness (and of channels that are not colours) against a and b: shading changes lightness most."""
    texture: float = Field(default=20.0, ge=0)
    """Weight of texture against colour; 0 = colour alone."""
    size_power: float = Field(default=0.4, ge=0)
    """Exponent of size in the cost of a merge: 1 as in Ward's method, 0 = small regions are treated like large ones."""
    difference_power: float = Field(default=1.0, ge=0)
    """Exponent of the difference of the mean features in the cost of a merge: 2 as in Ward's method."""
    strength_power: float = Field(default=1.0, ge=0)
    """Exponent of boundary strength in the cost of a merge; 0 = boundaries do not count."""
    explained: float = Field(default=0.98, gt=0, le=1)
    """Without a fixed number of classes: the fewest that explain this share of the variance between regions."""
    max_classes: int = Field(default=24, ge=1, le=255)
    """Without a fixed number of classes: never more than this."""
    softness: float = Field(default=4.0, gt=0)
    """Standard deviation of a region's membership of a class, a Gaussian of their distance, in units of Lab."""


class RegionMethod(Method):
    """A method that classifies the regions of a merge tree. See the module's text."""

    uses_memos = True
    distributed_unsupported = "it has nothing to learn by gradients; it takes a few seconds an image"
    segmenting: ClassVar[frozenset[str]] = frozenset(
        {"lightness", "texture", "size_power", "difference_power", "strength_power"}
    )
    """Options that decide the superpixels and their tree."""
    config: RegionConfig
    centres: Tensor
    pool: Tensor

    def __init__(self, config: RegionConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        self._spacing = config.distances(n_dims)
        width = self.n_features
        self.register_buffer("centres", torch.full((config.n_classes or 1, width), NOWHERE, dtype=torch.float64))
        # One row a region of the training images: its share of its image, then its mean features.
        self.register_buffer("pool", torch.zeros((0, 1 + width), dtype=torch.float64))

    @property
    def n_classes(self) -> int:
        """Number of entries of the codebook."""
        return len(self.centres)

    @property
    def settled(self) -> bool:
        """True if the superpixels of an image and their tree will not change any more."""
        return True

    @property
    def n_look(self) -> int:
        """Number of features of a pixel: colour and texture."""
        return self.n_channels + len(BANDS) - 1

    @property
    def n_features(self) -> int:
        """Number of features of a region."""
        return self.n_look

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Add the regions of each image to the pool. There is no loss, so nothing is yielded."""
        self._gather(batch)
        yield from ()

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Make the codebook out of the pool, and empty the pool."""
        if not len(self.pool):
            for batch in batches():
                self._gather(batch)
        pool = self.pool.cpu().numpy()
        config = self.config
        centres = codebook(pool[:, 1:], pool[:, 0], config.n_classes, config.explained, config.max_classes)
        # Dark to bright, as class ids are ordered everywhere.
        centres = centres[np.lexsort(centres.T[::-1])]
        wanted = self.config.n_classes or max(1, len(centres))
        self.centres = torch.full(
            (wanted, self.centres.shape[1]), NOWHERE, dtype=self.pool.dtype, device=self.pool.device
        )
        self.centres[: len(centres)] = torch.from_numpy(centres)
        self.pool = self.pool[:0]

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return the memberships of each pixel's region, ``[B K *S]`` float32, of prepared images ``[B C *S]``."""
        memos = memos or [{} for _ in images]
        return torch.stack([self._assign_one(image, memo) for image, memo in zip(images, memos, strict=True)])

    def hierarchy(self, image: Tensor, memo: Memo | None = None) -> tuple[NDArray[np.int32], MergeTree]:
        """Return superpixels ``[*S]`` int32 and their merge tree, of a prepared image ``[C *S]``."""
        superpixels, tree, _ = self.segments(image, None, memo)
        return superpixels, tree

    def status(self) -> dict[str, int]:
        """Return the number of regions in the pool and of classes."""
        return {"regions": len(self.pool), "classes": self.n_classes}

    def training_bytes(self, n_pixels: int) -> int:
        """Return the memory of the float32 channels and the labels of one image, twice for what is under way."""
        return 2 * 4 * n_pixels * (2 * self.centres.shape[1] + 6)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state. The codebook and the pool have as many rows as the training images gave."""
        for name, columns in (("centres", self.centres.shape[1]), ("pool", self.pool.shape[1])):
            tensor = state[name]
            if tensor.ndim != 2 or tensor.shape[1] != columns:
                raise RuntimeError(f"{name}: expected [any {columns}], got {list(tensor.shape)}")
            setattr(self, name, tensor.detach().clone().to(self.pool))

    def segments(self, image: Tensor, valid: Tensor | None = None, memo: Memo | None = None) -> Segments:
        """Return superpixels ``[*S]`` (-1 where `valid` is False), tree and mean features of ``[C *S]``, from its memo if they are there.

        One image is segmented for the codebook, for the class table, for its labels and for its tree.
        """
        memo = {} if memo is None else memo
        mask = None if valid is None or bool(valid.all()) else valid.cpu().numpy().astype(bool)
        options = self.config.model_dump(include=set(self.segmenting))
        key = f"{type(self).__name__} {options} {self._spacing} {tuple(image.shape)} {'all' if mask is None else 'masked'}"
        segments: Segments | None = memo.get(key)
        if segments is None:
            segments = self._merged(np.ascontiguousarray(image.detach().float().cpu().numpy()), mask, memo)
            if self.settled:
                memo[key] = segments
        return segments

    @abstractmethod
    def partition(
        self, image: NDArray[np.float32], colour: NDArray[np.float32], mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int32], RegionGraph]:
        """Return superpixels ``[*S]`` (-1 outside the mask) of a prepared image ``[C *S]``, and the graph of their neighbours.

        `colour` ``[*S D]`` are its features without texture.
        """

    def described(
        self, image: NDArray[np.float32], features: NDArray[np.float32], mask: NDArray[np.bool_] | None, memo: Memo
    ) -> tuple[NDArray[np.int32], RegionGraph, NDArray[np.float64]]:
        """Return superpixels, their graph, and the features of each ``[R D]``, of a prepared image and its colour and texture."""
        superpixels, graph = self.partition(image, features[..., : 1 - len(BANDS)], mask)
        return superpixels, graph, region_means(superpixels, features)

    def _merged(self, plain: NDArray[np.float32], mask: NDArray[np.bool_] | None, memo: Memo) -> Segments:
        config = self.config
        features = appearance(np.moveaxis(plain, 0, -1), config.lightness, config.texture, self._spacing)
        superpixels, graph, means = self.described(plain, features, mask, memo)
        tree = merge(
            graph,
            means,
            size_power=config.size_power,
            # `merge` takes the exponent of the squared difference.
            feature_power=config.difference_power / 2,
            strength_power=config.strength_power,
        )
        return superpixels, tree, means

    def _regions(
        self, image: Tensor, valid: Tensor | None, memo: Memo | None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Cut the tree: return the region of each pixel ``[*S]``, mean features ``[R D]`` and shares ``[R]``."""
        superpixels, tree, means = self.segments(image, valid, memo)
        at_least = self.config.n_classes or 1
        leaf = tree.cut(level=self.config.level)
        if leaf.max() + 1 < at_least:
            leaf = tree.cut(n_regions=at_least)
        weights = tree.sizes[: tree.n_leaves]
        share = np.bincount(leaf, weights)
        mean = np.stack([np.bincount(leaf, weights * column) for column in means.T], -1) / share[:, None]
        return np.append(leaf, -1)[superpixels], mean, share / share.sum()

    def _gather(self, batch: Batch) -> None:
        for image, valid, memo in batch.each():
            _, mean, share = self._regions(image, valid, memo)
            rows = torch.from_numpy(np.concatenate([share[:, None], mean], 1))
            self.pool = torch.cat([self.pool, rows.to(self.pool)])

    def _assign_one(self, image: Tensor, memo: Memo) -> Tensor:
        regions, mean, _ = self._regions(image, None, memo)
        centres = self.centres.cpu().numpy()
        gap = ((mean[:, None] - centres[None]) ** 2).sum(-1) / (2 * self.config.softness**2)
        membership = np.exp(gap.min(1, keepdims=True) - gap)
        membership /= membership.sum(1, keepdims=True)
        return torch.from_numpy(membership.T[:, regions].astype(np.float32)).to(image.device)
