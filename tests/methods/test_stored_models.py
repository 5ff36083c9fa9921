"""Models that were stored before options were renamed (format 1) load, and give the labels that they gave then."""

from pathlib import Path

import numpy as np
import pytest

from conftest import blobs
from selfseg.core.image import Image
from selfseg.pipeline import Segmenter

STORED = Path(__file__).parent / "stored"
NAMES = sorted(folder.name for folder in STORED.iterdir() if folder.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_before_gives_the_labels_of_before(name):
    result = Segmenter.load(STORED / name, device="cpu").predict(Image(blobs(24, 32, 3, seed=7), "YXC"))
    expected = np.load(STORED / "expected.npz")
    np.testing.assert_allclose(result.probabilities[:, ::3, ::3], expected[f"{name}_probabilities"], atol=1e-4)
    assert np.array_equal(result.labels, expected[name])
