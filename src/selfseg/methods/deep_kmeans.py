"""Deep k-means: an autoencoder learns features of pixels, then features and cluster centres learn together.

Yang, Fu, Sidiropoulos & Hong, "Towards K-means-friendly Spaces", ICML 2017 (DCN), for the pixels of images. The autoencoder is
trained alone until its error is low enough; k-means on its features gives the centres; then each batch moves the network (it
must still rebuild the image, and each pixel should lie near its centre) and after that the centres, with the network at rest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial, wraps
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from selfseg.losses import weighted
from selfseg.losses.deep_clustering import centre_distances, nearest_distance, sharpened_divergence, student_t
from selfseg.losses.reconstruction import reconstruction
from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.nets.autoencoder import ResidualDecoder, StridedUNet, own_networks, start_near
from selfseg.nets.feature_space import SIZE, FeatureSpace
from selfseg.nets.norms import calibrate_batch_norms, moments
from selfseg.sample.device import KeepsCounters, full_float32, fused
from selfseg.sample.patches import random_windows

ALONE, GATHERING, TOGETHER = 0, 1, 2
"""The autoencoder alone, one pass that gathers features for k-means, network and centres together."""

LEAST_BATCHES = 10
"""Batches over which the autoencoder's error is averaged before it is judged, at least."""

LEAST_VARIANCE = 1e-6
"""The unit of that error where images are nearly of one colour."""

LEAST_VALID = 0.25
"""Random windows are drawn again, some times, until this share of their pixels counts."""


class DeepKMeansConfig(MethodConfig):
    """Options of deep k-means."""

    prepare: str = "size=240,auto"
    """Preparation of every image, in order, as named steps: ``foreground=0,percentile=1:99.8``. Stored and repeated at prediction."""
    n_clusters: int = Field(default=4, ge=1, le=255)
    """Clusters (the paper's K), if `n_classes` is empty."""
    n_features: int = Field(default=16, ge=1, le=4096)
    """Features of a pixel (the paper's R)."""
    width: int = Field(default=8, ge=1)
    """Channels of the first level of encoder and decoder; each level below doubles those of the encoder."""
    depth: int = Field(default=2, ge=0, le=6)
    """Levels below the first in the encoder: how far around a pixel it looks."""
    networks: str = ""
    """Your own encoder and decoder: a module, ``package.module``, with functions of these names (`nets.autoencoder.own_networks`)."""
    rectified: bool = False
    """End encoder and decoder with a ReLU, as the original for brain images does. Features can die of it."""
    scale: Literal["effect", "total", "each", "none"] = "effect"
    """Scale of the features in distances: by their effect on the rebuilt image; one factor for all; variance 1 each; or raw (paper)."""
    noise: float = Field(default=0.05, ge=0)
    """Standard deviation of the noise that is added to the encoder's input while training, in units of the prepared image."""
    patch: int | None = Field(default=None, ge=4)
    """Side of the random window, in pixels, that is cut out of each image anew in every batch; empty = the whole image."""
    pretrain_iterations: int = Field(default=150, ge=0)
    """Batches for the autoencoder alone, at most; whole passes over the images."""
    target_error: float = Field(default=0.05, ge=0)
    """The autoencoder is good enough when it leaves this share of the images' variance unexplained. 0 = all batches are used."""
    iterations: int = Field(default=100, ge=1)
    """Batches for network and centres together; whole passes over the images."""
    min_epochs: int = Field(default=1, ge=1)
    """Passes over the images in either phase, at least."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or stochastic gradient descent with Nesterov's momentum .9 as in the paper."""
    pretrain_rate: float = Field(default=0.003, gt=0)
    """Step size while the autoencoder learns alone."""
    learning_rate: float = Field(default=0.001, gt=0)
    """Step size while network and centres learn together."""
    reconstruction: float = Field(default=1.0, gt=0)
    """Weight of the mean squared error of the rebuilt image, which is divided by the variance of the images."""
    distance: float = Field(default=0.1, ge=0)
    """Weight of the mean squared distance to the nearest centre, per feature (the paper's lambda). 0 = k-means afterwards only."""
    warm_up: float = Field(default=0.3, ge=0, le=1)
    """Share of the joint training over which the weight of the distance grows from 0."""
    balance: float = Field(default=0.5, ge=0, le=1)
    """How far rare kinds of pixels are raised: 0 = every pixel counts the same, 1 = every kind of pixel does."""
    by_size: bool = False
    """In the distance, every cluster counts the same however large it is."""
    sharpen: float = Field(default=0.0, ge=0)
    """Weight of the divergence between soft assignments and their sharpened target (Xie et al. 2016). 0 switches it off."""
    masked: float = Field(default=0.0, ge=0)
    """Weight of the error of the image rebuilt as a sum over clusters, each from its own pixels' features. 0 switches it off."""
    memory: int | None = Field(default=20, ge=1)
    """Batches that the centres remember, so that they never freeze; empty = all, as in the paper."""
    restarts: int = Field(default=8, ge=1)
    """Runs of k-means++ that the first centres are the best of."""
    freedom: float = Field(default=1.0, gt=0)
    """Degrees of freedom of Student's t, which turns distances into probabilities: the larger, the surer."""


