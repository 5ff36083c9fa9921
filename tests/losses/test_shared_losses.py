"""Every loss of a batch that processes share: the mean over the processes is the loss of the whole, and so is its gradient."""

import pytest
import torch

from conftest import shared_in_threads
from selfseg.losses.area import area_too_large, area_too_small, imbalance
from selfseg.losses.clustering import clustering_terms, continuity, similarity
from selfseg.losses.reconstruction import reconstruction
from selfseg.losses.soft_ncut import soft_ncut, window_affinity
from selfseg.losses.supervised import binary_cross_entropy, scribble, soft_dice, weighted_cross_entropy

SHAPE, SIZES = (5, 4, 33, 34), [2, 3]


def clustering(x, known, valid):
    similar, differences, _ = clustering_terms(x, valid)
    return similar + torch.stack(differences).sum()


LOSSES = {
    "similarity": lambda x, known, valid: similarity(x, None, valid),
    "similarity in float64": lambda x, known, valid: similarity(x.double(), None, valid),
    "clustering": clustering,
    "continuity": lambda x, known, valid: torch.stack(continuity(x, valid)).sum(),
    "reconstruction": lambda x, known, valid: reconstruction(x, known[:, None].float().expand(x.shape), valid),
    "cut": lambda x, known, valid: soft_ncut(
        x.softmax(1), window_affinity(known[:, None].float(), 2, 3.0, valid=valid)
    ),
    "imbalance": lambda x, known, valid: imbalance((3 * x).softmax(1), valid),
    "too large": lambda x, known, valid: area_too_large((3 * x).softmax(1), 0.2, valid),
    "too small": lambda x, known, valid: area_too_small((3 * x).softmax(1), 0.4, valid),
    "cross entropy": lambda x, known, valid: weighted_cross_entropy(x, hinted(known, valid), (known + 2).float()),
    "binary": lambda x, known, valid: binary_cross_entropy(x, hinted(known, valid)),
    "dice": lambda x, known, valid: soft_dice(x.softmax(1), hinted(known, valid)),
    "scribble": lambda x, known, valid: scribble(x, known, valid),
}


def hinted(known, valid):
    return known if valid is None else known.masked_fill(~valid, -1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("empty", [(), (1,)])
def test_the_mean_over_processes_is_the_loss_of_the_batch(loss, masked, empty):
    torch.manual_seed(3)
    x = (torch.randn(SHAPE) + torch.arange(5).reshape(5, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
    known = torch.randint(-1, 4, (5, *SHAPE[2:]))
    valid = torch.rand(5, *SHAPE[2:]) < torch.linspace(0.2, 0.9, 5).reshape(5, 1, 1) if masked else None
    whole = x.clone().requires_grad_()
    wanted = LOSSES[loss](whole, known, valid)
    wanted.backward()
    places = [slice(0, 5), slice(0, 1)] if empty else [slice(0, SIZES[0]), slice(SIZES[0], 5)]
    parts = [x[place].clone(memory_format=torch.channels_last).requires_grad_() for place in places]

    def work(rank):
        place = places[rank]
        value = LOSSES[loss](parts[rank], known[place], None if valid is None else valid[place])
        value.backward()
        return value.detach()

    found = sum(shared_in_threads(work, empty=empty)) / 2
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-5, atol=1e-6)
    gradient = torch.cat([part.grad for rank, part in enumerate(parts) if rank not in empty]) / 2
    torch.testing.assert_close(gradient, whole.grad, rtol=1e-4, atol=1e-8)
    assert all(not parts[rank].grad.any() for rank in empty)
