"""Calibration of the confidence: how often is a pixel right of which the model is so and so sure?

    python benchmarks/quality/confidence.py --limit 20

Each image is learned from alone. Labels are classes or regions without names, so each label is taken to mean the true region that most of
its pixels lie in (image by image, annotator by annotator); a pixel is right if it lies in that region. Printed for each method: mean
confidence, share of right pixels, the expected calibration error over ten bins of equal width, and the share of right pixels among the
tenth of the pixels of each image that is least sure and the tenth that is surest.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfseg.learning.segmenter import Segmenter
from selfseg.read.datasets import find_dataset

SETS = {"bsds500": ("contours", "feature_clustering", "kmeans"), "dsb2018": ("objects", "feature_clustering", "kmeans")}
BINS = 10


def right_pixels(labels: NDArray[np.integer], truth: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return where a pixel lies in the true region that most pixels of its label lie in, ``[*S]``."""
    regions, truth = np.unique(truth, return_inverse=True)
    counts = np.zeros((int(labels.max()) + 1, len(regions)), np.int64)
    np.add.at(counts, (labels.ravel(), truth.ravel()), 1)
    return counts.argmax(1)[labels] == truth.reshape(labels.shape)


def measure(method: str, dataset: str, data: Path, limit: int) -> dict[str, float]:
    """Return the figures of one method on images that are evenly spread over the default split of a dataset."""
    found = find_dataset(dataset)
    items = found.items(found.default_split, data)
    items = [items[i] for i in np.linspace(0, len(items) - 1, min(limit, len(items))).round().astype(int)]
    sums = np.zeros((BINS, 3))  # pixels, confidence, right
    least, most, mean = [], [], []
    for item in items:
        image = item.load_image()
        classes = found.n_classes if method != "objects" else None
        result = Segmenter(method, n_classes=classes, seed=0).fit(image).predict_image(image)
        confidence = result.confidence.ravel()
        right = np.mean([right_pixels(result.labels, truth).ravel() for truth in item.load_truths()], 0)
        places = np.minimum((confidence * BINS).astype(int), BINS - 1)
        for column, values in enumerate((np.ones_like(right), confidence, right)):
            sums[:, column] += np.bincount(places, values / len(right), BINS)
        order, tenth = np.argsort(confidence, kind="stable"), max(1, len(right) // 10)
        least.append(right[order[:tenth]].mean())
        most.append(right[order[-tenth:]].mean())
        mean.append(right.mean())
    weights = sums[:, 0] / sums[:, 0].sum()
    with np.errstate(invalid="ignore"):
        gaps = np.abs(sums[:, 1] - sums[:, 2]) / sums[:, 0]
    return {
        "images": len(items),
        "confidence": sums[:, 1].sum() / sums[:, 0].sum(),
        "right": float(np.mean(mean)),
        "error": float(np.nansum(weights * gaps)),
        "least sure": float(np.mean(least)),
        "surest": float(np.mean(most)),
    }


def main() -> None:
    """Print a row for each dataset and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--methods", help="Only these, by commas.")
    options = parser.parse_args()
    print(
        "| dataset | method | images | confidence | right | error | least sure | surest |\n|---|---|---|---|---|---|---|---|"
    )
    for dataset, methods in SETS.items():
        for method in [one for one in methods if options.methods is None or one in options.methods.split(",")]:
            row = measure(method, dataset, options.data, options.limit)
            values = " | ".join(f"{value:.3f}" if name != "images" else str(value) for name, value in row.items())
            print(f"| {dataset} | `{method}` | {values} |", flush=True)


if __name__ == "__main__":
    main()
