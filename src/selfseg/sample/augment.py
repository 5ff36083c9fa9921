"""Augmentation: random views of a labelled image: shifted, turned, mirrored, scaled, deformed, in another light, blurred, with noise.

Pure functions of a seed. Image, labels and weights go through the same coordinates; labels are never interpolated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
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
    """True if half of the views are mirrored, along each axis."""
    grey: float = 0.0
    """Standard deviation of the logarithm of the contrast, and of the brightness in standard deviations of the
    image."""
    noise: float = 0.0
    """Largest standard deviation of the noise that is added, in standard deviations of the view."""
    scale: float = 0.0
    """Largest change of size either way, as the logarithm to base 2: 1 = from half to twice the size."""
    gamma: float = 0.0
    """Standard deviation of the logarithm of the gamma, for values from the least to the largest of the view."""
    light: float = 0.0
    """Standard deviation of the logarithm of an uneven light, a smooth field over the view."""
    blur: float = 0.0
    """Largest standard deviation of a Gaussian blur, in pixels."""


def view_coordinates(
    shape: tuple[int, ...],
    focus: tuple[int, ...],
    side: tuple[int, ...],
    augmentation: Augmentation,
    seed: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return where the pixels of a random view lie in the image.

    The view is a window that holds `focus` at a random place of its middle half and reaches beyond the image as little as
    can be; it is turned and mirrored about its centre, and then deformed. Few numbers are drawn, on the host: the coordinates are
    a sum of products of functions of one axis each, and are made of these numbers on the device.

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
    source, n_dims = torch.Generator().manual_seed(seed), len(side)
    places = torch.rand(n_dims, generator=source).tolist()
    starts = [
        _start(at, size, length, place) for at, size, length, place in zip(focus, shape, side, places, strict=True)
    ]
    linear = _turned(augmentation, source, n_dims)
    points = augmentation.points if augmentation.elastic else 0
    # Functions along each axis: cubics of the grid points, a constant, the distance from the middle.
    factors = torch.zeros(n_dims, *(points + 2,) * n_dims, dtype=torch.float64)
    for axis, (start, length) in enumerate(zip(starts, side, strict=True)):
        factors[(axis, *(points,) * n_dims)] = start + (length - 1) / 2
        along: Any = (points,) * axis + (points + 1,) + (points,) * (n_dims - axis - 1)
        factors[(slice(None), *along)] = linear[:, axis]
    if points:
        grid: Any = (slice(None), *(slice(0, points),) * n_dims)
        factors[grid] = elastic_points(side, augmentation.elastic, points, derive(seed, "elastic")).double()
    coordinates = factors.float().to(device)
    for length in side:
        coordinates = torch.tensordot(coordinates, _functions(length, points, torch.device(device)), dims=([1], [1]))
    return coordinates


def _turned(augmentation: Augmentation, source: torch.Generator, n_dims: int) -> Tensor:
    """Draw by which axes a view is mirrored, how far it is turned, and its scale; return the matrix ``[D D]`` float64 of all."""
    flips = torch.rand(n_dims, generator=source) < 0.5
    angle = math.radians(augmentation.rotation) * (2 * float(torch.rand((), generator=source)) - 1)
    linear = torch.eye(n_dims, dtype=torch.float64)  # of the coordinates from the middle
    if augmentation.mirror:
        linear[flips] *= -1
    if augmentation.rotation:
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
        linear[-2:] = turn @ linear[-2:]
    if augmentation.scale:
        linear *= 2 ** (augmentation.scale * (2 * float(torch.rand((), generator=source)) - 1))
    return linear


@lru_cache(maxsize=16)
def _functions(length: int, points: int, device: torch.device) -> Tensor:
    """Return the functions along an axis ``[length points + 2]``: see `view_coordinates`."""
    one, away = torch.ones(length, 1), torch.arange(float(length))[:, None] - (length - 1) / 2
    cubics = [cubic_matrix(points, length)] if points else []
    return torch.cat([*cubics, one, away], 1).to(device)


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
    contrast, brightness = float(draws[0].exp()), float(draws[1])
    deviation, mean = torch.std_mean(image, correction=0)
    return torch.add((1 - contrast) * mean + brightness * deviation, image, alpha=contrast)


def add_noise(image: Tensor, most: float, seed: int) -> Tensor:
    """Return the image ``[C *S]`` with normal noise, independent in every value.

    Its standard deviation is drawn between 0 and `most` standard deviations of the image.
    """
    if not most:
        return image
    source = torch.Generator().manual_seed(seed)
    share = most * float(torch.rand((), generator=source))
    if image.device.type != "cpu":  # as many numbers as values: they are drawn where the image lies
        source = torch.Generator(image.device).manual_seed(seed)
    noise = torch.randn(image.shape, generator=source, device=image.device)
    return torch.addcmul(image, noise, image.std(correction=0), value=share)


def vary_look(image: Tensor, augmentation: Augmentation, seed: int) -> Tensor:
    """Return the image ``[C *S]`` blurred, in uneven light, and with another gamma: all channels alike."""
    source = torch.Generator().manual_seed(seed)
    sigma = augmentation.blur * float(torch.rand((), generator=source))
    gamma = math.exp(augmentation.gamma * float(torch.randn((), generator=source)))
    if sigma > LEAST_BLUR:
        image = _blurred(image, sigma)
    if not augmentation.gamma and not augmentation.light:
        return image
    low, high = image.aminmax()
    width = (high - low).clamp(min=torch.finfo(image.dtype).tiny)
    values = (image - low) / width
    if augmentation.gamma:
        values = values.pow(gamma)
    if augmentation.light:
        values = values * _light(image, augmentation.light, source)
    return low + width * values


LEAST_BLUR = 0.2
"""Gaussians of a smaller standard deviation change nothing."""


def _light(image: Tensor, amount: float, source: torch.Generator) -> Tensor:
    """Return a smooth field ``[*S]`` about 1: the exponential of cubics between three random values along each axis."""
    sides = image.shape[1:]
    field = (amount * torch.randn((3,) * len(sides), generator=source)).to(image.device)
    for length in sides:
        field = torch.tensordot(field, _functions(length, 3, image.device)[:, :3], dims=([0], [1]))
    return field.exp()


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Return the image ``[C *S]`` under a Gaussian of `sigma` pixels, its border repeated."""
    reach = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1.0, device=image.device) / sigma).square())
    weights = weights / weights.sum()
    for axis in range(1, image.ndim):
        rows = image.movedim(axis, -1)
        flat = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), mode="replicate")
        image = F.conv1d(flat, weights[None, None].to(flat.dtype)).reshape(rows.shape).movedim(-1, axis)
    return image


