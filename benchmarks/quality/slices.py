"""A few slices in, the whole volume out: membranes of an ssTEM stack, by 2D methods that learn from three slices, and by baselines.

    python benchmarks/quality/slices.py --data DATA --run region_merging:cells --run feature_clustering:fast [--slices z] [--json OUT]

`DATA/volume3d/vnc_em_image.tif` has 20 sections of 512x512 with dense labels (0 = membrane). Each run learns from the `--frames` most
different slices, with `--classes` classes, and predicts all. The class that is the membrane is the one with the largest Dice against
the truth, chosen once for the whole volume: an oracle's choice, the same for the baselines, which are fitted to each slice. Printed
are the Dice of the membrane over the volume, and, as means over the slices, V_rand of the ISBI 2012 challenge (cells only, membranes
thinned) and its two halves; seconds to learn and to predict.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.benchmark.baselines._base import find_baseline
from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.measure import foreground_scores
from selfseg.read import read_image
from selfseg.read.frames import Frames
from selfseg.segmenting.images import Settings

MEMBRANE = 0


def method_labels(spec: str, volume: Image, options: argparse.Namespace) -> tuple[np.ndarray, float, float]:
    """Return the labels of the volume, and the seconds to learn and to predict, of ``method:preset:preparation``."""
    name, preset, prepare, *_ = (*spec.split(":", 2), "", "")
    model = Segmenter(name, options.classes, preset or "default", options.seed, prepare or None, "cpu")
    begun = time.perf_counter()
    model.fit(volume, slices="z", n_frames=options.frames)
    learned = time.perf_counter()
    labels = model.predict_image(volume, Settings(slices=options.slices)).labels
    return labels, learned - begun, time.perf_counter() - learned


def baseline_labels(name: str, volume: Image, options: argparse.Namespace) -> tuple[np.ndarray, float, float]:
    """Return the labels of the volume by a baseline, slice by slice."""
    begun = time.perf_counter()
    baseline = find_baseline(name)
    found = [
        baseline.segment(plane, options.classes, options.seed).labels
        for plane in Frames.along(volume, "Z").frames()
        if isinstance(plane, Image)
    ]
    return np.stack(found), 0.0, time.perf_counter() - begun


def scored(labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Choose the membrane class by its Dice, and score it."""
    inside = truth == MEMBRANE
    ids = [int(k) for k in np.unique(labels) if k > 0]
    dices = {k: 2 * ((labels == k) & inside).sum() / ((labels == k).sum() + inside.sum()) for k in ids}
    best = max(dices, key=lambda k: dices[k])
    rows = [foreground_scores(labels[z] != best, inside[z] == 0) for z in range(len(labels))]
    means = {key: float(np.mean([getattr(row, key) for row in rows])) for key in ("rand", "rand_split", "rand_merge")}
    return {"dice": float(dices[best]), **means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", action="append", default=[], metavar="METHOD:PRESET:PREPARATION")
    parser.add_argument("--baselines", default="otsu,k_means,otsu_watershed,slic_merge")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--slices", default="z", choices=["z", "y", "x", "all"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = options.data / "volume3d"
    volume = read_image(folder / "vnc_em_image.tif", "ZYX")
    truth = read_image(folder / "vnc_em_label.tif", "ZYX").data
    jobs = [(spec, method_labels) for spec in options.run]
    jobs += [(name, baseline_labels) for name in options.baselines.split(",") if name]
    print(f"{'':44}{'Dice':>7}{'V_rand':>8}{'split':>7}{'merge':>7}{'learn s':>9}{'predict s':>11}")
    report: list[dict[str, Any]] = []
    for name, job in jobs:
        labels, learn, predict = job(name, volume, options)
        row = {"name": name, **scored(labels, truth), "learn_s": learn, "predict_s": predict}
        report.append(row)
        figures = f"{row['dice']:7.3f}{row['rand']:8.3f}{row['rand_split']:7.3f}{row['rand_merge']:7.3f}"
        print(f"{name:44}{figures}{learn:9.1f}{predict:11.1f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
