"""Of one image: families of segmentations, each with its true scores and every label-free criterion."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: two processes share the machine

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab
from skimage.measure import label as components
from skimage.segmentation import felzenszwalb
from sklearn.cluster import KMeans

from selfseg import Segmenter, measure
from selfseg.measure.instances import foreground_scores
from selfseg.methods.region_merging import RegionMerging, RegionMergingConfig

FELZENSZWALB = (20, 40, 80, 150, 300, 600, 1200, 2500, 5000)
NUMBERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
ALTITUDES = (2.0, 3.0, 4.5, 6.0, 7.5, 9.0, 11.0, 14.0, 18.0, 24.0, 32.0)
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CLASSES = (2, 3, 4, 5, 6, 7, 8)
METHOD_CLASSES = (0, 2, 3, 4, 5, 6, 8, 12)
"""Numbers of classes of a method; 0 = its default."""

SAMPLE = 1000
"""Pixels on which silhouette and its kin are computed."""

KMEANS_SAMPLE = 5000
"""Pixels on which k-means finds its centres."""

LARGE = 1 << 19
"""Pixels from which on a picture of cells is halved: the largest have four times the rest's."""

Labels = np.ndarray
Family = Callable[[np.ndarray], list[Labels]]


def criteria(labels: Labels, rgb: np.ndarray, lab: np.ndarray) -> dict[str, float]:
    """Every criterion that looks at one segmentation of an image: ``rgb`` 0-255 and ``lab``, both ``[Y X 3]``."""
    silhouette, calinski, davies = measure.cluster_validity(labels, lab, sample=SAMPLE)
    return {
        "entropy": measure.zhang_entropy(labels, rgb),
        "liu_yang": measure.liu_yang(labels, rgb),
        "borsotti": measure.borsotti_q(labels, rgb),
        "zeboudj": measure.zeboudj(labels, rgb),
        "agreement": measure.boundary_edge_agreement(labels, lab),
        "mdl": measure.description_length(labels, rgb),
        "mdl_eighth": measure.description_length(labels, rgb, data_weight=1 / 8),
        "silhouette": silhouette,
        "calinski": calinski,
        "davies": davies,
        "constant": measure.reconstruction_error(labels, lab),
        "plane": measure.reconstruction_error(labels, lab, degree=1),
    }


def felzenszwalb_scales(rgb: np.ndarray) -> list[Labels]:
    picture = rgb.astype(np.float64) / 255
    return [felzenszwalb(picture, scale=scale, sigma=0.8, min_size=50) for scale in FELZENSZWALB]


def tree_of(rgb: np.ndarray):
    """Return superpixels and merge tree of `region_merging` with its default."""
    image = torch.from_numpy(np.moveaxis(rgb, -1, 0).astype(np.float32) / 255)
    return RegionMerging(RegionMergingConfig(), 3).segments(image)[:2]


def tree_numbers(rgb: np.ndarray) -> list[Labels]:
    superpixels, tree = tree_of(rgb)
    return [tree.labels(superpixels, n_regions=n) for n in NUMBERS]


def tree_altitudes(rgb: np.ndarray) -> list[Labels]:
    superpixels, tree = tree_of(rgb)
    return [tree.labels(superpixels, level=level) for level in ALTITUDES]


def threshold_shares(rgb: np.ndarray) -> list[Labels]:
    """Cut the smoothed grey values at shares of their range (1st to 99th percentile)."""
    grey = gaussian_filter(rgb.astype(np.float64).mean(-1), 1.0)
    low, high = np.percentile(grey, [1, 99])
    return [(grey > low + share * (high - low)).astype(np.int32) for share in THRESHOLDS]


def class_numbers(rgb: np.ndarray) -> list[Labels]:
    """Cluster the smoothed Lab colours by k-means, whose centres are found on a sample of pixels."""
    lab = rgb2lab(gaussian_filter(rgb.astype(np.float64) / 255, (1.0, 1.0, 0.0)))
    pixels = lab.reshape(-1, 3)
    drawn = np.random.default_rng(0).choice(len(pixels), min(len(pixels), KMEANS_SAMPLE), replace=False)
    models = (KMeans(k, n_init=4, random_state=0).fit(pixels[drawn]) for k in CLASSES)
    return [model.predict(pixels).reshape(lab.shape[:2]).astype(np.int32) for model in models]


def classes_of(method: str, **options: Any) -> tuple[tuple[float, ...], Family]:
    """Return levels and segmentations of a method fitted to the image alone, for each number of classes."""

    def segment(rgb: np.ndarray) -> list[Labels]:
        models = (Segmenter(method, n_classes=k or None, seed=0, **options).fit(rgb) for k in METHOD_CLASSES)
        return [model.predict(rgb).labels.astype(np.int32) for model in models]

    return METHOD_CLASSES, segment


METHODS = {
    "method kmeans": classes_of("kmeans"),
    "method contours": classes_of("contours"),
    "method feature_clustering": classes_of("feature_clustering", preset="fast"),
}

