"""How much a step may ask of a GPU: launches, waits of the host, copies, as the pretended GPU counts them, with tiny networks.

A launch takes some 7 us of the host, so that small steps take as long as their launches do. Where the plain form of the soft cut is
used (without Triton) it is counted too. A budget is what was reached; lower it as it gets better.
"""

import functools

import numpy as np
import pytest
import torch
from pretended_gpu import PretendedGPU
from test_contract_on_gpu import PHOTO, learned

from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import find_method
from selfseg.sample.k_means import k_means
from selfseg.train.loop import Training

BEFORE = {
    "feature_clustering": (96, 9, 1),
    "wnet": (916, 14, 1),
    "sp_wnet": (451, 6, 1),
    "sp_wnet, four sizes": (4563, 50, 6),
    "deep_kmeans, alone": (105, 16, 1),
    "deep_kmeans, together": (298, 28, 1),
    "unet": (186, 11, 7),
}
"""Launches, waits and copies of a step before they were counted (2026-12-01)."""

BUDGETS = {
    "feature_clustering": (50, 2, 2),
    "wnet": (270, 4, 3),
    "sp_wnet": (294, 1, 1),
    "sp_wnet, four sizes": (1045, 1, 3),
    "deep_kmeans, alone": (73, 2, 1),
    "deep_kmeans, together": (203, 3, 2),
    "unet": (131, 1, 3),
}

RECORDED = {
    "feature_clustering": (39, 2, 2),
    "wnet": (141, 4, 3),
    "sp_wnet": (124, 1, 1),
    "sp_wnet, four sizes": (672, 1, 3),
    "deep_kmeans, alone": (23, 2, 1),
    "deep_kmeans, together": (144, 3, 2),
    "unet": (90, 1, 3),
}
"""The same with ``--record``."""

SHIPPED = {
    "feature_clustering": (101, 50, 39),
    "wnet": (1534, 510, 156),
    "sp_wnet": (2442, 1220, 160),
    "sp_wnet, four sizes": (9119, 1584, 524),
    "deep_kmeans, alone": (136, 96, 24),
    "unet": (300, 150, 45),
}
"""Launches of a step with the options as they are shipped: when they were first counted, now, and with ``--record``."""

OPTIONS = {"wnet": {"radius": 5}, "sp_wnet, four sizes": {"batch_size": 4, "patch_sides": (8, 12), "iterations": 3}}
LONGER = {"iterations": 8}
"""Steps enough for networks to be recorded."""

STEP = {"deep_kmeans, alone": 2, "deep_kmeans, together": -1}
"""Which step is looked at; the last where none is named."""

SIZES = [Image(np.ascontiguousarray(PHOTO.data[: 24 - 2 * i, : 32 - 3 * i]), "YXC", name=f"p{i}") for i in range(4)]


@functools.cache
def steps(case, recorded=False, shipped=False):
    """Launches, waits and copies of each step but the first, and where those of the last came from."""
    rows, plain = [], Training._step
    with PretendedGPU() as gpu, pytest.MonkeyPatch.context() as patch:

        def counted(self, done, optimizers):
            if done:
                rows.append((*gpu.figures(), gpu.report()))
            gpu.reset()
            return plain(self, done, optimizers)

        patch.setattr(Training, "_step", counted)
        if shipped:
            learn_as_shipped(case, recorded)
            return rows
        image = SIZES if "sizes" in case else PHOTO
        longer = LONGER | ({"pretrain_iterations": 8} if "deep" in case else {}) if recorded else {}
        learned(case.partition(",")[0], image, options=OPTIONS.get(case, {}) | longer, record=recorded)
    return rows


def learn_as_shipped(case, recorded):
    """Learn for a few steps with the options of a method as they are, on images of 96x128 pixels."""
    name = case.partition(",")[0]
    large = np.repeat(np.repeat(PHOTO.data, 4, 0), 4, 1)
    images = [Image(np.ascontiguousarray(large[: 96 - 2 * i, : 128 - 3 * i]), "YXC", name=f"q{i}") for i in range(4)]
    few = {"iterations": 6, "pretrain_iterations": 6, "min_classes": 1}
    options = {key: value for key, value in few.items() if key in find_method(name).Config.model_fields}
    if "sizes" in case:
        options |= {"batch_size": 4, "patch_sides": (32, 48)}
    else:
        images = images[:1]
    model = Segmenter(name, None if name == "unet" else 2, device="cuda", prepare="range", options=options)
    truth = {"labels": [(images[0].data.mean(-1) > 120).astype(np.int32) + 1]} if name == "unet" else {}
    model.fit(images, preview_every=0, record=recorded, **truth)


@pytest.mark.slow
@pytest.mark.parametrize("recorded", [False, True], ids=["as it is", "recorded"])
@pytest.mark.parametrize("case", SHIPPED)
def test_a_step_with_the_options_as_shipped_keeps_to_its_budget(case, recorded):
    found, *_, where = steps(case, recorded, shipped=True)[4 if "alone" in case else -1]
    assert found <= SHIPPED[case][1 + recorded], f"{found}\n{where}"


def test_shipped_options_are_launched_half_as_often_as_at_first():
    """By default too, but for deep k-means alone: its 19 convolutions and 17 ReLUs with their gradients are 72 launches by themselves."""
    assert all(2 * now <= first for case, (first, now, _) in SHIPPED.items() if case != "deep_kmeans, alone")
    assert all(2 * now <= first for first, _, now in SHIPPED.values())


@pytest.mark.parametrize("case", BUDGETS)
def test_a_step_keeps_to_its_budget(case):
    *found, where = steps(case)[STEP.get(case, -1)]
    assert all(got <= most for got, most in zip(found, BUDGETS[case], strict=True)), f"{found}\n{where}"


@pytest.mark.parametrize("case", RECORDED)
def test_a_step_of_recorded_networks_keeps_to_its_budget(case):
    *found, where = steps(case, recorded=True)[5 if "alone" in case else -1]
    assert all(got <= most for got, most in zip(found, RECORDED[case], strict=True)), f"{found}\n{where}"


def test_recorded_steps_are_launched_half_as_often_as_before_at_most():
    assert all(2 * now[0] <= BEFORE[case][0] for case, now in RECORDED.items())


def test_the_host_waits_half_as_often_as_before_at_most():
    assert all(2 * now[1] <= BEFORE[case][1] for case, now in BUDGETS.items())


def test_k_means_keeps_to_its_budget():
    rows = torch.randn(4096, 16, generator=torch.Generator().manual_seed(0))
    rows[:2000] += 3
    with PretendedGPU() as gpu:
        there = rows.to("cuda")
        gpu.reset()
        found = k_means(there, 4, 1)
        launches, waits, _ = gpu.figures()
    assert launches <= 4550  # it was 9409
    assert waits <= 510  # it was 1618
    assert found.inertia == pytest.approx(k_means(rows, 4, 1).inertia, rel=1e-5)
