import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from reference.crf_loops import dense_crf_loops, gaussian_rows, message, places
from selfseg.core.errors import UsageError
from selfseg.refine.crf import colour_range, dense_crf
from selfseg.refine.lattice import Lattice
from selfseg.refine.mean_field import GridGaussian, Normalised

PAIRS = {"iterations": 10, "bilateral_weight": 8.0, "spatial_weight": 3.0, "spatial_sigma": 1.5}
OURS = {**PAIRS, "bilateral_sigma_space": 10.0, "bilateral_sigma_colour": 0.1}
LOOPS = {**PAIRS, "sigma_space": 10.0, "sigma_colour": 0.1}


def softmax(logits):
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)


def scene(shape, channels=3, seed=0):
    """Four regions of noisy colours with curved borders: image [C *S] in 0-1, and its regions [*S]."""
    rng = np.random.default_rng(seed)
    fields = np.stack([gaussian_filter(rng.normal(size=shape), 5) for _ in range(4)])
    regions = fields.argmax(0)
    colours = rng.random((4, channels))
    image = np.moveaxis(colours[regions], -1, 0) + rng.normal(0, 0.05, (channels, *shape))
    return image.clip(0, 1).astype(np.float32), regions


def guesses(kind, regions, seed=1):
    """Class probabilities as a method may give them: wrong here and there, blurred, or one class off its place."""
    rng = np.random.default_rng(seed)
    if kind == "speckled":
        wrong = rng.random(regions.shape) < 0.25
        regions = np.where(wrong, rng.integers(0, 4, regions.shape), regions)
    if kind == "shifted":
        regions = np.roll(regions, 2, axis=-1)
    hard = np.stack([regions == k for k in range(4)]).astype(float)
    if kind == "blurred":
        hard = np.stack([gaussian_filter(plane, 2.5) for plane in hard])
    return softmax(2.5 * hard + rng.normal(0, 0.3, hard.shape)).astype(np.float32)


def heard(kernel, beliefs, weight=1.0):
    result = np.zeros_like(beliefs)
    Normalised(kernel, weight).add_message(beliefs, result, (np.empty_like(beliefs), np.empty_like(beliefs)))
    return result


@pytest.fixture(params=["all pairs of corners", "blurred corners"])
def few(request, monkeypatch):
    """Run a test with both forms of the lattice; tells whether it is the one for few corners."""
    if request.param == "blurred corners":
        monkeypatch.setattr("selfseg.refine.lattice.MANY", 0)
        monkeypatch.setattr("selfseg.refine.lattice.FEW", 0)
    return request.param == "all pairs of corners"


