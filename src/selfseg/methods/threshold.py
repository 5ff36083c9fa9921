"""Threshold: classes of grey values, dark to bright, by Otsu's thresholds on smoothed lightness; the same for all images.

No network: under a second an image, in 2D and 3D. The thresholds separate the grey values of a sample of the pixels of all training
images best (`regions.thresholds`; Otsu, IEEE Trans. SMC 9, 1979).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.ndimage import gaussian_filter
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.regions.texture import luminance
from selfseg.regions.thresholds import otsu_thresholds
from selfseg.sample.choose import spread_rows


class ThresholdConfig(MethodConfig):
    """Options of thresholds."""

    n_clusters: int = Field(default=2, ge=1, le=255)
    """Classes, if `n_classes` is empty: one more than thresholds."""
    channel: int | None = Field(default=None, ge=0)
    """Channel, from 0, that is cut; empty = lightness of RGB, or the mean of all channels."""
    smooth: float = Field(default=1.0, ge=0)
    """Standard deviation of a Gaussian before the cut, in pixels, against noise."""
    softness: float = Field(default=0.02, gt=0)
    """Width of the transition of probabilities at a threshold, as a share of the range of grey values."""


class Threshold(Method):
    """Classes of grey values. See the module's text."""

    Config = ThresholdConfig
    distributed_unsupported = "it has nothing to learn by gradients; it takes under a second"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smooth": {"smooth": 2.0}}
    config: ThresholdConfig
    thresholds: Tensor
    width: Tensor

    def __init__(self, config: ThresholdConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        if config.channel is not None and config.channel >= n_channels:
            raise UsageError(
                "channel", expected=f"0 to {n_channels - 1}", got=str(config.channel), fix="count channels from 0"
            )
        self._spacing = config.distances(n_dims)
        count = (config.n_classes or config.n_clusters) - 1
        self.register_buffer("thresholds", torch.full((count,), math.inf, dtype=torch.float64))
        self.register_buffer("width", torch.tensor(1.0, dtype=torch.float64))

    @property
    def n_classes(self) -> int:
        """One more than thresholds."""
        return len(self.thresholds) + 1

    @property
    def context(self) -> int:
        """Reach of the smoothing."""
        return math.ceil((4 * self.config.smooth + 1) / min(self._spacing))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Do nothing: the thresholds are found in `finish`."""
        yield from ()

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Find the thresholds. Where there are fewer grey values than classes, the last classes stay empty."""
        values = spread_rows(self._grey(image)[valid] for batch in batches() for image, valid, _ in batch.each())
        found = torch.from_numpy(otsu_thresholds(values.double().numpy(), self.n_classes))
        self.thresholds[: len(found)] = found.to(self.thresholds)
        self.width.fill_(self.config.softness * float(values.max() - values.min()) or 1.0)

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return class probabilities ``[B K *S]`` float32: steps at the thresholds, as logistic functions."""
        grey = torch.stack([self._grey(image) for image in images]).double()  # [B *S]
        above = [((grey - cut) / self.width.cpu()).sigmoid() for cut in self.thresholds.cpu()]
        edges = torch.stack([torch.ones_like(grey), *above, torch.zeros_like(grey)], 1)
        return (edges[:, :-1] - edges[:, 1:]).clamp(min=0).float().to(images.device)

    def training_bytes(self, n_pixels: int) -> int:
        """Return the memory of the grey values and their copies of one image."""
        return 8 * n_pixels * (6 + 2 * self.n_classes)

    def _grey(self, image: Tensor) -> Tensor:
        """Return the smoothed grey values ``[*S]`` of a prepared image ``[C *S]``, on the CPU."""
        plain = np.moveaxis(np.nan_to_num(image.detach().float().cpu().numpy(), posinf=0, neginf=0), 0, -1)
        grey = luminance(plain) if self.config.channel is None else plain[..., self.config.channel]
        if self.config.smooth:
            grey = gaussian_filter(grey, [self.config.smooth / unit for unit in self._spacing], mode="nearest")
        return torch.from_numpy(np.ascontiguousarray(grey, np.float32))
