"""Contours learned from the contours of other images, without labels: how the option `learn` of `contours` learns.

1. Teacher. The merge tree of local and spectral contours (`regions.contours`) of each training image, as a map: every boundary carries
   the cost at which it disappears, squashed to 0-1. One image misses and invents contours; what a small network can learn from many of
   them are those that look alike everywhere.
2. Metric. The teacher's own regions are classes: directions in which frozen features, colour and texture differ between regions and
   not within (`regions.metric`). They replace the appearance in the cost of a merge, and in the codebook.
3. Two heads on frozen features (`nets.contour_head`) learn the maps, from different starts: scores vary by half a point with the start.
4. A third head learns the mean of the teacher's maps and of those of the first two heads' own trees.

Contours are then the mean of the first and the third head: no local and no spectral contours are computed any more.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import coo_array
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from selfseg.methods.base import Batch, Memo
from selfseg.nets.backbones import FrozenFeatures, on_grid
from selfseg.nets.contour_head import ContourHead, contour_probability
from selfseg.regions.contours import contour_strength, merge_contours
from selfseg.regions.graph import RegionGraph, connected_components, region_means
from selfseg.regions.merge_tree import MergeTree, merge
from selfseg.regions.metric import Scatter, discriminant_directions, scatter
from selfseg.regions.oriented_gradient import N_ANGLES, enlarge, fit_parabolas
from selfseg.regions.texture import appearance
from selfseg.regions.watershed import oriented_watershed
from selfseg.sample.device import KeepsCounters

N_DIRECTIONS = 12
"""Directions of the metric."""

HALF = 2
"""Pixels between the samples of a map of contours, along each axis."""

GRID = 4
"""Pixels between the samples of features for the metric."""

COARSEST = 2
"""Maps of the frozen network that the metric sees: its last ones."""

TEACHER, OWN = 0.79, 0.35
"""Cost of a merge at which a boundary of the teacher, and of the heads' own trees, counts one half."""

WIDTH = 0.45
"""Width of that step, in natural logarithms of the cost."""

TEACHING_POWERS = (0.2, 0.4)
"""Exponents of size and of squared difference in the trees that teach the third head."""

ALONG = 3
"""Half axis of the parabola that is fitted to probabilities, in samples."""

LEARNING_RATE, DECAY, WARM_UP = 3e-3, 1e-2, 5
"""AdamW's step size, its weight decay, and the steps in which the step size grows to its full value."""

NOISE = 0.1
"""Standard deviation of the noise added to features, in standard deviations of each feature."""

HEADS = ("first", "second", "third")


