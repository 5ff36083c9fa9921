"""Recorded networks (CUDA graphs), on the pretended GPU: the same weights at far fewer launches, and where they are left alone."""

import pytest
import torch
from pretended_gpu import PretendedGPU
from test_contract_on_gpu import PHOTO, VOLUME, learned
from test_gpu_faults import Notes
from torch import nn

from selfseg.core.errors import UsageError
from selfseg.train import recording
from selfseg.train.recording import MOST_FORMS, WARM, record_networks


@pytest.mark.parametrize("image", [PHOTO, pytest.param(VOLUME, marks=pytest.mark.slow)], ids=["2D", "3D"])
@pytest.mark.parametrize("name", ["feature_clustering", "wnet", "sp_wnet", "deep_kmeans", "unet"])
def test_recorded_networks_learn_the_same(name, image):
    options = {"iterations": 8} | ({"pretrain_iterations": 8} if name == "deep_kmeans" else {})
    notes = Notes()
    with PretendedGPU() as gpu:
        plain = learned(name, image, options=options)
        before = gpu.launches.total()
        gpu.reset()
        recorded = learned(name, image, options=options, record=True, progress=notes)
        assert gpu.launches["replay of a graph"]
        assert gpu.launches.total() < before
        ours, theirs = recorded.method_.state(), plain.method_.state()
        for key, value in theirs.items():
            assert torch.allclose(ours[key].float().cpu(), value.float().cpu(), rtol=1e-4, atol=1e-5), key
    assert not [line for line in notes.lines if "not recorded" in line]


class Two(nn.Module):
    """A method of one network, that has a batch norm."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1))


@pytest.fixture
def there():
    """A recorded network on the pretended GPU, the same one on the host, and the GPU."""
    torch.manual_seed(0)
    with PretendedGPU() as gpu:
        here, there = Two(), Two()
        there.load_state_dict(here.state_dict())
        there.to("cuda")
        notes = []
        end = record_networks(there, notes.append)
        yield there, here, gpu, notes
        end()
        assert there.net._compiled_call_impl is None


def both(there, here, images, passes=1):
    """Run both networks on images of the host, and compare results, gradients and statistics."""
    results = []
    for one, device in ((there, "cuda"), (here, "cpu")):
        one.net.zero_grad(set_to_none=True)
        out = [one.net(x.to(device)) for x in images]
        sum((y * (i + 1)).square().sum() for i, y in enumerate(out)).backward()
        values = {f"y{i}": y for i, y in enumerate(out)} | dict(one.net.named_buffers())
        values |= {f"d{name}": p.grad for name, p in one.net.named_parameters()}
        results.append({key: value.detach().cpu().clone() for key, value in values.items()})
    for key, value in results[1].items():
        assert torch.allclose(results[0][key].float(), value.float(), rtol=1e-5, atol=1e-5), key


def replays(gpu):
    return gpu.launches["replay of a graph"]


def test_a_recorded_pass_gives_results_gradients_and_statistics(there):
    there, here, gpu, _ = there
    for step in range(WARM + 3):
        both(there, here, [torch.randn(2, 1, 9, 9)])
        assert replays(gpu) == 2 * max(0, step + 1 - WARM)


def test_a_pass_under_way_is_not_run_over_and_gradients_add_up(there):
    there, here, gpu, _ = there
    for _ in range(WARM + 1):
        both(there, here, [torch.randn(2, 1, 9, 9)])
    begun = replays(gpu)
    both(there, here, [torch.randn(2, 1, 9, 9), torch.randn(2, 1, 9, 9)])  # the second is not recorded
    assert replays(gpu) == begun + 2
    lost = there.net(torch.randn(2, 1, 9, 9, device="cuda"))
    del lost  # a pass that nothing can call back is over
    begun = replays(gpu)
    there.net(torch.randn(2, 1, 9, 9, device="cuda")).sum().backward()
    assert replays(gpu) == begun + 2


def test_results_without_gradient_stay_as_they_are(there):
    there, here, gpu, _ = there
    for _ in range(WARM + 1):
        both(there, here, [torch.randn(2, 1, 9, 9)])
    there.net.eval()
    here.net.eval()
    images = [torch.randn(2, 1, 9, 9) for _ in range(WARM + 3)]
    with torch.no_grad():
        begun = replays(gpu)
        found = [there.net(x.to("cuda")) for x in images]
        assert replays(gpu) == begun + 3
        assert all(torch.allclose(y.cpu(), here.net(x), atol=1e-6) for x, y in zip(images, found, strict=True))
        there.net(torch.randn(2, 1, 20, 20, device="cuda"))  # of a size that is not learned: as usual
        assert replays(gpu) == begun + 3


def test_other_weights_in_the_network_s_place_are_used(there):
    there, here, gpu, _ = there
    for _ in range(WARM + 1):
        both(there, here, [torch.randn(2, 1, 9, 9)])
    others = {name: torch.randn_like(p) for name, p in here.net.named_parameters()}
    x, begun = torch.randn(2, 1, 9, 9), replays(gpu)
    moved = {name: p.to("cuda") for name, p in others.items()}
    ours = torch.func.functional_call(there.net, moved, (x.to("cuda"),))
    assert replays(gpu) == begun
    assert torch.allclose(ours.detach().cpu(), torch.func.functional_call(here.net, others, (x,)), atol=1e-5)


def test_few_forms_of_input_are_recorded(there, monkeypatch):
    there, here, gpu, _ = there
    monkeypatch.setattr(recording, "MOST_FORMS", 2)
    for side in (5, 6, 7):
        for _ in range(WARM + 1):
            both(there, here, [torch.randn(1, 1, side, side)])
    assert replays(gpu) == 4
    assert MOST_FORMS > 2


def test_what_cannot_be_recorded_runs_as_usual_and_is_said(there):
    there, here, gpu, notes = there

    class Asking(nn.Module):
        def forward(self, x):
            return x * (2 + 0 * float(x.detach().sum()))  # the host waits for a value

    there.net.append(Asking())
    here.net.append(Asking())
    for _ in range(WARM + 3):
        both(there, here, [torch.randn(2, 1, 9, 9)])
    assert not replays(gpu)
    assert len(notes) == 1
    assert "a network is not recorded: CUDA error: operation not permitted when stream is capturing" in notes[0]


def test_a_recorded_pass_comes_back_once(there):
    there, here, _, _ = there
    for _ in range(WARM + 1):
        both(there, here, [torch.randn(2, 1, 9, 9)])
    y = there.net(torch.randn(2, 1, 9, 9, device="cuda")).sum()
    y.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="comes back once"):
        y.backward()


def test_recording_is_refused_where_it_cannot_work():
    with pytest.raises(UsageError, match="--record: expected a CUDA GPU, and no --compile, got cpu"):
        learned("wnet", device="cpu", record=True)
