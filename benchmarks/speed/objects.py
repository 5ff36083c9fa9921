"""Objects: seconds and peak memory over the size of the image, 0.3 to 16 megapixels, and of a volume of a million voxels.

    python benchmarks/speed/objects.py [-o FILE.json] [--megapixels 0.33,1,4,16] [--photo IMAGE]

The image is a field of round objects of many brightnesses on an uneven ground with noise, uint8, one channel (or `--photo`, repeated until
it is large enough). Learning and finding, as `selfseg segment --method objects` does them, each size in a process of its own, on one
thread; seconds are of the processor. Memory is the peak of the resident memory above that before the image is prepared, for each pixel; the
image in memory, and what it is prepared to (4 bytes a pixel and channel), are counted in.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def field(side_y: int, side_x: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.full((side_y, side_x), 30, np.float32) + 20 * np.linspace(0, 1, side_x, dtype=np.float32)
    for _ in range(side_y * side_x // 3000):
        r = rng.uniform(6, 16)
        cy, cx = rng.uniform(0, side_y), rng.uniform(0, side_x)
        top, left = max(0, int(cy - r)), max(0, int(cx - r))
        y, x = np.mgrid[top : min(side_y, int(cy + r) + 1), left : min(side_x, int(cx + r) + 1)]
        part = image[top : top + y.shape[0], left : left + y.shape[1]]
        part[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = rng.uniform(80, 200)
    noise = rng.normal(0, 5, image.shape).astype(np.float32)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def volume() -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (100, 100, 100)
    image = np.full(shape, 25.0, np.float32)
    grid = np.mgrid[: shape[0], : shape[1], : shape[2]]
    for _ in range(400):
        inside = (
            sum((axis - rng.uniform(0, n)) ** 2 for axis, n in zip(grid, shape, strict=True)) < rng.uniform(3, 6) ** 2
        )
        image[inside] = rng.uniform(70, 200)
    return np.clip(image + rng.normal(0, 5, shape), 0, 255).astype(np.uint8)


def one(megapixels: float, photo: str | None) -> None:
    """Segment one image in this process, and print its row."""
    from selfseg.core.image import Image
    from selfseg.core.machine import peak_memory, reset_peak_memory, resident_memory
    from selfseg.learning.run import segment
    from selfseg.read import read_image

    segment(Image(field(300, 300), "YX"), method="objects").instances()  # compiles the kernels, imports the packages
    if not megapixels:
        image = Image(volume(), "ZYX")
        segment(Image(image.data[:30, :30, :30], "ZYX"), method="objects")
    elif photo:
        plain = read_image(photo)
        times = max(1, round((megapixels * 1e6 / np.prod(plain.spatial_shape)) ** 0.5))
        image = Image(np.tile(plain.channels_last(), (times, times, 1)), "YXC")
    else:
        side = (megapixels * 1e6 / 1.25) ** 0.5
        image = Image(field(round(side), round(1.25 * side)), "YX")
    before, counted, begun = resident_memory(), reset_peak_memory(), time.process_time()
    found = segment(image, method="objects").objects
    seconds, n_pixels = time.process_time() - begun, float(np.prod(image.spatial_shape))
    row = {
        "megapixels": n_pixels / 1e6,
        "seconds": seconds,
        "objects": int(found.max()),
        "dims": len(image.spatial_shape),
    }
    row["bytes_a_pixel"] = (peak_memory() - before) / n_pixels if counted else None
    print(json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", default="0.33,1,4,16,0", help="0 = the volume")
    parser.add_argument("--photo")
    parser.add_argument("--one", type=float)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    if options.one is not None:
        one(options.one, options.photo)
        return
    threads = dict.fromkeys(("OMP_NUM_THREADS", "SELFSEG_THREADS", "NUMBA_NUM_THREADS"), "1")
    rows = []
    for size in options.megapixels.split(","):
        command = [sys.executable, __file__, "--one", size, *(["--photo", options.photo] if options.photo else [])]
        done = subprocess.run(command, env=os.environ | threads, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        row = rows[-1]
        words = (
            f"{row['seconds']:.2f} s, {row['seconds'] / row['megapixels']:.2f} s a megapixel, {row['objects']} objects"
        )
        print(
            f"{row['dims']}D {row['megapixels']:6.2f} megapixels: {words}, {row['bytes_a_pixel']:.0f} bytes a pixel",
            flush=True,
        )
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
