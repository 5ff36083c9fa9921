import numpy as np
import pytest
from PIL import Image as Picture

from conftest import blobs


@pytest.fixture
def small_bsds(tmp_path):
    """A folder with the layout of the real data: four small pictures of BSDS500 val, each with two annotators."""
    images, truths = (tmp_path / "data" / "bsds500" / kind / "val" for kind in ("images", "groundTruth"))
    images.mkdir(parents=True)
    truths.mkdir(parents=True)
    for seed in range(4):
        picture = blobs(40 + 4 * seed, 52, seed=seed)
        Picture.fromarray(picture).save(images / f"{100 + seed}.jpg", quality=95)
        y, x = np.mgrid[: picture.shape[0], :52]
        halves = (x >= 26).astype(np.uint16)
        disc = (y - picture.shape[0] / 2) ** 2 + (x - 26) ** 2 < (picture.shape[0] / 4) ** 2
        np.savez(truths / f"{100 + seed}.npz", segmentations=np.stack([halves, np.where(disc, 2, halves)]))
    return tmp_path / "data"
