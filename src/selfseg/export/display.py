"""Any image as something to look at: planes of 8-bit RGB, stretched where the numbers are not a picture yet."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.image import Image

LOW, HIGH = 0.5, 99.5
"""Percentiles that become black and white."""

BAND = 128
"""Rows that are stretched at a time, so that a large image takes little memory."""

SAMPLE = 1_000_000
"""Values of a channel from which the percentiles are taken."""


def plane_shape(image: Image) -> tuple[int, int, int]:
    """Return the number of planes (time points times slices), rows and columns."""
    sizes = dict(zip(image.axes, image.data.shape, strict=True))
    return sizes.get("T", 1) * sizes.get("Z", 1), sizes["Y"], sizes["X"]


def middle_planes(n_planes: int, wanted: int) -> list[int]:
    """Return the indices of `wanted` planes, evenly spread; of the middle one for 1."""
    wanted = max(1, min(wanted, n_planes))
    return [(2 * i + 1) * n_planes // (2 * wanted) for i in range(wanted)]


def label_planes(labels: NDArray[Any], image: Image, planes: list[int]) -> NDArray[Any]:
    """Return some planes of the labels of `image` ``[P Y X]``.

    `labels` has the axes of `image` without C.

    Raises
    ------
    UsageError
        If the labels are not integers of 0 or more, or not of the image's size.
    """
    if labels.dtype.kind not in "biu" or labels.min(initial=0) < 0:
        fix = "0 is ignore, classes are 1..K"
        raise UsageError(f"labels of {image.name}", expected="ids of 0 or more", got=str(labels.dtype), fix=fix)
    axes = image.axes.replace("C", "")
    shape = tuple(size for size, letter in zip(image.data.shape, image.axes, strict=True) if letter != "C")
    if labels.shape != shape:
        fix = "use the labels of this image"
        raise UsageError(f"labels of {image.name}", expected=f"shape {shape} ({axes})", got=str(labels.shape), fix=fix)
    ordered = labels.transpose([axes.index(letter) for letter in "TZYX" if letter in axes])
    flat: NDArray[Any] = ordered.reshape(-1, *ordered.shape[-2:])[planes]
    return flat.astype(np.uint8) if flat.dtype.kind == "b" else flat


def displayed(image: Image, planes: list[int]) -> NDArray[np.uint8]:
    """Return some planes of an image as 8-bit RGB ``[P Y X 3]``.

    8-bit images of three channels stay as they are. All others are stretched channel by channel, from the 0.5th to the
    99.5th percentile of the valid, finite values of the whole image. One channel is grey; two are magenta and green;
    more than three are cut into three runs of neighbouring channels, whose means are red, green and blue.

    Parameters
    ----------
    image
        Image of any axes.
    planes
        Indices into the planes of `plane_shape`.
    """
    letters = [letter for letter in "TZYX" if letter in image.axes]
    data = image.data if "C" in image.axes else image.data[..., None]
    axes = image.axes if "C" in image.axes else image.axes + "C"
    ordered = data.transpose([axes.index(letter) for letter in [*letters, "C"]])
    stack = ordered.reshape(-1, *ordered.shape[-3:])  # [P Y X C]
    if stack.dtype == np.uint8 and stack.shape[-1] == 3:
        kept: NDArray[np.uint8] = stack[planes]
        return kept
    valid = _valid_values(image, letters)
    channels = [_stretched(stack[..., i], stack[planes, :, :, i], valid) for i in range(stack.shape[-1])]
    return np.stack(_three(channels), axis=-1)


def _valid_values(image: Image, letters: list[str]) -> NDArray[np.bool_] | None:
    """Return `image.valid` in the order of `letters`, if it has all their axes."""
    if image.valid is None or image.valid.ndim != len(letters):
        return None
    axes = image.axes.replace("C", "")
    return image.valid.transpose([axes.index(letter) for letter in letters]).reshape(-1, *image.valid.shape[-2:])


def _stretched(channel: NDArray[Any], planes: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Return `planes` between 0 and 255 by the percentiles of `channel`; one value alone is mid-grey."""
    step = max(1, round((channel.size / SAMPLE) ** (1 / 3)))
    thin = (slice(None, None, step),) * 3 if len(channel) >= step else (slice(None), *(slice(None, None, step),) * 2)
    values = channel[thin].astype(np.float64)
    usable = np.isfinite(values) if valid is None else np.isfinite(values) & valid[thin]
    values = values[usable]
    low, high = np.percentile(values, (LOW, HIGH)) if values.size else (0.0, 0.0)
    if low == high and values.size:  # a few bright points on a flat ground
        low, high = values.min(), values.max()
    if low == high:
        return np.full(planes.shape, 128, np.uint8)
    stretched = np.empty(planes.shape, np.uint8)
    for top in range(0, planes.shape[1], BAND):
        share = (planes[:, top : top + BAND].astype(np.float64) - low) / (high - low)
        level = np.clip(np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
        stretched[:, top : top + BAND] = level * 255 + 0.5
    return stretched


def _three(channels: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    if len(channels) == 1:
        return channels * 3
    if len(channels) == 2:
        return [channels[0], channels[1], channels[0]]
    runs = np.array_split(np.arange(len(channels)), 3)
    means = (np.mean([channels[i] for i in run], axis=0, dtype=np.float32) for run in runs)
    return [np.asarray(mean.round(), np.uint8) for mean in means]
