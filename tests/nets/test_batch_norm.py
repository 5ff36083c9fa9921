"""Norms over a batch that processes share are norms over the batch: values, gradients, running statistics."""

import pytest
import torch
from torch import nn

from conftest import shared_in_threads
from selfseg.kernels.layout import runs_on_channels_last
from selfseg.nets.norms import MIN_FUSED_PIXELS, BatchNorm2d, BatchNorm3d, PixelNorm, give_unit_variance
from selfseg.sample.shared_batch import own_weight

KINDS = {
    "2D": (lambda: BatchNorm2d(3, momentum=0.3), (5, 3, 8, 9)),
    "3D": (lambda: BatchNorm3d(3), (5, 3, 4, 5, 6)),
    "mean of all": (lambda: BatchNorm2d(3, momentum=None), (5, 3, 8, 9)),
    "pixels": (lambda: PixelNorm(3), (5, 3, 8, 9)),
    "pixels, volumes, rectified": (lambda: PixelNorm(3, rectify=True), (5, 3, 4, 5, 6)),
    "fused": (lambda: PixelNorm(3, rectify=True), (5, 3, 32, 33)),
}


def copies(layer, make, n):
    found = [make().train() for _ in range(n)]
    for each in found:
        each.load_state_dict(layer.state_dict())
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("sizes", "empty"), [((2, 3), ()), ((5, 1), (1,))])
def test_a_shared_norm_is_the_norm_of_the_batch(kind, sizes, empty):
    make, shape = KINDS[kind]
    torch.manual_seed(1)
    last = torch.channels_last if kind == "fused" else torch.contiguous_format
    x, pull = (torch.randn(shape).add(offset).contiguous(memory_format=last) for offset in (2, 0))
    layer = make().train()
    nn.init.normal_(layer.weight)
    shared = copies(layer, make, 2)
    whole = x.clone().requires_grad_()
    wanted = (layer(whole) * pull).mean()
    wanted.backward()
    # a process without an image computes along with the first one
    parts = [x[:1] if rank in empty else x.split(sizes[: 2 - len(empty)])[rank] for rank in range(2)]
    pulls = [pull[:1] if rank in empty else pull.split(sizes[: 2 - len(empty)])[rank] for rank in range(2)]
    parts = [part.contiguous(memory_format=last).requires_grad_() for part in parts]
    assert runs_on_channels_last(parts[0], MIN_FUSED_PIXELS) == (kind == "fused")

    def work(rank):
        value = (shared[rank](parts[rank]) * pulls[rank]).mean() * own_weight(len(parts[rank]))
        value.backward()
        return value.detach()

    torch.testing.assert_close(sum(shared_in_threads(work, empty=empty)) / 2, wanted.detach(), rtol=1e-5, atol=1e-6)
    found = torch.cat([part.grad for rank, part in enumerate(parts) if rank not in empty]) / 2
    torch.testing.assert_close(found, whole.grad, rtol=1e-4, atol=1e-7)
    for name, parameter in layer.named_parameters():
        mean = sum(each.get_parameter(name).grad for each in shared) / 2
        torch.testing.assert_close(mean, parameter.grad, rtol=1e-4, atol=1e-6)
    for name, buffer in layer.named_buffers():
        for each in shared:
            torch.testing.assert_close(each.get_buffer(name), buffer, rtol=1e-5, atol=1e-6)
    assert all(not parts[rank].grad.any() for rank in empty)


def test_masked_pixels_count_nowhere_in_a_shared_norm():
    x, valid = torch.randn(4, 3, 6, 7), torch.rand(4, 6, 7) < 0.6
    layer = PixelNorm(3).train()
    shared = copies(layer, lambda: PixelNorm(3), 2)
    found = shared_in_threads(lambda rank: shared[rank](x[2 * rank : 2 * rank + 2], valid[2 * rank : 2 * rank + 2]))
    torch.testing.assert_close(torch.cat(found), layer(x, valid), rtol=1e-5, atol=1e-6)


def test_unit_variance_at_the_start_is_that_of_the_batch():
    torch.manual_seed(2)
    response = torch.randn(5, 4, 6, 7) * 3 + 1
    layer = nn.Conv2d(2, 4, 1)
    shared = [nn.Conv2d(2, 4, 1) for _ in range(2)]
    for each in shared:
        each.load_state_dict(layer.state_dict())
    give_unit_variance(layer, response)
    shared_in_threads(lambda rank: give_unit_variance(shared[rank], response.split([2, 3])[rank]))
    for each in shared:
        torch.testing.assert_close(each.weight, layer.weight, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(each.bias, layer.bias, rtol=1e-5, atol=1e-6)
