"""``--classes auto``: the silhouette against scikit-learn's, the number that is chosen, what is said of it, and what has no rule."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from selfseg import Segmenter, load
from selfseg.apps.cli import main
from selfseg.sample.k_means import mean_silhouette


def stripes(number, shape=(40, 84), noise=3.0):
    """A colour picture of that many plain stripes, far apart in colour."""
    colours = np.array([(30, 30, 30), (220, 60, 60), (60, 200, 70), (60, 80, 230), (235, 225, 90)], float)[:number]
    place = np.arange(shape[1]) * number // shape[1]
    picture = np.broadcast_to(colours[place], (*shape, 3)) + np.random.default_rng(0).normal(0, noise, (*shape, 3))
    return picture.clip(0, 255).astype(np.uint8)


def test_the_silhouette_is_scikit_learns():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    labels[:2] = 4
    labels[labels == 4][2:] = 0
    rows = rng.normal(size=(300, 3)) + labels[:, None]
    ours = mean_silhouette(torch.from_numpy(rows), torch.from_numpy(labels), sample=10_000)
    assert ours == pytest.approx(silhouette_score(rows, labels), abs=1e-9)


def test_a_row_alone_counts_zero_and_one_cluster_has_none():
    rows = torch.tensor([[0.0], [1.0], [5.0]])
    assert mean_silhouette(rows, torch.tensor([0, 0, 1])) == pytest.approx((0.8 + 0.75 + 0.0) / 3)
    assert mean_silhouette(rows, torch.tensor([2, 2, 2])) == -1.0


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_k_means_finds_the_number_of_plain_stripes(number, tmp_path):
    model = Segmenter("kmeans", n_classes="auto", options={"smooth": 0.5}).fit(stripes(number))
    assert len(model.table_.classes) == number
    reason = model.facts_["choices"]["number of classes"]
    assert (
        reason.startswith(f"{number}, the largest mean silhouette of 2 to 8 (")
        and f"; {max(2, number - 1) if number > 2 else 3}: " in reason
    )
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    picture = stripes(number)
    assert np.array_equal(again.predict(picture).labels, model.predict(picture).labels)
    made = again.method_.pictures(torch.rand(3, 12, 13))
    assert set(made) == {f"with {n} classes" for n in (number - 1, number + 1) if n > 1}
    assert all(tuple(one.shape) == (12, 13) and int(one.min()) >= 1 for one in made.values())


def test_the_report_has_the_reason_and_the_neighbours(tmp_path):
    from PIL import Image as Picture

    Picture.fromarray(stripes(3)).save(tmp_path / "stripes.png")
    words = [
        "segment",
        str(tmp_path / "stripes.png"),
        "--method",
        "kmeans",
        "--classes",
        "auto",
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    report = (tmp_path / "out" / "report.html").read_text()
    assert (
        "the largest mean silhouette of 2 to 8" in report and "with 4 classes" in report and "with 2 classes" in report
    )
    assert (tmp_path / "out" / "pictures" / "with 4 classes.png").is_file()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["training"]["choices"]


def test_a_number_that_was_asked_for_is_not_chosen_and_methods_without_a_rule_keep_their_default():
    picture = stripes(4)
    given = Segmenter("kmeans", n_classes=2, options={"n_clusters": "auto"}).fit(picture)
    assert len(given.table_.classes) == 2 and "choices" not in given.facts_
    for method in ("contours", "threshold"):
        auto, usual = (Segmenter(method, n_classes=n).fit(picture) for n in ("auto", None))
        assert np.array_equal(auto.predict(picture).labels, usual.predict(picture).labels)
