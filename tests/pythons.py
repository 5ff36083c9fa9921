"""The release, as a user gets it: wheel and sdist are built, looked into, and the wheel alone is installed and used on each Python.

    python tests/pythons.py WORK [PYTHON...]      # WORK: a folder for virtual environments; default: python3.11, python3.12, python3.13

Pythons that this machine lacks are named and left out. On each, in a virtual environment of its own with the wheel and its dependencies
alone (no extras), every command runs once; what needs an extra must name it in one line. A row is printed for each: installed size, time of
the first `selfseg segment photo.png` (kernels are compiled) and of the second, by the clock and of work.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("python3.11", "python3.12", "python3.13")
MEGABYTE = 1e6

WITHOUT_EXTRAS = {
    "studio PHOTO --no-browser": "selfseg[studio]",
    "segment scan.nii.gz -o x": "selfseg[nifti]",
    "segment stack.h5 -o x": "selfseg[hdf5]",
    "segment stack.zarr -o x": "selfseg[zarr]",
    "segment clip.mp4 -o x": "selfseg[video]",
    "segment scan.dcm -o x": "selfseg[dicom]",
    "predict model PHOTO -o x --write ome-zarr": "selfseg[zarr]",
    "predict model PHOTO -o x --write nifti": "selfseg[nifti]",
    "predict model PHOTO -o x --write hdf5": "selfseg[hdf5]",
    "predict model PHOTO -o x --write dicom-seg": "selfseg[dicom]",
    "predict model PHOTO -o x --dask local:2": "selfseg[dask]",
    "predict hf://a/b PHOTO -o x": "selfseg[hub]",
    "export net --format onnx": "selfseg[onnx]",
    "export net --format bioimageio": "selfseg[onnx]",
    "export out --format imagej-roi": "selfseg[roi]",
    "export map-out --format geojson": "selfseg[geo]",
    "segment cells.nd2 -o x": "selfseg[vendor]",
    "segment PHOTO -o x --method feature_codebook": "selfseg[features]",
}
"""Commands that need an extra, and the extra that they must name."""

COMMANDS = (
    "--version",
    "methods",
    "methods feature_clustering",
    "datasets",
    "datasets bsds500",
    "doctor",
    "look PHOTO -o look -q",
    "fit PHOTO -o net --method feature_clustering --set iterations=5 --classes 3 -q",
    "fit PHOTO -o model --method kmeans --classes 3 -q",
    "predict model PHOTO -o out --tree --instances watershed --confidence-map --probability-maps -q",
    "predict model *.png -o watched --watch --settle 0 --idle 1 --progress json",
    "edit net --merge 2+3",
    "cut out --regions 12",
    "instances out",
    "export out --format nnunet --format coco --format geojson --format csv",
    "segment map.tif -o map-out --method kmeans -q",
    "export map-out --format qupath",
    "evaluate out out/labels --as classes",
    "distill net PHOTO -o pupil --set iterations=5 -q",
    "benchmark skimage_photos --methods kmeans --baselines none --limit 1 -o bench -q",
    "demo -o demo -q",
    "studio --help",
)


BEGINNINGS = {
    "scan.nii.gz": b"\x1f\x8b" * 99,
    "stack.h5": b"\x89HDF\r\n\x1a\n",
    "clip.mp4": b"\x1f\x8b" * 99,
    "scan.dcm": bytes(128) + b"DICM",
    "cells.nd2": b"\xda\xce\xbe\x0a" + bytes(99),
}
"""Files of formats that are extras: no more than what tells them."""

PICTURES = """
import pathlib, shutil, numpy, skimage.data, tifffile
shutil.copy(pathlib.Path(skimage.data.__file__).parent / "coffee.png", "photo.png")
keys = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32632)
place = [(33550, 12, 3, (10.0, 10.0, 0.0)), (33922, 12, 6, (0.0, 0.0, 0.0, 5e5, 5e6, 0.0)), (34735, 3, len(keys), keys)]
ramp = numpy.tile(numpy.arange(0, 240, 4, numpy.uint8), (50, 1))
tifffile.imwrite("map.tif", ramp, photometric="minisblack", extratags=[(*tag, True) for tag in place])
"""
"""Makes the inputs: a photograph that comes with scikit-image, and a map."""


def run(words, cwd, expected=0):
    """Run a command; end everything with its output if its exit code is another than expected."""
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, env=clean_environment())
    if expected is not None and done.returncode != expected:
        sys.exit(
            f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done


def clean_environment():
    """The environment without what would lead Python to this checkout."""
    left_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "SELFSEG_DATA")
    return {name: value for name, value in os.environ.items() if name not in left_out}


def build(work, python):
    """Build wheel and sdist from a copy of the checkout, and return their paths."""
    venv, copy, dist = work / "build-venv", work / "checkout", work / "dist"
    for folder in (copy, dist):
        shutil.rmtree(folder, ignore_errors=True)
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    if not venv.exists():
        run([python, "-m", "venv", venv], work)
        run([binary(venv, "python"), "-m", "pip", "install", "-q", "setuptools>=77", "wheel"], work)
    for kind in ("wheel", "sdist"):
        code = f"from setuptools import build_meta; build_meta.build_{kind}({str(dist)!r})"
        run([binary(venv, "python"), "-c", code], copy)
    return next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))


def check_contents(wheel, sdist):
    """Every file of the package is in both, and nothing else is: no tests, caches, data or file of this machine."""
    package = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "selfseg").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name for name in names if name.endswith(".dist-info/METADATA"))
        told = archive.read(info).decode()
        entry = archive.read(info.replace("METADATA", "entry_points.txt")).decode()
    folder = info.partition("/")[0]
    ours = {name for name in names if not name.startswith(f"{folder}/")}
    assert ours == package, sorted(ours ^ package)
    assert "selfseg/py.typed" in ours and any(name.startswith(f"{folder}/licenses/") for name in names)
    assert "selfseg = selfseg.apps.cli:main" in entry
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert f"\nVersion: {version}\n" in told and "\nLicense-Expression: Apache-2.0\n" in told
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert {f"src/{name}" for name in package} <= packed, sorted({f"src/{name}" for name in package} - packed)
    assert {"pyproject.toml", "README.md", "LICENSE"} <= packed
    strange = [name for name in packed if name.startswith(("tests/", "benchmarks/", ".venv", "docs/"))]
    assert not strange, strange
    print(
        f"wheel: {len(names)} files, {wheel.stat().st_size / MEGABYTE:.1f} MB; sdist: {len(packed)} files", flush=True
    )


def binary(venv, name):
    """Path of a program in a virtual environment."""
    return venv / ("Scripts" if os.name == "nt" else "bin") / name


def use(python, wheel, work):
    """Install the wheel alone for a Python, print the row of the table, and run every command once."""
    version = run([python, "-c", "import platform; print(platform.python_version())"], work).stdout.strip()
    venv, place = work / f"venv-{version}", work / f"run-{version}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    pip = [binary(venv, "python"), "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
    if venv.exists():  # of a run before: the dependencies stay, the wheel is installed anew
        run([*pip, "--force-reinstall", "--no-deps", wheel], work)
    else:
        run([python, "-m", "venv", venv], work)
    run([*pip, wheel], work)
    own, selfseg = size(venv), binary(venv, "selfseg")
    run([binary(venv, "python"), "-c", PICTURES], place)
    os.environ["NUMBA_CACHE_DIR"] = str(place / "kernels")
    seconds = []
    for _ in range(2):
        begun, worked = time.monotonic(), os.times()
        run([selfseg, "segment", "photo.png", "-o", "first", "-q"], place)
        now = os.times()
        seconds += [time.monotonic() - begun, sum(now[2:4]) - sum(worked[2:4])]
    packages = len(json.loads(run([binary(venv, "python"), "-m", "pip", "list", "--format=json"], work).stdout))
    cold, cold_work, warm, warm_work = seconds
    torch = run([binary(venv, "python"), "-c", "import torch; print(torch.__version__)"], work).stdout.strip()
    print(
        f"| {version} | {torch} | {packages} | {own / MEGABYTE:.0f} | {cold:.1f} ({cold_work:.1f}) | {warm:.1f} ({warm_work:.1f}) |",
        flush=True,
    )
    for line in COMMANDS:
        run([selfseg, *line.replace("PHOTO", "photo.png").split()], place)
    for name, beginning in BEGINNINGS.items():
        (place / name).write_bytes(beginning)
    (place / "stack.zarr").mkdir()
    (place / "stack.zarr" / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "array"}))
    for line, extra in WITHOUT_EXTRAS.items():
        done = run([selfseg, *line.replace("PHOTO", "photo.png").split()], place, None)
        if done.returncode not in (1, 2) or extra not in done.stderr or "Traceback" in done.stderr:
            sys.exit(f"{version}, {line}: expected a line with {extra}, got {done.returncode}\n{done.stderr[-2000:]}")
    print(
        f"Python {version}: {len(COMMANDS)} commands and {len(WITHOUT_EXTRAS)} refusals are as they should be",
        flush=True,
    )


def find(name):
    """Return the first Python of this name that starts, on the path or among pyenv's; None if there is none.

    pyenv has entries on the path for versions that are not switched on: these do not start.
    """
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(name), *sorted(map(str, versions.glob(f"*/bin/{name}")))]
    starts = lambda path: subprocess.run([path, "-c", ""], capture_output=True).returncode == 0  # noqa: E731
    return next((path for path in candidates if path and starts(path)), None)


def size(folder):
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def main(work, pythons):
    """Build, look, use; print a table."""
    work = Path(work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    by_name = {name: find(name) for name in pythons}
    for name, path in by_name.items():
        if path is None:
            print(f"{name} is not on this machine: left out", flush=True)
    found = [path for path in by_name.values() if path]
    if not found:
        sys.exit("no Python to test with")
    wheel, sdist = build(work, found[0])
    check_contents(wheel, sdist)
    print(
        "| Python | torch | packages | installed, MB | first segment: s (of work) | second: s (of work) |", flush=True
    )
    print("|---|---|---|---|---|---|", flush=True)
    for python in found:
        use(python, wheel, work)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] or PYTHONS)
