"""Make the pictures of the explanation: `python docs/explanation/pictures.py`."""

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage import data

import selfseg
from selfseg.core.image import Image
from selfseg.export.overlay import boundaries, overlay
from selfseg.losses import window_affinity
from selfseg.regions.contours import contour_strength

HERE = Path(__file__).parent


def save(figure, name):
    """Write a figure as a small JPEG without axes' ticks."""
    for axis in figure.axes:
        if axis.images:
            axis.set(xticks=[], yticks=[])
    figure.savefig(HERE / name, dpi=80, pil_kwargs={"quality": 85, "optimize": True})


def contours():
    """Photograph, strength, superpixels, and cuts of the tree."""
    photo = data.coffee()
    result = selfseg.segment(photo, "contours", seed=0)
    figure, axes = plt.subplots(2, 3, figsize=(11, 5.2), layout="constrained")
    strength = contour_strength(photo / 255).max(0)
    drawn = photo.copy()
    drawn[boundaries(result.hierarchy.cut(n_regions=300))] = 255
    shown = {"photograph": photo, "contour strength": strength, "300 regions": drawn}
    shown |= {f"{n} regions": overlay(result.image, result.hierarchy.cut(n_regions=n) + 1) for n in (40, 12, 6)}
    for axis, (title, picture) in zip(axes.flat, shown.items(), strict=True):
        axis.imshow(picture, cmap="gray_r")
        axis.set_title(title)
    save(figure, "contours.jpg")


def ncut():
    """Weights between one pixel and its surroundings."""
    grey = data.camera()[60:260, 130:330].astype(np.float32)
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    axes[0].imshow(grey, cmap="gray")
    axes[0].set_title("picture")
    for axis, (y, x), title in zip(
        axes[1:], ((30, 30), (100, 68)), ("w of a pixel in the sky", "w of a pixel beside an edge"), strict=True
    ):
        part = torch.from_numpy(grey[y - 8 : y + 9, x - 8 : x + 9].copy())[None, None]
        one = torch.zeros(1, 1, 17, 17)
        one[..., 8, 8] = 1
        affinity = window_affinity(part, radius=8, sigma_intensity=10, sigma_space=6)
        weights = affinity.apply(one)[0, 0]
        axes[0].plot(x, y, "r+", markersize=12)
        axis.imshow(weights, cmap="magma", vmin=0, vmax=1)
        axis.set_title(title)
    save(figure, "ncut.jpg")


def objects():
    """Coins, and their sizes."""
    found = selfseg.segment(Image(data.coins(), "YX", name="coins"), "objects", seed=0).instances()
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    axes[0].imshow(found.image.data, cmap="gray")
    axes[1].imshow(overlay(found.image, found.labels))
    axes[2].hist(found.columns["pixels"], bins=12)
    axes[0].set_title("picture")
    axes[1].set_title(f"{len(found)} objects")
    axes[2].set(xlabel="pixels", ylabel="objects")
    save(figure, "objects.jpg")


def methods():
    """Segment one photograph with each method that learns without labels, six classes."""
    photo = np.ascontiguousarray(data.coffee()[::2, ::2])
    chosen = {"contours": {}, "region_merging": {}, "kmeans": {}, "threshold": {}, "feature_clustering": {}}
    chosen |= {
        "wnet": {"preset": "fast"},
        "sp_wnet": {"preset": "fast"},
        "deep_kmeans": {"preset": "fast"},
        "feature_codebook": {},
    }
    figure, axes = plt.subplots(3, 3, figsize=(11, 7.8), layout="constrained")
    for axis, (name, options) in zip(axes.flat, chosen.items(), strict=True):
        result = selfseg.segment(photo, name, n_classes=6, seed=0, **options)
        axis.imshow(overlay(result.image, result.labels, result.table))
        axis.set_title(f"{name}{', fast' if options else ''}")
    save(figure, "methods.jpg")


if __name__ == "__main__":
    methods()
    contours()
    ncut()
    objects()
