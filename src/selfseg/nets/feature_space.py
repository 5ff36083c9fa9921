"""Pixels as points: an encoder, the scale of its features, the balance of its pixels and the centres among them."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from selfseg.nets.norms import FeatureNorm, FeatureScale
from selfseg.sample.k_means import assign_rows, k_means, lloyd, moved_centres, nearest_rows, revived
from selfseg.sample.stream import Batch

Passes = Callable[[], Iterable[Batch]]

SIZE = 1 << 15
"""Pixels of the sample, over all training images together."""

CELLS = 32
"""Kinds of pixels that are distinguished."""

MOST_PIXELS = 1 << 21
"""Pixels of a slab without its halo."""


class FeatureSpace(nn.Module):
    """The features ``[B F *S]`` of an encoder, on a scale of their own (`FeatureNorm`), and K centres that pixels belong to.

    An encoder with attributes `halo` and `multiple` is run in slabs where images are large. `balance` is that of `PixelSample`.
    """

    def __init__(
        self, encoder: nn.Module, n_channels: int, n_features: int, n_clusters: int, scale: FeatureScale, balance: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = FeatureNorm(n_features, scale)
        self.sample = PixelSample(n_channels, n_features, balance)
        self.moving = MovingCentres(n_clusters, n_features)
        self.register_buffer("pixel_centres", torch.zeros(n_clusters, n_channels))
        for name, value in self._present().items():
            self.register_buffer(_old(name), value.detach().clone())

    @property
    def centres(self) -> Tensor:
        """``[K F]``, on the scale of `norm`."""
        return self.moving.centres

    def forward(self, images: Tensor) -> Tensor:
        """Return raw features ``[B F *S]`` while learning."""
        features: Tensor = self.encoder(images)
        return features.float()

    @torch.no_grad()
    def at_rest(self, images: Tensor) -> Tensor:
        """Return features ``[B F *S]`` on their scale, without gradient, the encoder in evaluation mode."""
        return self.norm(self.raw(images))

    def raw(self, images: Tensor) -> Tensor:
        """Return features ``[B F *S]`` as the encoder gives them, in evaluation mode."""
        return self._raw(images, self.encoder)

    def _raw(self, images: Tensor, net: Callable[[Tensor], Tensor]) -> Tensor:
        learning = self.encoder.training
        self.encoder.eval()
        halo, multiple = getattr(self.encoder, "halo", None), getattr(self.encoder, "multiple", 1)
        features = net(images) if halo is None else in_slabs(net, images, halo, multiple)
        self.encoder.train(learning)
        return features.float()

    def weights(self, images: Tensor) -> Tensor:
        """Return how much each pixel counts, ``[B *S]``, of images ``[B C *S]``."""
        return self.sample.weights(as_rows(images)).reshape(len(images), *images.shape[2:])

    def nearest(self, z: Tensor) -> Tensor:
        """Return the nearest centre of each pixel, ``[B *S]`` int64."""
        return nearest_rows(as_rows(z.detach()), self.centres).reshape(len(z), *z.shape[2:])

    @torch.no_grad()
    def gather(self, batch: Batch, quota: int) -> int:
        """Take at most `quota` pixels of each image into the sample; return how many pixels there were."""
        n_pixels = 0
        for b in range(len(batch.images)):
            image, valid = batch.images[b : b + 1], None if batch.valid is None else batch.valid[b : b + 1]
            pixels = as_rows(image, valid)
            self.sample.add(pixels, as_rows(self.raw(image), valid), quota)
            n_pixels += len(pixels)
        return n_pixels

    def weigh(self, images: Tensor, valid: Tensor | None, decoder: Callable[[Tensor], Tensor]) -> None:
        """Measure what each feature does to the rebuilt image."""
        with torch.no_grad():
            features = self.raw(images)
        rebuilt = decoder(features.requires_grad_()).float()
        signs = torch.randint_like(rebuilt, 0, 2) * 2 - 1
        (slopes,) = torch.autograd.grad((rebuilt * signs).sum(), features)
        self.norm.add_effect(slopes, valid)

    @torch.no_grad()
    def begin(self, total: float, restarts: int, seed: int) -> None:
        """Find scale, balance and centres in what was gathered, of `total` pixels; keep encoder and centres as they are now."""
        self.norm.settle(self.sample.features_taken, turn=True)
        self.sample.weigh(seed)
        rows, weights = self.norm(self.sample.features_taken), self.sample.weights()
        if len(rows):
            self.moving.begin(rows, weights, total, restarts, seed)
            pixels = k_means(self.sample.pixels_taken, len(self.centres), seed, weights, restarts)
            self.get_buffer("pixel_centres").copy_(pixels.centres)
        for name, value in self._present().items():
            self.get_buffer(_old(name)).copy_(value)
        self.sample.used.fill_(True)

    @torch.no_grad()
    def move(self, images: Tensor, valid: Tensor | None, weights: Tensor, memory: int | None, ends_pass: bool) -> None:
        """Move the centres towards the pixels of a batch, which count as `weights` ``[B *S]``, with the encoder at rest."""
        raw = self.raw(images)
        self.norm.follow(raw, valid)
        rows = as_rows(self.norm(raw), valid)
        self.moving.absorb(rows, weights.reshape(-1) if valid is None else weights[valid], memory)
        if ends_pass:
            self.moving.end_pass(rows)

    @torch.no_grad()
    def settle(self, passes: Passes, n_images: int) -> None:
        """Fix the scale over the training images, let the centres come to rest, and give each of them a pixel at least."""
        self.sample.clear()
        for batch in passes():
            self.gather(batch, max(1, SIZE // n_images))
        before = self.norm.mean.clone(), self.norm.variance.clone()
        self.norm.settle(self.sample.features_taken)
        self.centres.copy_(self.norm.rescaled(self.centres, *before))
        self.moving.settle(self.norm(self.sample.features_taken), self.sample.weights())
        for _ in range(len(self.centres)):
            if not self._fill(passes):
                break

    def _fill(self, passes: Passes) -> bool:
        """Put one centre that no training pixel belongs to at the farthest of them; return whether there was one."""
        mass, far, place = torch.zeros_like(self.moving.counts), 0.0, None
        for batch in passes():
            rows = as_rows(self.at_rest(batch.images), batch.valid)
            found = assign_rows(rows, self.centres)
            mass += found.mass
            if len(rows) and float(found.distances.max()) > far:
                far, place = float(found.distances.max()), rows[int(found.distances.argmax())]
        empty = (mass == 0).nonzero().flatten()
        if not len(empty) or place is None:
            return False
        self.centres[empty[0]] = place
        return True

    @torch.no_grad()
    def earlier_labels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return two earlier clusterings ``[B *S]``: k-means on the pixels themselves, and on the features before joint training."""
        old = {name: self.get_buffer(_old(name)) for name in self._present()}
        weights = {name.removeprefix("encoder."): value for name, value in old.items() if name.startswith("encoder.")}
        raw = self._raw(images, lambda part: functional_call(self.encoder, weights, (part,)))
        z = self.norm.scaled(raw, old["norm.mean"], old["norm.variance"])
        shape = (len(images), *images.shape[2:])
        by_pixel = assign_rows(as_rows(images), self.get_buffer("pixel_centres")).labels
        return by_pixel.reshape(shape), assign_rows(as_rows(z), old["centres"]).labels.reshape(shape)

    def _present(self) -> dict[str, Tensor]:
        """Copy of what `earlier_labels` needs, as it is now."""
        encoder = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        return {**encoder, "norm.mean": self.norm.mean, "norm.variance": self.norm.variance, "centres": self.centres}


