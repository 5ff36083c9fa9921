"""The method feature_codebook: one k-means codebook on principal components of frozen features."""

import numpy as np
import torch
from sklearn.decomposition import PCA

from conftest import blobs
from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.methods import build_config
from selfseg.methods.feature_codebook import FeatureCodebook
from selfseg.sample.stream import Sample, Stream


def tiles(order, side=64):
    """A picture of four textures side by side, in the given order."""
    y, x = np.mgrid[:side, :side]
    rng = np.random.default_rng(0)
    kinds = [(x // 4 % 2) * 200, (y // 4 % 2) * 200, ((x // 8 + y // 8) % 2) * 200, rng.integers(0, 200, (side, side))]
    return np.stack([np.concatenate([kinds[k] for k in order], 1).astype(np.uint8)] * 3, -1)


def test_a_class_is_the_same_thing_in_every_image():
    """Each texture keeps its class, wherever it stands; k-means of each image alone would number them anew."""
    one, other = tiles((0, 1, 2, 3)), tiles((2, 0, 3, 1))
    model = Segmenter("feature_codebook", n_classes=4, seed=0).fit([one, other])
    middles = [slice(64 * k + 20, 64 * k + 44) for k in range(4)]
    first, second = (
        [np.bincount(model.predict(picture).labels[16:48, place].ravel()).argmax() for place in middles]
        for picture in (one, other)
    )
    assert len(set(first)) == 4
    assert [first[k] for k in (2, 0, 3, 1)] == second


def test_components_are_those_of_scikit_learn():
    data = [
        Sample(np.ascontiguousarray(np.moveaxis(blobs(48, 64, 3, seed), -1, 0) / 255, np.float32)) for seed in range(2)
    ]
    method = FeatureCodebook(build_config("feature_codebook", n_components=4, n_maps=2), 3)
    method.finish(Stream(data, 1, 0).once)
    rows = (
        torch.cat([method._rows(*one) for batch in Stream(data, 1, 0).once() for one in batch.each()])
        .numpy()
        .astype(np.float64)
    )
    even = (rows - rows.mean(0)) / rows.std(0) / np.repeat(np.sqrt(method.widths), method.widths)
    expected = PCA(4, svd_solver="full").fit(even)
    found = (rows - rows.mean(0)) @ method.components.numpy()
    cosines = np.abs(np.corrcoef(found.T, expected.transform(even).T)[:4, 4:].diagonal())
    np.testing.assert_allclose(cosines, 1, atol=1e-3)


def test_volumes_and_five_channels():
    volume = np.stack([blobs(40, 48, 5, seed) for seed in range(3)])
    result = (
        Segmenter("feature_codebook", n_classes=2, options={"as_rgb": (4, 2, 0)})
        .fit(Image(volume, "ZYXC"))
        .predict(Image(volume, "ZYXC"))
    )
    assert result.labels.shape == (3, 40, 48) and set(np.unique(result.labels)) == {1, 2}


def test_the_presets_refine():
    fitted = Segmenter("feature_codebook", preset="contours", n_classes=2).fit(blobs())
    assert fitted.refine == "contours"
    assert fitted.predict(blobs()).labels.max() == 2
