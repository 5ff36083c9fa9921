"""Options of W-Net."""

from typing import Literal

from pydantic import Field, model_validator

from selfseg.methods._base import MethodConfig

SEGMENTS = 8
"""Soft segments where neither these nor the classes are given."""


class WNetConfig(MethodConfig):
    """Options."""

    prepare: str = "percentile=1:99.5"
    """Preparation of every image, in order, as named steps: ``rescale=0.5,range``. Stored and repeated at prediction."""

    batch_size: int = Field(default=2, ge=1)
    """Images, or windows of them, in one optimiser step. Whole images of different sizes are padded, and the padding is masked."""

    n_segments: int | None = Field(default=None, ge=2, le=255)
    """Soft segments of the encoder (the paper's K); empty = `classes`, or 8. Dead ones are dropped; the closest merge down to `classes`."""

    width: int = Field(default=16, ge=2)
    """Channels of the first module; each pooling doubles them. The paper: 64."""

    depth: int = Field(default=3, ge=1, le=6)
    """Poolings of each U-Net. The paper: 4, which makes 18 modules."""

    separable: bool = True
    """Depthwise-separable convolutions, but in the first and the last module of each U-Net."""

    norm: Literal["batch", "group", "none"] = "group"
    """Normalisation after each ReLU: over the batch as in the paper, over groups of channels of each image, or none."""

    up: Literal["transposed", "linear"] = "transposed"
    """Up-convolution: transposed 2x2 as in the paper, or linear interpolation and a 1x1 convolution."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the values dropped after each module while training. The paper: 0.65."""

    iterations: int = Field(default=400, ge=1)
    """Batches. At least `min_epochs` passes over the images are made."""

    min_epochs: int = Field(default=1, ge=1)
    """Least passes over the images, where there are several batches of them."""

    patch: int | None = Field(default=128, ge=8)
    """Side of the square, in pixels, cut out of each image at random in every batch (3D: a cube of as many voxels); empty = all of it."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or stochastic gradient descent as in the paper."""

    learning_rate: float = Field(default=0.003, gt=0)
    """Step size at the start."""

    decay: float = Field(default=0.1, gt=0, le=1)
    """Factor of the step size every `decay_every` batches."""

    decay_every: int | None = Field(default=None, ge=1)
    """Batches between two decays; empty = none. The paper: 1000."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of `sgd`."""

    alternate: bool = True
    """Two steps a batch, the cut on the encoder and then the reconstruction on both; false = one step on their sum."""

    cut: float = Field(default=1.0, ge=0)
    """Weight of the soft normalised cut, which is divided by K so that it lies in 0-1. 0 switches it off."""

    reconstruction: float = Field(default=1.0, ge=0)
    """Weight of the mean squared error of the rebuilt image. 0 switches it off."""

    radius: int = Field(default=5, ge=2)
    """Pixels nearer than this are neighbours in the cut (the paper's r = 5)."""

    sigma_intensity: float | None = Field(default=None, gt=0)
    """Fall-off of the cut's weights with the difference of pixel values, in units of the prepared image; empty = from the
    image's own gradients. The paper: 10 of 255."""

    sigma_space: float = Field(default=4.0, gt=0)
    """Fall-off of the cut's weights with distance, in pixels (the paper's 4)."""

    balance: float = Field(default=0.1, ge=0)
    """Weight of the entropy that the mean segment shares lack: against collapse into few segments. 0 switches it off."""

    too_large: float = Field(default=0.0, ge=0)
    """Weight of the loss on segments that take more than `max_area`. 0 switches it off."""

    max_area: float = Field(default=0.6, gt=0, le=1)
    """Largest share of a batch's pixels that a segment may take without loss."""

    contrast_start: bool = True
    """Scale the encoder's first response to unit variance over the first batch: equal probabilities are a stationary point of the cut."""

    min_share: float = Field(default=0.001, ge=0, lt=1)
    """Segments that win less than this share of the training pixels are dropped at the end."""

    @property
    def k(self) -> int:
        """Return the number of soft segments."""
        return self.n_segments or max(2, self.classes or SEGMENTS)

    @model_validator(mode="after")
    def _consistent(self) -> "WNetConfig":
        if self.classes is not None and self.classes > self.k:
            raise ValueError(f"at most n_segments={self.k} classes")
        if not self.cut and not self.reconstruction:
            raise ValueError("cut and reconstruction are both 0: nothing would be learned")
        return self
