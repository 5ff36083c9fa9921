"""Deformation: coordinates that move smoothly at random, and images, labels and masks read at them."""

import torch
import torch.nn.functional as F
from torch import Tensor

CUBIC = -0.75
"""Slope of the cubic convolution kernel (Keys 1981) at distance 1."""

FOLDS_BELOW = 8
"""Standard deviations between two grid points, at least: their displacements then differ by less than their distance."""


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
