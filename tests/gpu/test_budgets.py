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
    "feature_clustering": (51, 2, 2),
    "wnet": (281, 4, 3),
    "sp_wnet": (412, 1, 1),
    "sp_wnet, four sizes": (1515, 1, 3),
    "deep_kmeans, alone": (88, 2, 1),
    "deep_kmeans, together": (210, 3, 2),
    "unet": (135, 1, 3),
}

RECORDED = {
    "feature_clustering": (40, 2, 2),
    "wnet": (143, 4, 3),
    "sp_wnet": (160, 1, 1),
    "sp_wnet, four sizes": (790, 1, 3),
    "deep_kmeans, alone": (36, 2, 1),
    "deep_kmeans, together": (149, 3, 2),
    "unet": (92, 1, 3),
}
"""The same with ``--record``."""

OPTIONS = {"wnet": {"radius": 5}, "sp_wnet, four sizes": {"batch_size": 4, "patch_sides": (8, 12), "iterations": 3}}
LONGER = {"iterations": 8}
"""Steps enough for networks to be recorded."""

STEP = {"deep_kmeans, alone": 2, "deep_kmeans, together": -1}
"""Which step is looked at; the last where none is named."""

SIZES = [Image(np.ascontiguousarray(PHOTO.data[: 24 - 2 * i, : 32 - 3 * i]), "YXC", name=f"p{i}") for i in range(4)]


@functools.cache
def steps(case, recorded=False):
    """Launches, waits and copies of each step but the first, and where those of the last came from."""
    rows, plain = [], Training._step
    with PretendedGPU() as gpu, pytest.MonkeyPatch.context() as patch:

        def counted(self, done, optimizers):
            if done:
                rows.append((*gpu.figures(), gpu.report()))
            gpu.reset()
            return plain(self, done, optimizers)

        patch.setattr(Training, "_step", counted)
        image = SIZES if "sizes" in case else PHOTO
        longer = LONGER | ({"pretrain_iterations": 8} if "deep" in case else {}) if recorded else {}
        learned(case.partition(",")[0], image, options=OPTIONS.get(case, {}) | longer, record=recorded)
    return rows


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
