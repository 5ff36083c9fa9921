"""Checkpoints that are cut, changed or forged: one line, or a run that goes on; never a traceback, and nothing executed."""

import json
import pickle
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from conftest import blobs
from selfseg.core.errors import Interrupted, ModelError
from selfseg.learning.segmenter import Segmenter
from selfseg.train.loop import Order, load_checkpoint

SMALL = {"n_features": 8, "n_clusters": 8, "min_classes": 1, "iterations": 12, "prepare": "range"}


def fit(folder, **how):
    model = Segmenter("feature_clustering", options=SMALL)
    return model.fit(blobs(24, 30), out=folder, checkpoint_every=0, preview_every=1e9, **how)


@pytest.fixture(scope="module")
def paused(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paused") / "run"
    with pytest.raises(Interrupted):
        fit(folder, control=lambda: Order.PAUSE)
    return folder


@pytest.fixture
def folder(paused, tmp_path):
    return shutil.copytree(paused, tmp_path / "run")


def refused(folder, words="checkpoint.safetensors"):
    with pytest.raises(ModelError) as caught:
        fit(folder, resume=True)
    assert "\n" not in str(caught.value) and words in str(caught.value) and len(str(caught.value)) < 700


def forged(folder, tensors=None, **facts):
    path = folder / "checkpoint.safetensors"
    with safe_open(path, framework="np") as file:
        before = file.metadata()
    metadata = {key: value for key, value in {**before, **facts}.items() if value is not None}
    save_file(load_file(path) if tensors is None else tensors, path, metadata=metadata)


def test_cut_at_every_tenth(folder):
    content = (folder / "checkpoint.safetensors").read_bytes()
    for tenth in range(10):
        (folder / "checkpoint.safetensors").write_bytes(content[: len(content) * tenth // 10])
        refused(folder)


def test_flipped_bytes_of_the_header(folder):
    path = folder / "checkpoint.safetensors"
    content, rng = path.read_bytes(), np.random.default_rng(0)
    n_refused = 0
    for _ in range(80):
        broken = bytearray(content)
        broken[int(rng.integers(0, min(len(content), 4000)))] = int(rng.integers(0, 256))
        path.write_bytes(broken)
        try:
            load_checkpoint(path)
        except ModelError as error:
            assert "\n" not in str(error)
            n_refused += 1
    assert n_refused > 10


@pytest.mark.parametrize(
    "facts",
    [
        {"step": "many"},
        {"step": None},
        {"seconds": "long"},
        {"version": "2"},
        {"version": None},
        {"version": "1; exit"},
        {"settings": "{"},
        {"settings": "[" * 100_000},
        {"settings": None},
        {"settings": "{}"},
        {"settings": json.dumps({"net": 3})},
        {"settings": json.dumps({"net": {"groups": [], "scalars": {}}})},
        {"settings": json.dumps({"net": {"groups": [{"params": [10**9]}], "scalars": {"x.y": 1}}})},
    ],
    ids=lambda facts: "-".join(f"{key}={str(value)[:20]}" for key, value in facts.items()),
)
def test_forged_facts(folder, facts):
    forged(folder, **facts)
    refused(folder)


def test_tensors_of_another_run(folder):
    forged(folder, tensors={"method/evil": np.zeros(3, np.float32)})
    refused(folder)
    forged(folder, tensors={"neither": np.zeros(3, np.float32)})
    refused(folder)


def test_a_pickle_under_its_name_is_not_loaded(folder):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('unpickled')",))

    (folder / "checkpoint.safetensors").write_bytes(pickle.dumps(Bomb()))
    refused(folder)
