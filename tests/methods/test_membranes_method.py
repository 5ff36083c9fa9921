"""Membranes as a method: classes, objects, tree and polarity; the lines themselves are tested in regions."""

import numpy as np
import pytest
import torch

from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import build_config
from selfseg.methods.membranes import MembranesMethod, thinner_side


def honeycomb(side=120, pitch=30, grain=10.0):
    """Square cells between dark lines of 4 pixels."""
    at = (np.arange(side) + pitch // 2) % pitch < 4
    light = np.where(at[:, None] | at[None], 60, 180) + np.random.default_rng(0).normal(0, grain, (side, side))
    return np.clip(light, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("light", "polarity"), [(honeycomb(), "dark"), (255 - honeycomb(), "bright")])
def test_cells_are_objects_and_lines_a_class(light, polarity):
    for wanted in (polarity, "auto"):
        model = Segmenter("membranes", options={"polarity": wanted}).fit(Image(light, "YX"))
        labels = np.asarray(model.predict(Image(light, "YX")).labels)
        line = 1 if polarity == "dark" else 2
        truth = light < 120 if polarity == "dark" else light > 135
        assert (labels == line)[truth].mean() > 0.97 and (labels == line).mean() < 1.7 * truth.mean()
        method = model.fitted.method
        objects = method.objects(torch.from_numpy(light / np.float32(255))[None])
        assert objects.max() == 25 and (objects[labels == line] == 0).all()
        assert 0.8 < (objects > 0).sum() / (~truth).sum() < 1.1


def test_the_thinner_side_is_the_line():
    assert thinner_side(honeycomb(), None) == -1 and thinner_side(255 - honeycomb(), None) == 1
    assert thinner_side(np.zeros((3, 4)), None) == -1


def test_a_volume_is_done_slice_by_slice():
    planes = [honeycomb(), honeycomb(pitch=40)]
    volume = torch.from_numpy(np.stack(planes) / np.float32(255))[None]
    config = build_config("membranes")
    both = MembranesMethod(config, 1, 3).assign(volume[None])[0]
    for number, plane in enumerate(planes):
        alone = MembranesMethod(config, 1, 2).assign(torch.from_numpy(plane / np.float32(255))[None, None])[0]
        assert torch.equal(both[:, number], alone)
    assert MembranesMethod(config, 1, 3).objects(volume) is None
