"""Two processes with batches of b images learn what one learns with 2b; checkpoints, deaths and refusals."""

import multiprocessing
import os
import socket

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.optim import SGD

from conftest import blobs
from selfseg.core.errors import SelfsegError
from selfseg.methods._base import find_method
from selfseg.sample.stream import Sample, Stream
from selfseg.train.distributed import Processes, started_together
from selfseg.train.journal import read_journal
from selfseg.train.loop import Training
from selfseg.train.precision import Precision

CPU = Precision(torch.device("cpu"), bf16=False, channels_last=True, compiled=False)
STEPS, RATE = 3, 1e-3
"""Small steps: where a pixel lies on a kink (of a ReLU, of a largest value) the last digit decides, and more so the farther two
runs are apart. Plain gradient descent: Adam would turn gradients that are nothing but rounding into whole steps."""

FC = {"n_features": 8, "n_classes": 8, "iterations": STEPS, "min_epochs": 1}
AREAS = {"too_large": 1.0, "max_area": 0.2, "too_small": 1.0, "min_area": 0.3}
WNET = {"width": 4, "depth": 2, "n_segments": 4, "iterations": STEPS, "patch": 16, "separable": False, "too_large": 0.5}
UNET = {
    "width": 4,
    "depth": 2,
    "classes": 2,
    "iterations": STEPS,
    "patch": 24,
    "validation": 0.0,
    "dice": 1.0,
    "border": 5.0,
}
SP = {"width": 4, "depth": 1, "n_features": 4, "iterations": STEPS, "min_epochs": 1, "patch_sides": [8, 16]}
CASES = {
    "feature_clustering": ("feature_clustering", FC, {}),
    "feature_clustering, sizes, scribbles, areas": ("feature_clustering", FC | AREAS, {"ragged": True, "hints": 0.1}),
    "feature_clustering, volumes": ("feature_clustering", FC, {"dims": 3}),
    "wnet": ("wnet", WNET, {}),
    "wnet, sizes, batch norm, one step, accumulated": (
        "wnet",
        WNET | {"norm": "batch", "alternate": False, "patch": None, "accumulate": 2},
        {"ragged": True},
    ),
    "wnet, windows of what counts": ("wnet", WNET | {"norm": "batch"}, {"valid": True}),
    "unet": ("unet", UNET, {"hints": 0.9}),
    "unet, sizes, balance": ("unet", UNET | {"class_balance": 0.5, "binary": 1.0}, {"ragged": True, "hints": 0.5}),
    "sp_wnet": ("sp_wnet", SP | {"batch_size": 2}, {}),
}
SHARED_BATCH = 2
"""Images of a process in a step."""


def samples(ragged=False, hints=0.0, dims=2, valid=False, n=5):
    """Five images: the last batch of an epoch has one, so that a process has none."""
    found, rng = [], np.random.default_rng(3)
    for seed in range(n):
        picture = blobs(36 + 3 * seed * ragged, 40 + 2 * seed * ragged, seed=seed).astype(np.float32) / 255
        array = np.moveaxis(picture, -1, 0)
        if dims == 3:
            array = np.repeat(array[:, None, ::2, ::2], 4, axis=1)
        counted = None
        if valid:
            counted = np.ones(array.shape[1:], bool)
            counted[: 5 + seed] = False
        known = None
        if hints:
            known = np.where(rng.random(array.shape[1:]) < hints, (array[0] > 0.5).astype(np.int64), -1)
        found.append(Sample(np.ascontiguousarray(array), counted, known))
    return found


def training(case, world, folder, processes=None, **how):
    name, options, images = CASES[case]
    batch = SHARED_BATCH if how.get("begun_with", world) > 1 else SHARED_BATCH * 2
    config = find_method(name).Config.build({"batch_size": batch, **options})
    torch.manual_seed(0)
    method = find_method(name)(config, 3, images.get("dims", 2))
    given = method.optimizers
    method.optimizers = lambda: {name: SGD(method.parameters(), lr=RATE) for name in given()}
    stream = Stream(samples(**images), SHARED_BATCH * 2, seed=1)
    files = {"checkpoint": folder / "c.safetensors", "journal": folder / "j.jsonl"}
    how = {"begun_with": world, **how}
    return Training(method, stream, CPU, seed=2, processes=processes or Processes(), **files, **how)


def learned(method):
    return {name: value.clone().contiguous() for name, value in method.state_dict().items()}


def all_cases(processes, folder):
    for number, case in enumerate(CASES):
        own = folder / f"{number}-{processes.place.rank}"
        own.mkdir()
        run = training(case, 2, own, processes)
        run.run()
        save_file(learned(run.method), own / "learned.safetensors")


def start(world, work, *arguments):
    """Start processes as torchrun does; return them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    started = [
        context.Process(target=joined, args=(rank, world, port, work, *arguments), daemon=True) for rank in range(world)
    ]
    for process in started:
        process.start()
    return started


def joined(rank, world, port, work, folder, *arguments):
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        with started_together(True) as processes:
            work(processes, folder, *arguments)
    except SelfsegError as error:
        (folder / f"said-{rank}").write_text(f"{type(error).__name__} {error}")
        raise SystemExit(error.exit_code) from error


def ended(started, seconds=120):
    for process in started:
        process.join(seconds)
    return [process.exitcode for process in started]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    assert ended(start(2, all_cases, folder), 300) == [0, 0]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_with_batches_of_b_are_one_with_2b(together, tmp_path, case):
    alone = training(case, 1, tmp_path)
    start, _, wanted = learned(alone.method), alone.run(), learned(alone.method)
    number = list(CASES).index(case)
    both = [load_file(together / f"{number}-{rank}" / "learned.safetensors") for rank in range(2)]
    errors = changes = 0.0
    for name, value in wanted.items():
        if "sp_wnet" in case and "running" in name:
            continue  # of patches too, each process of its own; the end of the training computes them anew
        torch.testing.assert_close(both[0][name], both[1][name], rtol=0, atol=0, msg=name)
        torch.testing.assert_close(both[0][name], value, rtol=1e-5, atol=1e-5, msg=name)
        if value.is_floating_point():
            errors += float((both[0][name] - value).square().sum())
            changes += float((value - start[name]).square().sum())
    assert changes > 0
    assert errors < 1e-6 * changes


@pytest.mark.parametrize("case", CASES)
def test_the_losses_that_are_shown_are_those_of_the_whole_batch(together, tmp_path, case):
    training(case, 1, tmp_path).run()
    number = list(CASES).index(case)
    rows = read_journal(together / f"{number}-0" / "j.jsonl")
    for row, wanted in zip(rows, read_journal(tmp_path / "j.jsonl"), strict=True):
        seconds = {"seconds": wanted["seconds"]}
        assert row | seconds == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    assert not (together / f"{number}-1" / "j.jsonl").exists()
    assert not (together / f"{number}-1" / "c.safetensors").exists()
