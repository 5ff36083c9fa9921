import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from selfseg.regions import pixel_forest
from selfseg.regions.pixel_forest import PixelForest, features_at, n_features, pixel_features


def some_pixels(n=600, width=5):
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (n, width)).astype(np.float32)
    return values, values[:, 0] + 0.3 * rng.normal(0, 1, n) > 0


def test_probabilities_are_scikit_learns():
    values, wanted = some_pixels()
    forest = PixelForest.learn(values, wanted, 7)
    plain = ExtraTreesClassifier(30, min_samples_leaf=5, max_depth=14, bootstrap=True, random_state=7).fit(
        values, wanted
    )
    np.testing.assert_allclose(forest.evaluate(values.T), plain.predict_proba(values)[:, 1], atol=1e-12)


def test_features_of_bands_are_those_of_the_whole_image(monkeypatch):
    image = np.random.default_rng(1).random((2, 300, 40)).astype(np.float32)
    whole = pixel_features(image, image.mean(0))
    assert len(whole) == n_features(2)
    places = np.random.default_rng(2).choice(300 * 40, 500, replace=False)
    monkeypatch.setattr(pixel_forest, "BAND", 100 * 40)
    found = features_at(image, image.mean(0), places)
    np.testing.assert_allclose(found, whole.reshape(len(whole), -1)[:, places].T, atol=1e-6)


@pytest.mark.parametrize("damage", ["loop", "beyond", "feature", "lengths"])
def test_arrays_that_are_no_forest_are_refused(damage):
    forest = PixelForest.learn(*some_pixels(), 0)
    forest.check(5)
    inner = int(np.flatnonzero(forest.features >= 0)[3])
    if damage == "loop":
        forest.children[inner, 0] = inner
    elif damage == "beyond":
        forest.children[inner, 1] = len(forest.features)
    elif damage == "feature":
        forest.features[inner] = 5
    else:
        forest = PixelForest(forest.roots, forest.features, forest.thresholds[:-1], forest.children, forest.shares)
    with pytest.raises(ValueError, match="forest over 5"):
        forest.check(5)
