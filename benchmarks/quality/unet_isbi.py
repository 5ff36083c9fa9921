"""U-Net on ISBI 2012 without the leak: sections 0 to 14 train, 15 to 19 test, split by section before any view is drawn.

    python benchmarks/quality/unet_isbi.py --data DATA --set border=10 --set class_balance=1 -o unet_isbi.json

`--data` is a folder with `isbi2012/train-volume_00-19.tif` and `train-labels_00-19.tif`. The test sections carry about four times the
noise of most training sections. V_rand and V_info are foreground-restricted, after thinning, mean over sections; the challenge
takes their best value over thresholds of the membrane probability, which is an oracle: both are given.
"""

import argparse
import json
import platform
import statistics
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from selfseg import Segmenter
from selfseg.core.files import write_json
from selfseg.core.progress import Silent
from selfseg.measure.instances import foreground_scores
from selfseg.measure.kinds import mask_kind
from selfseg.read.datasets import find_dataset

FIRST_TEST = 15
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def sections(data: Path) -> tuple[list, list]:
    """Return the items of both splits of the dataset, in the order of the sections, cut at the protocol's own place."""
    dataset = find_dataset("isbi2012")
    items = sorted(
        (item for split in dataset.splits for item in dataset.items(split, data)), key=lambda item: item.name
    )
    return items[:FIRST_TEST], items[FIRST_TEST:20]


def score(membrane: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """Score cells, 1, between membranes, 0."""
    cells = (membrane <= threshold).astype(np.uint8)
    found, mask = foreground_scores(cells, truth), mask_kind(cells, truth)
    walls = mask_kind(1 - cells, 1 - truth)
    return {
        "v_rand": found.rand,
        "v_info": found.info,
        "cell_iou": mask.means["mean_iou"],
        "membrane_iou": walls.means["mean_iou"],
        "accuracy": mask.pooled["accuracy"].sum / mask.pooled["accuracy"].weight,
    }


def table(model: Segmenter, test: list) -> dict[str, dict[str, float]]:
    """Return mean scores at the threshold of one half, and at the best one by V_rand."""
    rows: dict[float, list] = {threshold: [] for threshold in THRESHOLDS}
    seconds = []
    for item in test:
        result, truth = model.predict_image(item.load_image()), item.load_truths()[0]
        seconds.append(result.seconds)
        for threshold in THRESHOLDS:
            rows[threshold].append(score(result.probabilities[0], truth, threshold))
    means = {t: {key: statistics.mean(row[key] for row in found) for key in found[0]} for t, found in rows.items()}
    best = max(means, key=lambda t: means[t]["v_rand"])
    return {
        "one half": means[0.5],
        "best threshold": {"threshold": best, **means[best]},
        "seconds": {"median": statistics.median(seconds)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--model", type=Path, help="Folder to keep the model in; a finished one there is taken as it is."
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("unet_isbi.json"))
    options = parser.parse_args()
    train, test = sections(options.data)
    settings = {key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in options.settings)}
    model = Segmenter("unet", seed=options.seed, options=settings)
    if options.model is not None and (options.model / "config.json").exists():
        model = Segmenter.load(options.model)
    else:
        labels = [item.load_truths()[0] for item in train]
        how = {"out": options.model, "resume": options.model is not None, "progress": Log()}
        model.fit([item.load_image() for item in train], labels, labels_as="full", **how)
    found = {"as it is": table(model, test)}
    model.method_.config = model.method_.config.changed(symmetries=True)
    found["over 8 symmetries"] = table(model, test)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    facts = {"commit": commit, "machine": platform.platform(), "settings": settings, "seed": options.seed}
    write_json(
        options.out,
        {**facts, "seconds": model.facts_["seconds"], "held_out": model.facts_["held_out"], "scores": found},
    )
    print(json.dumps(found, indent=1), "trained in", model.facts_["seconds"], "s")


class Log(Silent):
    """Prints every hundredth step."""

    def update(self, done: int, values: Mapping[str, float]) -> None:
        """Print some."""
        if done % 100 == 0:
            print(done, {name: round(float(value), 3) for name, value in values.items()}, flush=True)

    def say(self, message: str) -> None:
        """Print all."""
        print(message, flush=True)


if __name__ == "__main__":
    main()
