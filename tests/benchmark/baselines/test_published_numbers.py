"""Baselines on real data against numbers from elsewhere."""

import csv

import numpy as np
import pytest

from selfseg import measure
from selfseg.benchmark.baselines._base import find_baseline
from selfseg.read import read_image

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.mark.parametrize(
    ("name", "covering", "rand", "variation"),
    [
        # scikit-image, 12 settings, by another evaluator on the test split.
        ("felzenszwalb", (0.533, 0.570), (0.792, 0.821), (1.914, 1.747)),
        # Arbelaez et al. (2011), multiscale normalised cuts on pixels, test split.
        ("ncut", (0.45, 0.53), (0.78, 0.80), (2.23, 1.89)),
        # The same, quad-tree: its blocks are as blind as a grid, but they do look at the image.
        ("grid", (0.32, 0.37), (0.73, 0.74), (2.46, 2.32)),
    ],
)
def test_photos_score_near_the_published(data_dir, name, covering, rand, variation):
    photos = sorted((data_dir / "bsds500" / "images" / "val").glob("*.jpg"))[::5]
    scores = []
    for photo in photos:
        with np.load(data_dir / "bsds500" / "groundTruth" / "val" / f"{photo.stem}.npz") as file:
            truths = file["segmentations"]
        scales = find_baseline(name).segment(read_image(photo), None, 0).scales
        scores.append(measure.list_scores([labels for _, labels in scales], truths))
    found = measure.ods_ois(scores)
    # Twenty other photos: the standard error of a mean covering is about .03.
    assert (found.covering.ods, found.covering.ois) == pytest.approx(covering, abs=0.06)
    assert (found.rand.ods, found.rand.ois) == pytest.approx(rand, abs=0.04)
    assert (found.variation.ods, found.variation.ois) == pytest.approx(variation, abs=0.5)


def test_nuclei_score_near_the_published(data_dir):
    # The same recipe by another hand on the 541 fluorescence images: mean Dice .889, AP50 pooled .667. Here 36 of them.
    folder, dices, counts = data_dir / "dsb2018", [], np.zeros(3)
    with (folder / "index.csv").open() as file:
        names = [row["id"] for row in csv.DictReader(file) if row["kind"].startswith("fluorescence")]
    for name in names:
        truth = read_image(folder / "labels" / f"{name}.png").data
        labels = find_baseline("otsu_watershed").segment(read_image(folder / "images" / f"{name}.png"), None, 0).labels
        found, wanted = labels > 1, truth > 0
        dices.append(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))
        matched = measure.instance_scores(np.where(found, labels, 0), truth.astype(np.int64), (0.5,))
        counts += [matched.true[0], matched.false[0], matched.missed[0]]
    assert np.mean(dices) == pytest.approx(0.889, abs=0.03)
    assert counts[0] / counts.sum() == pytest.approx(0.667, abs=0.05)
