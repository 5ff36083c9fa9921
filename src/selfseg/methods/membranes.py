"""Membranes: cells between thin dark or bright lines, for electron micrographs and stained membranes. Nothing is learned.

A threshold on the smoothed image gives pieces of cells, which grow until they meet; then neighbours with little darkness between them
merge (`regions.membranes`). The classes are line and cell; the merge tree is that of the pieces, and its regions are the objects. A
volume is taken slice by slice along its first axis.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import distance_transform_edt
from skimage.filters import threshold_otsu
from torch import Tensor

from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.regions.graph import connected_components, number_by_first_pixel
from selfseg.regions.membranes import Membranes, find_membranes
from selfseg.regions.merge_tree import MergeTree
from selfseg.regions.texture import colour_channels

SURE = 0.05
"""Least distance of a line's probability from one half, on the side that the merge tree decides."""

STEEPNESS = 4.0
"""Slope of the probability's logistic curve: the typical darkness of a line has odds of e^2."""


class MembranesConfig(MethodConfig):
    """Options of `membranes`."""

    polarity: Literal["dark", "bright", "auto"] = "dark"
    """True if lines are darker or brighter than cells; auto = the side of the threshold that is thinner, image by image."""
    width: float = Field(default=4.0, gt=0)
    """Width of a line, in pixels. The image is smoothed by half of it."""
    level: float = Field(default=0.4, ge=0)
    """Where the merge tree is cut: lines between middle-sized cells that are weaker than this share of a typical one are removed."""
    min_size: int = Field(default=30, ge=1)
    """Cells of fewer pixels are no objects."""


class MembranesMethod(Method):
    """Cells between lines. See the module's text."""

    Config = MembranesConfig
    config: MembranesConfig
    uses_memos = True
    distributed_unsupported = "it has nothing to learn; it takes under a second an image"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "em": {},
        "stained": {"polarity": "bright", "prepare": "percentile=1:99.8"},
    }
    edges: Tensor

    def __init__(self, config: MembranesConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        self._spacing = config.distances(n_dims)
        # height between the classes of cells, where more than two classes are asked for
        self.register_buffer("edges", torch.zeros(max(0, self.n_classes - 2), dtype=torch.float64))

    @property
    def finds_objects(self) -> bool:
        return True

    @property
    def n_classes(self) -> int:
        """Lines and cells; with more, the cells' pixels by lightness."""
        return self.config.n_classes or 2

    @property
    def class_names(self) -> tuple[str, ...]:
        """Line and cell, where there are two classes."""
        return ("line", "cell") if self.n_classes == 2 else ()

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Do nothing: there is nothing to learn."""
        yield from ()

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Find out how light cells are, if they are to be of several classes."""
        if self.n_classes > 2:
            heights = [height[height > 0] for batch in batches() for height in self._heights(batch)]
            values = np.concatenate(heights)
            if len(values):
                shares = np.linspace(0, 1, self.n_classes)[1:-1]
                self.edges = torch.from_numpy(np.quantile(values, shares)).to(self.edges)

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        memos = memos or [{} for _ in images]
        return torch.stack([self._assign_one(image, memo) for image, memo in zip(images, memos, strict=True)])

    def hierarchy(self, image: Tensor, memo: Memo | None = None) -> tuple[NDArray[np.int32], MergeTree] | None:
        """Return basins ``[Y X]`` and their merge tree; None for a volume, whose slices have one each."""
        if self.n_dims == 3:
            return None
        (plane,) = self._planes(image, memo)
        return plane.basins, plane.tree

    def objects(self, image: Tensor, memo: Memo | None = None) -> NDArray[np.int32] | None:
        """Return the cells ``[Y X]``; None for a volume."""
        if self.n_dims == 3:
            return None
        (plane,) = self._planes(image, memo)
        regions, lines = plane.cells(self.config.level)
        parts = connected_components(np.where(lines, -1, regions))
        sizes = np.bincount(parts[parts >= 0], minlength=1)
        kept = np.where((parts >= 0) & (sizes[parts] >= self.config.min_size), parts, -1)
        return number_by_first_pixel(kept, int(parts.max(initial=-1)) + 1) + np.int32(1)

    def training_bytes(self, n_pixels: int) -> int:
        """Return the memory of the float64 maps of one image."""
        return 100 * n_pixels

    def _assign_one(self, image: Tensor, memo: Memo) -> Tensor:
        planes = self._planes(image, memo)
        shares = np.stack([_line_shares(plane, self.config.level) for plane in planes]).reshape(image.shape[1:])
        line = torch.from_numpy(shares).to(image.device)
        if self.n_classes == 1:
            return torch.ones_like(line)[None]
        if self.n_classes == 2:
            return torch.stack([line, 1 - line])
        heights = np.stack([plane.height for plane in planes]).reshape(image.shape[1:])
        kind = torch.bucketize(torch.from_numpy(heights).to(image.device).double(), self.edges.to(image.device))
        cells = torch.nn.functional.one_hot(kind, self.n_classes - 1).movedim(-1, 0)
        return torch.cat([line[None], (1 - line) * cells])

    def _heights(self, batch: Batch) -> Iterator[NDArray[np.float32]]:
        for b, image in enumerate(batch.images):
            memo: Memo = {} if batch.memos is None else batch.memos[b]
            if batch.valid is not None:
                memo = {**memo, "valid": batch.valid[b].cpu().numpy().astype(bool)}
            yield from (plane.height for plane in self._planes(image, memo))

    def _planes(self, image: Tensor, memo: Memo | None) -> list[Membranes]:
        """Return the lines of each slice of a prepared image ``[C *S]``, from its memo if they are there."""
        memo = {} if memo is None else memo
        valid = memo.get("valid")
        config = self.config
        key = f"membranes {config.width} {config.polarity} {self._spacing} {tuple(image.shape)} {valid is None}"
        if key not in memo:
            channels = colour_channels(np.moveaxis(image.detach().float().cpu().numpy(), 0, -1))
            light = channels[..., 0] if self.n_channels == 3 else channels.mean(-1)
            stack = light if self.n_dims == 3 else light[None]
            masks = [None] * len(stack) if valid is None else list(valid if self.n_dims == 3 else valid[None])
            memo[key] = [self._find(plane, mask) for plane, mask in zip(stack, masks, strict=True)]
        planes: list[Membranes] = memo[key]
        return planes

    def _find(self, light: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> Membranes:
        polarity = {"dark": -1, "bright": 1}.get(self.config.polarity) or thinner_side(light, mask)
        return find_membranes(light, self.config.width, polarity, self._spacing[-2:], mask)


def thinner_side(light: NDArray[np.floating], mask: NDArray[np.bool_] | None) -> int:
    """Return 1 if what is above Otsu's threshold is thinner than what is below it, else -1: by the mean distance to the other side."""
    inside = np.ones(light.shape, np.bool_) if mask is None else mask
    if not inside.any():
        return -1
    above = light > threshold_otsu(light[inside])
    sides = [side & inside for side in (above, ~above)]
    if not all(side.any() for side in sides):
        return -1
    high, low = (float(distance_transform_edt(side)[side].mean()) for side in sides)
    return 1 if high < low else -1


def _line_shares(plane: Membranes, level: float) -> NDArray[np.float32]:
    """Return the probability ``[Y X]`` of a line: by darkness, on the side of one half that the cut tree decides."""
    _, lines = plane.cells(level)
    share = 1 / (1 + np.exp(np.clip(STEEPNESS * plane.height, -30, 30)))
    return np.where(lines, np.maximum(share, 0.5 + SURE), np.minimum(share, 0.5 - SURE)).astype(np.float32)
