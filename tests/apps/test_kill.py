"""kill -9 in the middle of fit, then --resume: the same weights as an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image as Pillow

from conftest import blobs

OPTIONS = [
    "--set",
    "iterations=60",
    "--set",
    "n_features=16",
    "--set",
    "n_classes=16",
    "--set",
    "min_classes=1",
    "--set",
    "batch_size=2",
]


def words(inputs: Path, out: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "selfseg",
        "fit",
        str(inputs),
        "-o",
        str(out),
        *OPTIONS,
        "--checkpoint-every",
        "0",
        "--preview-every",
        "0",
        *more,
    ]


def test_killed_and_resumed_equals_undisturbed(tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    for seed in range(3):
        Pillow.fromarray(blobs(40 + seed, 52, seed=seed)).save(inputs / f"{seed}.png")
    subprocess.run(words(inputs, tmp_path / "straight"), check=True, capture_output=True)
    out = tmp_path / "killed"
    process = subprocess.Popen(words(inputs, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = out / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not journal.exists() or journal.read_text().count("\n") < 8):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert json.loads((out / "training.json").read_text())["finished"] is False
    again = subprocess.run(words(inputs, out), capture_output=True, text=True)
    assert again.returncode == 2 and "--resume" in again.stderr
    other = subprocess.run([*words(inputs, out, "--resume"), "--seed", "1"], capture_output=True, text=True)
    assert other.returncode == 2 and "seed" in other.stderr
    subprocess.run(words(inputs, out, "--resume"), check=True, capture_output=True)
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "straight" / "model.safetensors").read_bytes()
    steps = [json.loads(line)["step"] for line in journal.read_text().splitlines()]
    assert steps == list(range(1, 61))
    assert len(list((out / "previews").glob("*.png"))) > 3
