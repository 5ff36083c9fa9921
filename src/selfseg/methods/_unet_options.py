"""Options of U-Net."""

from typing import Literal

from pydantic import Field, model_validator

from selfseg.methods._base import MethodConfig


class UNetConfig(MethodConfig):
    """Options."""

    batch_size: int = Field(default=2, ge=1)
    """Images in one optimiser step, one view of each."""

    width: int = Field(default=16, ge=2)
    """Channels of the first module; each pooling doubles them. The paper: 64."""

    depth: int = Field(default=3, ge=1, le=6)
    """Poolings. The paper: 4."""

    padded: bool = True
    """Convolutions keep the size, and maps grow by interpolation; false = as published: no padding, transposed convolutions."""

    norm: Literal["batch", "group", "none"] = "group"
    """Normalisation before each ReLU. `batch` is quicker, and exact in tiles (`group` looks at the whole image), but it fails where images
    of several kinds, dark and bright ones, are learned together. The paper: none."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the values dropped at the end of the contracting path while training, in its last two modules."""

    iterations: int = Field(default=600, ge=1)
    """Batches."""

    patch: int | None = Field(default=256, ge=8)
    """Side of the views, in pixels; empty = the whole image. Images that are shorter give views of their own size."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or stochastic gradient descent with momentum as in the paper."""

    learning_rate: float = Field(default=0.002, gt=0)
    """Step size at the start."""

    schedule: Literal["cosine", "constant"] = "cosine"
    """The step size falls to 0 along half a cosine, or stays."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of `sgd`. The paper: 0.99."""

    cross_entropy: float = Field(default=1.0, ge=0)
    """Weight of the cross entropy. 0 switches it off."""

    binary: float = Field(default=0.0, ge=0)
    """Weight of the binary cross entropy, class by class. 0 switches it off."""

    dice: float = Field(default=0.0, ge=0)
    """Weight of the soft Dice loss. 0 switches it off."""

    class_balance: float = Field(default=0.0, ge=0, le=1)
    """How far pixels of rare classes weigh more: 0 = not, 1 = every class weighs the same in all, as in the paper."""

    border: float = Field(default=0.0, ge=0)
    """What a pixel of class 1 between two objects, the parts of other classes, weighs more (the paper's w0 = 10). 0 = nothing."""

    border_sigma: float = Field(default=5.0, gt=0)
    """Fall-off of that weight with the distances to both objects, in pixels of the prepared image (the paper's sigma)."""

    elastic: float = Field(default=10.0, ge=0)
    """Standard deviation of the random displacements on a grid of 3 points a side, in pixels (less in small views); 0 = none."""

    rotation: float = Field(default=180.0, ge=0, le=180)
    """Largest angle by which a view is turned, in degrees; a volume turns about its first axis."""

    mirror: bool = True
    """Half of the views are mirrored, along each axis."""

    grey: float = Field(default=0.1, ge=0)
    """Variation of contrast (standard deviation of its logarithm) and of brightness (in standard deviations of the view)."""

    noise: float = Field(default=0.0, ge=0)
    """Most noise that views get, in standard deviations of the view: where new images will be noisier than those learned from."""

    validation: float = Field(default=0.2, ge=0, lt=1)
    """Share of the images that is held out; the weights with the best mean IoU on these are kept (classes weighed as in the loss). 0 = the
    last weights."""

    symmetries: bool = False
    """Prediction averages over the 8 mirrored and turned images: 8 times the time."""

    @model_validator(mode="after")
    def _learns(self) -> "UNetConfig":
        if not self.cross_entropy and not self.binary and not self.dice:
            raise ValueError("cross_entropy, binary and dice are all 0: nothing would be learned")
        return self
