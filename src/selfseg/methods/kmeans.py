"""K-means: classes of pixels by colour, or by texture, one set of centres for all images.

No network: a few seconds for a folder, in 2D and 3D. Each pixel is its colour (Lab of three channels, else the channels) and its texture
in three bands (`regions.texture.appearance`), smoothed; k-means with several starts finds the centres in a sample of the pixels of all
training images. A pixel belongs to each class by the distance between its features and the centre.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.ndimage import gaussian_filter
from torch import Tensor

from selfseg.kernels.layout import softmax
from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.regions.texture import BANDS, appearance
from selfseg.sample.choose import spread_rows
from selfseg.sample.k_means import assign_rows, k_means, mean_silhouette

TEXTURE_REACH = math.ceil(sum(4 * math.sqrt(b**2 - a**2) for a, b in itertools.pairwise(BANDS)) + 3 * 3.0) + 4
"""Pixels around one that its texture depends on: the Gaussians of `band_energy` one after the other."""


NUMBERS = range(2, 9)
"""Numbers of classes among which "auto" chooses."""

UNCHOSEN = 1
"""Rows of the centres before "auto" has chosen."""


class KMeansConfig(MethodConfig):
    """Options of k-means."""

    n_clusters: Annotated[int, Field(ge=1, le=255)] | Literal["auto"] = 5
    """Classes, if `n_classes` is empty; "auto" = the number from 2 to 8 of the largest mean silhouette (Rousseeuw 1987)."""
    colour: float = Field(default=1.0, ge=0)
    """Weight of colour; 0 = texture alone."""
    lightness: float = Field(default=0.5, ge=0)
    """Weight of lightness (and of channels that are not colours) against a and b: shading changes lightness most."""
    texture: float = Field(default=0.0, ge=0)
    """Weight of texture in three bands; 0 = colour alone."""
    smooth: float = Field(default=2.0, ge=0)
    """Standard deviation of a Gaussian over colours, in pixels."""
    softness: float = Field(default=4.0, gt=0)
    """Standard deviation of a pixel's membership of a class, a Gaussian of their distance, in units of Lab."""


