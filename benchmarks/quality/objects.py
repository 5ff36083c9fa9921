"""Objects of DSB 2018 for each kind of microscopy, one image at a time and without labels: Dice and AP50, means over images.

    python benchmarks/quality/objects.py --data DATA [-o FILE.json] [--half even|odd] [--methods objects,otsu,wnet]
    python benchmarks/quality/objects.py --data DATA --split val --methods objects,pupil

Every image is learned from and segmented alone, with one default for all. `objects` gives its own objects; `otsu` is Otsu's threshold
with the larger side as ground, cut at necks by the distance watershed of depth 1; `wnet` two classes, cut likewise. `--half` takes every
second image of each kind, in the order of their names: what was chosen on one half is reported on the other. Seconds are of the processor.
`pupil` is a U-Net that `objects` has taught the images of train (`selfseg distill`, its defaults): to be measured on those of val.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from skimage.filters import threshold_otsu

from selfseg import Segmenter
from selfseg.core.image import Image
from selfseg.learning.distill import distill
from selfseg.learning.run import segment
from selfseg.measure.instances import instance_scores
from selfseg.read.datasets import find_dataset
from selfseg.refine.instances import number_objects

KINDS = ("fluorescence_small", "fluorescence_large", "histology_purple", "brightfield")


def cut(mask: np.ndarray) -> np.ndarray:
    found = np.zeros(mask.shape, np.uint32)
    number_objects(mask.astype(np.int32), found, min_size=30)
    return found


def objects(image: Image) -> np.ndarray:
    return segment(image, method="objects").instances().labels


def otsu(image: Image) -> np.ndarray:
    light = image.channels_last().astype(np.float64)[..., :3].mean(-1)
    bright = light > threshold_otsu(light)
    return cut(bright if bright.mean() < 0.5 else ~bright)


def wnet(image: Image) -> np.ndarray:
    labels = segment(image, method="wnet", n_classes=2).labels
    return cut(labels != np.bincount(labels.ravel())[1:].argmax() + 1)


def taught(data: Path) -> Callable[[Image], np.ndarray]:
    """Return what finds the objects of an image: the pupil of `objects` on train."""
    images = [item.load_image() for item in find_dataset("dsb2018").items("train", data)]
    begun = time.process_time()
    pupil = distill(Segmenter("objects").fit(images), images).pupil
    print(f"pupil: {time.process_time() - begun:.0f} s of the processor, its teacher included", flush=True)
    return lambda image: np.asarray(pupil.predict_image(image).objects)


METHODS: dict[str, Callable[[Image], np.ndarray]] = {"objects": objects, "otsu": otsu, "wnet": wnet}


def items(data: Path, half: str | None, splits: list[str]) -> list:
    """Return the images of all kinds, or every second of each kind, by name."""
    kinds = defaultdict(list)
    for split in splits:
        for item in find_dataset("dsb2018").items(split, data):
            kinds[item.kind].append(item)
    start, step = {"even": (0, 2), "odd": (1, 2)}.get(half or "", (0, 1))
    return [one for kind in KINDS for one in sorted(kinds[kind], key=lambda item: item.name)[start::step]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--half", choices=("even", "odd"))
    parser.add_argument("--split", default="train,val")
    parser.add_argument("--methods", default="objects,otsu")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of microscopy")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    rows, names = [], options.methods.split(",")
    methods = METHODS | ({"pupil": taught(options.data)} if "pupil" in names else {})
    for item in (
        one
        for one in items(options.data, options.half, options.split.split(","))
        if one.kind in options.kinds.split(",")
    ):
        image, truth = item.load_image(), item.load_truths()[0].astype(np.int64)
        for name in names:
            begun = time.process_time()
            found = methods[name](image).astype(np.int64)
            seconds = time.process_time() - begun
            both = int((found > 0).sum() + (truth > 0).sum())
            dice = 2 * int(((found > 0) & (truth > 0)).sum()) / max(1, both)
            scores = instance_scores(found, truth)
            row = {"method": name, "image": item.name, "kind": item.kind, "dice": dice, "pixels": truth.size}
            row |= {"ap50": float(scores.average_precision[0]), "found": len(np.unique(found)) - 1, "seconds": seconds}
            rows.append(row | {"true": len(np.unique(truth)) - 1})
            print(
                f"{name:8s} {item.kind:18s} {item.name} dice {dice:.3f} ap50 {row['ap50']:.3f} {seconds:.1f} s",
                flush=True,
            )
    for name in names:
        for kind in ("", "fluorescence", *KINDS):
            some = [row for row in rows if row["method"] == name and row["kind"].startswith(kind)]
            if not some:
                continue
            means = (np.mean([row[key] for row in some]) for key in ("dice", "ap50", "seconds"))
            print(f"{name:8s} {kind or 'all':18s} {len(some):2d}  " + " / ".join(f"{mean:.3f}" for mean in means))
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
