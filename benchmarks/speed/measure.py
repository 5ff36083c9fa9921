"""Speed of the measures: one 321x481 segmentation, and one merge tree, against five annotators.

    python benchmarks/speed/measure.py [--json OUT.json]

Each row gives the median and the spread of several runs after one warm-up. Where another way to the same figures
exists, its time stands beside ours, measured in the same run. The maps are made here: Voronoi cells of random points.
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
from scipy.spatial import KDTree
from skimage.metrics import variation_of_information
from sklearn import metrics

from selfseg import measure

SHAPE = (321, 481)
LEVELS = 50


def cells(n: int, seed: int) -> np.ndarray:
    """Label each pixel with the nearest of `n` random points."""
    points = np.random.default_rng(seed).random((n, 2)) * SHAPE
    pixels = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    return KDTree(points).query(pixels)[1]


def random_tree(leaves: int) -> tuple[np.ndarray, np.ndarray]:
    """Merge two random regions at a time, at rising altitudes."""
    rng, tops = np.random.default_rng(0), list(range(leaves))
    parents = np.full(2 * leaves - 1, 2 * leaves - 2)
    for node in range(leaves, 2 * leaves - 1):
        for _ in range(2):
            parents[tops.pop(int(rng.integers(len(tops))))] = node
        tops.append(node)
    return parents, np.concatenate([np.zeros(leaves), np.sort(rng.random(leaves - 1))])


def clock(call: Callable[[], Any], repeats: int = 9) -> dict[str, float]:
    """Return median and extremes of the wall time in milliseconds, after one warm-up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return {"median_ms": float(np.median(times)), "min_ms": min(times), "max_ms": max(times)}


def elsewhere(labels: np.ndarray, truths: np.ndarray) -> None:
    """Compute the scores that scikit-learn and scikit-image have too (no covering, no mean best IoU)."""
    for truth in truths:
        flat = truth.ravel(), labels.ravel()
        metrics.rand_score(*flat)
        metrics.adjusted_rand_score(*flat)
        metrics.adjusted_mutual_info_score(*flat)
        metrics.homogeneity_completeness_v_measure(*flat)
        metrics.fowlkes_mallows_score(*flat)
        variation_of_information(truth, labels)


def recounted(
    superpixels: np.ndarray, parents: np.ndarray, altitudes: np.ndarray, levels: np.ndarray
) -> list[np.ndarray]:
    """Relabel the pixels at each level of the tree, as one would without summed tables."""
    maps = []
    for level in levels:
        top = np.arange(len(parents))
        for node in range(len(parents) - 2, -1, -1):
            if altitudes[parents[node]] <= level:
                top[node] = top[parents[node]]
        maps.append(top[superpixels])
    return maps


def rows() -> list[dict[str, Any]]:
    """Measure everything."""
    truths = np.stack([cells(n, n) for n in (5, 10, 16, 22, 30)])
    labels, superpixels = cells(150, 1), cells(1000, 2)
    parents, altitudes = random_tree(1000)
    levels = np.linspace(0, 1, LEVELS)
    maps = recounted(superpixels, parents, altitudes, levels)
    calls: list[tuple[str, Callable[[], Any], Callable[[], Any] | None, float | None]] = [
        ("all region scores", lambda: measure.region_scores(labels, truths), lambda: elsewhere(labels, truths), 20.0),
        ("covering", lambda: measure.covering(labels, truths), None, None),
        ("Kim's mIoU", lambda: measure.best_overlap_miou(labels, truths), None, None),
        ("boundary F", lambda: measure.boundary_f(labels, truths), None, None),
        (
            f"tree of 1000, {LEVELS} levels",
            lambda: measure.tree_scores(superpixels, parents, altitudes, truths, levels),
            lambda: measure.list_scores(maps, truths),
            300.0,
        ),
    ]
    result = []
    for name, ours, other, bar in calls:
        row: dict[str, Any] = {"what": name, **clock(ours), "bar_ms": bar}
        row["other_ms"] = clock(other, 3)["median_ms"] if other else None
        result.append(row)
    return result


def machine() -> dict[str, Any]:
    """Name the commit and the hardware."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "commit": git.stdout.strip(),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": load,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    report = {"machine": machine(), "shape": SHAPE, "annotators": 5, "rows": rows()}
    print(f"{'against 5 annotators, 321x481':32}{'median':>9}{'min':>9}{'max':>9}{'bar':>9}{'elsewhere':>11}   (ms)")
    for row in report["rows"]:
        figures = [row["median_ms"], row["min_ms"], row["max_ms"], row["bar_ms"], row["other_ms"]]
        texts = ["-" if value is None else f"{value:.1f}" for value in figures]
        print(f"{row['what']:32}" + "".join(f"{text:>9}" for text in texts[:4]) + f"{texts[4]:>11}")
    print(json.dumps(report["machine"]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
