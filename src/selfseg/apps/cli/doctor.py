"""`selfseg doctor`: check that this machine is ready, and print what will pay on it."""

import os
import platform
import re
import shutil
import subprocess
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
    checks = (_python, _packages, _device, _gpus, _memory, _folders, _training, _kernels)
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
    from selfseg.sample.device import choose_device, device_note, has_fast_bf16

    device = choose_device()
    precision = "float32, bfloat16 on request" if has_fast_bf16(device) else "float32"
    fault = device_note("auto")
    return (
        fault is None,
        f"works on {device}, {precision}, with {n_threads()} threads for kernels{(fault and '; ' + fault) or ''}",
    )


def _gpus() -> tuple[bool, str]:
    """Name the GPUs, what they can do, and what keeps them from doing it."""
    import torch

    from selfseg.kernels.on_gpu import triton_fault

    card, version_of_torch = _nvidia_driver(), torch.__version__.partition("+")[0]
    if torch.version.cuda is None and torch.version.hip is None and card is not None:
        mend = f"pip install --force-reinstall torch=={version_of_torch}"
        return False, f"an NVIDIA card (driver {card}), but a torch for CPUs only: {mend}"
    if not torch.cuda.is_available():
        return True, "no CUDA GPU" + (f" that torch can use, though there is driver {card}" if card else "")
    lines = []
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        memory, capability = torch.cuda.mem_get_info(device), torch.cuda.get_device_capability(device)
        fault = triton_fault(device)
        lines.append(
            f"{device}: {torch.cuda.get_device_name(device)}, {memory[0] / 2**30:.1f} of {memory[1] / 2**30:.1f} GiB free, "
            f"compute capability {'.'.join(map(str, capability))}, driver {card or 'unknown'}, "
            f"{'with Triton' if fault is None else f'without Triton ({fault})'}"
        )
    return True, "; ".join(lines)


def _nvidia_driver() -> str | None:
    """Return the version of the NVIDIA driver of this machine; None without one."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        words = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        if said.returncode == 0 and said.stdout.strip():
            return said.stdout.splitlines()[0].strip()
    loaded = Path("/proc/driver/nvidia/version")
    found = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", loaded.read_text(encoding="utf-8")) if loaded.exists() else None
    return None if found is None else found[1]


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
    kept = [
        kernel for kernel in kernels if kernel.targetoptions.get("inline") != "always"
    ]  # others are part of their callers
    folders: set[str] = {kernel.stats.cache_path or "" for kernel in kept}
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
