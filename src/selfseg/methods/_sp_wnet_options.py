"""The options of SP-WNet, and its presets: the constants of its two published demos, and ours."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from selfseg.core.errors import UsageError
from selfseg.methods._base import MethodConfig

Weight = float | None


class SPWNetConfig(MethodConfig):
    """Options. A weight `beta_*` that is empty switches its term off."""

    prepare: str = "size=640,range"
    """Preparation of every image, in order, as named steps: ``rescale=0.33,unsharp=5:1``. Stored and repeated at prediction."""

    n_features: int = Field(default=16, ge=2, le=255)
    """Channels between the two networks, and so the largest number of labels (the demos: 32). Dead ones are dropped, and
    those that cut most merge if `classes` asks for fewer."""

    width: int = Field(default=8, ge=2)
    """Channels of the first module (the origin's ch_mul, 64); each pooling doubles them."""

    depth: int = Field(default=3, ge=1, le=6)
    """Poolings of each U-Net (the origin's n_blocks, 4)."""

    separable: bool = True
    """Depthwise-separable convolutions, but in the first and the last module of each U-Net."""

    norm: Literal["batch", "group", "none"] = "group"
    """Normalisation before each ReLU: over the batch as in the origin, over groups of channels of each image, or none."""

    up: Literal["transposed", "transposed3", "linear"] = "linear"
    """Up-convolution: transposed 2x2, transposed 3x3 as in the origin, or linear interpolation and a 1x1 convolution."""

    border: Literal["mirror", "zeros"] = "mirror"
    """What convolutions see beyond the border of a whole image: its mirror image, as wide as 2^(depth + 1) pixels, or zeros as in
    the origin, which learn where the border is. Patches are cut from the middle of things, and see zeros."""

    response_norm: bool = True
    """Normalise each channel of the features over the image, as Kim et al. 2020 do: so that every label can win. The origin
    does not."""

    contrast_start: bool = True
    """Scale the first response to unit variance over the first batch, so that no label is ahead of the others by chance."""

    superpixels: Literal["slic", "watershed", "given", "none"] = "slic"
    """Where superpixels come from: SLIC, watershed, your own label images (``--superpixels``), or none: all terms on pixels."""

    n_superpixels: int | None = Field(default=None, ge=1)
    """Superpixels of an image, about; empty = as many as `superpixel_size` gives."""

    superpixel_size: float = Field(default=24.0, gt=0)
    """Mean size of a superpixel, in pixels (voxels) of the prepared image."""

    compactness: float = Field(default=10.0, ge=0)
    """How round superpixels are: SLIC's m, in units of Lab; of the watershed, in Lab a pixel."""

    superpixel_sigma: float = Field(default=1.0, ge=0)
    """Smoothing before superpixels are made, in pixels."""

    region_label: Literal["mean", "majority"] = "mean"
    """Label of a superpixel: the largest channel of its mean features, or the one that is largest in most of its pixels."""

    distance: Literal["values", "lab"] = "values"
    """Distance d of two superpixels: of their mean values as in the origin, or of their mean Lab colours / 100."""

    relative_distance: bool = False
    """Divide d by its mean over the image, so that tau_cut and tau_con mean the same in faint and in strong images."""

    tau_cut: float = Field(default=-1.0, le=0)
    """Weights of the cut fall with the distance d as exp(tau_cut d)."""

    cut_lengths: bool = False
    """Weigh the edges of the cut by the boundary that two superpixels share."""

    cut_sizes: bool = False
    """Weigh the edges of the cut by the product of the sizes of the two superpixels."""

    tau_con: float | Literal["nearest", "farthest"] = "nearest"
    """Weights of the neighbours in the continuity, exp(tau_con d): 0 = plain mean, as in the origin, which smooths edges too;
    ``nearest`` and ``farthest`` = that one alone (minus and plus infinity)."""

    beta_rc_image: Weight = Field(default=0.5, ge=0)
    """Weight of the squared error of whole rebuilt images."""

    beta_rc_patches: Weight = Field(default=1.0, ge=0)
    """Weight of the squared error of rebuilt patches."""

    beta_cut: Weight = Field(default=None, ge=0)
    """Weight of the normalised cut on the superpixel graph, divided by n_features; without superpixels on pixels."""

    beta_sim: Weight = Field(default=0.1, ge=0)
    """Weight of the cross entropy of pixels against the label of their superpixel; without superpixels against their own."""

    beta_con: Weight = Field(default=0.1, ge=0)
    """Weight of the difference of superpixels from their neighbours; without superpixels of pixels from theirs."""

    beta_balance: Weight = Field(default=None, ge=0)
    """Weight of the entropy that the mean label shares lack: against collapse into few labels. Not in the origin."""

    warm_up: int = Field(default=0, ge=0)
    """Steps over which cut, similarity, continuity and balance rise from nothing to their weights: labels are then taken from
    features that rebuild the image, not from those of a network that has learned nothing. Not in the origin."""

    patch_sides: tuple[int, ...] = (64, 96)
    """Sides of patches in pixels: every combination of them is a shape, with as many patches as make equal pixels."""

    patches_of_largest: int = Field(default=1, ge=1)
    """Patches of the largest shape that each image gives to a step."""

    patch_shapes: tuple[tuple[int, ...], ...] = ()
    """Shapes instead of `patch_sides`, each with its number of patches: ``[[64, 96, 6], [96, 96, 4]]``."""

    patch_window: tuple[float, ...] = ()
    """Part of the image that patches come from, start and stop along each axis as shares 0-1: 0.2,0.9,0,1. Empty = all of it."""

    redraw: bool = True
    """Draw patches anew at each step; false = from a pool that is drawn once, as in the origin."""

    patch_batches: int = Field(default=8, ge=1)
    """Batches of patches in the pool, where they are not redrawn (the origin's n_batches)."""

    iterations: int = Field(default=100, ge=1)
    """Optimiser steps, at least `min_epochs` passes over the images. The origin: epochs times n_batches, all images in each."""

    min_epochs: int = Field(default=1, ge=1)
    """Least passes over the images, where there are several batches of them."""

    learning_rate: float = Field(default=0.01, gt=0)
    """Step size of Adam. The origin: 0.001."""

    radius: int = Field(default=5, ge=2)
    """Without superpixels: pixels nearer than this are neighbours in the cut."""

    sigma_intensity: float | None = Field(default=None, gt=0)
    """Without superpixels: fall-off of the cut's weights with the difference of values; empty = from the image's gradients."""

    sigma_space: float = Field(default=4.0, gt=0)
    """Without superpixels: fall-off of the cut's weights with distance, in pixels."""

    min_share: float = Field(default=0.001, ge=0, lt=1)
    """Labels that win less than this share of the training pixels are dropped at the end."""

    @model_validator(mode="after")
    def _consistent(self) -> "SPWNetConfig":
        if self.classes is not None and self.classes > self.n_features:
            raise ValueError(f"at most n_features={self.n_features} classes")
        if self.beta_rc_image is None and self.beta_rc_patches is None:
            raise ValueError(
                "beta_rc_image and beta_rc_patches are both empty: nothing would hold the features to the image"
            )
        if any(min(shape, default=0) < 1 for shape in self.patch_shapes) or min(self.patch_sides, default=0) < 1:
            raise ValueError("patches need sides and numbers of 1 or more")
        if len(self.patch_window) % 2 or any(
            not 0 <= low < high <= 1 for low, high in zip(self.patch_window[::2], self.patch_window[1::2], strict=True)
        ):
            raise ValueError("patch_window needs pairs of shares, each 0 <= start < stop <= 1")
        return self

    def check_axes(self, n_dims: int) -> None:
        """Raise `UsageError` where an option has values for another number of axes than the images."""
        given = [("spacing", len(self.spacing), n_dims), ("patch_window", len(self.patch_window), 2 * n_dims)]
        given += [("patch_shapes", len(row), n_dims + 1) for row in self.patch_shapes]
        for name, got, wanted in given:
            if got not in (0, wanted):
                raise UsageError(name, expected=f"{wanted} values", got=str(got), fix=f"the images are {n_dims}D")


ORIGIN: Mapping[str, Any] = {
    "n_features": 32,
    "width": 64,
    "depth": 4,
    "norm": "batch",
    "up": "transposed3",
    "border": "zeros",
    "response_norm": False,
    "contrast_start": False,
    "n_superpixels": 12000,
    "patches_of_largest": 4,
    "redraw": False,
    "learning_rate": 0.001,
    "min_share": 0.0,
}
"""What both demos share."""

LIVE = (
    *("iterations", "min_epochs", "learning_rate", "beta_rc_image", "beta_rc_patches", "beta_cut", "beta_sim"),
    *("beta_con", "beta_balance", "warm_up", "redraw", "patch_batches", "min_share"),
)
"""Options that may change between two steps."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "fast": {"prepare": "size=400,range", "iterations": 60},
    "volume": {"prepare": "range", "depth": 2, "superpixel_size": 64.0, "patch_sides": (24, 32)},
    "cheetah": {
        **ORIGIN,
        "prepare": "border=10,rescale=0.3333333333333333,unsharp=5:1,multiple=16,range",
        "patch_sides": (64, 96),
        "tau_con": 1.0,
        "batch_size": 4,
        "iterations": 120,
    },
    "hanyu": {
        **ORIGIN,
        "prepare": "rescale=0.25,unsharp=50:4,multiple=16,range",
        "patch_sides": (64, 128),
        "beta_rc_image": None,
        "tau_con": 0.0,
        "batch_size": 2,
        "iterations": 80,
    },
}
