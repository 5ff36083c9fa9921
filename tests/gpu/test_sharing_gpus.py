"""Several processes on machines with GPUs: each takes one, or all of them are refused with one line; nobody waits for ever."""

import multiprocessing
import os
import socket

import pytest
import torch
import torch.distributed as dist
from pretended_gpu import PretendedGPU

from selfseg.core.errors import SelfsegError, UsageError
from selfseg.core.machine import Rank
from selfseg.sample.device import choose_device, device_in_turn
from selfseg.segmenting.executors import turns
from selfseg.train import distributed
from selfseg.train.distributed import Processes, started_together


def joined(rank, port, gpus, device, folder):
    """One of two processes of a machine that has this number of GPUs, as this process sees it."""
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    groups = []
    dist.is_nccl_available, dist.new_group = (lambda: True), (lambda backend, timeout: groups.append(backend))
    with PretendedGPU(count=gpus) if gpus else PretendedGPU("mps") as gpu:
        try:
            with started_together(True, device) as processes:
                values = processes.all_reduce(torch.tensor([rank + 1.0]))
                said = f"{choose_device(device)} {gpu.current} {groups} {int(values)}"
        except SelfsegError as error:
            said = str(error)
    (folder / str(rank)).write_text(said)


def two(folder, gpus=(2, 2), device="auto"):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=joined, args=(rank, port, gpus[rank], device, folder)) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    return [(folder / str(rank)).read_text() for rank in range(2)]


@pytest.mark.slow
def test_each_process_has_a_gpu_of_its_own(tmp_path):
    assert two(tmp_path) == ["cuda:0 0 ['nccl'] 3", "cuda:1 1 ['nccl'] 3"]


@pytest.mark.slow
def test_cpus_that_are_asked_for_are_used_on_a_machine_with_gpus(tmp_path):
    assert two(tmp_path, device="cpu") == ["cpu None [] 3"] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpus", "got"), [((1, 1), "more processes than GPUs"), ((2, 0), "GPUs in some and CPUs in others")]
)
def test_what_cannot_be_shared_is_refused_in_every_process(tmp_path, gpus, got):
    said = two(tmp_path, gpus)
    assert said[0] == said[1]
    assert got in said[0]
    assert "--device cpu" in said[0]


@pytest.mark.parametrize(
    ("wishes", "got"),
    [([2, 1], "more processes than GPUs"), ([0, 1], "CPUs in others"), ([1, 1], None), ([0, 0], None)],
)
def test_wishes_are_compared(monkeypatch, wishes, got):
    monkeypatch.setattr(Processes, "largest", lambda self, *values: (max(wishes), max(-wish for wish in wishes)))
    if got is None:
        distributed._check_wishes(Processes(), wishes[0])
        return
    with pytest.raises(UsageError, match=got):
        distributed._check_wishes(Processes(), wishes[0])


def test_the_wish_follows_the_device():
    place = Rank(1, 4, 1, 2)
    with PretendedGPU(count=2):
        assert distributed._wish(place, "cpu") == distributed.CPU
        assert distributed._wish(place, "auto") == distributed._wish(place, "cuda") == distributed.OWN_GPU
        with pytest.raises(UsageError, match=r"got 'cuda:1'; each takes a GPU of its own"):
            distributed._wish(place, "cuda:1")
    with PretendedGPU(count=1):
        assert distributed._wish(place, "auto") == distributed.CROWDED
    assert distributed._wish(place, "auto") == distributed.CPU


def test_workers_take_gpus_in_turn():
    addresses = ["tcp://b:2", "tcp://a:9", "tcp://a:3", "tcp://a:7"]
    assert turns(addresses) == {"tcp://a:3": 0, "tcp://a:7": 1, "tcp://a:9": 2, "tcp://b:2": 0}
    with PretendedGPU(count=2):
        assert [device_in_turn("auto", number) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
        assert device_in_turn("cpu", 1) == "cpu"
        assert device_in_turn("cuda:1", 0) == "cuda:1"
    assert device_in_turn("auto", 1) == "auto"
