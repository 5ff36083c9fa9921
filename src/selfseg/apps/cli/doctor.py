"""`selfseg doctor`: check that this machine is ready, and print what will pay on it."""

import os
import platform
import re
import shutil
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from rich.console import Console

from selfseg.apps.cli.app import app


@app.command
def doctor() -> int:
    """Check this installation: versions, device, speed, memory, folders, a tiny training run."""
    console = Console(highlight=False)
    checks = (_python, _packages, _device, _memory, _folders, _training, _kernels)
    bad = 0
    for check in checks:
        try:
            good, line = check()
        except Exception as error:  # noqa: BLE001 (a doctor reports whatever is wrong)
            good, line = False, f"{check.__name__.strip('_')}: {type(error).__name__}: {error}"
        bad += not good
        console.print(f"{'[green]ok  [/green]' if good else '[red]BAD [/red]'} {line}", soft_wrap=True)
    console.print("all is well" if not bad else f"{bad} check(s) failed")
    return 1 if bad else 0


def _python() -> tuple[bool, str]:
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    hint = "" if good else ": 3.11 to 3.13 is needed"
    return good, f"Python {platform.python_version()} on {platform.system()} {platform.machine()}{hint}"


def _packages() -> tuple[bool, str]:
    wanted = [re.split(r"[^\w.-]", line)[0] for line in requires("selfseg") or () if "extra" not in line]
    found, missing = [], []
    for name in wanted:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    hint = f"; missing: {', '.join(missing)}: pip install {' '.join(missing)}" if missing else ""
    return not missing, ", ".join(found) + hint


def _device() -> tuple[bool, str]:
    from selfseg.core.machine import n_threads
    from selfseg.train.precision import choose_device, has_fast_bf16

    device = choose_device()
    precision = "float32, bfloat16 on request" if has_fast_bf16(device) else "float32"
    return True, f"works on {device}, {precision}, with {n_threads()} threads for kernels"


def _memory() -> tuple[bool, str]:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    hint = "" if free > 1 else ": at least 1 is needed; close other programs"
    return free > 1, f"{free:.1f} GiB of memory free{hint}"


def _folders() -> tuple[bool, str]:
    from selfseg.read.datasets._base import cache_folder

    lines, faults = [], False
    for use, folder in {
        "OUT": Path.cwd(),
        "temporary files": Path(tempfile.gettempdir()),
        "data": cache_folder(),
    }.items():
        there = next(place for place in (folder, *folder.parents) if place.exists())  # it is made when it is needed
        free = shutil.disk_usage(there).free / 2**30
        fault = "not writable" if not os.access(there, os.W_OK) else "make some room" if free < 0.5 else ""
        lines.append(f"{use}: {free:.1f} GiB free in {folder}{fault and ': ' + fault}")
        faults |= bool(fault)
    return not faults, "; ".join(lines)


def _training() -> tuple[bool, str]:
    import numpy as np

    from selfseg.core.image import Image
    from selfseg.learning.segmenter import Segmenter

    picture = np.full((48, 64, 3), 40, np.uint8)
    picture[:, 32:] = 200
    begun = time.monotonic()
    options = {"iterations": 20, "n_features": 16, "n_clusters": 16}
    model = Segmenter("feature_clustering", n_classes=2, options=options).fit(picture)
    labels = model.predict_image(Image(picture, "YXC")).labels
    seconds = time.monotonic() - begun
    good = {int(labels[24, 5]), int(labels[24, 60])} == {1, 2}
    return good, f"learned two tones from a test picture in {seconds:.1f} s (compilation of kernels included)"


def _kernels() -> tuple[bool, str]:
    """Check the folders in which numba keeps the kernels that the training run compiled."""
    from numba.core.dispatcher import Dispatcher

    modules = [module for name, module in sys.modules.items() if name.startswith("selfseg.")]
    kernels = [value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)]
    folders: set[str] = {kernel.stats.cache_path or "" for kernel in kernels}
    closed = sorted(folder or "any folder" for folder in folders if not folder or not _can_write(folder))
    remedy = "set NUMBA_CACHE_DIR to a writable folder"
    if closed or not folders:
        return False, f"compiled kernels cannot be kept in {', '.join(closed) or 'any folder'}: {remedy}"
    temporary = [folder for folder in folders if Path(folder).is_relative_to(tempfile.gettempdir())]
    hint = f", a temporary one: {remedy} to keep them for good" if temporary else ""
    return True, f"compiled kernels are kept in {len(folders)} folder(s) such as {min(temporary or folders)}{hint}"


def _can_write(folder: str) -> bool:
    """Return whether a file can be written there now, which permissions alone do not say."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
    except OSError:
        return False
    return True
