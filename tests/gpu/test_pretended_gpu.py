"""The pretended GPU itself: it fails where a real one would, and counts right."""

import numpy as np
import pytest
import torch
from pretended_gpu import MixedDevices, PretendedGPU, place_of


def test_values_are_those_of_the_host_and_say_where_they_lie():
    with PretendedGPU() as gpu:
        there = torch.arange(6.0, device="cuda").reshape(2, 3)
        assert there.device == (there @ there.T).device == torch.device("cuda:0")
        assert there.is_cuda and not there.is_cpu
        back = (there * 2).cpu()
        assert back.device.type == "cpu"
        assert np.array_equal(back.numpy(), 2 * np.arange(6.0).reshape(2, 3))
        assert gpu.copies.total() == gpu.waits.total() == 1
    assert place_of(back) is None
    assert torch.cuda.is_available() is False


def test_gradients_come_back_on_the_device():
    with PretendedGPU():
        layer = torch.nn.Linear(3, 2).to("cuda")
        layer(torch.ones(4, 3, device="cuda")).square().mean().backward()
        assert layer.weight.grad.device.type == "cuda"
        assert bool((layer.weight.grad != 0).any())


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: torch.cat([here, there]),
        lambda here, there: there @ here.T,
        lambda here, there: there.index_add_(0, torch.tensor([0, 1]), there.clone()),
        lambda here, there: torch.nn.functional.linear(there, here),
    ],
)
def test_devices_do_not_mix(mixed):
    with PretendedGPU():
        here, there = torch.ones(2, 3), torch.ones(2, 3, device="cuda")
        with pytest.raises(MixedDevices, match="one device"):
            mixed(here, there)


def test_numpy_cannot_have_what_lies_on_the_device():
    with PretendedGPU():
        there = torch.ones(3, device="cuda")
        for ask in (lambda: there.numpy(), lambda: np.asarray(there)):
            with pytest.raises(TypeError, match="numpy"):
                ask()


def test_what_makes_the_host_wait_is_counted():
    with PretendedGPU() as gpu:
        there = torch.ones(4, device="cuda")
        gpu.reset()
        assert (there + 1).sum() == 8  # two launches, the comparison, and its answer
        assert (gpu.launches.total(), gpu.waits.total()) == (3, 1)
        there[there > 0]
        there.nonzero()
        assert gpu.waits.total() == 3


def test_other_devices_lack_what_they_lack():
    with PretendedGPU("mps"), pytest.raises(TypeError, match="float64"):
        torch.ones(3, device="mps").double()
    with PretendedGPU(largest=1000), pytest.raises(torch.OutOfMemoryError):
        torch.ones(100, device="cuda").expand(3, 100).contiguous()
    with PretendedGPU(working=False), pytest.raises(RuntimeError, match="no kernel image"):
        torch.ones(1, device="cuda")
    with PretendedGPU(count=1), pytest.raises(RuntimeError, match="ordinal"):
        torch.ones(1, device="cuda:1")
    with PretendedGPU(count=2):
        assert torch.ones(1, device="cuda:1").device.index == 1
