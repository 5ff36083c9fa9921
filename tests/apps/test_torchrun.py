"""``torchrun -m selfseg fit``: one model of several processes, resumed by any number; what cannot be shared is refused."""

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import load_file

from conftest import blobs
from selfseg.apps.cli import main
from selfseg.core.errors import UsageError
from selfseg.core.machine import Rank, n_threads, own_rank
from selfseg.learning.segmenter import Segmenter
from selfseg.train.loop import read_journal

OPTIONS = ["--method", "feature_clustering", "--set", "iterations=8", "--set", "n_features=8", "--set", "n_clusters=8"]
OPTIONS += ["--set", "min_classes=1", "--set", "batch_size=2", "--set", "min_epochs=1"]


@pytest.fixture
def second_of_two(monkeypatch):
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")


def test_the_place_is_what_torchrun_says(second_of_two, monkeypatch):
    assert own_rank() == Rank(1, 2, 1, 2)
    assert not own_rank().first
    assert str(own_rank()) == "process 1 of 2"
    shared = n_threads()
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")  # without it the other variables mean something else
    assert own_rank() == Rank()
    assert own_rank().first
    assert shared == max(1, n_threads() // 2)


def test_commands_that_would_do_the_same_twice_are_refused(second_of_two, capsys):
    assert main(["segment", "photo.png", "-o", "out"]) == 2
    assert capsys.readouterr().err == (
        "selfseg, process 1 of 2: torchrun: expected selfseg fit, got segment; use fit, then the others without torchrun\n"
    )


@pytest.mark.parametrize("method", ["region_merging", "deep_kmeans"])
def test_methods_that_cannot_share_say_why(method, second_of_two):
    with pytest.raises(
        UsageError, match=rf"torchrun: expected a method .*, got {method}: it .*; start it without torchrun"
    ):
        Segmenter(method).fit(blobs(), shared=True)


def test_compiled_networks_are_refused(second_of_two):
    with pytest.raises(UsageError, match="got --compile; leave --compile out"):
        Segmenter("wnet").fit(blobs(), shared=True, compiled=True)


@pytest.mark.slow
def test_two_processes_learn_a_model_that_one_goes_on_with(tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "model"
    folder.mkdir()
    for seed in range(3):
        Picture.fromarray(blobs(60, 72, seed=seed)).save(folder / f"photo{seed}.png")
    command = ["-m", "selfseg", "fit", str(folder), "-o", str(out), "--quiet", *OPTIONS]
    together = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run([*together, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts = json.loads((out / "training.json").read_text())
    assert (facts["finished"], facts["processes"], facts["steps"]) == (True, 2, 8)
    assert [row["step"] for row in read_journal(out / "journal.jsonl")] == list(range(1, 9))
    learned = load_file(out / "model.safetensors")
    (out / "training.json").write_text(json.dumps({**facts, "finished": False}))
    done = subprocess.run([*together, *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"process 0 of 2: {out}: expected no unfinished run, got one" in done.stderr
    assert main(["fit", str(folder), "-o", str(out), "--quiet", *OPTIONS, "--resume"]) == 0
    for name, value in load_file(out / "model.safetensors").items():  # all steps were done, the end is done again
        torch.testing.assert_close(value, learned[name], rtol=1e-4, atol=1e-5)
    assert json.loads((out / "training.json").read_text())["processes"] == 2
    assert main(["predict", str(out), str(folder), "-o", str(tmp_path / "out"), "--quiet"]) == 0
