"""Encoder and decoder of the user's own: used when named, refused when only a file names them."""

import json
import subprocess
import sys
import types

import numpy as np
import pixel_networks
import pytest
import torch
from torch import nn

import selfseg
from conftest import blobs
from selfseg.apps.cli import main
from selfseg.core.errors import ModelError, UsageError
from selfseg.nets.autoencoder import options_from_file, own_networks

QUICK = {"prepare": "range", "pretrain_iterations": 3, "iterations": 3, "networks": "pixel_networks", "n_features": 5}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "model"
    selfseg.fit(blobs(), "deep_kmeans", n_classes=3, options=QUICK).save(folder)
    return folder


@pytest.mark.parametrize("shape", [(20, 24, 3), (6, 20, 24)])
def test_a_user_s_networks_learn_in_two_and_three_dimensions(shape):
    axes = "YXC" if shape[-1] == 3 else "ZYX"
    picture = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    model = selfseg.fit(picture, "deep_kmeans", axes=axes, options=QUICK)
    encoder = model.method_.space.encoder
    assert isinstance(encoder, nn.Sequential) and isinstance(encoder[1], nn.Tanh)
    assert model.predict(picture, axes=axes).labels.max() == 4


def test_a_stored_model_imports_nothing_until_it_is_named_again(model):
    with pytest.raises(ModelError, match=r"pixel_networks.*would be run; if you trust it, name it again") as caught:
        selfseg.load(model)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="would be run"):
        selfseg.load(model, networks="json")
    loaded = selfseg.load(model, networks="pixel_networks")
    again = selfseg.load(model, networks="pixel_networks")
    assert np.array_equal(loaded.predict(blobs()).probabilities, again.predict(blobs()).probabilities)


def test_a_model_folder_cannot_make_python_import_a_module(model, tmp_path):
    """A name is put into the folder after the fact; a fresh process must not have run that module when it refuses."""
    (tmp_path / "trap.py").write_text("from pathlib import Path\nPath(__file__).with_name('sprung').touch()\n")
    changed = json.loads((model / "config.json").read_text())
    changed["config"]["networks"] = changed["params"]["options"]["networks"] = "trap"
    (tmp_path / "config.json").write_text(json.dumps(changed))
    for name in ("model.safetensors", "classes.json"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import selfseg; selfseg.load({str(tmp_path)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode != 0 and "would be run" in run.stderr
    assert not (tmp_path / "sprung").exists()


def test_the_command_line_asks_for_the_name_too(model, tmp_path, capsys):
    from PIL import Image as Picture

    Picture.fromarray(blobs()).save(tmp_path / "a.png")
    command = ["predict", str(model), str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "-q"]
    assert main(command) == 1
    assert "name it again: --networks pixel_networks" in capsys.readouterr().err
    assert main([*command, "--networks", "pixel_networks"]) == 0
    assert (tmp_path / "out" / "labels" / "a.tif").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": None}, "no such function"),
        ({"encoder": lambda c, f, d: "a net"}, "str from encoder"),
        ({"encoder": lambda c, f, d: nn.Conv2d(c, f, 3)}, r"got shape \(1, 4, 5, 4\)"),
        ({"encoder": lambda c, f, d: nn.Conv2d(c, f + 1, 1)}, r"got shape \(1, 5, 7, 6\)"),
        ({"decoder": lambda f, c, d: nn.Linear(3, 3)}, "decoder: expected shape"),
        ({"decoder": lambda f, c: nn.Conv2d(f, c, 1)}, r"decoder.*argument"),
    ],
)
def test_what_does_not_keep_the_protocol_is_refused_in_one_line(monkeypatch, changes, words):
    module = types.ModuleType("strange_networks")
    made = {"encoder": pixel_networks.encoder, "decoder": pixel_networks.decoder, **changes}
    for name, function in made.items():
        if function is not None:
            setattr(module, name, function)
    monkeypatch.setitem(sys.modules, "strange_networks", module)
    with pytest.raises(UsageError, match=words) as caught:
        own_networks("strange_networks", 2, 4, 2)
    assert "\n" not in str(caught.value)


def test_names_that_are_no_modules_are_refused():
    for name in ("../evil", "a b", "os.system('x')", "networks.py;", ".hidden"):
        with pytest.raises(UsageError, match="the name of a module"):
            own_networks(name, 1, 2, 2)
    with pytest.raises(UsageError, match=r"a module to import.*PYTHONPATH"):
        own_networks("no_such_module_anywhere", 1, 2, 2)


def test_the_gate_closes_again_after_a_file_was_read():
    with pytest.raises(ModelError), options_from_file(None):
        own_networks("pixel_networks", 1, 2, 2)
    with options_from_file("pixel_networks"):
        own_networks("pixel_networks", 1, 2, 2)
    encoder, decoder = own_networks("pixel_networks", 1, 2, 2)
    assert decoder(encoder(torch.zeros(1, 1, 4, 4))).shape == (1, 1, 4, 4)
