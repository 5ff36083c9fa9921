"""MS FLAIR: brain volumes with the lesions of multiple sclerosis (Lesjak et al. 2018): one patient of thirty.

The brain is cut out, and what lies outside is 0 with a rim of small negative values, so voxels above 0 are the brain; the
others are marked as not valid. Orientation is as in `selfseg.read.nifti`, for image and mask alike.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from selfseg.core.image import Image
from selfseg.read.datasets._base import Dataset, Item, RemoteFile, binary_truth, read_registry
from selfseg.read.formats import read_image

ORIGIN = "https://raw.githubusercontent.com/muschellij2/open_ms_data/ab6737647be9665e5448d18be2d715e0a89f7170"
IMAGE, MASK = "_flair.nii.gz", "_mask.nii.gz"


def _files() -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"{ORIGIN}/{entry.notes['origin']}", entry.sha256, entry.path) for entry in read_registry("ms_flair")
    )


def _load_brain(path: Path, name: str) -> Image:
    image = read_image(path, name=name)
    brain = image.data > 0
    return replace(image, valid=brain if image.valid is None else brain & image.valid)


def _find(root: Path, split: str) -> list[Item]:
    items = []
    for path in sorted((root / "flair").glob(f"*{IMAGE}")):
        name = path.name.removesuffix(IMAGE)
        items.append(
            Item(name, partial(_load_brain, path, name), partial(binary_truth, path.with_name(name + MASK)), name)
        )
    return items


DATASET = Dataset(
    name="ms_flair",
    title="brain FLAIR volume with lesions of multiple sclerosis (wants selfseg[nifti])",
    task="lesion",
    axes="ZYX",
    licence="CC BY",
    citation=(
        "Z. Lesjak et al.: A novel public MR image dataset of multiple sclerosis patients with lesion segmentations "
        "based on multi-rater consensus. Neuroinformatics 16, 51-63, 2018 (online 2017)"
    ),
    homepage="https://github.com/muschellij2/open_ms_data",
    splits=("all",),
    default_split="all",
    n_classes=4,
    foreground="brightest",
    layout=(
        "flair/CASE_flair.nii.gz: the brain, N4-corrected, without the skull, 0 outside. flair/CASE_mask.nii.gz: lesions, "
        "0 and 1, of the same shape and affine. A case is a patient; ms26 is known"
    ),
    files=_files(),
    n_images=(1,),
    find=_find,
    split_rule="by patient: there is one, so one split",
)
