"""Worth of a few strokes: the pixel classifier and the scribble loss of feature clustering from 1, 3 and 10 strokes a class, against none.

    python benchmarks/quality/strokes.py --data DATA --images 10 --ways pixel_classifier -o strokes.json

Of BSDS500 the classes are the segments of the first annotator: at most 8, the largest, of at least 2 % of the photo each; other
pixels do not count. Each image is segmented by itself. A rule draws the strokes from the truth: a place inside the class, drawn with the
image's name as seed and at least as deep as half of the class's places, and a straight line through it, in the best of 12 directions, up
to 20 pixels each way as long as it stays inside; 3 pixels wide. More strokes go on from fewer. The score is the mean over the classes of
the intersection over union, without the pixels under strokes. Without a stroke: the method for the kind of image, with the true number
of classes, each given to one of the truth's as suits them best, which strokes need not.
"""

import argparse
import json
import math
import time
import zlib
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from selfseg import Segmenter
from selfseg.core.files import write_json
from selfseg.read.datasets import find_dataset
from selfseg.refine.edits import NOT_DRAWN, draw

STROKES = (1, 3, 10)
LENGTH, RADIUS, DIRECTIONS = 20, 1.0, 12
WAYS = {
    "pixel_classifier": ("pixel_classifier", {}),
    "pixel_classifier:network": ("pixel_classifier", {"preset": "network"}),
    "feature_clustering": ("feature_clustering", {"preset": "fast"}),
}
UNSUPERVISED = {"dsb2018": "objects", "isbi2012": "membranes", "bsds500": "contours"}
MOST_SEGMENTS, LEAST_SHARE = 8, 0.02


def strokes_of(truth: np.ndarray, name: str, n: int) -> np.ndarray:
    """Draw n strokes for each of the classes 0, 1, ... of a truth (-1 = none): values 1, 2, ..., 255 = not drawn."""
    rows = []
    for kind in range(truth.max() + 1):
        inside = truth == kind
        depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        places = np.argwhere(inside & (depth >= np.median(depth[inside])))
        rng = np.random.default_rng(zlib.crc32(f"{name} {kind}".encode()))
        for place in rng.permutation(places)[:n]:
            rows.append({"plane": 0, "value": kind + 1, "radius": RADIUS, "points": longest(inside, place)})
    return draw(truth.shape, rows)


def longest(inside: np.ndarray, place: np.ndarray) -> list[tuple[float, float]]:
    """Return the ends of the longest line through a place that stays inside."""
    best: list[tuple[float, float]] = []
    most = -1.0
    for angle in np.arange(DIRECTIONS) * math.pi / DIRECTIONS:
        ends = []
        for side in (1, -1):
            step = side * np.array([math.sin(angle), math.cos(angle)])
            reach = 0
            while reach < LENGTH and is_inside(inside, place + (reach + 1) * step):
                reach += 1
            ends.append(tuple((place + reach * step + 0.5).tolist()))
        length = math.dist(*ends)
        if length > most:
            best, most = ends, length
    return best


def is_inside(inside: np.ndarray, point: np.ndarray) -> bool:
    row, column = np.round(point).astype(int)
    return 0 <= row < inside.shape[0] and 0 <= column < inside.shape[1] and bool(inside[row, column])


def score(found: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> float:
    """Return the mean IoU of the classes 0, 1, ... of the truth over the pixels that count."""
    return float(np.diag(overlaps(found, truth, counts)).mean())


def overlaps(found: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the IoU ``[K K]`` of each class of the labels with each of the truth, over the pixels that count."""
    kinds = range(truth.max() + 1)
    masks = [[(labels == kind)[counts] for kind in kinds] for labels in (found, truth)]
    return np.array([[(a & b).sum() / max(1, (a | b).sum()) for b in masks[1]] for a in masks[0]])


def truth_of(dataset: str, item) -> np.ndarray:
    """Return the classes of an image, 0, 1, ...; -1 = does not count."""
    given = np.asarray(item.load_truths()[0])
    if dataset != "bsds500":
        return (given > 0).astype(np.int16)
    names, areas = np.unique(given, return_counts=True)
    largest = names[np.argsort(-areas)][: min(MOST_SEGMENTS, int((areas >= LEAST_SHARE * given.size).sum()))]
    truth = np.full(given.shape, -1, np.int16)
    for kind, name in enumerate(largest):
        truth[given == name] = kind
    return truth


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--sets", nargs="+", choices=UNSUPERVISED, default=list(UNSUPERVISED))
    parser.add_argument("--split", default="val")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    rows = json.loads(given.out.read_text()) if given.out.exists() else []  # goes on where it was
    for dataset in given.sets:
        unsupervised = UNSUPERVISED[dataset]
        items = sorted(find_dataset(dataset).items(given.split, given.data), key=lambda item: item.name)
        for item in items[:: max(1, len(items) // given.images)][: given.images]:
            if any(row["image"] == item.name for row in rows):
                continue
            rows += measured(dataset, unsupervised, item, given.ways)
            write_json(given.out, rows)
    show(rows)


def measured(dataset: str, unsupervised: str, item, ways: list[str]) -> list[dict]:
    image = item.load_image()
    truth = truth_of(dataset, item)
    n_classes = int(truth.max()) + 1
    every = strokes_of(truth, item.name, max(STROKES))
    counts = (every == NOT_DRAWN) & (truth >= 0)  # the same pixels for all
    found = []

    def note(way: str, n: int, labels: np.ndarray, seconds: float, value: float | None = None) -> None:
        value = score(labels, truth, counts) if value is None else value
        found.append({"set": dataset, "image": item.name, "way": way, "strokes": n, "iou": value, "seconds": seconds})

    begun = time.perf_counter()
    labels = Segmenter(unsupervised, n_classes=n_classes).fit(image).predict(image).labels
    seconds = time.perf_counter() - begun
    each = overlaps(labels - 1, truth, counts)
    note(unsupervised, 0, labels, seconds, float(each[linear_sum_assignment(each, maximize=True)].mean()))
    for n in STROKES:
        marks = strokes_of(truth, item.name, n)
        for way in ways:
            begun = time.perf_counter()
            method, options = WAYS[way]
            labels = Segmenter(method, n_classes=n_classes, **options).fit(image, scribbles=marks).predict(image).labels
            note(way, n, labels.astype(int) - 1, time.perf_counter() - begun)
    return found


def show(rows: list[dict]) -> None:
    for dataset in UNSUPERVISED:
        if not (own := [row for row in rows if row["set"] == dataset]):
            continue
        keys = list(dict.fromkeys((row["way"], row["strokes"]) for row in own))
        images = list(dict.fromkeys(row["image"] for row in own))
        by = {(row["way"], row["strokes"], row["image"]): row for row in own}
        for way, n in keys:
            values = np.array([by[way, n, image]["iou"] for image in images])
            base = np.array([by[UNSUPERVISED[dataset], 0, image]["iou"] for image in images])
            apart = (values - base).std(ddof=1) / math.sqrt(len(images)) if len(images) > 1 else math.nan
            seconds = np.median([by[way, n, image]["seconds"] for image in images])
            line = {"set": dataset, "images": len(images), "way": way, "strokes": n, "iou": round(values.mean(), 3)}
            line |= {"against none": f"{(values - base).mean():+.3f} ± {apart:.3f}", "seconds": round(seconds, 1)}
            print(json.dumps(line))


if __name__ == "__main__":
    main()