@pytest.mark.parametrize("kind", ["speckled", "blurred", "shifted"])
def test_labels_agree_with_those_of_all_pairs(kind, few, seed=1):
    image, regions = scene((40, 50), seed=seed)
    probabilities = guesses(kind, regions)
    ours, exact = dense_crf(probabilities, image, **OURS), dense_crf_loops(probabilities, image, **LOOPS)
    assert (exact.argmax(0) != probabilities.argmax(0)).mean() > 0.005
    assert (ours.argmax(0) == exact.argmax(0)).mean() >= 0.99
    assert np.abs(ours - exact).mean() < (0.0005 if few else 0.005)
    np.testing.assert_allclose(ours.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize(("shape", "channels"), [((40, 50), 3), ((40, 50), 1), ((8, 14, 16), 1), ((8, 14, 16), 2)])
def test_bilateral_messages_are_near_those_of_all_pairs(shape, channels, few):
    image, regions = scene(shape, channels)
    spread = np.concatenate([places(shape) / 10, image.reshape(channels, -1).T / 0.1], axis=1)
    beliefs = np.ascontiguousarray(guesses("speckled", regions).reshape(4, -1).T)
    error = np.abs(heard(Lattice(spread.astype(np.float32)), beliefs) - message(spread, beliefs.astype(float)))
    assert error.mean() < (0.003 if few else 0.01)
    assert np.quantile(error, 0.95) < (0.01 if few else 0.03)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_the_lattice_sums_like_a_gaussian(d, few):
    """Row sums of many points in a cloud; the weights are barycentric."""
    points = np.random.default_rng(d).normal(0, 0.7, (1500, d)).astype(np.float32)
    lattice = Lattice(points)
    np.testing.assert_allclose(lattice.weights.sum(1), 1, atol=1e-5)
    assert lattice.weights.min() > -1e-5
    sums = np.empty((1500, 1), np.float32)
    lattice.filter(np.ones_like(sums), sums)
    exact = np.array([row.sum() for row in gaussian_rows(points.astype(float))])
    ratio = sums[:, 0] / exact
    assert abs(np.median(ratio) - 1) < (0.01 if few else 0.15)
    assert np.abs(np.log(ratio / np.median(ratio))).mean() < (0.03 if few else 0.06)


def test_the_diagonal_is_what_a_point_gives_itself(few):
    points = np.random.default_rng(0).normal(0, 0.5, (300, 3)).astype(np.float32)
    lattice = Lattice(points)
    itself = np.empty((300, 300), np.float32)
    lattice.filter(np.eye(300, dtype=np.float32), itself)
    np.testing.assert_allclose(np.diag(itself), lattice.diagonal(), rtol=1e-4 if few else 0.15)
    assert (np.diag(itself) <= lattice.diagonal() * 1.0001).all()  # missing corners only take away


@pytest.mark.parametrize(
    ("shape", "sigmas"), [((9, 13), (1.2, 2.0)), ((5, 6, 7), (0.8, 1.0, 2.5)), ((1, 30), (3.0, 3.0))]
)
def test_spatial_messages_are_exact(shape, sigmas):
    beliefs = np.random.default_rng(0).random((int(np.prod(shape)), 3)).astype(np.float32)
    expected = message(places(shape) / np.array(sigmas), beliefs.astype(float))
    np.testing.assert_allclose(heard(GridGaussian(shape, sigmas), beliefs), expected, atol=2e-3)


def test_a_volume_with_spacing_agrees_with_all_pairs():
    image, regions = scene((6, 16, 16), channels=1)
    probabilities = guesses("speckled", regions)
    ours = dense_crf(probabilities, image[0], spacing=(3.0, 1.0, 1.0), **OURS)
    exact = dense_crf_loops(probabilities, image, spacing=(3.0, 1.0, 1.0), **LOOPS)
    assert (ours.argmax(0) == exact.argmax(0)).mean() >= 0.99
    assert np.abs(ours - dense_crf(probabilities, image, **OURS)).max() > 0.01


def test_many_channels_agree_with_all_pairs():
    image, regions = scene((24, 30), channels=12)
    probabilities = guesses("shifted", regions)
    ours, exact = dense_crf(probabilities, image, **OURS), dense_crf_loops(probabilities, image, **LOOPS)
    assert (ours.argmax(0) == exact.argmax(0)).mean() >= 0.99


def test_without_kernels_nothing_changes():
    image, regions = scene((20, 24))
    probabilities = guesses("blurred", regions)
    after = dense_crf(probabilities, image, bilateral_weight=0, spatial_weight=0)
    np.testing.assert_array_equal(after, probabilities)
    np.testing.assert_array_equal(dense_crf(probabilities, image, iterations=0), probabilities)


def test_on_an_image_of_one_colour_only_places_count():
    _, regions = scene((24, 30))
    probabilities = guesses("speckled", regions)
    flat = np.full((3, 24, 30), 0.7, np.float32)
    ours = dense_crf(probabilities, flat, **{**OURS, "bilateral_sigma_space": 3.0, "spatial_weight": 0})
    exact = dense_crf_loops(probabilities, flat * 0, **{**LOOPS, "sigma_space": 3.0, "spatial_weight": 0})
    assert (ours.argmax(0) == exact.argmax(0)).mean() >= 0.99


def test_one_round_on_two_pixels_by_hand():
    """Two pixels at distance 1, sigma 1: each row sums to 1 + e^-1/2, and hears the other with weight k / n."""
    probabilities = np.array([[[0.9, 0.4]], [[0.1, 0.6]]], np.float32)
    after = dense_crf(
        probabilities, np.zeros((1, 2)), iterations=1, bilateral_weight=0, spatial_weight=2, spatial_sigma=1
    )
    share = 2 * np.exp(-0.5) / (1 + np.exp(-0.5))
    expected = softmax(np.log(probabilities[:, 0, 0]) + share * probabilities[:, 0, 1])
    np.testing.assert_allclose(after[:, 0, 0], expected, rtol=1e-5)


def test_a_permutation_of_classes_permutes_the_result():
    image, regions = scene((24, 30))
    probabilities, order = guesses("speckled", regions), [2, 0, 3, 1]
    one, other = dense_crf(probabilities, image, **OURS)[order], dense_crf(probabilities[order], image, **OURS)
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (1, 1, 1)])
@pytest.mark.parametrize("classes", [1, 3])
def test_tiny_images_and_a_single_class(shape, classes):
    probabilities = softmax(np.random.default_rng(0).normal(size=(classes, *shape))).astype(np.float32)
    after = dense_crf(probabilities, np.zeros(shape, np.uint8))
    np.testing.assert_allclose(after.sum(0), 1, atol=1e-6)
    if int(np.prod(shape)) == 1:
        np.testing.assert_allclose(after, probabilities, atol=1e-4)