def as_rows(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the pixels ``[N C]`` of ``[B C *S]``, only those that are `valid` ``[B *S]``."""
    rows = x.movedim(1, -1)
    return rows.reshape(-1, x.shape[1]) if valid is None else rows[valid]


def _old(name: str) -> str:
    return "before_" + name.replace(".", "_")


class PixelSample(nn.Module):
    """Pixels drawn evenly from the training images, and a balance between the kinds of pixels among them.

    The pixels are cut into cells by k-means on their values. A pixel of a cell with the share s weighs ``s ** -balance``, divided
    by the mean of all: with balance 0 each counts 1, with balance 1 each kind counts the same, however few its pixels are. Once the
    sample has served (`used`), it is no longer part of the state.
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
        return self.weight_of_cell[nearest_rows(pixels, self.cells)]


class MovingCentres(nn.Module):
    """K centres ``[K F]`` that follow features which are being learned; `counts` is the mass that each remembers.

    A cluster that loses all its pixels over a whole pass is started anew at the pixel that is farthest from its centre. A cluster
    with few pixels is left alone, however few they are: it may be what is looked for. Per feature, `spread` is the mean squared
    difference of the final pixels from their centre, `inertia` that of the last batch, `shift` the root mean square way of the centres
    in it.
    """

    centres: Tensor
    counts: Tensor
    in_pass: Tensor
    spread: Tensor
    inertia: Tensor
    shift: Tensor

    def __init__(self, n_clusters: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(n_clusters, n_features))
        self.register_buffer("counts", torch.zeros(n_clusters, dtype=torch.float64))
        self.register_buffer("in_pass", torch.zeros(n_clusters, dtype=torch.float64))
        for name in ("spread", "inertia", "shift"):
            self.register_buffer(name, torch.ones(()) if name == "spread" else torch.zeros(()))

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        earlier = {prefix + name for name in ("history", "history_inertia", "n_kept")}  # models of before have these
        super()._load_from_state_dict({key: state[key] for key in state if key not in earlier}, prefix, *rest)

    def begin(self, rows: Tensor, weights: Tensor, total: float, restarts: int, seed: int) -> None:
        """Find the centres in a sample: k-means++ with restarts. They count as if they had seen `total` in mass."""
        found = k_means(rows, len(self.centres), seed, weights, restarts)
        self.centres.copy_(found.centres)
        self.counts.copy_(found.mass * (total / found.mass.sum().clamp(min=1e-12)))
        self.inertia.fill_(found.inertia / rows.shape[1])
        self.spread.copy_(self.inertia)
        self.in_pass.zero_()

    def absorb(self, rows: Tensor, weights: Tensor, memory: float | None) -> None:
        """Move towards the rows ``[N F]`` of a batch (`moved_centres`)."""
        if len(rows) == 0:
            return
        found = assign_rows(rows, self.centres, weights)
        centres, counts = moved_centres(self.centres, self.counts, found, memory)
        self.shift.copy_((centres - self.centres).square().mean().sqrt())
        self.inertia.copy_(found.distances @ weights / weights.sum().clamp(min=1e-12) / rows.shape[1])
        self.centres.copy_(centres)
        self.counts.copy_(counts)
        self.in_pass += found.mass

    def end_pass(self, rows: Tensor) -> None:
        """Start clusters anew that had no pixel in the pass, at the rows of the last batch that are farthest from a centre."""
        empty = self.in_pass == 0
        if bool(empty.any()) and len(rows):
            self.centres.copy_(revived(self.centres, empty, rows, assign_rows(rows, self.centres).distances))
        self.in_pass.zero_()

    def settle(self, rows: Tensor, weights: Tensor) -> None:
        """Let the centres come to rest on a sample of the training pixels (Lloyd's iterations from where they are)."""
        if len(rows) == 0:
            return
        found = lloyd(rows, self.centres, weights)
        self.centres.copy_(found.centres)
        self.counts.copy_(found.mass)
        self.spread.fill_(max(found.inertia / rows.shape[1], 1e-12))

    def figures(self) -> dict[str, float]:
        """Return inertia, shift, and the share of the smallest cluster, for the journal."""
        figures = [self.inertia.unsqueeze(0), self.shift.unsqueeze(0), self.counts.to(self.inertia)]
        inertia, shift, *counts = torch.cat(figures).cpu().tolist()
        return {"inertia": inertia, "shift": shift, "smallest": min(counts) / max(sum(counts), 1e-12)}


def in_slabs(
    net: Callable[[Tensor], Tensor], images: Tensor, halo: int, multiple: int, most_pixels: int = MOST_PIXELS
) -> Tensor:
    """Return what `net` gives for the whole images ``[B C *S]``, computed in slabs along their first spatial axis.

    `net` keeps the spatial size and treats pixels alike wherever they are but for steps of `multiple`; an output depends on `halo` pixels
    on each side. The maps of a whole volume need not be in memory at once: a slab has at most `most_pixels` without its halo.
    """
    length = images.shape[2]
    step = max(1, most_pixels // max(1, images[0, 0, 0].numel()) // multiple) * multiple
    if step >= length:
        return net(images)
    halo = -(-halo // multiple) * multiple
    parts = []
    for start in range(0, length, step):
        stop, first = min(length, start + step), max(0, start - halo)
        part = net(images[:, :, first : min(length, stop + halo)])
        parts.append(part[:, :, start - first : stop - first])
    return torch.cat(parts, dim=2)
