"""Augmentation: random views of a labelled image: shifted, turned, mirrored, deformed, with other grey values and noise.

Pure functions of a seed. Image, labels and weights go through the same coordinates; labels are never interpolated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.core.seed import derive
from selfseg.sample.patches import extent
from selfseg.sample.stream import Batch

CUBIC = -0.75
"""Slope of the cubic convolution kernel (Keys 1981) at distance 1."""

FOLDS_BELOW = 8
"""Standard deviations between two grid points, at least: their displacements then differ by less than their distance."""


@dataclass(frozen=True)
class Augmentation:
    """How much training images are varied."""

    elastic: float = 0.0
    """Standard deviation of the random displacements on a coarse grid, in pixels (less on short axes); 0 = none."""
    points: int = 3
    """Points of that grid along each axis."""
    rotation: float = 0.0
    """Largest angle by which the last two axes are turned, either way, in degrees."""
    mirror: bool = False
    """Whether half of the views are mirrored, along each axis."""
    grey: float = 0.0
    """Standard deviation of the logarithm of the contrast, and of the brightness in standard deviations of the
    image."""
    noise: float = 0.0
    """Largest standard deviation of the noise that is added, in standard deviations of the view."""


def view_coordinates(
    shape: tuple[int, ...], focus: tuple[int, ...], side: tuple[int, ...], augmentation: Augmentation, seed: int
) -> Tensor:
    """Return where the pixels of a random view lie in the image.

    The view is a window that holds `focus` at a random place of its middle half and reaches beyond the image as little as
    can be; it is turned and mirrored about its centre, and then deformed.

    Parameters
    ----------
    shape, side
        Sizes of the image and of the view, in pixels.
    focus
        A pixel that the view should show, such as one with a label.

    Returns
    -------
    Tensor
        ``[D *side]`` float32, in pixels; values may lie beyond the image.
    """
    source = torch.Generator().manual_seed(seed)
    places = torch.rand(len(side), generator=source).tolist()
    starts = [
        _start(at, size, length, place) for at, size, length, place in zip(focus, shape, side, places, strict=True)
    ]
    middle = torch.tensor([(n - 1) / 2 for n in side]).reshape(-1, *(1,) * len(side))
    grid = identity_grid(side) - middle
    flips = torch.rand(len(side), generator=source) < 0.5
    angle = math.radians(augmentation.rotation) * (2 * float(torch.rand((), generator=source)) - 1)
    if augmentation.mirror:
        grid = torch.where(flips.reshape(middle.shape), -grid, grid)
    if augmentation.rotation:
        y, x = grid[-2], grid[-1]
        turned = [math.cos(angle) * y - math.sin(angle) * x, math.sin(angle) * y + math.cos(angle) * x]
        grid = torch.stack([*grid[:-2], *turned])
    if augmentation.elastic:
        grid = grid + elastic_field(side, augmentation.elastic, augmentation.points, derive(seed, "elastic"))
    return grid + middle + torch.tensor([float(start) for start in starts]).reshape(middle.shape)


def _start(focus: int, size: int, length: int, place: float) -> int:
    """Return the first pixel of a window along one axis; one that is longer than the image has the image in its middle."""
    if length >= size:
        return -((length - size) // 2)
    wanted = focus - length // 4 - int(place * (length - length // 2))
    return min(max(wanted, 0), size - length)


def vary_grey(image: Tensor, amount: float, seed: int) -> Tensor:
    """Return the image ``[C *S]`` with another contrast, about its mean, and another brightness.

    `amount` is the standard deviation of the logarithm of the contrast, and of the brightness in standard deviations of the image.
    """
    draws = amount * torch.randn(2, generator=torch.Generator().manual_seed(seed))
    mean, deviation = image.mean(), image.std(correction=0)
    return (image - mean) * float(draws[0].exp()) + mean + deviation * float(draws[1])


def add_noise(image: Tensor, most: float, seed: int) -> Tensor:
    """Return the image ``[C *S]`` with normal noise, independent in every value.

    Its standard deviation is drawn between 0 and `most` standard deviations of the image.
    """
    if not most:
        return image
    source = torch.Generator().manual_seed(seed)
    deviation = most * torch.rand((), generator=source) * image.std(correction=0).cpu()
    return image + (deviation * torch.randn(image.shape, generator=source)).to(image)


class Views(NamedTuple):
    """Random views of some images."""

    images: Tensor
    """``[B C *side + 2 margin]``."""
    annotations: Tensor
    """``[B *side]`` int64, -1 = no label."""
    weights: Tensor | None
    """``[B *side]``; None where none were given."""


def labelled_parts(batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Return each image ``[C *s]`` of a batch without its padding, with its annotations ``[*s]``: -1 = none, or not valid.

    Raise `UsageError` if the batch has no annotations.
    """
    if batch.annotations is None:
        raise UsageError("training images", expected="labels for them", got="none", fix="give labels or scribbles")
    parts = []
    for b, image in enumerate(batch.images):
        annotations = batch.annotations[b]
        if batch.valid is not None:
            used: Any = (..., *(slice(0, n) for n in extent(batch.valid[b])))
            image, annotations = image[used], annotations.masked_fill(~batch.valid[b], -1)[used]
        parts.append((image, annotations))
    return parts


