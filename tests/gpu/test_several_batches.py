"""Several batches through a U-Net at once: on a GPU in fewer launches, with the responses and gradients of one after the other."""

import copy

import pytest
import torch
from pretended_gpu import PretendedGPU

from selfseg.nets.unet import UNet, UNetShape, mirror_pad

SIZES = [(2, 3, 16, 24), (1, 3, 24, 24), (1, 3, 19, 21)]
"""The last is not a multiple of the pooling."""


def made(**shape):
    torch.manual_seed(0)
    return UNet(3, 4, UNetShape(width=4, depth=2, **shape))


def learned_from(net, batches, together):
    """Responses, gradients and statistics after one pass of all batches."""
    found = net.responses(batches) if together else [net(batch) for batch in batches]
    sum(response.square().mean() for response in found).backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    return [response.detach() for response in found], gradients, dict(net.named_buffers())


@pytest.mark.parametrize("norm", ["group", "batch", "none"])
@pytest.mark.parametrize("up", ["linear", "transposed", "transposed3"])
@pytest.mark.parametrize("norm_last", [False, True])
def test_they_give_what_one_after_the_other_gives(norm, up, norm_last):
    net = made(norm=norm, up=up, norm_last=norm_last, separable=True)
    batches = [torch.rand(size) for size in SIZES]
    wanted = learned_from(copy.deepcopy(net), batches, together=False)
    with PretendedGPU():
        found = learned_from(net.to("cuda"), [batch.to("cuda") for batch in batches], together=True)
        found = [r.cpu() for r in found[0]], *({k: v.cpu() for k, v in part.items()} for part in found[1:])
    torch.testing.assert_close(found, wanted)


def test_parameters_are_the_networks_own_again_after_it():
    net = made()
    known = [id(parameter) for parameter in net.parameters()]
    with PretendedGPU():
        net.to("cuda").responses([torch.rand(size, device="cuda") for size in SIZES])
    assert [id(parameter) for parameter in net.parameters()] == known


def test_they_are_launched_less_often():
    net, figures = made(norm="group"), []
    with PretendedGPU() as gpu:
        net.to("cuda")
        batches = [torch.rand(size, device="cuda") for size in SIZES]
        for together in (False, True):
            net.zero_grad()
            gpu.reset()
            learned_from(net, batches, together)
            figures.append(gpu.figures()[0])
    assert figures[1] < 0.7 * figures[0], figures


@pytest.mark.parametrize("how", ["half precision", "compiled", "no gradients"])
def test_else_they_go_one_after_the_other(how, monkeypatch):
    net, calls = made(), []
    with PretendedGPU():
        batches = [torch.rand(size, device="cuda") for size in SIZES]
        net.to("cuda").register_forward_hook(lambda *given: calls.append(given))
        if how == "compiled":
            monkeypatch.setattr(net, "_compiled_call_impl", lambda x: calls.append(x) or x, raising=False)
        with (
            torch.autocast("cuda", torch.bfloat16, enabled=how == "half precision"),
            torch.set_grad_enabled(how != "no gradients"),
        ):
            net.responses(batches)
    assert len(calls) == len(SIZES)


def test_an_index_made_for_a_graph_is_not_used_outside_of_it():
    """It has no values before the graph runs, and loses them when the graph's memory is used again."""
    with PretendedGPU() as gpu:
        image = torch.rand(1, 3, 13, 14, device="cuda")
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            mirror_pad(image, 8)
        gpu.reset()
        mirror_pad(image, 8)
        first = gpu.figures()[0]
        gpu.reset()
        mirror_pad(image, 8)
        assert first > gpu.figures()[0] == 2