FAMILIES: dict[str, dict[str, tuple[tuple[float, ...], Family]]] = {
    "bsds500": {
        "felzenszwalb": (FELZENSZWALB, felzenszwalb_scales),
        "tree by number": (NUMBERS, tree_numbers),
        "tree by altitude": (ALTITUDES, tree_altitudes),
        **METHODS,
    },
    "dsb2018": {"thresholds": (THRESHOLDS, threshold_shares), "k-means": (CLASSES, class_numbers), **METHODS},
    "isbi2012": METHODS,
}
"""Name of a set -> name of a family -> its levels, and the function that segments an image at all of them."""


def photo_scores(labels: Labels, truths: np.ndarray) -> dict[str, float]:
    """Covering, probabilistic Rand index and -VI (bits): all are good when large."""
    scores = measure.list_scores([labels], list(truths))
    return {"covering": scores.covering[0], "pri": scores.rand[0], "-vi": -scores.variation[0]}


def cell_scores(labels: Labels, nuclei: np.ndarray) -> dict[str, float]:
    """Dice of the class that fits the nuclei best, and covering of the nuclei by the connected parts of the classes."""
    foreground = nuclei > 0
    sizes = np.bincount(labels.ravel())
    shared = np.bincount(labels.ravel(), foreground.ravel(), len(sizes))
    dice = 2 * shared / np.maximum(sizes + foreground.sum(), 1)
    parts = components(labels, background=-1, connectivity=1)
    return {"dice": float(dice.max()), "covering": measure.covering(parts, nuclei.astype(np.int64))}


def membrane_scores(labels: Labels, cells: np.ndarray) -> dict[str, float]:
    """V_rand of the cells between the class that fits the membranes best by Dice, and that Dice."""
    membrane = cells == 0
    shared = np.bincount(labels.ravel(), membrane.ravel())
    dice = 2 * shared / np.maximum(np.bincount(labels.ravel()) + membrane.sum(), 1)
    found = foreground_scores((labels != dice.argmax()).astype(np.uint8), cells)
    return {"v_rand": found.rand, "dice": float(dice.max())}


SCORES = {"bsds500": photo_scores, "dsb2018": cell_scores, "isbi2012": membrane_scores}
"""Name of a set -> true scores of a segmentation; the first is the one that counts."""


def load(name: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture ``[Y X 3]`` uint8 and the truth: ``[annotators Y X]`` or ``[Y X]``.

    A section of ISBI 2012 is its volume with the number of the section behind it, like a file in a folder.
    """
    if name == "isbi2012":
        grey, cells = (
            tifffile.imread(path.parent.with_name(f"train-{kind}_00-19.tif"), key=int(path.name))
            for kind in ("volume", "labels")
        )
        return np.repeat(grey[..., None], 3, -1), (cells > 0).astype(np.int64)
    rgb = np.asarray(Picture.open(path).convert("RGB"))
    if name == "bsds500":
        truth = np.load(path.parents[2] / "groundTruth" / path.parent.name / f"{path.stem}.npz")["segmentations"]
        return rgb, truth
    nuclei = np.asarray(Picture.open(path.parents[1] / "labels" / path.name)).astype(np.int64)
    if nuclei.size > LARGE:
        even = rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2].astype(np.float64)
        rgb = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, 3).mean((1, 3)).round().astype(np.uint8)
        nuclei = nuclei[: even.shape[0] : 2, : even.shape[1] : 2]
    return rgb, nuclei


def study(name: str, path: Path, wanted: tuple[str, ...], stable: bool = True) -> list[dict]:
    """Return one row a segmentation: image, family, level, number of regions, true scores, criteria.

    Parameters
    ----------
    name
        Of the set: a key of `FAMILIES`.
    path
        Of the picture.
    wanted
        Names of families.
    stable
        Segment the changed images too (four times the work), for the stability.
    """
    rgb, truth = load(name, path)
    lab = rgb2lab(rgb)
    score = SCORES[name]
    rows: list[dict] = []
    seen: dict[bytes, tuple[dict[str, float], dict[str, float]]] = {}  # two families can cut a tree at the same place
    for family in wanted:
        levels, segment = FAMILIES[name][family]
        runs = [segment(rgb)]
        for change in measure.small_changes(rgb) if stable else []:
            runs.append([change.undo(labels) for labels in segment(change.image)])
        for k, level in enumerate(levels):
            labels = runs[0][k]
            key = labels.tobytes()
            if key not in seen:
                seen[key] = criteria(labels, rgb, lab), score(labels, truth)
            values, scores = seen[key]
            if stable:
                values = values | {"stability": measure.stability([run[k] for run in runs])}
            rows.append(
                {
                    "image": path.stem,
                    "family": family,
                    "level": level,
                    "regions": len(np.unique(labels)),
                    "scores": {name: float(value) for name, value in scores.items()},
                    "criteria": values,
                }
            )
    return rows
