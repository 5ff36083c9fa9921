"""A folder of five hundred files of all sorts, out of what the installed packages ship: each is read, refused in a line, or counted."""

import importlib.util
import re
import shutil
from itertools import zip_longest
from pathlib import Path

import pytest

from selfseg.apps.cli import main
from selfseg.read import find_inputs
from selfseg.read.labels import find_labels

PACKAGES = ("pydicom", "nibabel", "skimage", "imagecodecs", "tifffile", "h5py", "zarr", "mrcfile", "highdicom", "av")
MORE = ("scipy", "sklearn", "matplotlib", "PIL", "numpy", "pandas")
"""Packages that ship other files than images, so that much is passed over."""

CODE = {".py", ".pyc", ".pyi", ".so", ".h", ".pyx", ".pxd", ".c", ".typed"}
LARGEST = 1_500_000
MOST = 500


def files_of(package):
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return []
    home = Path(found.submodule_search_locations[0])
    return sorted(
        path
        for path in home.rglob("*")
        if path.is_file() and path.suffix not in CODE and ".so." not in path.name and path.stat().st_size <= LARGEST
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Copy files of every package in turn, those that ship images first."""
    place = tmp_path_factory.mktemp("many")
    first = [path for package in PACKAGES for path in files_of(package)]
    rest = [path for row in zip_longest(*map(files_of, MORE)) for path in row if path is not None]
    chosen = (first + rest)[:MOST]
    if len(chosen) < MOST:
        pytest.skip(f"the installed packages ship {len(chosen)} such files")
    for number, path in enumerate(chosen):
        target = place / f"{number // 50:02d}" / f"{number:03d}_{path.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    return place


@pytest.mark.slow
def test_five_hundred_files_are_read_refused_or_counted(folder, tmp_path, capfd):
    passed = []
    sources = find_inputs(folder, say=passed.append)
    (line,) = passed
    counted = sum(int(number) for number in re.findall(r"(?:passed over|\),|[a-z],) (\d+) ", line))
    assert counted > 100
    out = tmp_path / "out"
    code = main(["segment", str(folder), "-o", str(out), "--method", "region_merging", "--classes", "2"])
    errors = capfd.readouterr().err
    assert code in (0, 1)
    assert "Traceback" not in errors
    assert line in errors
    failures = [one for one in errors.splitlines() if one.startswith("selfseg: failed: ")]
    assert len(failures) == len(set(failures))
    assert all("expected" in one and "; " in one for one in failures), [
        one for one in failures if "expected" not in one
    ]
    done = find_labels(out / "labels")
    assert len(done) + len(failures) == len(sources)
    assert len(done) > 30
