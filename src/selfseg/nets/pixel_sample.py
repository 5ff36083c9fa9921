"""A sample of pixels and of their features, and how much each pixel counts so that rare kinds of pixels are not drowned."""

from typing import Any

import torch
from torch import Tensor, nn

from selfseg.sample.k_means import assign_rows, k_means

SIZE = 1 << 15
"""Pixels of the sample, over all training images together."""

CELLS = 32
"""Kinds of pixels that are told apart."""


class PixelSample(nn.Module):
    """Pixels drawn evenly from the training images, and a balance between the kinds of pixels among them.

    The pixels are cut into cells by k-means on their values. A pixel of a cell with the share s weighs ``s ** -balance``, divided
    by the mean of all: with balance 0 each counts 1, with balance 1 each kind counts the same, however few its pixels are.

    Parameters
    ----------
    n_channels, n_features
        C and F.
    balance
        0 to 1.

    Attributes
    ----------
    used
        Set once the sample has served: it is no longer part of the state then.
    """

    pixels: Tensor
    features: Tensor
    taken: Tensor
    used: Tensor
    cells: Tensor
    weight_of_cell: Tensor

    def __init__(self, n_channels: int, n_features: int, balance: float) -> None:
        super().__init__()
        self.balance = balance
        self.register_buffer("pixels", torch.zeros(SIZE, n_channels))
        self.register_buffer("features", torch.zeros(SIZE, n_features))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))
        self.register_buffer("used", torch.tensor(False))
        self.register_buffer("cells", torch.zeros(CELLS, n_channels))
        self.register_buffer("weight_of_cell", torch.ones(CELLS))

    @property
    def pixels_taken(self) -> Tensor:
        """The pixels so far, ``[M C]``."""
        return self.pixels[: int(self.taken)]

    @property
    def features_taken(self) -> Tensor:
        """Their features, ``[M F]``."""
        return self.features[: int(self.taken)]

    def clear(self) -> None:
        """Begin anew."""
        self.taken.zero_()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if bool(self.used):
            for name in ("pixels", "features"):
                del destination[prefix + name]

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        if bool(state.get(prefix + "used", False)):
            state = {prefix + "pixels": self.pixels, prefix + "features": self.features, **state}
        super()._load_from_state_dict(state, prefix, *rest)

    def add(self, pixels: Tensor, features: Tensor, quota: int) -> None:
        """Take at most `quota` of the pixels ``[N C]`` with their features ``[N F]``, drawn by torch's own generator."""
        quota = min(quota, SIZE - int(self.taken))
        if len(pixels) > quota:
            chosen = torch.randint(len(pixels), (quota,)).to(pixels.device)
            pixels, features = pixels[chosen], features[chosen]
        here = slice(int(self.taken), int(self.taken) + len(pixels))
        self.pixels[here], self.features[here] = pixels.float(), features.float()
        self.taken += len(pixels)

    def weigh(self, seed: int) -> None:
        """Find the cells and their weights in the sample."""
        if not self.balance or not int(self.taken):
            return
        found = k_means(self.pixels_taken, CELLS, seed, restarts=1, iterations=30)
        shares = found.mass / found.mass.sum()
        weights = torch.where(shares > 0, shares.clamp(min=1e-12) ** -self.balance, torch.zeros_like(shares))
        self.cells.copy_(found.centres)
        self.weight_of_cell.copy_(weights / (shares * weights).sum())

    def weights(self, pixels: Tensor | None = None) -> Tensor:
        """Return the weights ``[N]`` of pixels ``[N C]``; of the sample itself if None are given."""
        pixels = self.pixels_taken if pixels is None else pixels
        if not self.balance:
            return pixels.new_ones(len(pixels), dtype=torch.float32)
        return self.weight_of_cell[assign_rows(pixels, self.cells).labels]
