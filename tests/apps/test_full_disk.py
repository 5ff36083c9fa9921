"""A disk that is full, in the middle of whatever is being written: one line, exit code 1, and every file whole or absent.

Where this process may mount one, a real small disk; everywhere the system's limit on the size of a file, which fails as late.
"""

import contextlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as Picture

from conftest import blobs
from reference.whole import broken_files, unfinished_files
from selfseg.apps.cli import main

resource = pytest.importorskip("resource")

QUICK = ["--set", "iterations=6", "--set", "n_features=8", "--set", "n_clusters=8", "--set", "min_classes=1"]
FORMATS = ("tiff", "ome-zarr", "nifti", "mrc", "hdf5", "numpy")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Two pictures, a large one, a model."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "photos").mkdir()
    for seed in range(2):
        Picture.fromarray(blobs(160, 200, seed=seed)).save(folder / "photos" / f"photo{seed}.png")
    np.save(folder / "large.npy", blobs(600, 560, seed=5))
    assert (
        main(["fit", str(folder / "photos"), *QUICK, "--prepare", "range", "--quiet", "-o", str(folder / "model")]) == 0
    )
    return folder


def command(inputs, name):
    photos, model = str(inputs / "photos"), str(inputs / "model")
    often = ["--checkpoint-every", "0", "--quiet"]
    return {
        "fit": ["fit", photos, *QUICK, *often, "--preview-every", "1000"],
        "fit with previews": ["fit", photos, *QUICK, *often, "--preview-every", "0"],
        "segment": ["segment", photos, *QUICK, "--quiet"],
        "frames": ["predict", model, photos, "--sequence", "--quiet"],
        "in parts": ["predict", model, str(inputs / "large.npy"), "--axes", "YXC", "--memory", "1", "--quiet"],
        "objects": ["predict", model, photos, "--instances", "components", "--quiet"],
    }.get(name) or ["predict", model, photos, "--write", name, "--quiet"]


NAMES = ["fit", "fit with previews", "segment", "frames", "in parts", "objects", *FORMATS]


@contextlib.contextmanager
def limited(size):
    """No file may become larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def mounted(place, options):
    """A disk in memory at `place`."""
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def failed_well(words, out, errors):
    """Run a command that finds the disk full; return whether it did."""
    code = main([*words, "-o", str(out)])
    told = errors.readouterr().err
    if code == 0:
        return False
    assert code == 1 and told.count("\n") == 1 and "Traceback" not in told, told
    assert "space" in told or "room" in told, told
    assert str(out) in told, told
    assert broken_files(out) == {} and unfinished_files(out) == []
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="the limit ends the process elsewhere")
@pytest.mark.parametrize("name", NAMES)
def test_files_that_may_not_grow(inputs, tmp_path, capsys, name):
    found = 0
    for size in (0, 60, 700, 5000):
        with limited(size):
            found += failed_well(command(inputs, name), tmp_path / str(size), capsys)
    assert found >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_real_small_disk(inputs, tmp_path, capsys, name):
    found = 0
    for size in (8, 16, 24, 40, 64, 100):
        place = tmp_path / str(size)
        place.mkdir()
        with mounted(place, f"size={size}k"):
            found += failed_well(command(inputs, name), place / "out", capsys)
    assert found >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_may_only_be_read(inputs, tmp_path, capsys, name):
    place = tmp_path / "place"
    place.mkdir(mode=0o555)
    if os.geteuid() == 0:  # whom a mode does not bind
        disk = mounted(place, "ro")
    else:
        disk = contextlib.nullcontext()
    with disk:
        assert main([*command(inputs, name), "-o", str(place / "out")]) == 1
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and str(place) in told, told
        assert "Read-only file system" in told or "Permission denied" in told
        assert "choose a writable place with -o" in told
        assert list(place.iterdir()) == []


def test_after_the_disk_has_room_again_the_work_goes_on(inputs, tmp_path, capsys):
    words = command(inputs, "fit")
    assert main([*words, "-o", str(tmp_path / "straight")]) == 0
    out = tmp_path / "cut"
    with limited(5_000):
        assert failed_well(words, out, capsys)
    assert main([*words, "--resume", "-o", str(out)]) == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "straight" / "model.safetensors").read_bytes()
