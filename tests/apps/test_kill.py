"""kill -9 in the middle of fit, then --resume: the same weights as an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from conftest import blobs

QUICK = ["iterations=30", "batch_size=2"]
OPTIONS = {
    "feature_clustering": [*QUICK, "n_features=16", "n_clusters=16", "min_classes=1"],
    "wnet": [*QUICK, "width=4", "depth=2", "patch=16", "n_clusters=4", "radius=3"],
    "sp_wnet": [*QUICK, "width=4", "depth=1", "n_features=6", "superpixel_size=40"],
    "deep_kmeans": [*QUICK, "width=4", "pretrain_iterations=20", "n_clusters=3"],
    "unet": [*QUICK, "width=4", "depth=2", "validation=0.34"],
}


def words(method: str, inputs: Path, out: Path, *more: str) -> list[str]:
    settings = [word for option in OPTIONS[method] for word in ("--set", option)]
    labels = ["--labels", str(inputs.parent / "labels")] if method == "unet" else []
    return [
        sys.executable,
        "-m",
        "selfseg",
        "fit",
        str(inputs),
        "-o",
        str(out),
        "--method",
        method,
        *settings,
        *labels,
        "--checkpoint-every",
        "0",
        "--preview-every",
        "0",
        *more,
    ]


SLOW = ("sp_wnet", "deep_kmeans")


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in OPTIONS]
)
def test_killed_and_resumed_equals_undisturbed(method, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    (tmp_path / "labels").mkdir()
    for seed in range(3):
        picture = blobs(40 + seed, 52, seed=seed)
        Pillow.fromarray(picture).save(inputs / f"{seed}.png")
        Pillow.fromarray((picture[..., 0] > 100).astype(np.uint8) + 1).save(tmp_path / "labels" / f"{seed}.png")
    subprocess.run(words(method, inputs, tmp_path / "straight"), check=True, capture_output=True)
    out = tmp_path / "killed"
    process = subprocess.Popen(words(method, inputs, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = out / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not journal.exists() or journal.read_text().count("\n") < 8):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert json.loads((out / "training.json").read_text())["finished"] is False
    again = subprocess.run(words(method, inputs, out), capture_output=True, text=True)
    assert again.returncode == 2 and "--resume" in again.stderr
    other = subprocess.run([*words(method, inputs, out, "--resume"), "--seed", "1"], capture_output=True, text=True)
    assert other.returncode == 2 and "seed" in other.stderr
    subprocess.run(words(method, inputs, out, "--resume"), check=True, capture_output=True)
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "straight" / "model.safetensors").read_bytes()
    steps = [json.loads(line)["step"] for line in journal.read_text().splitlines()]
    straight = (tmp_path / "straight" / "journal.jsonl").read_text().splitlines()
    assert steps == list(range(1, len(straight) + 1)) and len(steps) >= 30
    assert len(list((out / "previews").glob("*.png"))) > 3
