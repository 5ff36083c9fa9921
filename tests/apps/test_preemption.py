"""SIGTERM, as a cluster sends it: the command ends with code 75 and one line, and goes on later to the same bytes."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from conftest import blobs
from selfseg.apps.cli import main
from selfseg.apps.cli.app import Bar
from selfseg.learning.segmenter import Segmenter
from selfseg.segmenting import predicting
from selfseg.segmenting.executors import BlockLog
from selfseg.train.loop import Journal

QUICK = ["--set", "iterations=20", "--set", "n_features=8", "--set", "n_clusters=8", "--set", "min_classes=1"]


@pytest.fixture
def sigterm_after(monkeypatch):
    """Let a method send SIGTERM to this process when it has been called so many times."""

    def after(owner, name, calls):
        real, left = getattr(owner, name), [calls]

        def sending(*args, **kwargs):
            value = real(*args, **kwargs)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return value

        monkeypatch.setattr(owner, name, sending)

    return after


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*words) -> int:
    return main([str(word) for word in words])


def test_fit_writes_a_checkpoint_and_goes_on_with_resume(photos, tmp_path, capfd, sigterm_after):
    words = ["fit", photos, *QUICK, "--quiet", "-o"]
    assert run(*words, tmp_path / "straight") == 0
    sigterm_after(Journal, "write", 5)
    assert run(*words, tmp_path / "cut") == 75
    errors = capfd.readouterr().err
    assert "stopped by SIGTERM after 5 of 20 steps: all is saved" in errors and errors.count("\n") == 1
    assert (tmp_path / "cut" / "checkpoint.safetensors").is_file() and not (tmp_path / "cut" / "config.json").exists()
    assert run(*words, tmp_path / "cut", "--resume") == 0
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (
        tmp_path / "straight" / "model.safetensors"
    ).read_bytes()


def test_sigterm_before_and_after_the_steps_leaves_no_half_file(photos, tmp_path, capfd, sigterm_after):
    words = ["segment", photos, *QUICK, "--quiet", "-o", tmp_path / "out"]
    sigterm_after(predicting.OutputFolder, "add", 1)  # after the first of two pictures
    assert run(*words) == 75
    errors = capfd.readouterr().err
    assert "stopped by SIGTERM" in errors and errors.count("\n") == 1
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 1
    assert run(*words, "--resume") == 0
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 2
    assert not [path for path in (tmp_path / "out").rglob(".*")]


def test_a_large_image_ends_after_its_block_and_goes_on(tmp_path, capfd, sigterm_after):
    np.save(tmp_path / "photo.npy", blobs(600, 560, seed=5))
    options = {"iterations": 3, "n_features": 8, "n_clusters": 8}
    Segmenter("feature_clustering", prepare="range", options=options).fit(blobs(40, 40)).save(tmp_path / "model")
    words = ["predict", tmp_path / "model", tmp_path / "photo.npy", "--axes", "YXC", "--memory", "1", "--quiet", "-o"]
    assert run(*words, tmp_path / "straight") == 0
    sigterm_after(BlockLog, "add", 3)
    assert run(*words, tmp_path / "cut") == 75
    assert "stopped by SIGTERM after 3 of 9 blocks" in capfd.readouterr().err
    log = tmp_path / "cut" / "labels" / "photo.blocks"
    assert log.read_text().split()[-3:] == ["0", "1", "2"]
    assert run(*words, tmp_path / "cut") == 0
    assert not log.exists()
    assert files(tmp_path / "cut" / "labels") == files(tmp_path / "straight" / "labels")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_benchmark_ends_and_goes_on(small_bsds, tmp_path, capfd, sigterm_after, workers):
    words = ["benchmark", "bsds500", "--split", "val", "--data", small_bsds, "--methods", "region_merging"]
    words += ["--baselines", "grid", "--limit", 3, "--workers", workers, "--quiet", "-o", tmp_path / "out"]
    sigterm_after(Bar, "update", 4)
    assert run(*words) == 75
    assert "stopped after 4 of 6 rows; the same command continues" in capfd.readouterr().err
    assert not multiprocessing.active_children()
    rows = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "rows").rglob("[!.]*.json")}
    assert 4 <= len(rows) < 6
    assert run(*words) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in rows.items())
    value = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(value["standings"]) == 2 and not value["failures"]
