"""Model folders that are damaged, newer, foreign or hostile: one line each, nothing executed, no memory taken."""

import hashlib
import json
import os
import pickle
import shutil
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from conftest import blobs
from selfseg.core.errors import InputError, ModelError
from selfseg.learning.run import load
from selfseg.learning.segmenter import Segmenter

QUICK = {"iterations": 3, "n_features": 8, "n_clusters": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    Segmenter("feature_clustering", options=QUICK).fit(blobs()).save(folder)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "model")


def refused(folder, words=""):
    with pytest.raises(ModelError) as error:
        load(folder)
    line = str(error.value)
    assert "\n" not in line and "model" in line and len(line) < 700 and words in line, line


def change(folder, name="config.json", **values):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **values}))


def weights(folder, content):
    """Put other weights in place, and make the configuration vouch for them, as whoever forges a folder would."""
    (folder / "model.safetensors").write_bytes(content)
    change(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def test_a_whole_folder_is_loaded(folder):
    assert load(folder).predict(blobs()).labels.shape == (40, 52)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "classes.json"])
def test_every_file_cut_at_every_tenth_or_gone(folder, name):
    content = (folder / name).read_bytes()
    for tenth in range(10):
        (folder / name).write_bytes(content[: len(content) * tenth // 10])
        refused(folder)
    if name == "model.safetensors":
        for tenth in range(10):
            weights(folder, content[: len(content) * tenth // 10])
            refused(folder)
    (folder / name).unlink()
    refused(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "classes.json"])
def test_flipped_bytes_are_refused_or_change_nothing_that_matters(folder, name):
    content = (folder / name).read_bytes()
    rng = np.random.default_rng(len(name))
    for _ in range(60):
        broken = bytearray(content)
        for place in rng.integers(0, len(content), 2):
            broken[place] = int(rng.integers(32, 127))
        (folder / name).write_bytes(broken)
        try:
            load(folder)
        except ModelError as error:
            assert "\n" not in str(error)


def test_flipped_headers_of_weights_that_the_configuration_vouches_for(folder):
    content = (folder / "model.safetensors").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(content)
        broken[int(rng.integers(0, 800))] = int(rng.integers(0, 256))
        weights(folder, bytes(broken))
        try:
            load(folder)
        except ModelError as error:
            assert "\n" not in str(error)


def header(content, metadata=None, **tensors):
    text = json.dumps({**({"__metadata__": metadata} if metadata else {}), **tensors}).encode()
    return len(text).to_bytes(8, "little") + text + content


LIES = {
    "long header": (2**62).to_bytes(8, "little") + b"{}",
    "100 MB header": (99 << 20).to_bytes(8, "little") + b"{" + bytes(1000),
    "huge tensor": header(b"", x={"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}),
    "behind the end": header(bytes(4), x={"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}),
    "overlapping": header(
        bytes(4),
        x={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        y={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    ),
    "negative": header(bytes(4), x={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}),
    "strange type": header(bytes(4), x={"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 4]}),
    "names that are paths": header(bytes(4), **{"../../x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}),
    "deep header": (200_000).to_bytes(8, "little") + b"[" * 200_000,
}


@pytest.mark.parametrize("name", LIES)
def test_weights_with_a_lying_header_that_the_configuration_vouches_for(folder, name):
    weights(folder, LIES[name])
    tracemalloc.start()
    try:
        refused(folder)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "classes.json"])
def test_links_out_of_the_folder_are_not_followed(folder, tmp_path, name):
    """Even to the very file: what a stranger's folder may point to is not for it to choose."""
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    refused(folder, "a link to")
    (folder / name).unlink()
    (folder / name).symlink_to("../outside")
    refused(folder, "a link to")
    (folder / name).unlink()
    (folder / "kept").write_bytes((tmp_path / "outside").read_bytes())
    (folder / name).symlink_to("kept")  # a link that stays inside is none of anyone's business
    assert load(folder).method_ is not None
    linked = tmp_path / "link"
    linked.symlink_to(folder)
    assert load(linked).method_ is not None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "classes.json"])
def test_pipes_and_folders_are_no_files_to_wait_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, "no ordinary file")
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, "no ordinary file")


def test_saving_over_a_link_is_refused_and_leaves_what_it_points_to(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    model = load(folder)
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(InputError, match="changed since selfseg wrote it"):
        model.save(folder)
    assert (tmp_path / "mine.txt").read_text() == "mine"


class Bomb:
    """Something that would show if it were unpickled."""

    def __reduce__(self):
        return (exec, ("import sys; sys.modules['unpickled_model'] = sys",))


def test_pickles_under_another_name_are_not_loaded(folder, tmp_path):
    weights(folder, pickle.dumps(Bomb()))
    refused(folder, "a whole model")
    torch_like = tmp_path / "archive"
    with zipfile.ZipFile(torch_like, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    weights(folder, torch_like.read_bytes())
    refused(folder, "a whole model")
    for name in ("config.json", "classes.json"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
        refused(folder)
    assert "unpickled_model" not in sys.modules


@pytest.mark.parametrize(
    "name", ["../../evil", "os", "_store", "selfseg.methods.wnet", "", None, 3, ["wnet"], "feature_clustering\0"]
)
def test_names_of_methods_lead_nowhere_else(folder, tmp_path, name):
    (tmp_path / "evil.py").write_text("import sys; sys.modules['evil_was_here'] = sys")
    change(folder, method=name)
    refused(folder)
    assert "evil_was_here" not in sys.modules


def test_newer_and_foreign_folders(folder, tmp_path):
    change(folder, format=99, selfseg="9.9")
    refused(folder, "format 99, written by selfseg 9.9; update selfseg")
    (tmp_path / "model_of_others").mkdir()
    (tmp_path / "model_of_others" / "config.json").write_text('{"architectures": ["Bert"]}')
    refused(tmp_path / "model_of_others", "format None")
    (tmp_path / "model.txt").write_text("text")
    refused(tmp_path / "model.txt")
    refused(tmp_path / "no_model_here")


CONFIGS = {
    "channels": {"n_channels": 10**9},
    "no_channels": {"n_channels": 0},
    "negative": {"n_channels": -3},
    "words": {"n_channels": "many"},
    "dimensions": {"n_dims": 7},
    "no_config": {"config": None},
    "foreign_option": {"config": {"shell": "rm"}},
    "huge": {"config": {"n_features": 10**9}},
    "params": {"params": {"evil": 1}},
    "params_list": {"params": [1, 2]},
    "refine": {"params": {"refine": "nonsense=3"}},
    "preparation": {"preparation": None},
    "steps": {"preparation": {"steps": "__import__('os')", "fitted": None}},
    "training": {"training": 3},
    "format": {"format": "1"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_senseless_configurations_are_one_line(folder, name):
    change(folder, **CONFIGS[name])
    refused(folder)


def test_deep_and_long_files_are_one_line(folder):
    for content in ("[" * 10**6, "{" + '"a":{' * 10**5, "9" * 10**6):
        (folder / "config.json").write_text(content)
        refused(folder)


ROWS = {
    "id": {"id": 10**12},
    "zero": {"id": 0},
    "word": {"id": "1; drop"},
    "colour": {"rgba": [1, 2, 3, 400]},
    "three": {"rgba": [1, 2, 3]},
    "clusters": {"sources": [10**6]},
    "negative": {"sources": [-1]},
    "share": {"area_share": "all"},
    "name": {"name": 3},
    "foreign": {"onclick": "x"},
}


@pytest.mark.parametrize("name", ROWS)
def test_senseless_class_tables_are_one_line(folder, name):
    rows = json.loads((folder / "classes.json").read_text())
    rows[0].update(ROWS[name])
    (folder / "classes.json").write_text(json.dumps(rows))
    refused(folder)


def test_two_classes_of_one_id_and_rows_that_are_none(folder):
    rows = json.loads((folder / "classes.json").read_text())
    for content in ([*rows, rows[0]], [3], [[]], {}, "rows"):
        (folder / "classes.json").write_text(json.dumps(content))
        refused(folder)


def test_a_class_name_with_a_path_in_it_writes_nowhere_else(folder, tmp_path):
    rows = json.loads((folder / "classes.json").read_text())
    rows[0]["name"] = "../../../escaped\n<script>alert(1)</script>"
    (folder / "classes.json").write_text(json.dumps(rows))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    load(folder).predict(blobs()).save(tmp_path / "out", write=["tiff", "numpy", "mrc"])
    after = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert after and all(path.is_relative_to(tmp_path / "out") for path in after)
    assert not list(tmp_path.parent.rglob("*escaped*"))
