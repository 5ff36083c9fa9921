"""The rounds of the CRF on another device give what they give on the CPU."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "gpu"))
from pretended_gpu import PretendedGPU

from selfseg.core.image import Image
from selfseg.refine import lattice
from selfseg.refine.crf import dense_crf
from selfseg.refine.steps import parse_refinements, refine

RNG = np.random.default_rng(3)


def scene(shape=(40, 50), n_classes=3):
    """Noisy classes ``[K *S]`` and a picture ``[C *S]`` of them, in 0-1."""
    places = np.indices(shape).sum(0)
    truth = places // 25 % n_classes
    picture = np.stack([truth / n_classes, 1 - truth / n_classes]) + RNG.normal(0, 0.03, (2, *shape))
    noisy = np.where(RNG.random(shape) < 0.3, RNG.integers(0, n_classes, shape), truth)
    probabilities = np.full((n_classes, *shape), 0.2) + 0.4 * (
        noisy == np.arange(n_classes).reshape(-1, *(1,) * len(shape))
    )
    return (probabilities / probabilities.sum(0)).astype(np.float32), picture.astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 50), (10, 14, 12)])
@pytest.mark.parametrize("corners", ["few", "many"])
def test_the_rounds_are_those_of_the_cpu(shape, corners, monkeypatch):
    if corners == "many":  # then corners are blurred with those beside them
        monkeypatch.setattr(lattice, "MANY", 0)
    probabilities, picture = scene(shape)
    valid = np.ones(shape, bool)
    valid[:2] = False
    options = {"bilateral_sigma_space": 12, "bilateral_sigma_colour": 0.1, "iterations": 4, "valid": valid}
    here = dense_crf(probabilities, picture, **options)
    with PretendedGPU() as gpu:
        there = dense_crf(probabilities, picture, device="cuda", **options)
        assert gpu.launches.total() > 50
        assert gpu.copies["to the host", next(line for what, line in gpu.copies if what == "to the host")] == 1
    assert np.abs(here - there).max() < 2e-4
    assert np.abs(here - probabilities).max() > 0.3
    assert np.array_equal(here[:, :2], there[:, :2])


def test_the_option_takes_a_gpu_where_there_is_one():
    probabilities, picture = scene()
    image = Image(np.ascontiguousarray(np.moveaxis(picture, 0, -1)), "YXC")
    plain = refine(parse_refinements("crf(space=12)"), probabilities, image).probabilities
    asked = parse_refinements("crf(space=12, gpu=1)")
    assert np.array_equal(refine(asked, probabilities, image).probabilities, plain)  # there is none here
    with PretendedGPU() as gpu:
        there = refine(asked, probabilities, image).probabilities
        assert gpu.launches.total() > 50
    assert np.abs(there - plain).max() < 2e-4
    assert torch.from_numpy(there).device.type == "cpu"