def test_masked_and_nan_pixels_take_no_part():
    """They keep what they had, and the others get what they would get if those were not there."""
    image, regions = scene((20, 30))
    probabilities = guesses("speckled", regions)
    valid = np.ones((20, 30), bool)
    valid[:, 15:] = False
    broken = image.copy()
    broken[1, 3:6, 20] = np.nan
    after = dense_crf(probabilities, broken, valid=valid, **OURS)
    np.testing.assert_array_equal(after[:, :, 15:], probabilities[:, :, 15:])
    alone = dense_crf(np.ascontiguousarray(probabilities[:, :, :15]), image[:, :, :15], **OURS)
    np.testing.assert_allclose(after[:, :, :15], alone, atol=1e-5)
    image[0, 4, 4] = np.nan
    after = dense_crf(probabilities, image, **OURS)
    np.testing.assert_array_equal(after[:, 4, 4], probabilities[:, 4, 4])
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(dense_crf(probabilities, image, valid=np.zeros_like(valid)), probabilities)


def test_the_result_is_equal_on_any_number_of_threads(monkeypatch):
    image, regions = scene((33, 41))
    probabilities, results = guesses("speckled", regions), []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("SELFSEG_THREADS", threads)
        results.append(dense_crf(probabilities, image, **OURS))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_large_lattice_and_a_growing_hash_table():
    """Points far from each other: every point has its own corners, and hears only itself."""
    points = (np.arange(20_000)[:, None] * np.array([40.0, 0.0])).astype(np.float32)
    lattice = Lattice(points)
    assert lattice.n_corners == 60_000 and (lattice.ids == np.arange(60_000).reshape(-1, 3)).all()
    sums = np.empty((20_000, 1), np.float32)
    lattice.filter(np.ones_like(sums), sums)
    assert (sums[:, 0] <= lattice.diagonal() * 1.001).all()


def test_tensors_come_back_as_tensors():
    image, regions = scene((20, 24))
    probabilities = guesses("blurred", regions)
    after = dense_crf(torch.from_numpy(probabilities), torch.from_numpy(image), **OURS)
    assert isinstance(after, torch.Tensor)
    np.testing.assert_array_equal(after.numpy(), dense_crf(probabilities, image, **OURS))


def test_a_relative_colour_sigma_does_not_depend_on_the_unit():
    image, regions = scene((24, 30))
    probabilities = guesses("speckled", regions)
    one = dense_crf(probabilities, image)
    other = dense_crf(probabilities, image * 60_000 + 100)
    assert (one.argmax(0) == other.argmax(0)).mean() > 0.99
    np.testing.assert_allclose(one, other, atol=0.02)


def test_the_range_of_colours_is_that_of_the_valid_pixels():
    image = np.stack([np.linspace(0, 100, 2001), np.full(2001, 7.0), np.zeros(2001)])[:, None]
    image[0, 0, 5] = np.nan
    image[2, 0, :3] = 4.0  # too few to reach the percentiles: the extremes count
    np.testing.assert_allclose(colour_range(image), [98.8, 1.0, 4.0], atol=0.1)
    valid = np.zeros((1, 2001), bool)
    valid[:, :1001] = True
    np.testing.assert_allclose(colour_range(image, valid)[0], 49.4, atol=0.1)
    np.testing.assert_allclose(colour_range(image, valid & False), 1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": np.zeros((3, 5, 6))}, "image: expected .* got"),
        ({"spacing": (1.0,)}, "spacing: expected 2 positive numbers"),
        ({"spacing": (1.0, -1.0)}, "spacing"),
        ({"valid": np.ones((2, 2), bool)}, "valid: expected"),
        ({"iterations": -1}, "iterations: expected 0 or more"),
        ({"bilateral_weight": -1.0}, "weights of the CRF"),
        ({"spatial_sigma": 0.0}, "standard deviations of the CRF: expected above 0"),
        ({"bilateral_sigma_colour": float("nan")}, "standard deviations"),
        ({"probabilities": np.ones((2, 5))}, "probabilities: expected"),
    ],
)
def test_wrong_arguments_are_named(changes, says):
    arguments = {"probabilities": np.full((2, 5, 5), 0.5), "image": np.zeros((3, 5, 5)), **changes}
    with pytest.raises(UsageError, match=says):
        dense_crf(arguments.pop("probabilities"), arguments.pop("image"), **arguments)
