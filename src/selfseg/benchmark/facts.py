"""What a benchmark's figures depend on: commit, versions, hardware."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from selfseg.core.threads import n_threads
from selfseg.results.model import selfseg_version

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "scikit-learn", "numba")


def run_facts() -> dict[str, str]:
    """Return commit, date, versions and hardware, as short strings."""
    facts = {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "selfseg": selfseg_version(),
        "python": platform.python_version(),
        "processor": processor(),
        "cores": f"{n_threads()} of {os.cpu_count()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "device": device(),
    }
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def commit() -> str:
    """Return the commit of the checkout that this package lies in, marked where files differ; else ``not a checkout``."""
    folder = Path(__file__).parent
    try:
        asked = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
        found = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() if found.returncode == 0 else "not a checkout"


def processor() -> str:
    """Return the processor's name, or its architecture where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def device() -> str:
    """Return where networks are computed."""
    import torch

    from selfseg.train.precision import choose_device

    chosen = choose_device("auto")
    return f"{chosen.type} ({torch.cuda.get_device_name(chosen)})" if chosen.type == "cuda" else chosen.type
