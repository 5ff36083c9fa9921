import json

import numpy as np
import pytest
import tifffile

from selfseg import measure
from selfseg.apps.cli import main
from selfseg.core.errors import InputError
from selfseg.evaluation.evaluate import evaluate


@pytest.fixture
def pair(tmp_path):
    """Two images of two and three regions, with truth: `a` is right but for its ids, `b` splits a region."""
    truth = np.zeros((20, 30), np.uint8)
    truth[:, 10:] = 1
    split = truth.copy()
    split[10:, 10:] = 2
    for folder, (a, b) in {"labels": (truth + 5, split), "truth": (truth, truth)}.items():
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", a)
        tifffile.imwrite(tmp_path / folder / "b.tif", b)
    return tmp_path


def test_scores_are_those_of_the_measures(pair):
    result = evaluate(pair / "labels", pair / "truth")
    a, b = (result.images[name].row() for name in "ab")
    assert (
        a["covering"] == 1 and a["variation_of_information"] == 0 and a["hungarian_iou"] == 1 and a["boundary_f"] == 1
    )
    # b: the truth's right region, 400 of 600 pixels, is covered by one half of itself at best.
    assert b["covering"] == pytest.approx((200 + 400 * 0.5) / 600)
    assert b["split"] == pytest.approx(400 / 600) and b["merge"] == pytest.approx(0)
    assert result.summary()["covering"] == pytest.approx((1 + b["covering"]) / 2)
    assert not result.failures


def test_classes_matched_once_for_all_images_are_harder(tmp_path):
    """Ids that swap from image to image are right image by image, and half wrong when matched once for all."""
    truth = np.repeat([[0, 1]], 10, 0).astype(np.uint8)
    for name, labels in {"a": truth, "b": 1 - truth}.items():
        for folder, array in {"labels": labels, "truth": truth}.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{name}.tif", array)
    summary = evaluate(tmp_path / "labels", tmp_path / "truth", ["classes"]).summary()
    assert summary["hungarian_accuracy"] == 1
    assert summary["pooled_hungarian_accuracy"] == 0.5


def test_several_annotators_in_one_file(pair):
    truths = np.stack([tifffile.imread(pair / "truth" / "b.tif"), tifffile.imread(pair / "labels" / "b.tif")])
    np.savez(pair / "b.npz", segmentations=truths)
    row = evaluate(pair / "labels" / "b.tif", pair / "b.npz", ["regions"]).images["b"].row()
    labels = tifffile.imread(pair / "labels" / "b.tif")
    assert row["covering"] == pytest.approx(measure.covering(labels, truths))
    assert row["probabilistic_rand_index"] == pytest.approx(measure.probabilistic_rand_index(labels, truths))


def _shape(folder):
    tifffile.imwrite(folder / "labels" / "b.tif", np.zeros((5, 6), np.uint8))


def _floats(folder):
    tifffile.imwrite(folder / "labels" / "b.tif", np.full((20, 30), 0.5, np.float32))


def _damaged(folder):
    (folder / "truth" / "b.tif").write_bytes(b"II*\0 no more")


def _colours(folder):
    tifffile.imwrite(folder / "labels" / "b.tif", np.arange(1800, dtype=np.uint8).reshape(20, 30, 3), photometric="rgb")


def _ignored(folder):
    tifffile.imwrite(folder / "truth" / "b.tif", np.full((20, 30), 9, np.uint8))


def _missing(folder):
    (folder / "truth" / "b.tif").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_shape, "(5, 6)"),
        (_floats, "float32"),
        (_damaged, "b.tif"),
        (_colours, "3 channels"),
        (_ignored, "only 9"),
        (_missing, "a truth of this name"),
    ],
)
def test_a_bad_pair_is_named_and_the_rest_is_scored(pair, capsys, spoil, words):
    spoil(pair)
    code = main(["evaluate", str(pair / "labels"), str(pair / "truth"), "--ignore", "9", "--json"])
    out, errors = capsys.readouterr()
    value = json.loads(out)
    assert code == 1
    assert list(value["images"]) == ["a"] and value["summary"]["covering"] == 1
    assert [failure["name"] for failure in value["failures"]] == ["b"]
    line = value["failures"][0]["error"]
    assert words in line and "b.tif" in line and "\n" not in line
    assert line in errors


def test_nothing_to_score_is_an_error(pair, capsys):
    with pytest.raises(InputError, match="nothing"):
        evaluate(pair / "nowhere", pair / "truth")
    for name in "ab":
        (pair / "labels" / f"{name}.tif").rename(pair / "labels" / f"other_{name}.tif")
    assert main(["evaluate", str(pair / "labels"), str(pair / "truth")]) == 1
    assert "expected a truth of this name" in capsys.readouterr().err
    assert main(["evaluate", str(pair / "labels"), str(pair / "truth"), "--as", "beauty"]) == 2


def test_truth_without_labels_is_told(pair, capsys):
    (pair / "labels" / "b.tif").unlink()
    assert main(["evaluate", str(pair / "labels"), str(pair / "truth")]) == 0
    out, errors = capsys.readouterr()
    assert "1 of the truth files have no labels" in errors and "1 image scored" in out


def test_a_class_that_the_labels_lack_counts_as_nothing(tmp_path):
    truth = np.repeat([[0, 1, 2, 2]], 8, 0).astype(np.uint8)
    tifffile.imwrite(tmp_path / "truth.tif", truth)
    tifffile.imwrite(tmp_path / "labels.tif", np.where(truth == 2, 1, 0).astype(np.uint8))
    row = evaluate(tmp_path / "labels.tif", tmp_path / "truth.tif", ["classes"]).images["labels"].row()
    assert row["hungarian_iou"] == pytest.approx((0.5 + 0 + 1) / 3)
