"""The rounds of the fully connected CRF (`refine.crf`) on another device than the CPU, in whole operations of torch.

Lattice and grid are laid out on the CPU, as always; then every round stays on the device. Sums run over entries that are sorted by
corner, one after the other, so that they are the same each time.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.refine.lattice import AllPairs, Blur, Lattice, Values
from selfseg.refine.mean_field import TINY, GridGaussian, Normalised


class LatticeThere:
    """`refine.lattice.Lattice` on a device."""

    def __init__(self, lattice: Lattice, device: torch.device) -> None:
        self.pixels = torch.from_numpy(lattice.pixels).to(device).long()  # of each entry, sorted by corner
        self.shares = torch.from_numpy(lattice.weights_by_corner).to(device)[:, None]
        self.counts = torch.from_numpy(np.diff(lattice.first)).to(device)
        self.ids = torch.from_numpy(lattice.ids).to(device).long()
        self.weights = torch.from_numpy(lattice.weights).to(device) * float(lattice.gain)
        self.between: PairsThere | BlurThere = (
            PairsThere(lattice.between, device)
            if isinstance(lattice.between, AllPairs)
            else BlurThere(lattice.between, device)
        )

    def filter(self, values: Tensor) -> Tensor:
        """Return filtered values ``[N K]``."""
        entries = values[self.pixels] * self.shares
        corners = self.between.filter(torch.segment_reduce(entries, "sum", lengths=self.counts, axis=0, unsafe=True))
        found = torch.zeros_like(values)
        for r in range(self.ids.shape[1]):  # a corner at a time: all at once would take d + 1 times the memory
            found.addcmul_(corners[self.ids[:, r]], self.weights[:, r : r + 1])
        return found


class PairsThere:
    """`refine.lattice.AllPairs` on a device."""

    def __init__(self, pairs: AllPairs, device: torch.device) -> None:
        self.order = torch.from_numpy(pairs.order).to(device)
        self.pairs = [(here, there, torch.from_numpy(matrix).to(device)) for here, there, matrix in pairs.pairs]

    def filter(self, corners: Tensor) -> Tensor:
        """Return filtered corners ``[M K]``."""
        values, result = corners[self.order], torch.zeros_like(corners)
        for here, there, matrix in self.pairs:
            result[here] += matrix @ values[there]
            if here != there:
                result[there] += matrix.T @ values[here]
        found = torch.empty_like(result)
        found[self.order] = result
        return found


class BlurThere:
    """`refine.lattice.Blur` on a device."""

    def __init__(self, blur: Blur, device: torch.device) -> None:
        beside = torch.from_numpy(blur.beside).to(device).long()
        self.beside = beside.where(beside >= 0, beside.shape[1])  # what does not exist is a row of zeros at the end

    def filter(self, corners: Tensor) -> Tensor:
        """Return filtered corners ``[M K]``."""
        for beside in self.beside:
            padded = F.pad(corners, (0, 0, 0, 1))
            corners = 0.5 * corners + 0.25 * (padded[beside[:, 0]] + padded[beside[:, 1]])
        return corners


class GridThere:
    """`refine.mean_field.GridGaussian` on a device."""

    def __init__(self, grid: GridGaussian, device: torch.device) -> None:
        self.shape = grid.shape
        self.inside = None if grid.inside is None else torch.from_numpy(grid.inside).to(device)
        self.kernels = []
        for taps in grid.taps:
            both = np.concatenate([taps[:0:-1], taps])
            self.kernels.append(torch.from_numpy(both).to(device))

    def filter(self, values: Tensor) -> Tensor:
        """Return filtered values ``[N K]``."""
        n_channels = values.shape[1]
        if self.inside is not None:
            whole = values.new_zeros(math.prod(self.shape), n_channels)
            whole[self.inside] = values
            values = whole
        maps = values.T.reshape(n_channels, *self.shape)
        for axis, kernel in enumerate(self.kernels, 1):
            lines = maps.movedim(axis, -1)
            flat = lines.reshape(-1, 1, lines.shape[-1])
            flat = F.conv1d(flat, kernel.view(1, 1, -1), padding=len(kernel) // 2)
            maps = flat.reshape(lines.shape).movedim(-1, axis)
        rows = maps.reshape(n_channels, -1).T
        return rows if self.inside is None else rows[self.inside]


def mean_field_on(
    device: torch.device, probabilities: Values, kernels: Sequence[Normalised], iterations: int
) -> Values:
    """Return the beliefs after some rounds, ``[N K]``, as `refine.mean_field.mean_field` does, but for the order of the sums."""
    beliefs = torch.from_numpy(np.array(probabilities, np.float32, order="C")).to(device)
    unary = beliefs.clamp(min=TINY).log()
    sides = []
    for normalised in kernels:
        kernel = normalised.kernel
        there = LatticeThere(kernel, device) if isinstance(kernel, Lattice) else GridThere(kernel, device)
        root, own, gains = (
            torch.from_numpy(column).to(device)[:, None]
            for column in (normalised.root, normalised.own, normalised.gains)
        )
        sides.append((there, root, own, gains))
    for _ in range(iterations):
        message = unary.clone()
        for there, root, own, gains in sides:
            scaled = root * beliefs
            message += gains * (there.filter(scaled) - own * scaled)
        beliefs = message.softmax(1)
    return beliefs.cpu().numpy()
