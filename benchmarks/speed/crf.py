"""Speed and exactness of the fully connected CRF: the lattice against all pairs computed one by one.

    python benchmarks/speed/crf.py [--data DATA] [--rows 128] [--json OUT.json]

Each row gives the median and the spread of several runs after one warm-up, and the processor time of a run, which tells more
where other programs are running. Both sides get the same features, normalisation and rounds; the pairwise side is float32
NumPy (BLAS) with its kernels kept in memory, so it exists for small images only. Photographs come from `--data` (BSDS500 train),
else from scikit-image. The probabilities are those of a noisy k-means of the colours.
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
from skimage import data
from skimage.transform import resize
from sklearn.cluster import KMeans

from selfseg.core.files import write_json
from selfseg.core.machine import n_threads
from selfseg.refine.crf import dense_crf
from selfseg.refine.lattice import Lattice
from selfseg.refine.mean_field import Normalised
from selfseg.refine.steps import KINDS

WEIGHT, SPACE, COLOUR, SMOOTH, NEAR = (float(p.default or 0) for p in KINDS["crf"].parameters[:5])
SMALL = (64, 96)


def probabilities(image: np.ndarray, n_classes: int, seed: int = 0) -> np.ndarray:
    """Soft k-means of the colours of ``[C *S]``, with a tenth of the pixels spoilt."""
    rng = np.random.default_rng(seed)
    pixels = image.reshape(len(image), -1).T
    distances = KMeans(n_classes, n_init=1, random_state=seed).fit(pixels).transform(pixels)
    logits = -distances / distances.mean() * 4
    spoilt = rng.random(len(pixels)) < 0.1
    logits[spoilt] = rng.normal(0, 1, (spoilt.sum(), n_classes))
    powers = np.exp(logits - logits.max(1, keepdims=True))
    powers /= powers.sum(1, keepdims=True)
    return np.ascontiguousarray(powers.T.reshape(n_classes, *image.shape[1:]), np.float32)


def photos(folder: Path | None) -> dict[str, np.ndarray]:
    """Return some photographs ``[3 Y X]`` in 0-1."""
    if folder is None:
        found = {name: getattr(data, name)() for name in ("astronaut", "coffee", "chelsea")}
    else:
        from PIL import Image

        files = sorted((folder / "bsds500" / "images" / "train").glob("*.jpg"))[::40]
        found = {file.stem: np.asarray(Image.open(file)) for file in files}
    return {name: np.moveaxis(photo / 255.0, -1, 0).astype(np.float32) for name, photo in found.items()}


def kernel(points: np.ndarray) -> np.ndarray:
    """Return the normalised kernel of all pairs without its diagonal, ``[N N]``."""
    norms = (points**2).sum(1)
    pairs = np.exp(np.minimum(points @ points.T - 0.5 * (norms[:, None] + norms), 0))
    root = 1 / np.sqrt(pairs.sum(1))
    pairs *= root[:, None] * root
    np.fill_diagonal(pairs, 0)
    return pairs


def features(image: np.ndarray, space: float, colour: float) -> np.ndarray:
    """Return place and colour in standard deviations, centred: ``[N d]``."""
    places = np.indices(image.shape[1:], np.float32).reshape(image.ndim - 1, -1) / space
    points = np.concatenate([places, image.reshape(len(image), places.shape[1]) / colour]).T
    return np.ascontiguousarray(points - points.mean(0), np.float32)


def all_pairs(before: np.ndarray, image: np.ndarray, options: dict[str, float]) -> np.ndarray:
    """Mean field with both kernels of all pairs."""
    alike = kernel(features(image, options["bilateral_sigma_space"], options["bilateral_sigma_colour"]))
    alike *= options["bilateral_weight"]
    alike += options["spatial_weight"] * kernel(features(image[:0], options["spatial_sigma"], 1))
    unary = np.log(before.reshape(len(before), -1).T)
    beliefs = np.exp(unary)
    for _ in range(10):
        logits = unary + alike @ beliefs
        beliefs = np.exp(logits - logits.max(1, keepdims=True))
        beliefs /= beliefs.sum(1, keepdims=True)
    return beliefs.T.reshape(before.shape)


def clock(call: Callable[[], Any], repeats: int = 7) -> dict[str, float]:
    """Return median and extremes of the wall time, and the least processor time, in milliseconds, after one warm-up."""
    call()
    wall, busy = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        call()
        wall.append((time.perf_counter() - start) * 1e3)
        busy.append((time.process_time() - used) * 1e3)
    return {"median_ms": float(np.median(wall)), "min_ms": min(wall), "max_ms": max(wall), "cpu_ms": min(busy)}


def speed(image: np.ndarray) -> list[dict[str, Any]]:
    """Time the whole CRF at three sizes, and all pairs at the smallest."""
    options = {"bilateral_sigma_colour": COLOUR}
    volume = resize(image.mean(0)[:256, :256], (64, 64), anti_aliasing=True)[None, None].astype(np.float32)
    volume = volume + np.random.default_rng(0).normal(0, 0.03, (1, 64, 64, 64)).astype(np.float32)
    small = resize(image, (3, *SMALL), anti_aliasing=True).astype(np.float32)
    pairs = {**options, "bilateral_sigma_space": SPACE / 5, "spatial_sigma": NEAR / 3, "bilateral_weight": WEIGHT}
    pairs["spatial_weight"] = SMOOTH
    rows = []
    for name, picture, k in (("321x481, K=20", image, 20), ("321x481, K=5", image, 5), ("64x64x64, K=4", volume, 4)):
        before = probabilities(picture, k)
        space = {"bilateral_sigma_space": 20.0} if picture is volume else {}
        rows.append({"what": name, **clock(lambda b=before, p=picture, s=space: dense_crf(b, p, **options, **s))})
    before = probabilities(small, 5)
    name = "x".join(map(str, SMALL)) + ", K=5"
    rows.append({"what": name, **clock(lambda: dense_crf(before, small, **pairs))})
    rows.append({"what": f"{name}, all pairs", **clock(lambda: all_pairs(before, small, pairs), 2)})
    return rows


def message_error(image: np.ndarray, before: np.ndarray, space: float, n_rows: int = 200) -> np.ndarray:
    """Return the error of some pixels' bilateral messages (weight 1) against all pairs in float64."""
    points = features(image, space, COLOUR)
    beliefs = np.ascontiguousarray(before.reshape(len(before), -1).T)
    ours = np.zeros_like(beliefs)
    Normalised(Lattice(points), 1).add_message(beliefs, ours, (np.empty_like(beliefs), np.empty_like(beliefs)))
    some = np.random.default_rng(0).choice(len(points), n_rows, replace=False)
    sums, norms = np.empty(len(points)), (points**2).sum(1)
    for start in range(0, len(points), 2000):
        block = points[start : start + 2000]
        sums[start : start + 2000] = np.exp(block @ points.T - 0.5 * (norms[start : start + 2000, None] + norms)).sum(
            1, dtype=np.float64
        )
    rows = np.exp(-0.5 * ((points[some][:, None].astype(float) - points) ** 2).sum(2))
    rows[np.arange(n_rows), some] = 0
    return np.abs(ours[some] - rows / np.sqrt(sums[some, None] * sums) @ beliefs)


