"""How well does one threshold find the lesions of a FLAIR volume? Dice of thresholds chosen without the truth, and with it.

    python benchmarks/quality/flair_thresholds.py --data DATA

`--data` is a folder with `flair/CASE_flair.nii.gz` and `flair/CASE_mask.nii.gz`. Thresholds are percentiles of the brain and robust
z-scores (median, 1.4826 median absolute deviations), on the volume itself and smoothed by a Gaussian within the brain. The oracle is
the percentile from 97 to 99.9 with the best Dice.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from selfseg.read.datasets import find_dataset


def smoothed(volume: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    if not sigma:
        return volume[inside]
    weight = np.maximum(gaussian_filter(inside.astype(np.float32), sigma), 1e-3)
    return (gaussian_filter(np.where(inside, volume, 0).astype(np.float32), sigma) / weight)[inside]


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    for item in find_dataset("ms_flair").items("all", options.data):
        image, mask = item.load_image(), item.load_truths()[0] != 0
        truth = mask[image.valid]
        print(f"{item.name}: {len(truth):,} voxels of brain, {truth.mean():.2%} lesion")
        for sigma in (0.0, 1.0, 1.5):
            light = smoothed(image.data, image.valid, sigma)
            middle = np.median(light)
            width = 1.4826 * np.median(np.abs(light - middle))
            z = {f"z > {cut}": dice(light > middle + cut * width, truth) for cut in (2, 2.5, 3)}
            fixed = {f"top {100 - q:g} %": dice(light > np.percentile(light, q), truth) for q in (98, 99)}
            best = max(dice(light > np.percentile(light, q), truth) for q in np.linspace(97, 99.9, 59))
            words = "  ".join(f"{name} {value:.3f}" for name, value in {**fixed, **z, "oracle": best}.items())
            print(f"  smoothed by {sigma:g} voxels: {words}")


if __name__ == "__main__":
    main()
