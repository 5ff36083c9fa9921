"""BSDS500: natural photographs, each segmented by several people (Arbelaez et al. 2011).

The folder holds the photographs as they are, and for each an NPZ file made out of the origin's ``.mat``: the annotators'
`Segmentation` fields less 1, so that labels begin at 0. The test split is left to final measurements: it is not listed.
"""

from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from selfseg.read.datasets._base import Dataset, Item, RemoteFile, read_registry, stacked_truths
from selfseg.read.formats import read_image
from selfseg.read.sources import natural_order

ORIGIN = "https://raw.githubusercontent.com/BIDS/BSDS500/a04b7c6c3a9f0ace74bf205c72a43d32e1c72722/BSDS500/data"


def read_mat(parts: list[Path]) -> NDArray[np.uint16]:
    """Return the annotators' label images ``[A Y X]``, from 0, of a BSDS ``.mat`` file.

    Raise `ValueError`, `KeyError` or `IndexError` if the file is no MATLAB file, or has no field
    ``groundTruth{i}.Segmentation``.
    """
    from scipy.io import loadmat

    cells = loadmat(parts[0])["groundTruth"].ravel()
    labels = np.stack([cell["Segmentation"][0, 0] for cell in cells])
    return (labels - 1).astype(np.uint16)


def _files() -> tuple[RemoteFile, ...]:
    found = []
    for entry in read_registry("bsds500"):
        inner = PurePosixPath(entry.path).relative_to("bsds500")
        is_truth = inner.suffix == ".npz"
        url = f"{ORIGIN}/{inner.with_suffix('.mat') if is_truth else inner}"
        found.append(RemoteFile(url, entry.sha256, entry.path, convert=read_mat if is_truth else None))
    return tuple(found)


def _find(root: Path, split: str) -> list[Item]:
    photos, truths = (root / "bsds500" / part / split for part in ("images", "groundTruth"))
    return [
        Item(photo.stem, partial(read_image, photo), partial(stacked_truths, truths / f"{photo.stem}.npz"), photo.stem)
        for photo in sorted(photos.glob("*.jpg"), key=lambda path: natural_order(path, photos))
    ]


DATASET = Dataset(
    name="bsds500",
    title="natural photographs with 4 to 9 human segmentations each",
    task="partition",
    axes="YXC",
    licence="none stated; the origin asks for the citation; treat as for research, not for commerce",
    citation=(
        "P. Arbelaez, M. Maire, C. Fowlkes, J. Malik: Contour detection and hierarchical image segmentation. "
        "IEEE Transactions on Pattern Analysis and Machine Intelligence 33(5), 898-916, 2011"
    ),
    homepage="https://github.com/BIDS/BSDS500",
    splits=("train", "val"),
    default_split="val",
    n_classes=None,
    foreground="",
    layout=(
        "bsds500/images/SPLIT/ID.jpg: the photographs. bsds500/groundTruth/SPLIT/ID.npz: one array `segmentations`, "
        "uint16 [annotator Y X], labels from 0 without gaps"
    ),
    files=_files(),
    n_images=(200, 100),
    find=_find,
    split_rule="by photograph, as the origin splits them",
)
