import numpy as np
import pytest

from selfseg import Segmenter
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Silent


class Ears(Silent):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, message: str) -> None:
        self.heard.append(message)


def volume(spacing: tuple[float, ...], seed: int = 0) -> Image:
    data = np.random.default_rng(seed).integers(0, 255, (6, 16, 16)).astype(np.uint8)
    data[:, :, 8:] //= 4
    return Image(data, "ZYX", spacing=spacing, unit="um", name="thick")


TINY = {"width": 2, "depth": 1, "iterations": 2, "n_clusters": 3, "prepare": "range", "radius": 3}


def test_a_method_is_told_the_ratios_of_the_voxels_sides(tmp_path):
    ears = Ears()
    model = Segmenter("wnet", options=TINY).fit(volume((0.5, 0.1, 0.1)), progress=ears)
    assert model.method_.config.spacing == (5.0, 1.0, 1.0)
    assert "pixels lie 5 : 1 : 1 apart, from thick" in ears.heard
    model.save(tmp_path / "model")
    assert Segmenter.load(tmp_path / "model").method_.config.spacing == (5.0, 1.0, 1.0)


def test_the_cut_counts_in_them():
    thick = Segmenter("wnet", options=TINY).fit(volume((0.5, 0.1, 0.1))).method_
    even = Segmenter("wnet", options=TINY).fit(volume((0.1, 0.1, 0.1))).method_
    assert even.config.spacing == ()
    import torch

    image = torch.rand(1, 1, 6, 16, 16)
    # Radius 3: planes 5 apart are no neighbours, planes 1 apart are.
    alone, joined = (method._affinity(image, None).degrees(torch.float64)[0, 3, 8, 8] for method in (thick, even))
    assert alone < joined


def test_the_users_own_ratios_stand_and_others_are_named():
    ears = Ears()
    images = [volume((0.5, 0.1, 0.1)), volume((0.3, 0.1, 0.1))]
    Segmenter("wnet", options=TINY).fit(images, progress=ears)
    assert any("1 image(s) differ" in line for line in ears.heard)
    model = Segmenter("wnet", options=TINY | {"spacing": (2, 1, 1)}).fit(images)
    assert model.method_.config.spacing == (2.0, 1.0, 1.0)
    with pytest.raises(UsageError, match="spacing"):
        Segmenter("wnet", options=TINY | {"spacing": (2, 1)}).fit(images)
