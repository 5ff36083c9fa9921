"""Half precision and memory order on a GPU: float16 with scaled losses for cards before Ampere, channels last only where norms take it."""

import json

import pytest
import torch
from pretended_gpu import PretendedGPU
from safetensors import safe_open
from test_contract_on_gpu import PHOTO, TINY, learned

from selfseg.core.errors import UsageError
from selfseg.methods.base import find_method
from selfseg.sample.device import choose_precision
from selfseg.train.loop import Training

OLD_CARD = {"capability": (7, 5)}


def scale_in(path):
    with safe_open(path / "checkpoint.safetensors", framework="pt") as file:
        return json.loads(file.metadata().get("scale", "{}"))


@pytest.mark.parametrize("name", ["feature_clustering", "wnet", "sp_wnet", "deep_kmeans", "unet"])
def test_float16_learns_with_scaled_losses(name, tmp_path):
    with PretendedGPU(**OLD_CARD):
        model = learned(name, out=tmp_path / "m", checkpoint_every=0, precision="float16")
    assert scale_in(tmp_path / "m")["scale"] >= 1
    assert all(value.isfinite().all() for value in model.method_.state().values() if value.is_floating_point())


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_falls(tmp_path, monkeypatch):
    plain, weights, scales = Training._update, [], []

    def update(self, optimizer):
        parameters = optimizer.param_groups[0]["params"]
        before = [p.detach().clone() for p in parameters]
        if len(weights) == 1:  # the second update
            parameters[0].grad[:] = torch.inf
        plain(self, optimizer)
        weights.append(any(not torch.equal(p, b) for p, b in zip(parameters, before, strict=True)))
        scales.append(self._scaler.get_scale())

    monkeypatch.setattr(Training, "_update", update)
    with PretendedGPU(**OLD_CARD):
        learned("unet", precision="float16")
    assert weights[:3] == [True, False, True]
    assert scales[:3] == [65536.0, 32768.0, 32768.0]


def test_a_resumed_run_goes_on_with_its_scale(tmp_path):
    from selfseg.core.errors import Interrupted
    from selfseg.train.loop import Order

    def run(out, **how):
        return learned("wnet", out=out, checkpoint_every=0, precision="float16", options={"iterations": 6}, **how)

    orders = iter([Order.GO, Order.GO, Order.PAUSE])
    with PretendedGPU(**OLD_CARD):
        straight = run(tmp_path / "a").method_.state()
        with pytest.raises(Interrupted):
            run(tmp_path / "b", control=lambda: next(orders))
        assert scale_in(tmp_path / "b")["_growth_tracker"] == 6  # two updates a step
        resumed = run(tmp_path / "b", resume=True).method_.state()
        for key, value in straight.items():
            assert torch.equal(value, resumed[key]), key


def test_float16_is_refused_where_it_is_not_for():
    with pytest.raises(UsageError, match="precision on cpu: expected float32 or bfloat16, got 'float16'"):
        learned("wnet", device="cpu", precision="float16")


@pytest.mark.parametrize(
    ("name", "options", "last"),
    [
        ("wnet", {"norm": "group"}, False),
        ("wnet", {"norm": "batch"}, True),
        ("wnet", {"norm": "none"}, True),
        ("unet", {"norm": "group"}, False),
        ("feature_clustering", {}, True),
    ],
)
def test_channels_lie_last_on_a_gpu_but_beside_group_norms(name, options, last):
    kind = find_method(name)
    method = kind(kind.Config.build(TINY[name] | options), 3)
    assert choose_precision(method, torch.device("cuda"), 10).channels_last == last
    assert choose_precision(method, torch.device("cpu"), 10).channels_last


def test_a_state_of_another_device_is_taken_over_by_fused_optimisers(tmp_path):
    """A run begun on a CPU goes on on a GPU, and the other way round."""
    from selfseg.core.errors import Interrupted
    from selfseg.train.loop import Order

    for first, then in (("cpu", "cuda"), ("cuda", "cpu")):
        out, orders = tmp_path / first, iter([Order.GO, Order.PAUSE])
        how = {"out": out, "checkpoint_every": 0, "options": {"iterations": 5}}
        with PretendedGPU():
            with pytest.raises(Interrupted):
                learned("wnet", PHOTO, first, control=lambda orders=orders: next(orders), **how)
            found = learned("wnet", PHOTO, then, resume=True, **how).predict(PHOTO).labels
            straight = learned("wnet", PHOTO, then, options={"iterations": 5}).predict(PHOTO).labels
        assert (found == straight).mean() > 0.9
