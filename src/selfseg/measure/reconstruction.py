"""How well regions tell the image back, each as one colour or as one plane: the error falls with every split."""

import numpy as np
from numpy.typing import ArrayLike

from selfseg.core.errors import InputError
from selfseg.measure._pixels import Regions, prepare
from selfseg.measure._table import Floats

SINGULAR = 1e-9
"""A direction in which a region is this much shorter than in its longest has no slope."""


def reconstruction_error(labels: ArrayLike, image: ArrayLike, ignore: int | None = None, degree: int = 0) -> float:
    """Return the share of the image's variance that its regions leave unexplained: 0-1, small is good.

    sum_i sum_{x in i} |I(x) - p_i(x)|^2 / sum_x |I(x) - mean I|^2, where p_i is the polynomial of the given degree in
    the coordinates that fits region i best. Degree 0: the mean, the piecewise constant limit of Mumford & Shah 1989.
    Degree 1: a plane, Haralick & Watson's sloped facet (1981), so that shading costs nothing. No split ever raises it:
    it compares segmentations of equally many regions, and says nothing on how many there should be.

    Parameters
    ----------
    labels
        Integer array ``[*S]``.
    image
        ``[*S]`` or ``[*S C]``.
    ignore
        Label of pixels to leave out.
    degree
        0 or 1.

    Returns
    -------
    float
        0 for an image of one colour.

    Raises
    ------
    InputError
        If the shapes differ, no pixel counts, values are not finite, or the degree is another.
    """
    if degree not in (0, 1):
        raise InputError("degree", expected="0 (constant) or 1 (plane)", got=str(degree), fix="choose one of them")
    regions = prepare(labels, image, ignore)
    total = float(((regions.values - regions.values.mean(axis=0)) ** 2).sum())
    if total == 0:
        return 0.0
    error = float(regions.squared_errors().sum())
    if degree == 1:
        error -= _explained_by_slopes(regions)
    return max(0.0, error) / total


def _explained_by_slopes(regions: Regions) -> float:
    """Return the squared error that the best slopes take away: sum_i trace(B_i^T A_i^+ B_i).

    A_i ``[D D]`` are the scatter of the coordinates of region i, B_i ``[D C]`` those of coordinates with values.
    """
    places = np.argwhere(regions.grid >= 0).astype(np.float64)
    away, deviation = (_centred(regions, array) for array in (places, regions.values))
    n_dims, n_channels = away.shape[1], deviation.shape[1]
    products = [away[:, i] * away[:, j] for i in range(n_dims) for j in range(n_dims)]
    scatter = regions.sums(np.stack(products, axis=1)).reshape(-1, n_dims, n_dims)
    products = [away[:, i] * deviation[:, c] for i in range(n_dims) for c in range(n_channels)]
    cross = regions.sums(np.stack(products, axis=1)).reshape(-1, n_dims, n_channels)
    inverse = np.linalg.pinv(scatter, rcond=SINGULAR, hermitian=True)
    return float(np.einsum("rdc,rde,rec->", cross, inverse, cross))


def _centred(regions: Regions, values: Floats) -> Floats:
    """Return ``values [N C]`` less the mean of their region."""
    return values - (regions.sums(values) / regions.areas[:, None])[regions.index]