def random_views(
    parts: Sequence[tuple[Tensor, Tensor]],
    weights: Sequence[Tensor] | None,
    side: tuple[int, ...],
    margin: int,
    augmentation: Augmentation,
    seed: int,
    first: int = 0,
) -> Views:
    """Return one random view of each labelled image, about one of its labelled pixels.

    Parameters
    ----------
    parts
        Images ``[C *S]`` with their annotations ``[*S]``, -1 = no label.
    weights
        ``[*S]`` pixel weights of each image; None = none.
    side
        Size of the annotations' view, in pixels.
    margin
        Pixels by which the image's view is larger than that, on each side.
    first
        Place of the first image in the batch of all processes that share it.
    """
    shown = []
    with torch.autocast(parts[0][0].device.type, enabled=False):  # coordinates need all their digits
        for b, (image, annotations) in enumerate(parts):
            loud = None if weights is None else weights[b]
            shown.append(_random_view(image, annotations, loud, side, margin, augmentation, derive(seed, first + b)))
    images, labels, found = zip(*shown, strict=True)
    return Views(torch.stack(images), torch.stack(labels), None if weights is None else torch.stack(found))


def _random_view(
    image: Tensor,
    annotations: Tensor,
    weights: Tensor | None,
    side: tuple[int, ...],
    margin: int,
    augmentation: Augmentation,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    inner: Any = (..., *(slice(margin, margin + n) for n in side))
    wide = tuple(n + 2 * margin for n in side)
    focus = _labelled_pixel(annotations, derive(seed, "focus"))
    at = view_coordinates(tuple(annotations.shape), focus, wide, augmentation, derive(seed, "view")).to(image.device)
    seen = vary_grey(sample_at(image, at), augmentation.grey, derive(seed, "grey"))
    seen = add_noise(seen, augmentation.noise, derive(seed, "noise"))
    labels = sample_at(annotations[None].float(), at[inner], nearest=True)[0].long()
    return seen, labels, None if weights is None else sample_at(weights[None], at[inner])[0]


def _labelled_pixel(annotations: Tensor, seed: int) -> tuple[int, ...]:
    """Return a random pixel that has a label; the middle one if none has."""
    labelled = (annotations.flatten() >= 0).nonzero().flatten()
    chosen = annotations.numel() // 2
    if len(labelled):
        chosen = int(labelled[torch.randint(len(labelled), (), generator=torch.Generator().manual_seed(seed))])
    return tuple(int(i) for i in torch.unravel_index(torch.tensor(chosen), annotations.shape))


def cubic_matrix(n_points: int, n_out: int) -> Tensor:
    """Return the matrix ``[n_out n_points]`` of cubic convolution from a coarse grid to a fine one, corner on corner.

    Beyond the ends of the coarse grid its outermost value is repeated. Rows sum to 1.

    References
    ----------
    Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 29, 1981, equation 4.
    """
    if n_points == 1:
        return torch.ones(n_out, 1)
    places = torch.linspace(0, n_points - 1, n_out, dtype=torch.float64)
    first = places.floor().long() - 1
    matrix = torch.zeros(n_out, n_points, dtype=torch.float64)
    for tap in range(4):
        distance = (places - (first + tap)).abs()
        near = (CUBIC + 2) * distance**3 - (CUBIC + 3) * distance**2 + 1
        far = CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        weight = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
        matrix.scatter_add_(1, (first + tap).clamp(0, n_points - 1)[:, None], weight[:, None])
    return matrix.float()


def elastic_field(shape: tuple[int, ...], sigma: float, n_points: int, seed: int) -> Tensor:
    """Return a smooth random displacement of each pixel: normal at the points of a coarse grid, cubic between them.

    Parameters
    ----------
    shape
        ``*S``, 2D or 3D.
    sigma
        Standard deviation of each component at a grid point, in pixels; along an axis that is short at most an eighth of the
        distance between grid points, since the image would fold over itself.
    n_points
        Grid points along each axis, corners included (the paper's 3).
    seed
        Decides everything.

    Returns
    -------
    Tensor
        ``[D *S]`` float32, in pixels, in the order of the axes.

    References
    ----------
    Ronneberger, Fischer and Brox, U-Net, MICCAI 2015, section 3.1.
    """
    n_dims = len(shape)
    source = torch.Generator().manual_seed(seed)
    field = torch.randn(n_dims, *(n_points,) * n_dims, generator=source)
    spread = [min(sigma, size / (FOLDS_BELOW * max(1, n_points - 1))) for size in shape]
    field *= torch.tensor(spread).reshape(-1, *(1,) * n_dims)
    for axis, size in enumerate(shape, 1):
        field = torch.tensordot(field, cubic_matrix(n_points, size), dims=([axis], [1])).movedim(-1, axis)
    return field


def identity_grid(shape: tuple[int, ...]) -> Tensor:
    """Return the coordinates of each pixel, ``[D *S]`` float32."""
    return torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))


def sample_at(images: Tensor, coordinates: Tensor, nearest: bool = False) -> Tensor:
    """Read images at coordinates: between pixels linearly, or the nearest one (for labels and masks).

    Beyond the border lies the mirror image, the outermost pixel repeated (``c b a | a b c``).

    Parameters
    ----------
    images
        ``[C *S]`` floating point, 2D or 3D.
    coordinates
        ``[D *s]`` in pixels, in the order of the axes; pixel 0 has its centre at 0.
    nearest
        Take the nearest pixel.

    Returns
    -------
    Tensor
        ``[C *s]``.
    """
    sizes = torch.tensor(images.shape[1:], dtype=torch.float32, device=images.device)
    column = sizes.reshape(-1, *(1,) * (coordinates.ndim - 1))
    unit = (2 * coordinates.to(images.device) + 1) / column - 1  # pixel edges at -1 and 1
    grid = unit.flip(0).movedim(0, -1)[None]  # grid_sample wants x first
    mode = "nearest" if nearest else "bilinear"
    found: Tensor = F.grid_sample(images[None], grid, mode=mode, padding_mode="reflection", align_corners=False)[0]
    return found
