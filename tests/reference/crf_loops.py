"""The fully connected CRF pair by pair, in float64: Kraehenbuehl & Koltun (2011), eq. 3 and algorithm 1, Potts labels.

Each kernel is divided by the square roots of its row sums on both sides.
"""

import numpy as np


def gaussian_rows(features):
    """Yield ``exp(-|f_u - f_v|^2 / 2)`` over all v, for each point u of ``[N d]``."""
    for feature in features:
        yield np.exp(-0.5 * ((features - feature) ** 2).sum(1))


def normalised_rows(features):
    """Return ``k_uv / sqrt(n_u n_v)`` with ``n_u = sum_v k_uv``, and 0 for u = v, as a list of rows."""
    sums = np.array([row.sum() for row in gaussian_rows(features)])
    rows = [row / np.sqrt(sums[u] * sums) for u, row in enumerate(gaussian_rows(features))]
    for u, row in enumerate(rows):
        row[u] = 0
    return rows


def message(features, beliefs):
    """Return ``m_u(l) = sum_{v != u} k_uv Q_v(l) / sqrt(n_u n_v)``, ``[N K]``."""
    return np.array([row @ beliefs for row in normalised_rows(features)])


def places(shape, spacing=None):
    """Return the coordinates of all pixels in row-major order, ``[N axes]``."""
    units = np.ones(len(shape)) if spacing is None else np.asarray(spacing)
    return np.array([np.array(place) * units for place in np.ndindex(*shape)], float)


def dense_crf_loops(
    probabilities,
    image,
    *,
    iterations,
    bilateral_weight,
    sigma_space,
    sigma_colour,
    spatial_weight,
    spatial_sigma,
    spacing=None,
):
    """Return the mean field of probabilities ``[K *S]`` and image ``[C *S]``."""
    shape = probabilities.shape[1:]
    where = places(shape, spacing)
    colours = image.reshape(len(image), -1).T.astype(float)
    bilateral = np.concatenate([where / sigma_space, colours / sigma_colour], axis=1)
    unary = -np.log(np.maximum(probabilities.reshape(len(probabilities), -1).T.astype(float), 1e-30))
    beliefs = np.exp(-unary)
    alike, near = normalised_rows(bilateral), normalised_rows(where / spatial_sigma)
    for _ in range(iterations):
        heard = np.array(
            [bilateral_weight * a @ beliefs + spatial_weight * b @ beliefs for a, b in zip(alike, near, strict=True)]
        )
        for u in range(len(beliefs)):
            # Potts: a class pays for what is said for all the others.
            cost = np.array([heard[u].sum() - heard[u, label] for label in range(heard.shape[1])])
            energy = unary[u] + cost
            likely = np.exp(energy.min() - energy)
            beliefs[u] = likely / likely.sum()
    return beliefs.T.reshape(probabilities.shape)
