"""The colour pictures that come with scikit-image: no download, no truth; what can be tried offline.

Those of its wheel of which its documentation states the terms.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfseg.read.datasets._base import Dataset, Item, RemoteFile, read_registry
from selfseg.read.formats import read_image


def _folder() -> Path:
    import skimage.data

    return Path(skimage.data.__file__).parent


def _no_truths(path: Path) -> NDArray[np.uint8]:
    return np.zeros((0, *read_image(path).spatial_shape), np.uint8)


def _find(root: Path, split: str) -> list[Item]:
    paths = (root / file.path for file in DATASET.files)
    return [
        Item(path.stem, partial(read_image, path), partial(_no_truths, path), path.stem)
        for path in paths
        if path.is_file()
    ]


DATASET = Dataset(
    name="skimage_photos",
    title="the colour pictures that come with scikit-image; no download, no truth",
    task="none",
    axes="YXC",
    licence="CC0 or public domain; each as skimage.data's documentation states",
    citation="S. van der Walt et al.: scikit-image: image processing in Python. PeerJ 2, e453, 2014",
    homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
    splits=("all",),
    default_split="all",
    n_classes=None,
    foreground="",
    layout="nothing: the pictures lie in the installed package",
    files=tuple(RemoteFile("", entry.sha256, entry.path) for entry in read_registry("skimage_photos")),
    n_images=(7,),
    find=_find,
    split_rule="nothing is learned from a truth, so one split",
    bundled=_folder,
)
