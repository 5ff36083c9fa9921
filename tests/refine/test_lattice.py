import numpy as np
from skimage import data
from skimage.transform import resize

from reference.crf_loops import dense_crf_loops
from selfseg.refine.crf import dense_crf
from selfseg.refine.lattice import AllPairs, Blur, Lattice


def test_corners_hear_near_ones_like_a_gaussian():
    """Two clouds far apart: pairs of groups between them are left out, and nothing that counts is lost."""
    rng = np.random.default_rng(0)
    places = rng.normal(0, 1.5, (2000, 3)) + np.array([[40.0, 0, 0]]) * (np.arange(2000)[:, None] % 2)
    values = rng.random((2000, 4)).astype(np.float32)
    between = AllPairs(places.astype(np.float32), fineness=1.4)
    variance = 1 - 0.25 / 1.4**2
    exact = np.array([np.exp(-((places - place) ** 2).sum(1) / (2 * variance)) @ values for place in places])
    ours = between.filter(values, np.empty_like(values))
    np.testing.assert_allclose(ours, exact, rtol=2e-3, atol=1e-4)
    entries = sum(matrix.size for _, _, matrix in between.pairs)
    assert entries < 0.4 * 2000**2  # half of a cloud's pairs, and none between the clouds


def test_a_lattice_is_as_fine_as_few_corners_allow(monkeypatch):
    points = np.random.default_rng(1).normal(0, 1, (4000, 3)).astype(np.float32)
    counts, kinds = [], []
    for most in (10**6, 900, 10):
        monkeypatch.setattr("selfseg.refine.lattice.FEW", most)
        monkeypatch.setattr("selfseg.refine.lattice.MANY", most)
        lattice = Lattice(points)
        counts.append(lattice.n_corners)
        kinds.append(type(lattice.between))
        np.testing.assert_allclose(lattice.weights.sum(1), 1, atol=1e-5)
    assert counts[0] > counts[1] >= counts[2]
    assert counts[1] <= 900
    assert kinds == [AllPairs, AllPairs, Blur]


def test_a_photograph_gets_the_labels_of_all_pairs():
    """Textures and shading give the lattice more corners than flat scenes do."""
    photo = resize(data.astronaut()[:384, 64:448], (54, 54), anti_aliasing=True)
    image = np.moveaxis(photo, -1, 0).astype(np.float32)
    rng = np.random.default_rng(0)
    colours = image.reshape(3, -1).T[rng.choice(54 * 54, 5, replace=False)]
    distances = np.sqrt(((image[None] - colours[:, :, None, None]) ** 2).sum(1))
    logits = -4 * distances / distances.mean()
    spoilt = rng.random((54, 54)) < 0.1
    logits[:, spoilt] = rng.normal(0, 1, (5, spoilt.sum()))
    probabilities = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
    options = {"iterations": 10, "bilateral_weight": 20.0, "spatial_weight": 3.0, "spatial_sigma": 1.0}
    ours = dense_crf(probabilities, image, bilateral_sigma_space=10.0, bilateral_sigma_colour=0.1, **options)
    exact = dense_crf_loops(probabilities, image, sigma_space=10.0, sigma_colour=0.1, **options)
    assert (exact.argmax(0) != probabilities.argmax(0)).mean() > 0.05
    assert (ours.argmax(0) == exact.argmax(0)).mean() >= 0.99