class Views(NamedTuple):
    """Random views of some images."""

    images: Tensor
    """``[B C *side + 2 margin]``."""
    annotations: Tensor
    """``[B *side]`` int64, -1 = no label."""
    maps: Tensor | None
    """``[B M *side]``; None where none were given."""


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
    maps: Sequence[Tensor] | None,
    side: tuple[int, ...],
    margin: int,
    augmentation: Augmentation,
    seed: int,
    first: int = 0,
    labelled: Sequence[Tensor] | None = None,
) -> Views:
    """Return one random view of each labelled image, about one of its labelled pixels.

    Parameters
    ----------
    parts
        Images ``[C *S]`` with their annotations ``[*S]``, -1 = no label.
    maps
        ``[M *S]`` of each image: weights of pixels, distances, whatever is seen through the same coordinates; None = none.
    side
        Size of the annotations' view, in pixels.
    margin
        Pixels by which the image's view is larger than that, on each side.
    first
        Place of the first image in the batch of all processes that share it.
    labelled
        Result of `labelled_pixels` for each image, where it is known: asking a device for it makes the host wait.
    """
    known = [labelled_pixels(annotations) for _, annotations in parts] if labelled is None else labelled
    shown = []
    with torch.autocast(parts[0][0].device.type, enabled=False):  # coordinates need all their digits
        for b, (image, annotations) in enumerate(parts):
            more = None if maps is None else maps[b]
            own = derive(seed, first + b)
            shown.append(_random_view(image, annotations, more, side, margin, augmentation, own, known[b]))
    images, labels, found = zip(*shown, strict=True)
    return Views(stacked(images), stacked(labels), None if maps is None else stacked(found))


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Return tensors of one shape along a new first axis; a single one is not copied."""
    return torch.stack(list(parts)) if len(parts) > 1 else parts[0].unsqueeze(0)


def _random_view(
    image: Tensor,
    annotations: Tensor,
    maps: Tensor | None,
    side: tuple[int, ...],
    margin: int,
    augmentation: Augmentation,
    seed: int,
    labelled: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None]:
    inner: Any = (..., *(slice(margin, margin + n) for n in side))
    wide = tuple(n + 2 * margin for n in side)
    focus = _labelled_pixel(annotations.shape, labelled, derive(seed, "focus"))
    at = view_coordinates(tuple(annotations.shape), focus, wide, augmentation, derive(seed, "view"), image.device)
    grid = _sampling_grid(at, tuple(annotations.shape))
    seen = vary_look(_read(image, grid), augmentation, derive(seed, "look"))
    seen = vary_grey(seen, augmentation.grey, derive(seed, "grey"))
    seen = add_noise(seen, augmentation.noise, derive(seed, "noise"))
    narrow = grid[inner[1:]]
    labels = _read(annotations[None].float(), narrow, nearest=True)[0].long()
    return seen, labels, None if maps is None else _read(maps, narrow)


def labelled_pixels(annotations: Tensor) -> Tensor:
    """Return the pixels of annotations ``[*S]`` that have a label, as numbers over ``*S``, on the host."""
    return (annotations.flatten().cpu() >= 0).nonzero().flatten().int()


def _labelled_pixel(shape: Sequence[int], labelled: Tensor, seed: int) -> tuple[int, ...]:
    """Return a random one of the pixels that have a label; the middle one if none has."""
    chosen = math.prod(shape) // 2
    if len(labelled):
        chosen = int(labelled[torch.randint(len(labelled), (), generator=torch.Generator().manual_seed(seed))])
    return tuple(int(i) for i in np.unravel_index(chosen, tuple(shape)))


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


def elastic_points(shape: tuple[int, ...], sigma: float, n_points: int, seed: int) -> Tensor:
    """Return a random displacement at each point of a coarse grid: a smooth field lies between them (`cubic_matrix`).

    Parameters
    ----------
    shape
        ``*S``, 2D or 3D.
    sigma
        Standard deviation of each component, in pixels; along an axis that is short at most an eighth of the distance between grid
        points, since the image would fold over itself.
    n_points
        Grid points along each axis, corners included (the paper's 3).
    seed
        Decides everything.

    Returns
    -------
    Tensor
        ``[D *n_points]`` float32, in pixels, in the order of the axes.

    References
    ----------
    Ronneberger, Fischer and Brox, U-Net, MICCAI 2015, section 3.1.
    """
    n_dims = len(shape)
    field = torch.randn(n_dims, *(n_points,) * n_dims, generator=torch.Generator().manual_seed(seed))
    spread = [min(sigma, size / (FOLDS_BELOW * max(1, n_points - 1))) for size in shape]
    return field * torch.tensor(spread).reshape(-1, *(1,) * n_dims)


@lru_cache(maxsize=16)
def _units(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return scale and shift ``[D]``, x first, from pixels to the unit of `torch.nn.functional.grid_sample`: pixel edges at -1 and 1."""
    sizes = torch.tensor(shape[::-1], dtype=torch.float64)
    return (2 / sizes).float().to(device), (1 / sizes - 1).float().to(device)


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
    return _read(images, _sampling_grid(coordinates, tuple(images.shape[1:])), nearest)


def _sampling_grid(coordinates: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return coordinates ``[D *s]`` in pixels of images of a shape as ``[*s D]``, x first, in the unit of `grid_sample`."""
    scale, shift = _units(shape, coordinates.device)
    return torch.addcmul(shift, coordinates.flip(0).movedim(0, -1), scale)


def _read(images: Tensor, grid: Tensor, nearest: bool = False) -> Tensor:
    """Read images ``[C *S]`` at a grid ``[*s D]``; see `sample_at`."""
    mode = "nearest" if nearest else "bilinear"
    found: Tensor = F.grid_sample(images[None], grid[None], mode=mode, padding_mode="reflection", align_corners=False)[
        0
    ]
    return found