class KMeans(Method):
    """Classes of pixels by colour and texture. See the module's text."""

    Config = KMeansConfig
    distributed_unsupported = "it has nothing to learn by gradients; it takes a few seconds"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"texture": {"colour": 0.25, "texture": 30.0}}
    auto_classes: ClassVar[Mapping[str, Any]] = {"n_clusters": "auto"}
    config: KMeansConfig
    centres: Tensor
    silhouettes: Tensor
    neighbours: Tensor

    def __init__(self, config: KMeansConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        self._spacing = config.distances(n_dims)
        width = n_channels + (len(BANDS) - 1) * (config.texture > 0)
        wanted = self._wanted
        self.register_buffer("centres", torch.zeros(UNCHOSEN if wanted == "auto" else wanted, width))
        # Where the number was chosen: the mean silhouette of each of `NUMBERS`, and the centres of one class fewer, then of one more.
        self.register_buffer("silhouettes", torch.zeros(0))
        self.register_buffer("neighbours", torch.zeros(0, width))

    @property
    def _wanted(self) -> int | Literal["auto"]:
        return self.config.n_classes or self.config.n_clusters

    @property
    def n_classes(self) -> int:
        """Number of centres."""
        return len(self.centres)

    @property
    def context(self) -> int:
        """Reach of the smoothing, and of texture where it counts."""
        unit = min(self._spacing)
        return math.ceil((max(4 * self.config.smooth, TEXTURE_REACH if self.config.texture else 0) + 1) / unit)

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Do nothing: the centres are found in `finish`."""
        yield from ()

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Find the centres, dark to bright."""
        rows = spread_rows(self._features(image)[valid] for batch in batches() for image, valid, _ in batch.each())
        if (wanted := self._wanted) != "auto":
            self.centres = self._found(rows, wanted)
            return
        found = {number: self._found(rows, number) for number in (NUMBERS[0] - 1, *NUMBERS, NUMBERS[-1] + 1)}
        scores = {number: mean_silhouette(rows, nearest(rows, found[number])) for number in NUMBERS}
        best = max(scores, key=lambda number: scores[number])  # of equals the fewest
        self.centres = found[best]
        self.neighbours = torch.cat([found[best - 1], found[best + 1]])
        self.silhouettes = torch.tensor(list(scores.values()), device=self.device)

    def _found(self, rows: Tensor, number: int) -> Tensor:
        centres = k_means(rows, number, seed=0, restarts=3).centres
        order = np.lexsort(centres.numpy().T[::-1])
        return centres[torch.from_numpy(order)].to(self.device)

    def choices(self) -> Mapping[str, str]:
        """Return the number of classes with its silhouette and those of its neighbours, if it was chosen."""
        if not len(self.silhouettes):
            return {}
        scores = dict(zip(NUMBERS, self.silhouettes.tolist(), strict=True))
        here = self.n_classes
        beside = ", ".join(f"{n}: {scores[n]:.2f}" for n in (here - 1, here + 1) if n in scores)
        span = f"{NUMBERS[0]} to {NUMBERS[-1]}"
        return {"number of classes": f"{here}, the largest mean silhouette of {span} ({scores[here]:.2f}; {beside})"}

    def pictures(self, image: Tensor, memo: Memo | None = None) -> dict[str, Tensor]:
        """Return the labels with one class fewer and one more, where the number was chosen."""
        if not len(self.neighbours):
            return super().pictures(image)
        features, split = self._features(image).to(self.device), self.n_classes - 1
        both = {split: self.neighbours[:split], split + 2: self.neighbours[split:]}
        return super().pictures(image) | {
            f"with {number} classes": nearest(features, centres) + 1 for number, centres in both.items() if number > 1
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state; where the number of classes was chosen, the centres have as many rows as that."""
        width = self.centres.shape[1]
        for name in ("centres", "neighbours", "silhouettes"):
            taken = state.get(name, getattr(self, name))  # models of before had no neighbours
            fixed = name == "centres" and self._wanted != "auto" and len(taken) != self._wanted
            if fixed or taken.shape[1:] != getattr(self, name).shape[1:]:
                raise RuntimeError(f"{name}: expected [{self._wanted} {width}], got {list(taken.shape)}")
            setattr(self, name, taken.detach().clone().to(getattr(self, name)))

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return the memberships of each pixel, ``[B K *S]`` float32, of prepared images ``[B C *S]``."""
        features = torch.stack([self._features(image) for image in images])  # [B *S F]
        gaps = torch.stack([(features - centre).square().sum(-1) for centre in self.centres.cpu()], 1)
        return softmax(-gaps / (2 * self.config.softness**2)).to(images.device)

    def training_bytes(self, n_pixels: int) -> int:
        """Return the memory of features and their copies of one image."""
        return 4 * n_pixels * (4 * self.centres.shape[1] + 2 * len(self.centres))

    def _features(self, image: Tensor) -> Tensor:
        """Return the features ``[*S F]`` of a prepared image ``[C *S]``, on the CPU."""
        config = self.config
        plain = np.moveaxis(image.detach().float().cpu().numpy(), 0, -1)
        found = appearance(plain, config.lightness, config.texture, self._spacing)
        colour, texture = found[..., : 1 - len(BANDS)] * np.float32(config.colour), found[..., 1 - len(BANDS) :]
        sigmas = [config.smooth / unit for unit in self._spacing]
        if config.smooth:
            colour = np.stack(
                [gaussian_filter(plane, sigmas, mode="nearest") for plane in np.moveaxis(colour, -1, 0)], -1
            )
        both = np.concatenate([colour, texture], -1) if config.texture else colour
        return torch.from_numpy(np.ascontiguousarray(both, np.float32))


def nearest(features: Tensor, centres: Tensor) -> Tensor:
    """Return the nearest of the centres ``[K F]`` of each pixel of features ``[*S F]``: int64 ``[*S]``."""
    flat = features.reshape(-1, features.shape[-1])
    return assign_rows(flat, centres).labels.reshape(features.shape[:-1])
