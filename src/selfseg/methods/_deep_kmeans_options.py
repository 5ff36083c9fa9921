"""Options of deep k-means."""

from typing import Literal

from pydantic import Field

from selfseg.methods._base import MethodConfig


class DeepKMeansConfig(MethodConfig):
    """Options."""

    prepare: str = "size=240,range"
    """Preparation of every image, in order, as named steps: ``foreground=0,percentile=1:99.8``. Stored and repeated at prediction."""

    n_clusters: int = Field(default=4, ge=1, le=255)
    """Clusters (the paper's K), if `classes` is empty."""

    n_features: int = Field(default=16, ge=1, le=4096)
    """Features of a pixel (the paper's R)."""

    width: int = Field(default=8, ge=1)
    """Channels of the first level of encoder and decoder; each level below doubles those of the encoder."""

    depth: int = Field(default=2, ge=0, le=6)
    """Levels below the first in the encoder: how far around a pixel it looks."""

    networks: str = ""
    """Your own encoder and decoder: a module, ``package.module``, with functions of these names (`selfseg.nets.own`)."""

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
