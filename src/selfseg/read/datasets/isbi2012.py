"""ISBI 2012: membranes of neurons, 20 of the 30 labelled sections of the challenge (ssTEM, Drosophila larva, 4 x 4 x 50 nm).

Neighbouring sections correlate weakly, so each is an image of its own. Sections 15 and later carry about four times the
noise of those before. Therefore a split is no plain cut: sections 10 to 16 are `val`, 0 to 9 and 17 to 19 `train`, so that
both kinds are in both, and two pairs of neighbours only are in different ones. Sections from 20 on, where a folder has
them, count as `val`.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read.datasets._base import Dataset, Item, RemoteFile, binary_truth, read_registry
from selfseg.read.formats import decode_labels, read_image

ORIGIN = "https://raw.githubusercontent.com/zhixuhao/unet/909ae9b5fefd8a55900e24a771b073b1d4ef70ff/data/membrane/train"
RANGE = re.compile(r"train-volume_(\d+)-(\d+)\.tif")
TRAIN = (*range(10), 17, 18, 19)
FIRST_NOISY = 15


def stack_slices(parts: list[Path]) -> NDArray[Any]:
    """Return pictures of one size as one stack ``[Z Y X]``, values as they are.

    Raises
    ------
    InputError
        If a picture cannot be read.
    ValueError
        If they differ in size.
    """
    return np.stack([decode_labels(part).data for part in parts])


def _files() -> tuple[RemoteFile, ...]:
    parts = tuple(str(number) for number in range(20))
    kinds = {"volume": "image", "labels": "label"}
    return tuple(
        RemoteFile(
            f"{ORIGIN}/{kinds[entry.notes['holds']]}/{{}}.png", entry.sha256, entry.path, parts, convert=stack_slices
        )
        for entry in read_registry("isbi2012")
    )


def _page(path: Path, page: int, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim != 3 or page >= len(array):
        raise InputError(
            path,
            expected=f"a stack with a page {page}",
            got=" x ".join(str(n) for n in array.shape),
            fix="check the file, or its name",
        )
    return array[page]


def _load_slice(path: Path, page: int, name: str) -> Image:
    stack = read_image(path, axes="ZYX")
    return Image(_page(path, page, stack.data), "YX", name=name, source=f"{path}, page {page}")


def _load_membranes(path: Path, page: int) -> NDArray[np.uint8]:
    return _page(path, page, binary_truth(path)[0])[None]


def _find(root: Path, split: str) -> list[Item]:
    items = []
    for path in sorted((root / "isbi2012").glob("train-volume_*.tif")):
        match = RANGE.fullmatch(path.name)
        if match is None:
            continue
        first, last = map(int, match.groups())
        labels = path.with_name(path.name.replace("volume", "labels"))
        for number in range(first, last + 1):
            if (number in TRAIN) == (split == "train"):
                name, page = f"slice_{number:02d}", number - first
                image, truth = partial(_load_slice, path, page, name), partial(_load_membranes, labels, page)
                items.append(Item(name, image, truth, name, "clean" if number < FIRST_NOISY else "noisy"))
    return items


DATASET = Dataset(
    name="isbi2012",
    title="neuron membranes in electron microscopy, 20 sections",
    task="foreground",
    axes="YX",
    licence="none stated for the data; the origin's code is MIT; cite both papers",
    citation=(
        "A. Cardona et al.: An integrated micro- and macroarchitectural analysis of the Drosophila brain by "
        "computer-assisted serial section electron microscopy. PLoS Biology 8(10), e1000502, 2010; "
        "I. Arganda-Carreras et al.: Crowdsourcing the creation of image segmentation algorithms for connectomics. "
        "Frontiers in Neuroanatomy 9, 142, 2015"
    ),
    homepage="https://github.com/zhixuhao/unet",
    splits=("train", "val"),
    default_split="val",
    n_classes=2,
    foreground="largest",
    layout=(
        "isbi2012/train-volume_00-19.tif: the sections in their order, uint8 [Z Y X] of 20 x 512 x 512. "
        "isbi2012/train-labels_00-19.tif: the same, 0 = membrane, 255 = cell. The name gives the sections that the pages are"
    ),
    files=_files(),
    n_images=(13, 7),
    find=_find,
    split_rule="by section: 10 to 16 are val, the others train; sections from 15 on are noisier, and both have some",
)
