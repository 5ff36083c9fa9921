"""Speed of what reading does in its own way for safety: LZW against imagecodecs, windows of plain values against a memory map.

    python benchmarks/speed/reading.py [--repeats 9] [--json OUT.json]

Both sides of a row take turns in one run, after one warm-up each; figures are medians (least to most) of the process's processor time,
since others may use the machine. The file is in the system's cache. LZW: a photograph of scikit-image, twenty times, in strips of 64
KiB. Windows: 512 x 512 of a 12,000 x 12,000 uint8 image, at random places; and slices of a 400 x 500 x 600 uint16 volume.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from skimage import data

from selfseg.read._lazy_array import FileArray
from selfseg.read._lzw import unpack_lzw

STRIP = 1 << 16


def processor_ms(call: Callable[[], Any]) -> float:
    begun = time.process_time()
    call()
    return 1e3 * (time.process_time() - begun)


def compare(name: str, ours: Callable[[], Any], other: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Let both take turns, and print a row."""
    times = np.array([(processor_ms(ours), processor_ms(other)) for _ in range(repeats + 1)][1:])
    medians = np.median(times, axis=0)
    shown = [
        f"{m:8.2f} ({low:.2f} to {high:.2f})" for m, low, high in zip(medians, times.min(0), times.max(0), strict=True)
    ]
    print(f"{name:44} ours {shown[0]:28} other {shown[1]:28} ratio {medians[0] / medians[1]:.2f}", flush=True)
    return {"name": name, "ours_ms": times[:, 0].tolist(), "other_ms": times[:, 1].tolist()}


def lzw(repeats: int) -> dict[str, Any]:
    values = np.tile(np.asarray(data.camera()).ravel(), 20)
    strips = [imagecodecs.lzw_encode(values[i : i + STRIP].tobytes()) for i in range(0, len(values), STRIP)]

    def ours() -> None:
        for strip in strips:
            unpack_lzw(strip, STRIP)

    def other() -> None:
        for strip in strips:
            imagecodecs.lzw_decode(strip, out=STRIP)

    return compare(f"LZW, {len(values) / 1e6:.1f} MB, against imagecodecs", ours, other, repeats)


def windows(folder: Path, repeats: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    shape, kind = (12_000, 12_000), np.uint8
    corners = rng.integers(0, 12_000 - 512, (60, 2))
    places = [tuple(slice(int(a), int(a) + 512) for a in corner) for corner in corners]
    rows.append(_against_a_map(folder / "image", "60 windows of 512 x 512", shape, kind, places, repeats))
    shape, kind = (400, 500, 600), np.uint16
    for axis, letter in enumerate("zyx"):
        places = [tuple(slice(7, 8) if a == axis else slice(0, n) for a, n in enumerate(shape))]
        rows.append(
            _against_a_map(folder / "volume", f"a slice of a volume across {letter}", shape, kind, places, repeats)
        )
    return rows


def _against_a_map(path: Path, name: str, shape: Any, kind: Any, places: list[Any], repeats: int) -> dict[str, Any]:
    if not path.exists():
        np.random.default_rng(1).integers(0, 255, shape, dtype=kind).tofile(path)
    array = FileArray(path, kind, 0, shape)

    def ours() -> None:
        for place in places:
            array[place]

    def other() -> None:
        mapped = np.memmap(path, kind, "r", 0, shape)
        for place in places:
            np.array(mapped[place])

    return compare(f"{name}, against a memory map", ours, other, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    about = {
        "commit": commit,
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(about))
    with tempfile.TemporaryDirectory() as folder:
        rows = [lzw(asked.repeats), *windows(Path(folder), asked.repeats)]
    if asked.json is not None:
        asked.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