def exactness(name: str, image: np.ndarray, rows: int, n_classes: int = 5) -> dict[str, Any]:
    """Compare labels with those of all pairs on a small copy (its shorter side: rows), and messages at a third of the size."""
    third = resize(image, (3, image.shape[1] // 3, image.shape[2] // 3), anti_aliasing=True).astype(np.float32)
    sides = (rows, rows * 3 // 2)
    small = resize(image, (3, *(sides if image.shape[1] < image.shape[2] else sides[::-1])), anti_aliasing=True)
    small = small.astype(np.float32)
    options = {
        "bilateral_weight": WEIGHT,
        "bilateral_sigma_space": SPACE * small.shape[1] / image.shape[1],
        "bilateral_sigma_colour": COLOUR,
        "spatial_weight": SMOOTH,
        "spatial_sigma": NEAR * rows / 192,
    }
    before = probabilities(small, n_classes)
    exact = all_pairs(before, small, options)
    nudged = all_pairs(before, small, {**options, "bilateral_weight": 1.05 * WEIGHT}).argmax(0)
    labels = exact.argmax(0)
    error = message_error(third, probabilities(third, n_classes), SPACE / 3)
    return {
        "photo": name,
        "labels agree": float((dense_crf(before, small, **options).argmax(0) == labels).mean()),
        "a weight 5 % larger agrees": float((nudged == labels).mean()),
        "labels changed by the CRF": float((before.argmax(0) != labels).mean()),
        "message error mean": float(error.mean()),
        "message error p95": float(np.quantile(error, 0.95)),
        "message error max": float(error.max()),
    }


def machine() -> dict[str, Any]:
    """Name the commit and the hardware."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cpu = platform.processor() or platform.machine()
    return {"commit": git.stdout.strip(), "cpu": cpu, "cores": os.cpu_count(), "threads": n_threads(), "load": load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with bsds500/images/train/*.jpg")
    parser.add_argument(
        "--rows", type=int, default=SMALL[0], help="shorter side of the copies that all pairs are computed on"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    pictures = photos(options.data)
    first = resize(next(iter(pictures.values())), (3, 321, 481), anti_aliasing=True).astype(np.float32)
    report = {"machine": machine(), "speed": speed(first)}
    print(f"{'ten rounds':28}{'median':>10}{'min':>10}{'max':>10}{'processor':>11}   (ms)")
    for row in report["speed"]:
        print(f"{row['what']:28}" + "".join(f"{row[key]:10.0f}" for key in ("median_ms", "min_ms", "max_ms", "cpu_ms")))
    report["exactness"] = [exactness(name, picture, options.rows) for name, picture in pictures.items()]
    for row in report["exactness"]:
        print(", ".join(f"{key} {value:.4f}" if key != "photo" else value for key, value in row.items()))
    print(json.dumps(report["machine"]))
    if options.json:
        write_json(options.json, report)


if __name__ == "__main__":
    main()
