"""Do the presets of feature clustering keep up with the paper's? Covering and PRI on BSDS500 val images, one model an image.

    python benchmarks/quality/presets.py --data DATA --limit 20 --presets default,fast,paper -o presets.json

`--data` is a folder with `bsds500/images/val/*.jpg` and `bsds500/groundTruth/val/*.npz` (one array `segmentations`,
`[annotators Y X]`). Every segmentation is scored as it comes out, without a choice of scale: once with classes as segments, once
with the connected components of the classes. Rows are written as they are made; a run that is cut off goes on where it was.
Kim et al.'s mIoU (2020: components, best overlap, pooled over all truth segments of all photos) stands below, with its standard error
over photos. `--set` gives options of the method, such as `n_classes=17` for `kmeans`.
"""

import argparse
import json
import platform
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
from skimage.measure import label as components

from selfseg import Segmenter
from selfseg.core.files import write_json
from selfseg.measure import best_overlap_sums, covering, probabilistic_rand_index, variation_of_information


def score(labels: np.ndarray, truths: np.ndarray) -> dict[str, float]:
    """Covering, probabilistic Rand index and variation of information (bits), over all annotators."""
    views = list(truths)
    return {
        "covering": covering(labels, views),
        "pri": probabilistic_rand_index(labels, views),
        "vi": statistics.mean(variation_of_information(labels, truth) for truth in views),
    }


ANNOTATORS = ("all", "fine", "coarse")


def run_one(photo: Path, method: str, preset: str, seed: int, options: dict[str, str]) -> dict[str, object]:
    truths = np.load(photo.parents[2] / "groundTruth" / "val" / f"{photo.stem}.npz")["segmentations"]
    begun = time.monotonic()
    model = Segmenter(method, preset=preset, options=options, seed=seed).fit(photo)
    result = model.predict(photo)
    seconds = time.monotonic() - begun
    parts = components(result.labels, background=0, connectivity=1)
    best = {which: best_overlap_sums(result.labels, list(truths), which) for which in ANNOTATORS}
    return {
        "image": photo.stem,
        "method": method,
        "preset": preset,
        "seed": seed,
        "seconds": round(seconds, 2),
        "steps": model.facts_["steps"],
        "classes": len(result.table),
        "best overlap": {which: [found.sum, found.weight] for which, found in best.items()},
        "as classes": score(result.labels, truths),
        "as components": score(parts, truths),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--method", default="feature_clustering")
    parser.add_argument("--presets", default="default,fast,paper")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=Path("presets.json"))
    options = parser.parse_args()
    photos = sorted((options.data / "bsds500" / "images" / "val").glob("*.jpg"))
    photos = photos[:: max(1, len(photos) // options.limit)][: options.limit]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    done = {(row["image"], row["method"], row["preset"], row["seed"]) for row in rows}
    given = dict(pair.split("=", 1) for pair in options.set)
    for photo in photos:
        for preset in options.presets.split(","):
            if (photo.stem, options.method, preset, options.seed) not in done:
                rows.append(run_one(photo, options.method, preset, options.seed, given))
                write_json(options.out, {"commit": commit, "machine": platform.platform(), "rows": rows})
    table(rows)


HEAD = ("method", "preset", "seconds", "steps", "classes", "cov c", "cov p", "PRI c", "PRI p", "VI c", "VI p")


def table(rows: list[dict]) -> None:
    """Print the means of each preset, over the images that all presets have."""
    presets = sorted({(row["method"], row["preset"]) for row in rows})
    shared = set.intersection(*({r["image"] for r in rows if (r["method"], r["preset"]) == p} for p in presets))
    print(f"{len(shared)} images of BSDS500 val, one output each; c = classes as segments, p = their components")
    print("".join(f"{word:20s}" if word == "method" else f"{word:>9s}" for word in HEAD))
    for method, preset in presets:
        mine = [row for row in rows if (row["method"], row["preset"]) == (method, preset) and row["image"] in shared]
        figures = [statistics.mean(row[key] for row in mine) for key in ("seconds", "steps", "classes")]
        for key in ("covering", "pri", "vi"):
            figures += [statistics.mean(row[kind][key] for row in mine) for kind in ("as classes", "as components")]
        shown = "".join(f"{value:9.1f}" for value in figures[:3]) + "".join(f"{value:9.3f}" for value in figures[3:])
        print(f"{method:20s}{preset:>9s}{shown}")
        if all("best overlap" in row for row in mine):
            words = [f"{which} {miou(mine, which)}" for which in ANNOTATORS]
            print(f"{'':20s}{'':9s} Kim mIoU: {', '.join(words)}")


def miou(rows: list[dict], which: str) -> str:
    """Return the pooled score of all photos, and its standard error by leaving out one photo at a time (the jackknife)."""
    sums, counts = np.array([row["best overlap"][which] for row in rows]).T
    pooled = sums.sum() / counts.sum()
    if len(rows) == 1:
        return f"{pooled:.3f}"
    without = (sums.sum() - sums) / (counts.sum() - counts)
    error = np.sqrt((len(rows) - 1) * np.square(without - without.mean()).mean())
    return f"{pooled:.3f} +- {error:.3f}"


if __name__ == "__main__":
    main()
