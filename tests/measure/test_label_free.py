import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from sklearn import metrics

from selfseg import measure
from selfseg.core.errors import InputError


@pytest.fixture(params=[(7, 8), (4, 3, 5)])
def scene(request):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, request.param) * 3 - 1
    return labels, rng.integers(0, 256, (*request.param, 3)).astype(float)


def regions_of(labels, image):
    return [image[labels == value] for value in np.unique(labels)]


def error(pixels):
    mean = sum(pixels) / len(pixels)
    return sum(float(((p - mean) ** 2).sum()) for p in pixels)


def test_zhang_entropy_is_layout_plus_expected_region_entropy(scene):
    labels, image = scene
    grey = np.floor(image[..., 0] / 32)  # eight whole values
    grey.flat[0], grey.flat[1] = 0, 7
    total, n = 0.0, labels.size
    for value in np.unique(labels):
        inside = grey[labels == value].tolist()
        share = len(inside) / n
        total -= share * math.log2(share)
        total -= share * sum(c / len(inside) * math.log2(c / len(inside)) for c in Counter(inside).values())
    assert measure.zhang_entropy(labels, grey, bins=8) == pytest.approx(total)
    # One grey channel is the same as three equal ones.
    assert measure.zhang_entropy(labels, np.stack([grey] * 3, -1), bins=8) == pytest.approx(total)


def test_liu_yang_and_borsotti_equal_their_sums(scene):
    labels, image = scene
    parts = regions_of(labels, image)
    f = sum(error(p) / math.sqrt(len(p)) for p in parts)
    assert measure.liu_yang(labels, image) == pytest.approx(math.sqrt(len(parts)) * f / (1000 * labels.size))
    alike = Counter(len(p) for p in parts)
    q = sum(error(p) / (1 + math.log(len(p))) + (alike[len(p)] / len(p)) ** 2 for p in parts)
    assert measure.borsotti_q(labels, image) == pytest.approx(math.sqrt(len(parts)) * q / (10000 * labels.size))


def test_borsotti_counts_regions_of_equal_area():
    labels = np.repeat(np.arange(4), 5)
    expected = math.sqrt(4) * 4 * (4 / 5) ** 2 / (10000 * 20)
    assert measure.borsotti_q(labels, np.zeros(20)) == pytest.approx(expected)


def around(index, shape, corners=True):
    for step in product((-1, 0, 1), repeat=len(shape)):
        there = tuple(a + b for a, b in zip(index, step, strict=True))
        near = any(step) and (corners or sum(map(abs, step)) == 1)
        if near and all(0 <= a < n for a, n in zip(there, shape, strict=True)):
            yield there


def zeboudj_by_loop(labels, image, ignore=None):
    used = labels != ignore if ignore is not None else np.ones(labels.shape, bool)
    span = image[used].max() - image[used].min()
    total = 0.0
    for value in np.unique(labels[used]):
        inner, outer = [], []
        for index in map(tuple, np.argwhere(labels == value)):
            near = [t for t in around(index, labels.shape) if used[t]]
            contrast = {t: float(np.abs(image[index] - image[t]).mean()) / span for t in near}
            inner.append(max([contrast[t] for t in near if labels[t] == value], default=0.0))
            if any(labels[t] != value for t in near):
                outer.append(max(contrast[t] for t in near if labels[t] != value))
        i, e = np.mean(inner), np.mean(outer) if outer else 0.0
        total += len(inner) * (e if i == 0 else 1 - i / e if i < e else 0.0)
    return total / used.sum()


def test_zeboudj_equals_a_loop_over_neighbours(scene):
    labels, image = scene
    smooth = image * 0.1 + labels[..., None] * 20.0  # so that inner contrast is below outer
    assert 0.1 < zeboudj_by_loop(labels, smooth) < 1
    assert measure.zeboudj(labels, smooth) == pytest.approx(zeboudj_by_loop(labels, smooth))
    assert measure.zeboudj(labels, smooth, ignore=2) == pytest.approx(zeboudj_by_loop(labels, smooth, 2))


def test_zeboudj_of_flat_regions_is_their_outer_contrast():
    labels = np.repeat([0, 1], 6)[None].repeat(4, 0)
    assert measure.zeboudj(labels, labels * 100.0) == pytest.approx(1.0)
    assert measure.zeboudj(np.zeros_like(labels), labels * 100.0) == 0.0


def test_agreement_is_the_correlation_over_touching_pairs(scene):
    labels, image = scene
    crossed, steps = [], []
    for index in np.ndindex(labels.shape):
        for there in around(index, labels.shape, corners=False):
            if index < there:
                crossed.append(float(labels[index] != labels[there]))
                steps.append(math.dist(image[index], image[there]))
    expected = np.corrcoef(crossed, steps)[0, 1]
    assert measure.boundary_edge_agreement(labels, image) == pytest.approx(expected)


