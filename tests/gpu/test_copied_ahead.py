"""Reading ahead for a GPU: the next image is prepared and copied beside the work on the one before, and its labels are the same."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from pretended_gpu import Functions, Operations, PretendedGPU
from test_contract_on_gpu import PHOTO, learned

from selfseg.core.errors import SelfsegError
from selfseg.read.sources import Source
from selfseg.results.result import Result
from selfseg.sample.device import OnItsWay
from selfseg.segmenting import images
from selfseg.segmenting.images import Settings, iter_segment


def sources(n=3):
    return [Source(f"i{i}", content=np.roll(PHOTO.data, 5 * i, 1)) for i in range(n)]


def segmented(model, given, ahead, patch, gpu=None):
    """Results, or errors, of images in turn; the thread that reads sees the pretended GPU too."""
    if gpu is not None:
        here = partial(enter, gpu)
        patch.setattr(images, "ThreadPoolExecutor", lambda n, name: ThreadPoolExecutor(n, name, initializer=here))
    return list(iter_segment(model, given, None, Settings(read_ahead=ahead)))


def enter(gpu):
    Functions(gpu).__enter__()
    Operations(gpu).__enter__()


@pytest.mark.parametrize("name", ["wnet", "deep_kmeans", "sp_wnet"])
def test_images_are_copied_beside_the_work_with_the_same_labels(name, monkeypatch):
    with PretendedGPU() as gpu:
        model = learned(name).fitted
        plain = segmented(model, sources(), False, monkeypatch)
        assert gpu.streams.beside == 0
        ahead = segmented(model, sources(), True, monkeypatch, gpu)
        assert gpu.streams.beside == gpu.streams.recorded == 3
    for (one, a), (two, b) in zip(plain, ahead, strict=True):
        assert one.name == two.name
        assert np.array_equal(a.labels, b.labels)
        assert np.array_equal(a.probabilities, b.probabilities)


def test_a_copy_that_nobody_waits_for_shows(monkeypatch):
    monkeypatch.setattr(OnItsWay, "arrived", lambda self: self._there)
    with PretendedGPU() as gpu:
        values = OnItsWay(torch.ones(2), torch.device("cuda:0")).arrived()
        assert bool(values.isnan().all())
        assert values.device == torch.device("cuda:0")
        assert gpu.copies.total() == 1


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_nothing_is_pinned_for_other_devices(kind, monkeypatch):
    monkeypatch.setattr(OnItsWay, "__init__", lambda *given: pytest.fail("copied ahead"))
    if kind == "cpu":
        found = segmented(learned("wnet", device="cpu").fitted, sources(), True, monkeypatch)
    else:
        with PretendedGPU("mps") as gpu:
            found = segmented(learned("wnet", device="mps").fitted, sources(), True, monkeypatch, gpu)
    assert all(isinstance(result, Result) for _, result in found)


def test_an_image_that_does_not_fit_is_named_in_its_turn(monkeypatch):
    given = sources()
    given[1] = Source("odd", content=PHOTO.data[..., :2])
    with PretendedGPU() as gpu:
        found = segmented(learned("wnet").fitted, given, True, monkeypatch, gpu)
    assert [isinstance(outcome, SelfsegError) for _, outcome in found] == [False, True, False]
    assert "odd" in str(found[1][1])


def test_no_memory_to_copy_ahead_is_no_error(monkeypatch):
    def full(self, values, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with PretendedGPU() as gpu:
        model = learned("wnet").fitted
        monkeypatch.setattr(OnItsWay, "__init__", full)
        found = segmented(model, sources(), True, monkeypatch, gpu)
    assert all(isinstance(result, Result) for _, result in found)
