"""Contours: the watershed of oriented boundary strength, a merge tree over it, and a codebook of its regions.

No network and no gradient; the best regions of a photograph, in a few seconds. In 2D. With `learn`, contours are learned from those of
a folder of images, without labels.

The strength of boundaries at 8 angles is the sum of local gradients of brightness, colour and texture, and of normalised cuts of the
mutual information of colours over the whole picture (`regions.contours`). Its oriented watershed gives the superpixels and the strength
of the arcs between them (Arbelaez, Maire, Fowlkes & Malik, PAMI 2011; Isola et al., ECCV 2014). Neighbours merge, cheapest first
(`regions.merge_tree.merge`). Cut, codebook and classes: `_regions`. How contours are learned: `_contour_learning`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import Optimizer

from selfseg.core.errors import UsageError
from selfseg.methods._regions import RegionConfig, RegionMethod
from selfseg.methods.base import Batch, Memo
from selfseg.regions.contours import CUES, FEATURE_POWER, SIZE_POWER, contour_strength
from selfseg.regions.graph import RegionGraph
from selfseg.regions.watershed import oriented_watershed

if TYPE_CHECKING:
    from selfseg.methods._contour_learning import ContourLearner

LEARNED: Mapping[str, Any] = {
    "level": 0.29,
    "size_power": 0.2,
    "difference_power": 0.6,
    "softness": 1.0,
    "batch_size": 2,
}
"""Options that have other defaults with `learn`: the metric has other units. Chosen on photographs, which were trained on."""

LEAST_IMAGES = 50
"""Images from which contours are learned, at least."""


class ContoursConfig(RegionConfig):
    """Options of contours."""

    level: float = Field(default=0.84, ge=0)
    """Cost up to which regions are merged. Larger = fewer regions. 0.29 with `learn`."""
    size_power: float = Field(default=SIZE_POWER, ge=0)
    """Exponent of size in the cost of a merge: 1 as in Ward's method, 0 = small regions are treated like large ones. 0.2 with `learn`."""
    difference_power: float = Field(default=2 * FEATURE_POWER, ge=0)
    """Exponent of the difference of the mean features in the cost of a merge: 2 as in Ward's method. 0.6 with `learn`."""
    local: float = Field(default=CUES["local"], ge=0)
    """Weight of local gradients of brightness, colour and texture in the strength of a boundary. With `learn`: in the teacher's."""
    pmi: float = Field(default=CUES["pmi"], ge=0)
    """Weight of normalised cuts of the mutual information of colours; 0 = without them, in a third of the time. With `learn`: in the
    teacher's."""
    learn: bool = False
    """Learn contours and a metric from the contours of the training images, 50 or more, on frozen features. Segments better and faster."""
    features: str = "efficientnet-lite0"
    """With `learn`: the frozen network: efficientnet-lite0, or a folder or hub name for transformers (pip install 'selfseg[features]')."""
    features_sha256: str = ""
    """Hash of its weights. It is filled in when a model is fitted; a stored model takes no others."""
    as_rgb: tuple[int, ...] = ()
    """Channels, from 0, that are red, green and blue to that network; one = grey; empty = RGB as it is, of other images their mean."""
    learn_steps: int = Field(default=1000, ge=1)
    """With `learn`: optimiser steps of each of the two rounds."""

    @model_validator(mode="before")
    @classmethod
    def _learned_defaults(cls, values: Any) -> Any:
        learns = isinstance(values, Mapping) and str(values.get("learn", "")).lower() in ("true", "1", "yes", "on")
        return {**LEARNED, **values} if learns else values


class Contours(RegionMethod):
    """Contours, their merge tree, and classes from a codebook. See the module's text."""

    Config = ContoursConfig
    segmenting = RegionMethod.segmenting | {"local", "pmi"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"pmi": 0.0},
        "fine": {"level": 0.5},
        "coarse": {"level": 1.2},
        "learned": {"learn": True},
    }
    dimensions = (2,)
    distributed_unsupported = "its codebook is made of the regions of all images in one process"
    config: ContoursConfig
    learner: "ContourLearner | None"

    def __init__(self, config: ContoursConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        self.learner = None
        if config.learn:
            from selfseg.methods._contour_learning import ContourLearner
            from selfseg.nets.backbones import FrozenFeatures

            features = FrozenFeatures(config.features, config.features_sha256, config.as_rgb, n_channels)
            self.config = config.changed(features_sha256=features.weights.sha256)
            cues, look = {"local": config.local, "pmi": config.pmi}, (config.lightness, config.texture)
            self.learner = ContourLearner(features, self.n_look, config.learn_steps, cues, look)

    @property
    def n_features(self) -> int:
        return 12 if self.config.learn else self.n_look  # `_contour_learning.N_DIRECTIONS`

    @property
    def settled(self) -> bool:
        return self.learner is None or not len(self.learner.scatters[0])

    @property
    def relies_on(self) -> str:
        return "" if self.learner is None else self.learner.features.described

    def n_steps(self, n_images: int) -> int:
        passes = -(-n_images // min(self.config.batch_size, n_images))
        if self.learner is None:
            return passes
        if n_images < LEAST_IMAGES:
            raise UsageError(
                "learn",
                expected=f"at least {LEAST_IMAGES} images to learn contours from",
                got=f"{n_images}",
                fix="fit on a folder with more images, or leave learn out",
            )
        return passes + 2 * self.config.learn_steps

    def optimizers(self) -> dict[str, Optimizer]:
        return {} if self.learner is None else self.learner.optimizers()

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield from super().steps(batch) if self.learner is None else self.learner.steps(batch)

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        if self.learner is not None:
            self.learner.finish()
        super().finish(batches)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        super().restore(state)
        if self.learner is not None:
            prefix = "learner."
            self.learner.restore(
                {key.removeprefix(prefix): one for key, one in state.items() if key.startswith(prefix)}
            )

    def training_bytes(self, n_pixels: int) -> int:
        learning = 0 if self.learner is None else 800 * n_pixels * self.config.batch_size
        return super().training_bytes(n_pixels) + learning

    def described(
        self, image: NDArray[np.float32], features: NDArray[np.float32], mask: NDArray[np.bool_] | None, memo: Memo
    ) -> tuple[NDArray[np.int32], RegionGraph, NDArray[np.float64]]:
        if self.learner is None:
            return super().described(image, features, mask, memo)
        return self.learner.partition(torch.from_numpy(image), features, mask, memo)

    def partition(
        self, image: NDArray[np.float32], colour: NDArray[np.float32], mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int32], RegionGraph]:
        """Return the basins of the oriented watershed ``[Y X]``, and the strengths of the arcs between them."""
        cues = {"local": self.config.local, "pmi": self.config.pmi}
        return oriented_watershed(contour_strength(np.moveaxis(image, 0, -1), cues, mask), mask)
