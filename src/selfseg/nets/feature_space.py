"""Pixels as points: an encoder, the scale of its features, the balance of its pixels and the centres among them."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from selfseg.nets.centres import MovingCentres
from selfseg.nets.feature_norm import FeatureNorm, FeatureScale
from selfseg.nets.pixel_sample import SIZE, PixelSample
from selfseg.nets.slabs import in_slabs
from selfseg.sample.k_means import assign_rows, k_means
from selfseg.sample.stream import Batch

Passes = Callable[[], Iterable[Batch]]


class FeatureSpace(nn.Module):
    """The features of an encoder, on a scale of their own, and centres that pixels belong to.

    Parameters
    ----------
    encoder
        ``[B C *S]`` to ``[B F *S]``. With attributes `halo` and `multiple` it is run in slabs where images are large.
    n_channels, n_features, n_clusters
        C, F and K.
    scale
        As in `FeatureNorm`.
    balance
        As in `PixelSample`.
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

    def rows(self, z: Tensor, images: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the features ``[N F]`` of the pixels that count, and their weights ``[N]``."""
        features, pixels = as_rows(z, valid), as_rows(images, valid)
        return features, self.sample.weights(pixels)

    def nearest(self, z: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest centre of each pixel, ``[B *S]`` int64, and its weight, ``[B *S]``."""
        rows, weights = self.rows(z.detach(), images)
        shape = (len(z), *z.shape[2:])
        return assign_rows(rows, self.centres).labels.reshape(shape), weights.reshape(shape)

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
    def move(self, images: Tensor, valid: Tensor | None, memory: int | None, ends_pass: bool) -> None:
        """Move the centres towards the pixels of a batch, with the encoder at rest."""
        raw = self.raw(images)
        self.norm.follow(raw, valid)
        rows, weights = self.rows(self.norm(raw), images, valid)
        self.moving.absorb(rows, weights, memory)
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
        """What `earlier_labels` needs, as it is now."""
        encoder = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        return {**encoder, "norm.mean": self.norm.mean, "norm.variance": self.norm.variance, "centres": self.centres}


def as_rows(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the pixels ``[N C]`` of ``[B C *S]``, only those that are `valid` ``[B *S]``."""
    rows = x.movedim(1, -1)
    return rows.reshape(-1, x.shape[1]) if valid is None else rows[valid]


def _old(name: str) -> str:
    return "before_" + name.replace(".", "_")
