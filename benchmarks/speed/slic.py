"""SLIC superpixels: time on two pictures and a volume, and achievable segmentation accuracy (ASA), beside scikit-image.

    python benchmarks/speed/slic.py [--data DIR] [--photos 20] [--json OUT.json]

Time is the median and the spread of nine runs after one warm-up, both sides in turn in one run. Ours is given Lab, as the methods
do, and the conversion has a row of its own; scikit-image converts inside. ASA (Liu et al., CVPR 2011) is the share of pixels that
are right if every superpixel takes the label of the human segment it shares most pixels with: the mean over annotators, then over
photos of BSDS500 val, taken evenly. Without `--data` there is no ASA, and the pictures are noise made smooth.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter
from skimage.segmentation import slic as skimage_slic

from selfseg.core.machine import n_threads
from selfseg.measure import contingency
from selfseg.regions.slic import slic
from selfseg.regions.texture import rgb_to_lab

COMPACTNESS = 10.0
REPEATS = 9


def picture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Smooth noise in 0-1 with three channels."""
    noise = np.random.default_rng(seed).normal(size=(*shape, 3))
    smooth = gaussian_filter(noise, (*[6] * len(shape), 0)) + gaussian_filter(noise, (*[1] * len(shape), 0)) / 12
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def photo(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A photo in 0-1, resized to ``(width, height)`` if wanted."""
    opened = Picture.open(path).convert("RGB")
    return np.asarray(opened if size is None else opened.resize(size), np.float32) / 255


def clock(calls: list[Callable[[], Any]]) -> list[dict[str, float]]:
    """Return median and extremes of each call's wall time in milliseconds; the calls take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(REPEATS):
        for call, found in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            found.append((time.perf_counter() - start) * 1e3)
    return [{"median_ms": float(np.median(t)), "min_ms": min(t), "max_ms": max(t)} for t in times]


def speed(data: Path | None) -> list[dict[str, Any]]:
    """Time all cases."""
    if data is None:
        small, frame = picture((321, 481)), picture((360, 640))
    else:
        small = photo(next(iter(sorted((data / "bsds500" / "images" / "val").glob("*.jpg")))))
        frame = photo(data / "video" / "cheetah" / "0250.jpg", (640, 360))
    volume = picture((32, 128, 128))
    cases = [
        ("600 on 321x481", small, 600, None, 40.0),
        ("12,000 on 640x360", frame, 12_000, None, 120.0),
        ("500 on 32x128x128, spacing 3,1,1", volume, 500, (3.0, 1.0, 1.0), None),
    ]
    rows = []
    for name, image, n, spacing, bar in cases:
        lab = rgb_to_lab(image)

        def ours(lab=lab, n=n, spacing=spacing):
            return slic(lab, n, COMPACTNESS, spacing)

        def theirs(image=image, n=n, spacing=spacing):
            return skimage_slic(image, n, COMPACTNESS, spacing=spacing, start_label=0, channel_axis=-1)

        times = clock([ours, theirs, lambda image=image: rgb_to_lab(image)])
        counts = int(ours().max()) + 1, int(theirs().max()) + 1
        rows.append({"what": name, "bar_ms": bar, "ours": times[0], "skimage": times[1], "lab": times[2], "n": counts})
    return rows


def accuracy(data: Path, n_photos: int) -> list[dict[str, Any]]:
    """Return the mean ASA of both on photos of BSDS500 val, and of scikit-image when asked for more, to give as many as ours."""
    root = data / "bsds500"
    paths = sorted((root / "images" / "val").glob("*.jpg"))
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(n_photos, len(paths))).round().astype(int)]
    rows = []
    for n in (600, 2400):
        scores: dict[str, list[float]] = {"ours": [], "skimage": [], "skimage, as many": []}
        counts: dict[str, list[int]] = {side: [] for side in scores}
        for path in chosen:
            image = photo(path)
            with np.load(root / "groundTruth" / "val" / f"{path.stem}.npz") as file:
                truths = file["segmentations"]
            found = {
                "ours": slic(rgb_to_lab(image), n, COMPACTNESS),
                "skimage": skimage_slic(image, n, COMPACTNESS, start_label=0, channel_axis=-1),
            }
            more = n
            for _ in range(3):
                found["skimage, as many"] = skimage_slic(image, more, COMPACTNESS, start_label=0, channel_axis=-1)
                more = round(more * found["ours"].max() / found["skimage, as many"].max())
            for side, labels in found.items():
                scores[side].append(float(np.mean([asa(labels, truth) for truth in truths])))
                counts[side].append(int(labels.max()) + 1)
        for side in scores:
            row = {"wanted": n, "side": side, "asa": float(np.mean(scores[side])), "photos": len(chosen)}
            rows.append(row | {"superpixels": float(np.mean(counts[side]))})
    return rows


def asa(labels: np.ndarray, truth: np.ndarray) -> float:
    """Achievable segmentation accuracy of superpixels against one annotator."""
    table = contingency(labels, truth.astype(np.int64))
    largest = np.zeros(len(table.row_labels), np.int64)
    np.maximum.at(largest, table.rows, table.counts)
    return float(largest.sum() / table.total)


def machine() -> dict[str, Any]:
    """Name the commit and the hardware."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cpu = platform.processor() or platform.machine()
    return {"commit": git.stdout.strip(), "cpu": cpu, "cores": os.cpu_count(), "threads": n_threads(), "load": load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the development data")
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "speed": speed(options.data)}
    print(f"{'superpixels':34}{'median':>8}{'min':>8}{'max':>8}{'bar':>8}{'skimage':>9}{'to Lab':>8}   (ms)  found")
    for row in report["speed"]:
        ours = [row["ours"][key] for key in ("median_ms", "min_ms", "max_ms")]
        texts = ["-" if v is None else f"{v:.1f}" for v in (*ours, row["bar_ms"])]
        others = f"{row['skimage']['median_ms']:>9.1f}{row['lab']['median_ms']:>8.1f}"
        print(f"{row['what']:34}" + "".join(f"{text:>8}" for text in texts) + f"{others}         {row['n']}")
    if options.data:
        report["accuracy"] = accuracy(options.data, options.photos)
        for row in report["accuracy"]:
            found = f"{row['superpixels']:.0f} of {row['wanted']} superpixels"
            print(f"ASA {row['side']:17} {row['asa']:.4f}  {found}, {row['photos']} photos")
    print(json.dumps(report["machine"]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