class ContourLearner(KeepsCounters):
    """Heads and metric, and how they learn.

    Parameters
    ----------
    features
        The frozen network.
    n_look
        Number of features of a pixel that are not the network's (`regions.texture.appearance`).
    steps
        Steps of each round.
    teaching
        Weights of the local and spectral contours.
    look
        Weights of lightness and texture in the appearance.
    """

    on_host = ("steps_done", "n_images", "gathered")
    steps_done: Tensor
    n_images: Tensor
    gathered: Tensor
    seen: Tensor
    weight: Tensor
    totals: Tensor
    scatters: Tensor
    moments: Tensor
    centre: Tensor
    directions: Tensor

    def __init__(
        self, features: FrozenFeatures, n_look: int, steps: int, teaching: dict[str, float], look: tuple[float, float]
    ) -> None:
        super().__init__()
        self.features, self.n_steps, self.teaching, self.look = features, steps, teaching, look
        # A network without fine maps, as a transformer, gets colour and texture beside its own.
        self.adds_look = min(features.strides) > HALF
        channels = (*features.channels, *(n_look,) * self.adds_look)
        strides = (*features.strides, *(HALF,) * self.adds_look)
        self.heads = nn.ModuleDict({name: ContourHead(channels, strides) for name in HEADS})
        width = n_look + sum(features.channels[-COARSEST:])
        for name in self.on_host:
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        # Sums over the first pass: means and variances of each channel; and those of a `Scatter`.
        self.register_buffer("seen", torch.zeros(2, sum(channels), dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("totals", torch.zeros(2, width, dtype=torch.float64))
        self.register_buffer("scatters", torch.zeros(2, width, width, dtype=torch.float64))
        # What they come to.
        self.register_buffer("moments", torch.ones(2, sum(channels)))
        self.register_buffer("centre", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("directions", torch.zeros(width, N_DIRECTIONS, dtype=torch.float64))
        self._optimizers: dict[str, Optimizer] = {}

    def optimizers(self) -> dict[str, Optimizer]:
        """Return one optimiser for each head."""
        self._optimizers = {
            name: AdamW(head.parameters(), LEARNING_RATE, weight_decay=DECAY) for name, head in self.heads.items()
        }
        return self._optimizers

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield the cross entropy of each head that learns in this round; the first pass yields nothing."""
        if not int(self.gathered):
            self._gather(batch)
            return
        third = int(self.steps_done) >= self.n_steps
        lessons = [self._lesson(image, valid, memo or {}, third) for image, valid, memo in batch.each()]
        done = int(self.steps_done) % self.n_steps
        self.steps_done += 1
        for name in HEADS[2:] if third else HEADS[:2]:
            self._set_rate(name, done)
            yield name, {f"{name} head": torch.stack([self._loss(name, *lesson) for lesson in lessons]).mean()}

    def _set_rate(self, name: str, done: int) -> None:
        factor = min(1.0, (done + 1) / WARM_UP) * (1 + math.cos(math.pi * done / self.n_steps)) / 2
        for group in self._optimizers[name].param_groups:
            group["lr"] = LEARNING_RATE * factor

    def _loss(self, name: str, maps: list[Tensor], target: Tensor, counted: Tensor) -> Tensor:
        """Return the cross entropy of one view: mirrored by chance, with noise on the features."""
        if float(torch.rand(())) < 0.5:
            maps, target, counted = [one.flip(-1) for one in maps], target.flip(-1), counted.flip(-1)
        logits = self.heads[name]([one + NOISE * torch.randn_like(one) for one in maps])
        errors = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
        return (errors * counted).sum() / counted.sum().clamp(min=1)

    def _lesson(self, image: Tensor, valid: Tensor, memo: Memo, third: bool) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return normalised maps ``[1 F h w]``, target and weight ``[1 1 h w]`` of an image ``[C Y X]``, on the heads' device."""
        plain, mask = _plain(image, valid)
        target = self._kept(memo, "teacher", partial(self._teacher_map, plain, mask))
        if third:
            own = self._kept(memo, "heads", partial(self._own_map, image, plain, mask, memo))
            target = np.asarray((target + own) / 2, np.float32)
        wanted, counted = (
            torch.from_numpy(one)[None, None].to(self.moments.device) for one in (target, _shrunk(valid.numpy()))
        )
        return self._normalised(image, memo), wanted, counted

    def _kept(self, memo: Memo, name: str, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return a map 0-1 that is kept in the memo, in steps of 1/255."""
        key = f"contour map of the {name}"
        if key not in memo:
            memo[key] = np.round(make() * 255).astype(np.uint8)
        return np.asarray(memo[key] / np.float32(255), np.float32)

    def _teacher_map(self, plain: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        superpixels, graph = oriented_watershed(contour_strength(plain, self.teaching, mask), mask)
        tree = merge_contours(graph, region_means(superpixels, appearance(plain, *self.look)))
        return boundary_map(superpixels, graph, tree, TEACHER)

    @torch.no_grad()
    def _own_map(
        self, image: Tensor, plain: NDArray[np.float32], mask: NDArray[np.bool_] | None, memo: Memo
    ) -> NDArray[np.float32]:
        look = appearance(plain, *self.look)
        superpixels, graph, means = self.partition(image, look, mask, memo, HEADS[:2])
        size, difference = TEACHING_POWERS
        tree = merge(graph, means, size_power=size, feature_power=difference, strength_power=1.0)
        return boundary_map(superpixels, graph, tree, OWN)

    @torch.no_grad()
    def _gather(self, batch: Batch) -> None:
        """Sum up the statistics of the features and the scatter of the teacher's regions; after the last image fix both."""
        for image, valid, memo in batch.each():
            memo = {} if memo is None else memo
            plain, mask = _plain(image, valid)
            maps = self._maps(image, memo)
            moments = [torch.stack([one.double().mean((1, 2)), one.double().var((1, 2), correction=0)]) for one in maps]
            self.seen += torch.cat(moments, 1).to(self.seen)
            inside = self._kept(memo, "teacher", partial(self._teacher_map, plain, mask)) < 0.5
            regions = connected_components(np.where(inside & (_shrunk(valid.numpy()) > 0), 0, -1))
            rows = np.concatenate([appearance(plain, *self.look)[::GRID, ::GRID], self._coarse(image, maps)], -1)
            found = scatter(regions[:: GRID // HALF, :: GRID // HALF], rows)
            self.weight += found.weight
            self.totals += torch.from_numpy(np.stack([found.total, found.squares])).to(self.totals)
            self.scatters += torch.from_numpy(np.stack([found.within, found.between])).to(self.scatters)
            self.n_images += 1
        if batch.ends_epoch:
            self._fix()

    def _fix(self) -> None:
        """Fix the normalisation of the features and the metric."""
        mean, variance = self.seen / int(self.n_images)
        self.moments.copy_(torch.stack([mean, variance.sqrt() + 1e-3]))
        total, squares, within, between = (one.cpu().numpy() for one in (*self.totals, *self.scatters))
        centre, directions = discriminant_directions(
            Scatter(float(self.weight), total, squares, within, between), N_DIRECTIONS
        )
        self.centre.copy_(torch.from_numpy(centre))
        self.directions.copy_(torch.from_numpy(directions))
        self.gathered.fill_(1)

    def finish(self) -> None:
        """Empty the sums, which are not needed any more."""
        self.scatters = self.scatters[:, :0, :0]

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state, before or after `finish`."""
        width = len(state["scatters"][0])
        self.scatters = self.scatters.new_zeros(2, *(min(width, len(self.centre)),) * 2)
        self.load_state_dict(dict(state))

    def partition(
        self,
        image: Tensor,
        look: NDArray[np.float32],
        mask: NDArray[np.bool_] | None,
        memo: Memo,
        heads: Sequence[str] = (HEADS[0], HEADS[2]),
    ) -> tuple[NDArray[np.int32], RegionGraph, NDArray[np.float64]]:
        """Return the basins ``[Y X]`` of learned contours, their graph, and their place in the metric ``[R 12]``.

        `image` is ``[C Y X]``, `look` its appearance ``[Y X D]``, `mask` ``[Y X]`` what counts of it.
        """
        shape = look.shape[:2]
        learning = self.training
        self.eval()
        probability = contour_probability([self.heads[name] for name in heads], self._normalised(image, memo))
        self.train(learning)
        planes = np.repeat(probability.cpu().numpy()[None], N_ANGLES, 0)
        strength = enlarge(fit_parabolas(planes, ALONG), HALF, shape, (HALF - 1) / 2)
        superpixels, graph = oriented_watershed(strength, mask)
        coarse = _means_of_cells(superpixels, self._coarse(image, self._maps(image, memo)))
        means = np.concatenate([region_means(superpixels, look), coarse], -1)
        return superpixels, graph, (means - self.centre.cpu().numpy()) @ self.directions.cpu().numpy()

    def _maps(self, image: Tensor, memo: Memo) -> list[Tensor]:
        """Return the maps ``[F h w]`` that the heads see, as they are."""
        maps = list(self.features.maps(image.to(self.moments.device), memo))
        if self.adds_look:
            plain, _ = _plain(image, torch.ones(image.shape[1:], dtype=torch.bool))
            maps.append(
                on_grid([torch.from_numpy(np.moveaxis(appearance(plain, *self.look), -1, 0))], image.shape, HALF)
            )
        return maps

    def _normalised(self, image: Tensor, memo: Memo) -> list[Tensor]:
        """Return the maps ``[1 F h w]`` that the heads see, of mean 0 and deviation 1 over the training images."""
        maps = self._maps(image, memo)
        moments = self.moments.split([len(one) for one in maps], 1)
        return [
            ((one.to(mean.device).float() - mean[:, None, None]) / deviation[:, None, None])[None].contiguous(
                memory_format=torch.channels_last
            )
            for one, (mean, deviation) in zip(maps, moments, strict=True)
        ]

    def _coarse(self, image: Tensor, maps: Sequence[Tensor]) -> NDArray[np.float32]:
        """Return the features that the metric sees, ``[h w F]`` on the grid of every fourth pixel."""
        chosen = maps[: len(self.features.strides)][-COARSEST:]
        return np.moveaxis(on_grid(chosen, image.shape, GRID).numpy(), 0, -1)


def _plain(image: Tensor, valid: Tensor) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return ``[Y X C]`` of an image ``[C Y X]``, and its mask, None = all of it counts."""
    plain = np.ascontiguousarray(np.moveaxis(image.detach().float().cpu().numpy(), 0, -1))
    return plain, None if bool(valid.all()) else valid.cpu().numpy()


def boundary_map(
    superpixels: NDArray[np.int32], graph: RegionGraph, tree: MergeTree, half: float
) -> NDArray[np.float32]:
    """Return how lasting the boundaries are, 0-1, in blocks of two by two pixels ``[h w]``: the largest in each, 0 where none runs.

    A boundary that disappears at the cost c has ``1 / (1 + (half / c) ^ (1 / 0.45))``, one half at the cost `half`.
    """
    height, width = superpixels.shape
    costs = np.maximum(tree.joined_at(graph.edges), 1e-6)
    lasting = (1 / (1 + (half / costs) ** (1 / WIDTH))).astype(np.float32)
    keys = graph.edges[:, 0].astype(np.int64) * graph.n_regions + graph.edges[:, 1]
    blocks = np.zeros((-(-height // HALF), -(-width // HALF)), np.float32)
    for axis in (0, 1):
        one, other = (np.delete(superpixels, place, axis) for place in (-1, 0))
        y, x = np.nonzero((one != other) & (one >= 0) & (other >= 0))
        low, high = np.minimum(one[y, x], other[y, x]), np.maximum(one[y, x], other[y, x])
        value = lasting[np.searchsorted(keys, low.astype(np.int64) * graph.n_regions + high)]
        np.maximum.at(blocks, (y // HALF, x // HALF), value)
    return blocks


def _shrunk(valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return 1 where all pixels of a block of `HALF` count, ``[h w]``."""
    return np.asarray(
        np.logical_and.reduceat(
            np.logical_and.reduceat(valid, np.arange(0, valid.shape[0], HALF), 0), np.arange(0, valid.shape[1], HALF), 1
        ),
        np.float32,
    )


def _means_of_cells(superpixels: NDArray[np.int32], cells: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean over each superpixel's pixels of the cell ``[h w F]`` of `GRID` pixels that each lies in, ``[R F]``."""
    height, width = superpixels.shape
    rows, columns = np.mgrid[:height, :width] // GRID
    inside = superpixels.ravel() >= 0
    region, cell = superpixels.ravel()[inside], (rows * cells.shape[1] + columns).ravel()[inside]
    n = int(superpixels.max(initial=-1)) + 1
    counts = coo_array((np.ones(len(region)), (region, cell)), shape=(n, cells[..., 0].size)).tocsr()
    return np.asarray(counts @ cells.reshape(-1, cells.shape[-1])) / np.bincount(region, minlength=n)[:, None]
