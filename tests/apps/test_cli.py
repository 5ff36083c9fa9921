"""The command line as a user meets it: run in-process, files on disk, exit codes, one line for every fault."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from conftest import blobs
from selfseg.apps.cli import main

QUICK = ["--set", "iterations=5", "--set", "n_features=8", "--set", "n_clusters=8", "--quiet"]


def run(*words) -> int:
    return main([str(word) for word in words])


def make_photos(folder: Path) -> Path:
    (folder / "more").mkdir(parents=True)
    Pillow.fromarray(blobs(seed=1)).save(folder / "img2.png")
    Pillow.fromarray(blobs(36, 44, seed=2)).save(folder / "img10.png")
    Pillow.fromarray(blobs(30, 30, seed=3)).save(folder / "more" / "img2.png")
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    return make_photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def segmented(tmp_path_factory) -> Path:
    """Output folder of `segment` on photos like those of `photos`: only to be read."""
    folder = tmp_path_factory.mktemp("segmented")
    assert run("segment", make_photos(folder / "photos"), "-o", folder / "out", *QUICK) == 0
    return folder / "out"


def test_segment_leaves_everything_the_readme_names(segmented):
    out = segmented
    for name, shape in (("img2", (40, 52)), ("img10", (36, 44)), ("more/img2", (30, 30))):
        labels = tifffile.imread(out / "labels" / f"{name}.tif")
        assert labels.dtype.kind == "u" and labels.shape == shape
        assert Pillow.open(out / "overlay" / f"{name}.png").size == shape[::-1]
    table = json.loads((out / "classes.json").read_text())
    assert [row["id"] for row in table] == list(range(1, len(table) + 1))
    facts = json.loads((out / "run.json").read_text())
    assert facts["seed"] == 0 and len(facts["images"]) == 3 and facts["peak_memory_bytes"] > 0
    assert all(len(row["sha256"]) == 64 for row in facts["images"])
    assert (out / "report.html").stat().st_size > 1000
    assert {path.name for path in (out / "model").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "classes.json",
        "README.md",
        "journal.jsonl",
    }
    assert not [path for path in out.rglob(".*") if path.is_file()]


def test_fit_then_predict_equals_segment_and_the_same_seed_gives_the_same_bytes(photos, segmented, tmp_path):
    assert run("fit", photos, "-o", tmp_path / "m", *QUICK) == 0
    assert run("predict", tmp_path / "m", photos, "-o", tmp_path / "out", "--quiet") == 0
    files = sorted(path.relative_to(segmented) for path in (segmented / "labels").rglob("*.tif"))
    assert len(files) == 3
    for file in files:
        assert (segmented / file).read_bytes() == (tmp_path / "out" / file).read_bytes()


def test_a_refinement_is_kept_with_the_model_and_may_be_changed_at_prediction(photos, tmp_path):
    picture, crf = photos / "img2.png", "crf=space:8,colour:0.3,iterations:3"
    assert run("segment", picture, "-o", tmp_path / "plain", *QUICK) == 0
    assert run("fit", picture, "-o", tmp_path / "m", "--refine", crf, *QUICK) == 0
    assert run("predict", tmp_path / "m", picture, "-o", tmp_path / "own", "--quiet") == 0
    assert run("predict", tmp_path / "m", picture, "-o", tmp_path / "none", "--refine", "none", "--quiet") == 0
    assert json.loads((tmp_path / "own" / "run.json").read_text())["refinement"] == crf
    assert json.loads((tmp_path / "none" / "run.json").read_text())["refinement"] == "none"
    plain, own, none = ((tmp_path / name / "labels" / "img2.tif").read_bytes() for name in ("plain", "own", "none"))
    assert none == plain and own != plain
    assert run("segment", picture, "-o", tmp_path / "bad", "--refine", "crf=weight:x", *QUICK) == 2


def test_reference_images_train_and_others_are_segmented(photos, tmp_path):
    out = tmp_path / "out"
    assert run("segment", photos / "more", "--reference", photos / "img2.png", "-o", out, *QUICK) == 0
    assert [path.name for path in (out / "labels").iterdir()] == ["img2.tif"]
    training = json.loads((out / "model" / "config.json").read_text())["training"]
    assert training["n_images"] == 1


def test_region_merging_from_the_command_line(photos, tmp_path):
    assert run("segment", photos, "-o", tmp_path / "out", "--method", "region_merging", "--classes", 3, "--quiet") == 0
    assert len(json.loads((tmp_path / "out" / "classes.json").read_text())) == 3


def test_nothing_is_segmented_outside_of_a_mask(photos, tmp_path):
    mask = np.zeros((40, 52), np.uint8)
    mask[:, :30] = 1
    Pillow.fromarray(mask).save(tmp_path / "mask.png")
    words = ("--method", "region_merging", "--classes", 2, "--quiet", "--mask", tmp_path / "mask.png")
    assert run("segment", photos / "img2.png", "-o", tmp_path / "out", *words) == 0
    inside = tifffile.imread(tmp_path / "out" / "labels" / "img2.tif") > 0
    np.testing.assert_array_equal(inside, mask > 0)
    again = ("predict", tmp_path / "out" / "model", photos / "img2.png", "-o", tmp_path / "again", "--quiet")
    assert run(*again, "--mask", tmp_path / "mask.png") == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "again" / "labels" / "img2.tif") > 0, mask > 0)
    assert run(*again, "--mask", tmp_path / "none.png") == 1


def test_scribbles_name_their_classes(photos, tmp_path):
    marks = np.full((40, 52), 255, np.uint8)
    marks[2:5, 2:20], marks[18:22, 24:28] = 0, 7
    Pillow.fromarray(marks).save(tmp_path / "img2_scribble.png")
    words = [*QUICK, "--set", "iterations=30", "--scribbles", tmp_path / "img2_scribble.png"]
    assert run("segment", photos / "img2.png", "-o", tmp_path / "out", *words) == 0
    names = {row["name"]: row["id"] for row in json.loads((tmp_path / "out" / "classes.json").read_text())}
    labels = tifffile.imread(tmp_path / "out" / "labels" / "img2.tif")
    assert {"scribble 0", "scribble 7"} <= set(names)
    assert (labels[marks == 0] == names["scribble 0"]).mean() > 0.8
    assert (labels[marks == 7] == names["scribble 7"]).mean() > 0.8


BAD = {
    "missing file": ("no such", 1),
    "empty folder": ("empty", 1),
    "text called png": ("text.png", 1),
    "zero bytes": ("zero.png", 1),
    "truncated jpeg": ("cut.jpg", 1),
    "truncated tiff": ("cut.tif", 1),
    "bomb": ("bomb.png", 1),
}


def make_bad(folder: Path) -> None:
    import io
    import struct
    import zlib

    (folder / "empty").mkdir()
    (folder / "text.png").write_text("hello, I am no picture")
    (folder / "zero.png").write_bytes(b"")
    buffer = io.BytesIO()
    Pillow.fromarray(blobs(80, 90)).save(buffer, "JPEG")
    (folder / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    tifffile.imwrite(folder / "whole.tif", blobs(80, 90))
    (folder / "cut.tif").write_bytes((folder / "whole.tif").read_bytes()[:3000])
    (folder / "whole.tif").unlink()
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 900)), (b"IEND", b""))
    )
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gets_one_clear_line_and_exit_code_1(kind, tmp_path, capfd):
    make_bad(tmp_path)
    name, code = BAD[kind]
    assert run("segment", tmp_path / name, "-o", tmp_path / "out", *QUICK) == code
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("selfseg: ")]
    assert lines and name.split(".")[0] in lines[0] and "expected" in lines[0] and "got" in lines[0]
    assert "Traceback" not in "".join(lines)


def test_the_other_inputs_are_still_done(photos, tmp_path, capfd):
    make_bad(photos)
    out = tmp_path / "out"
    assert run("segment", photos, "-o", out, *QUICK) == 1
    assert len(list((out / "labels").rglob("*.tif"))) == 3
    failed = {row["name"] for row in json.loads((out / "run.json").read_text())["failures"]}
    assert failed == {"text", "zero", "cut_jpg", "cut_tif", "bomb"} or len(failed) == 5
    assert capfd.readouterr().err.count("selfseg: failed: ") == 5


def test_predict_names_failures_and_does_the_rest(photos, segmented, tmp_path):
    Pillow.fromarray(blobs(channels=1)[..., 0]).save(photos / "grey.png")
    (photos / "zero.png").write_bytes(b"")
    assert run("predict", segmented / "model", photos, "-o", tmp_path / "out", "--quiet") == 1
    failures = {
        row["name"]: row["error"] for row in json.loads((tmp_path / "out" / "run.json").read_text())["failures"]
    }
    assert set(failures) == {"grey", "zero"}
    assert "expected 3 channel(s)" in failures["grey"]
    assert len(list((tmp_path / "out" / "labels").rglob("*.tif"))) == 3


def test_mixed_channels_in_training_are_named(photos, tmp_path, capfd):
    Pillow.fromarray(blobs(channels=1)[..., 0]).save(photos / "grey.png")
    assert run("fit", photos, "-o", tmp_path / "m", *QUICK) == 1
    assert (
        "grey: expected 3 channel(s), 2D, as most training images have, got 1 channel(s), 2D" in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--classes", "0"], "classes"),
        (["--classes", "1000"], "classes"),
        (["--classes", "many"], "--classes"),
        (["--method", "magic"], "method"),
        (["--preset", "magic"], "preset"),
        (["--set", "momentun=0.5"], "momentun"),
        (["--set", "momentum=2"], "momentum"),
        (["--set", "momentum"], "--set"),
        (["--prepare", "blur=2"], "blur"),
        (["--device", "abacus"], "device"),
        (["--axes", "QX"], "axes"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(words, told, photos, tmp_path, capfd):
    assert run("segment", photos / "img2.png", "-o", tmp_path / "out", *QUICK, *words) == 2
    err = capfd.readouterr().err.strip()
    assert told in err and err.count("\n") == 0


def test_scribbles_of_another_size(photos, tmp_path, capfd):
    Pillow.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "s.png")
    assert run("segment", photos / "img2.png", "--scribbles", tmp_path / "s.png", "-o", tmp_path / "out", *QUICK) == 1
    err = capfd.readouterr().err
    assert "9" in err and "40" in err and "52" in err


def test_scribbles_are_refused_by_a_method_that_would_ignore_them(photos, tmp_path, capfd):
    words = ("--method", "region_merging", "--scribbles", photos / "img2.png", "-o", tmp_path / "out", "--quiet")
    assert run("segment", photos / "img2.png", *words) == 2
    assert "a method that learns from them" in capfd.readouterr().err


def test_unwritable_output(photos, tmp_path, capfd):
    (tmp_path / "file").write_text("in the way")
    assert run("segment", photos / "img2.png", "-o", tmp_path / "file" / "out", *QUICK) == 1
    assert "expected a file that can be written" in capfd.readouterr().err
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_is_named_and_nothing_is_half_written(photos, tmp_path, capfd, monkeypatch):
    import errno

    import selfseg.core.files as files

    out = tmp_path / "out"
    assert run("segment", photos / "img2.png", "-o", out, *QUICK) == 0
    before = {path: path.read_bytes() for path in (out / "labels").rglob("*") if path.is_file()}
    real = files.os.fsync

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    assert run("segment", photos / "img2.png", "-o", out, "--seed", 9, *QUICK) == 1
    monkeypatch.setattr(files.os, "fsync", real)
    assert "No space left on device" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert not list(out.rglob(".*.tif")) and not list(out.rglob(".*.safetensors"))


def test_models_that_are_newer_damaged_or_foreign(photos, segmented, tmp_path, capfd):
    model = shutil.copytree(segmented / "model", tmp_path / "m")
    config, weights = (model / "config.json").read_text(), (model / "model.safetensors").read_bytes()
    cases = {
        "format 99": ("config.json", re.sub('"format": .', '"format": 99', config).encode()),
        "damaged JSON": ("config.json", config[:100].encode()),
        "other bytes": ("model.safetensors", weights[:-1] + bytes([weights[-1] ^ 1])),
    }
    for told, (name, content) in cases.items():
        (model / "config.json").write_text(config)
        (model / "model.safetensors").write_bytes(weights)
        (model / name).write_bytes(content)
        assert run("predict", model, photos, "-o", tmp_path / "out", "--quiet") == 1
        assert told in capfd.readouterr().err
    assert run("predict", photos, photos, "-o", tmp_path / "out", "--quiet") == 1
    assert "a model folder" in capfd.readouterr().err


def test_methods_prints_every_option_and_the_network(capsys):
    assert run("methods") == 0
    assert "feature_clustering" in capsys.readouterr().out
    assert run("methods", "feature_clustering") == 0
    out = capsys.readouterr().out
    for word in ("n_convolutions", "paper", "103,600", "nu_x"):
        assert word in out


def test_help_is_complete_and_quick_to_import():
    code = "import sys, selfseg; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(selfseg.__version__)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    code = "import sys; from selfseg.apps.cli import main; main(['--help']); main(['segment', '--help'])"
    code += "; assert not {'torch', 'numpy', 'scipy', 'pydantic'} & set(sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert all(word in out for word in ("segment", "fit", "predict", "methods", "doctor", "demo"))
    assert all(
        word in out for word in ("--classes", "--n-classes", "--channels", "--precision", "--set", "--no-compile")
    )


def test_a_photo_is_opened_and_hashed_once_for_learning_and_prediction(photos, tmp_path, monkeypatch):
    import selfseg.read.sources as sources

    calls = []
    for name in ("open_lazy", "_digest"):
        real = getattr(sources, name)
        monkeypatch.setattr(sources, name, lambda *a, name=name, real=real, **k: (calls.append(name), real(*a, **k))[1])
    words = ("--method", "region_merging", "--classes", 3, "--quiet")
    assert run("segment", photos / "img2.png", "-o", tmp_path / "out", *words) == 0
    assert sorted(calls) == ["_digest", "open_lazy"]