def test_agreement_falls_with_a_missed_edge_and_with_a_false_boundary():
    truth = np.repeat([0, 1, 2], 8)[None].repeat(10, 0)
    image = truth * 50.0
    assert measure.boundary_edge_agreement(truth, image) == pytest.approx(1.0)
    assert measure.boundary_edge_agreement(np.minimum(truth, 1), image) < 0.9
    assert measure.boundary_edge_agreement(np.arange(24)[None].repeat(10, 0) // 4, image) < 0.9
    assert measure.boundary_edge_agreement(np.zeros_like(truth), image) == 0.0
    assert measure.boundary_edge_agreement(truth, np.zeros(truth.shape)) == 0.0


def test_description_length_is_its_sum(scene):
    labels, image = scene
    n, bits, weight, q = labels.size, 0.0, 0.5, 2.0
    parts = regions_of(labels, image)
    for pixels in parts:
        for channel in pixels.T:
            variance = sum((channel - sum(channel) / len(channel)) ** 2) / len(channel) + q * q / 12
            bits += weight * len(channel) / 2 * math.log2(2 * math.pi * math.e * variance / q**2)
            bits += math.log2(len(channel))
        bits += math.log2(n)
    for index in np.ndindex(labels.shape):
        for there in around(index, labels.shape, corners=False):
            bits += math.log2(3) * (index < there and labels[index] != labels[there])
    ours = measure.description_length(labels, image, quantum=q, data_weight=weight)
    assert ours == pytest.approx(bits / n)


def test_description_length_prefers_the_regions_that_made_the_image():
    truth = np.repeat([0, 1], 20)[None].repeat(40, 0)
    image = truth * 60.0 + np.random.default_rng(0).normal(0, 5, truth.shape)
    candidates = truth, truth * 0, np.arange(1600).reshape(40, 40) // 9
    lengths = [measure.description_length(labels, image) for labels in candidates]
    assert np.argmin(lengths) == 0


def test_validity_equals_scikit_learn_when_every_pixel_is_drawn():
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat([0, 4, 9], 40)).reshape(10, 12)
    features = rng.normal(0, 1, (10, 12, 2)) + labels[..., None]
    flat = features.reshape(-1, 2), labels.ravel()
    ours = measure.cluster_validity(labels, features, sample=120)
    assert ours.silhouette == pytest.approx(metrics.silhouette_score(*flat))
    assert ours.calinski_harabasz == pytest.approx(metrics.calinski_harabasz_score(*flat))
    assert ours.davies_bouldin == pytest.approx(metrics.davies_bouldin_score(*flat))


def test_validity_draws_equally_and_repeatably(monkeypatch):
    drawn = []
    for name in ("silhouette_score", "calinski_harabasz_score", "davies_bouldin_score"):
        monkeypatch.setattr(metrics, name, lambda values, names: drawn.append(values.ravel()) or 0.0)
    labels = np.repeat([0, 1, 2], [500, 60, 5])
    features = np.arange(565.0)
    for seed in (0, 0, 1):
        measure.cluster_validity(labels, features, sample=90, seed=seed)
    first, again, other = drawn[0], drawn[3], drawn[6]
    assert np.bincount(labels[first.astype(int)]).tolist() == [30, 30, 5]
    assert len(set(first)) == 65
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_validity_of_one_region_or_of_single_pixels_is_undefined():
    values = np.random.default_rng(0).random((4, 4))
    assert all(math.isnan(v) for v in measure.cluster_validity(np.zeros((4, 4), int), values))
    assert all(math.isnan(v) for v in measure.cluster_validity(np.arange(16).reshape(4, 4), values))


CRITERIA = [
    measure.zhang_entropy,
    measure.liu_yang,
    measure.borsotti_q,
    measure.zeboudj,
    measure.boundary_edge_agreement,
    measure.description_length,
    measure.cluster_validity,
    measure.reconstruction_error,
]


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda f: f.__name__)
def test_bad_input_and_ignored_pixels(criterion):
    rng = np.random.default_rng(3)
    labels, image = rng.integers(1, 4, (8, 9)), rng.random((8, 9)) * 255
    with pytest.raises(InputError, match=r"\(8, 9\).*\(8, 8"):
        criterion(labels, image[:, :8])
    with pytest.raises(InputError, match="float64"):
        criterion(labels.astype(float), image)
    with pytest.raises(InputError, match="only 5"):
        criterion(np.full_like(labels, 5), image, ignore=5)
    image[:, 6:] = np.nan
    with pytest.raises(InputError, match="NaN"):
        criterion(labels, image)
    masked = np.where(np.arange(9) < 6, labels, 0)
    assert criterion(masked, image, ignore=0) == pytest.approx(criterion(labels[:, :6], image[:, :6]))


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda f: f.__name__)
def test_names_of_labels_do_not_matter(criterion):
    rng = np.random.default_rng(4)
    labels, image = rng.integers(0, 3, (8, 9)), rng.random((8, 9, 2)) * 255
    expected = pytest.approx(criterion(labels, image))
    assert criterion(labels * 11 - 4, image) == expected  # renumbered by counting
    assert criterion(labels.astype(np.uint8) + 7, image) == expected
    assert criterion(labels * 10**12 - 10**13, image) == expected  # too far apart for that


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda f: f.__name__)
def test_one_pixel_and_one_colour_give_no_warning(criterion, recwarn):
    criterion(np.zeros((1, 1), int), np.zeros((1, 1)))
    criterion(np.eye(4, dtype=int), np.full((4, 4), 7.0))
    assert [str(w.message) for w in recwarn] == []