def in_float32(work: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method whose first argument is images work without autocast and TF32.

    Distances between features are small differences of large numbers. And on a CPU the gradient of a 3D convolution in bfloat16
    reads beyond its input where a map has only two pixels along an axis (seen with torch 2.13), which gives NaN by chance.
    """

    @wraps(work)
    def run(self: Any, images: Tensor, *rest: Any) -> Any:
        with full_float32(images.device):
            return work(self, images, *rest)

    return run


class DeepKMeans(Method):
    """Deep k-means. See the module's docstring; `DeepKMeansConfig` lists every option."""

    Config = DeepKMeansConfig
    config: DeepKMeansConfig
    live = (
        *("noise", "target_error", "pretrain_rate", "learning_rate", "reconstruction", "distance", "warm_up"),
        *("by_size", "sharpen", "masked", "memory", "freedom"),
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"prepare": "size=160,auto", "pretrain_iterations": 80, "iterations": 50, "n_features": 8},
        "flair": {
            "prepare": "foreground=0,smooth=1,percentile=50:99.9,rescale=0.5",
            "patch": 24,
            "pretrain_iterations": 60,
            "iterations": 40,
        },
        "paper": {
            "prepare": "auto",
            "n_clusters": 10,
            "n_features": 10,
            "scale": "none",
            "noise": 0.0,
            "target_error": 0.0,
            "min_epochs": 50,
            "batch_size": 128,
            "optimizer": "sgd",
            "pretrain_rate": 0.01,
            "learning_rate": 0.05,
            "warm_up": 0.0,
            "balance": 0.0,
            "memory": None,
        },
    }
    refinements: ClassVar[Mapping[str, str]] = {"flair": "hysteresis(low=0.2, high=0.8)"}
    deviations = (
        "convolutions for pixels, where the paper has fully connected layers that are pretrained one by one",
        "the terms are means, per value in units of the images' variance and per feature: the paper's lambda is in other units",
    )

    def __init__(self, config: DeepKMeansConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        width, features, rectified = config.width, config.n_features, config.rectified
        encoder: nn.Module = StridedUNet(n_channels, features, width, config.depth, n_dims, rectified)
        self.decoder: nn.Module = ResidualDecoder(features, n_channels, width, 3, n_dims, rectified)
        if config.networks:
            encoder, self.decoder = own_networks(config.networks, n_channels, features, n_dims)
        self.space = FeatureSpace(encoder, n_channels, features, self.n_classes, config.scale, config.balance)
        self.explained = Explained()
        self.phases = Phases((config.pretrain_iterations, config.iterations), config.min_epochs, config.batch_size)

    @property
    def n_classes(self) -> int:
        return self.config.n_classes or self.config.n_clusters

    def n_steps(self, n_images: int) -> int:
        return self.phases.n_steps(n_images)

    def optimizers(self) -> dict[str, Optimizer]:
        rates = {"alone": self.config.pretrain_rate, "together": self.config.learning_rate}
        make: Any = partial(SGD, momentum=0.9, nesterov=True) if self.config.optimizer == "sgd" else Adam
        return {name: make(self.parameters(), lr=rate, **fused(self.device)) for name, rate in rates.items()}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield the autoencoder's error alone, later with the distance to the centres, which move after each step.

        The pass between the two yields nothing: it gathers features, and k-means on them gives the centres.
        """
        if self.phases.now == GATHERING:
            self._gather(batch)
            return
        images, valid = self._view(batch)
        if self.phases.now == ALONE:
            terms = self._error_alone(images, valid)
            yield "alone", terms
            self.explained.judge(weighted(1 / self.config.reconstruction, terms["reconstruction"]), batch.ends_epoch)
            self._end_batch_alone(batch)
        else:
            weights = self._weights(images)
            yield "together", self._terms(images, valid, weights)
            self._move(images, valid, weights, batch.ends_epoch)

    def _view(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Whole images, or a random window of each."""
        if self.config.patch is None:
            return batch.images, batch.valid
        return random_windows(batch.images, batch.valid, self.config.patch, LEAST_VALID)

    def _noisy(self, images: Tensor) -> Tensor:
        return images + self.config.noise * torch.randn_like(images) if self.config.noise else images

    @in_float32
    def _error_alone(self, images: Tensor, valid: Tensor | None) -> dict[str, Tensor]:
        if not int(self.explained.n_batches):
            start_near(self.space.encoder, self.decoder, images, valid)
        self.explained.look_at(images, valid)
        error = self._error(self.decoder(self.space(self._noisy(images))), images, valid)
        return {"reconstruction": weighted(self.config.reconstruction, error)}

    def _error(self, rebuilt: Tensor, images: Tensor, valid: Tensor | None) -> Tensor:
        """Share of the images' variance that the rebuilt images leave unexplained."""
        return self.explained.share(reconstruction(rebuilt.float(), images, valid))

    def _end_batch_alone(self, batch: Batch) -> None:
        """The first phase ends after a whole pass: when the error is low enough, or at the last of its passes."""
        self.phases.count(len(batch.images), batch.ends_epoch)
        enough = self.phases.least() and self.explained.enough(self.config.target_error)
        if batch.ends_epoch and (enough or self.phases.done()):
            self.phases.enter(GATHERING)
            self.explained.alone = None

    def _gather(self, batch: Batch) -> None:
        """Take features of these images into the sample; after the last of them find the centres in it."""
        phases, space = self.phases, self.space
        with full_float32(batch.images.device):
            space.weigh(*self._view(batch), self.decoder)
            phases.seen += space.gather(batch, max(1, SIZE // int(phases.n_images)))
        if batch.ends_epoch:
            space.begin(float(phases.seen), self.config.restarts, seed=int(torch.randint(2**62, ())))
            phases.enter(TOGETHER)

    @in_float32
    def _weights(self, images: Tensor) -> Tensor:
        return self.space.weights(images)

    @in_float32
    def _terms(self, images: Tensor, valid: Tensor | None, weights: Tensor) -> dict[str, Tensor]:
        """Reconstruction, distance (paper eq. 5), and the terms that are switched on, each with its weight."""
        config, space = self.config, self.space
        features = space(self._noisy(images))
        rebuilt = self.decoder(features)
        terms = {"reconstruction": weighted(config.reconstruction, self._error(rebuilt, images, valid))}
        z = space.norm(features, valid)
        if config.distance:
            labels, counted = space.nearest(z), weights if valid is None else weights * valid
            grown = min(1.0, self.phases.progress() / config.warm_up) if config.warm_up else 1.0
            apart = nearest_distance(z, space.centres, labels, counted, config.by_size)
            terms["distance"] = weighted(config.distance * grown, apart)
        if config.sharpen:
            terms["sharpen"] = config.sharpen * sharpened_divergence(self._soft(z), valid)
        if config.masked:
            parts = [self.decoder(features * share) for share in self._soft(z).split(1, dim=1)]
            terms["masked"] = config.masked * self._error(torch.stack(parts).sum(0), images, valid)
        return terms

    def _soft(self, z: Tensor) -> Tensor:
        return student_t(centre_distances(z, self.space.centres), self.space.moving.spread, self.config.freedom)

    @in_float32
    def _move(self, images: Tensor, valid: Tensor | None, weights: Tensor, ends_pass: bool) -> None:
        """Move the centres, with the network at rest (paper, section 3.3.2)."""
        self.space.move(images, valid, weights, self.config.memory, ends_pass)
        self.phases.count(len(images), ends_pass)

    def status(self) -> dict[str, float]:
        if self.phases.now != TOGETHER:
            return {"phase": self.phases.now + 1}
        return {"phase": TOGETHER + 1, **self.space.moving.figures()}

    def stop_reason(self) -> str | None:
        done = self.phases.now == TOGETHER and self.phases.done()
        return "the autoencoder was good enough early, and the joint training is done" if done else None

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fix the statistics, let the centres come to rest, and give each cluster a pixel at least."""
        self.eval()
        calibrate_batch_norms(self, lambda: (self.decoder(self.space(batch.images)) for batch in batches()))
        self.space.settle(batches, max(1, int(self.phases.n_images)))

    @torch.no_grad()
    @in_float32
    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return soft assignments by Student's t, ``[B K *S]``; all equal before there are centres."""
        return self._soft(self.space.at_rest(images))

    def portable(self) -> Callable[[Tensor], Tensor]:
        return self.assign

    @torch.no_grad()
    def rebuild(self, images: Tensor) -> Tensor:
        return self.decoder(self.space.raw(images)).float()

    @torch.no_grad()
    def pictures(self, image: Tensor, memo: Memo | None = None) -> dict[str, Tensor]:
        """Return the rebuilt image ``[C *S]``, and earlier clusters ``[*S]``: of pixels, and of features before joint training."""
        by_pixel, before = self.space.earlier_labels(image[None])
        return super().pictures(image) | {"k-means on pixels": by_pixel[0] + 1, "before joint training": before[0] + 1}

    def training_bytes(self, n_pixels: int) -> int:
        config = self.config
        n_pixels = min(n_pixels, (config.patch or n_pixels) ** self.n_dims * config.batch_size)
        masked = self.n_classes * (16 * config.width + config.n_features) if config.masked else 0
        return 4 * n_pixels * (40 * config.width + 10 * config.n_features + masked)


class Phases(KeepsCounters):
    """Phase, passes and images so far, as tensors, so that a resumed run stands where it was.

    The first and the last phase take `iterations` batches each, in whole passes, at least `min_epochs` of them.
    """

    on_host = ("phase", "passes", "seen", "n_images")
    phase: Tensor
    passes: Tensor
    seen: Tensor
    n_images: Tensor

    def __init__(self, iterations: tuple[int, int], min_epochs: int, batch_size: int) -> None:
        super().__init__()
        self.iterations, self.min_epochs, self.batch_size = iterations, min_epochs, batch_size
        for name in ("phase", "passes", "seen", "n_images"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @property
    def now(self) -> int:
        """The phase."""
        return int(self.phase)

    def n_steps(self, n_images: int) -> int:
        """Return the batches of both phases and of the pass between them, for a number of images."""
        epochs = sum(self._epochs(phase, n_images) for phase in (ALONE, TOGETHER)) + 1
        return epochs * self._batches(n_images)

    def _batches(self, n_images: int) -> int:
        return -(-n_images // min(self.batch_size, n_images))

    def _epochs(self, phase: int, n_images: int) -> int:
        wanted = self.iterations[0 if phase == ALONE else 1]
        return max(self.min_epochs, -(-wanted // self._batches(n_images)))

    def count(self, n_images: int, ends_pass: bool) -> None:
        """Count a batch. The first pass over all images gives their number."""
        self.seen += n_images
        if self.now == ALONE and not int(self.passes):
            self.n_images += n_images
        self.passes += ends_pass

    def enter(self, phase: int) -> None:
        """Begin a phase."""
        self.phase.fill_(phase)
        self.passes.zero_()
        self.seen.zero_()

    def least(self) -> bool:
        """Return whether this phase has had its least number of passes."""
        return int(self.passes) >= self.min_epochs

    def done(self) -> bool:
        """Return whether this phase, the first or the last, has had all its passes."""
        return int(self.passes) >= self._epochs(self.now, max(1, int(self.n_images)))

    def progress(self) -> float:
        """Return the share of the last phase that is done."""
        n_images = max(1, int(self.n_images))
        return int(self.seen) / (n_images * self._epochs(TOGETHER, n_images))


class Explained(KeepsCounters):
    """Mean `variance` of the batches' pixels, and the mean share of it that is left `unexplained`; 0 = not known yet.

    An error is in units of that variance, and averaged over `LEAST_BATCHES` batches at least before it is judged.
    """

    on_host = ("n_batches", "judged")
    variance: Tensor
    n_batches: Tensor
    total: Tensor
    judged: Tensor
    unexplained: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.alone: Tensor | None = None
        """The images of the only batch so far, until it is enough: their variance is the mean then."""
        for name in ("variance", "total", "unexplained"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        for name in ("n_batches", "judged"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def look_at(self, images: Tensor, valid: Tensor | None) -> None:
        """Take the variance of a batch ``[B C *S]`` over its `valid` ``[B *S]`` pixels into the mean."""
        self.n_batches += 1
        if images is self.alone:
            return
        self.alone = images if int(self.n_batches) == 1 else None
        own = moments(images, valid)[1].mean().to(self.variance).clamp(min=LEAST_VARIANCE)
        self.variance += (own - self.variance) / int(self.n_batches)

    def share(self, error: Tensor) -> Tensor:
        """Return a mean squared error as a share of the variance."""
        return error / self.variance.float()

    @torch.no_grad()
    def judge(self, share: Tensor, ends_pass: bool) -> None:
        """Take the share of a batch into account; at the end of a pass, if there were batches enough, renew `unexplained`."""
        self.total += share.detach()
        self.judged += 1
        if ends_pass and int(self.judged) >= LEAST_BATCHES:
            self.unexplained.copy_(self.total / int(self.judged))
            self.total.zero_()
            self.judged.zero_()

    def enough(self, target: float) -> bool:
        """Return whether the share left unexplained is known and at most `target`."""
        return 0 < float(self.unexplained) <= target
