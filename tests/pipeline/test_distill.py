import json

import numpy as np
import pytest
from PIL import Image as Pillow

from conftest import blobs
from selfseg import Segmenter, load
from selfseg.apps.cli import main
from selfseg.core.errors import UsageError
from selfseg.core.progress import Silent
from selfseg.learning.annotations import Annotations
from selfseg.learning.distill import Lesson, _thresholds, ask, compare, distill, sure_objects
from selfseg.read import find_inputs
from selfseg.results.result import Result

OPTIONS = {"width": 4, "depth": 1, "iterations": 25, "patch": None, "learning_rate": 0.01, "validation": 0.0}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Three pictures, their tones as truth, and a teacher of three classes."""
    folder = tmp_path_factory.mktemp("taught")
    for part in ("images", "truth"):
        (folder / part).mkdir()
    for seed in range(3):
        picture = blobs(30, 40, seed=seed)
        Pillow.fromarray(picture).save(folder / "images" / f"{seed}.png")
        tone = np.digitize(picture.mean(-1), [80, 170]).astype(np.uint8) + 1
        Pillow.fromarray(tone).save(folder / "truth" / f"{seed}.png")
    Segmenter("region_merging", n_classes=3, seed=0).fit(folder / "images", out=folder / "teacher")
    return folder


def test_the_pupil_learns_its_teachers_classes(taught, tmp_path):
    teacher = load(taught / "teacher")
    found = distill(
        teacher, taught / "images", tmp_path / "m", preset="default", options=OPTIONS, truth=taught / "truth"
    )
    side = found.comparison
    assert side.n_images == 3 and side.agreement > 0.8 and side.agreement_when_sure >= side.agreement
    assert set(side.truth) == {"teacher", "pupil"} and side.truth["pupil"]["hungarian_dice"] > 0.6
    assert not found.failures
    again = load(tmp_path / "m")
    assert [(c.id, c.name, c.rgba) for c in again.table_.classes] == [
        (c.id, c.name, c.rgba) for c in teacher.table_.classes
    ]
    assert str(again.preparation_) == str(teacher.preparation_)
    written = json.loads((tmp_path / "m" / "distillation.json").read_text())
    assert written["agreement"] == side.agreement and written["confidence"] == 0.9


def test_the_comparison_counts_pixels(picture):
    labels = np.array([[1, 1, 2, 2], [1, 1, 2, 0]])
    answer = np.array([[1, 2, 2, 2], [1, 1, 1, 1]])
    sure = np.array([[1, 0, 1, 1], [1, 1, 0, 0]], bool)
    (source,) = find_inputs(picture)
    result = Result(picture, answer, np.zeros((2, 2, 4), np.float32), None, 0.25)
    found = compare([Lesson(source, labels, sure, 0.5)], {source.name: result}, None)
    assert (found.learned_from, found.agreement, found.agreement_when_sure) == (5 / 7, 5 / 7, 1.0)
    assert found.seconds == {"teacher": 0.5, "pupil": 0.25} and found.truth == {}
    assert found.parts == {"teacher": 3, "pupil": 2}


def test_objects_are_scored_as_a_mask_under_one_matching(picture):
    """Class 2 stands for the objects: Dice 2 * 3 / (3 + 4) by hand; unknown pixels, -1, are left out."""
    truth = np.array([[0, 0, 4, 4], [0, -1, 9, 9]])
    labels = np.array([[1, 1, 2, 2], [1, 2, 2, 1]])
    (source,) = find_inputs(picture)
    result = Result(picture, labels, np.zeros((2, 2, 4), np.float32), None)
    annotations = Annotations({source.name: [truth]}, (0, 1), (1, 2), ("background", "object"), objects=True)
    found = compare([Lesson(source, labels, labels > 0, 0.5)], {source.name: result}, annotations).truth
    assert found["teacher"] == found["pupil"]
    assert found["pupil"]["dice"] == found["pupil"]["mean_dice"] == pytest.approx(6 / 7)
    assert found["pupil"]["hungarian_dice"] == pytest.approx((6 / 7 + 2 * 3 / (4 + 3)) / 2)


def test_the_surer_half_of_each_class_is_always_kept():
    labels = np.array([[1] * 6 + [2] * 4])
    certain = np.array([[0.9, 0.8, 0.7, 0.65, 0.5, 0.4, 0.30, 0.25, 0.20, 0.15]], np.float16)
    least = _thresholds([(labels, certain)], 2, 0.6)
    assert least[1] == np.float16(0.6) and least[2] == np.float16(0.25)
    assert _thresholds([(labels, certain)], 3, 0.0).max() == 0


def test_pixels_below_the_confidence_are_not_sure(taught):
    teacher = load(taught / "teacher")
    sources = find_inputs(taught / "images")
    (all_of_them, *_), _, _ = ask(teacher, sources, 0.0, None, Silent())
    assert np.array_equal(all_of_them.sure, all_of_them.labels > 0)
    lessons, order, failures = ask(teacher, sources, 1.0, None, Silent())
    for lesson in lessons:
        confidence = teacher.predict_image(lesson.source.read()).confidence.astype(np.float16)
        for label in np.unique(lesson.labels):
            here = lesson.labels == label
            if lesson.sure[here].any() and not lesson.sure[here].all():
                assert confidence[here & lesson.sure].min() > confidence[here & ~lesson.sure].max()
    assert not failures and order == [1, 2, 3]


def test_the_command_reports_and_names_failures(taught, tmp_path, capsys):
    (taught / "images" / "broken.png").write_bytes(b"")
    words = ["distill", taught / "teacher", taught / "images", "-o", tmp_path / "m", "--truth", taught / "truth"]
    for key, value in OPTIONS.items():
        words += ["--set", f"{key}={'' if value is None else value}"]
    assert main([str(word) for word in words]) == 1
    shown = capsys.readouterr()
    assert "broken" in shown.err and "seconds an image" in shown.out and "hungarian_dice" in shown.out
    (taught / "images" / "broken.png").unlink()
    assert main(["predict", str(tmp_path / "m"), str(taught / "images"), "-o", str(tmp_path / "out"), "--quiet"]) == 0


def test_a_confidence_is_a_probability(taught):
    with pytest.raises(UsageError, match="a probability from 0 to 1"):
        distill(load(taught / "teacher"), taught / "images", confidence=60)


def test_unsure_objects_and_rims_are_not_learned_from():
    """Object 1 has a mean confidence of .9, object 2 of .6; they touch. The ground is sure but in one corner."""
    objects = np.zeros((9, 12), int)
    objects[2:7, 1:6], objects[2:7, 6:11] = 1, 2
    certain = np.where(objects == 1, 0.9, np.where(objects == 2, 0.6, 0.8))
    certain[8, 0] = 0.5
    sure = sure_objects(np.where(objects > 0, 2, 1), certain, objects, 0.7)
    want = np.ones((9, 12), bool)
    want[1:8] = False  # the rim reaches one pixel to both sides of every border
    want[1:8, 0] = want[1:8, 11] = False
    want[3:6, 2:5] = True
    want[8, 0] = False
    assert np.array_equal(sure, want)
    assert sure_objects(np.where(objects > 0, 2, 1), certain, objects, 0.5)[4, 8]
    every = sure_objects(np.where(objects > 0, 2, 1), np.full((9, 12), 0.55), objects, 0.7)
    assert every[4, 3] and every[4, 8] and not every[0, 0], "the surer half of the objects is kept"


def cells(seed):
    """Dark discs on a bright ground, and their numbers."""
    rng, numbers = np.random.default_rng(seed), np.zeros((96, 96), np.uint8)
    y, x = np.mgrid[:96, :96]
    places = [(cy, cx) for cy in range(12, 96, 18) for cx in range(12, 96, 18)]
    for number, place in enumerate(rng.permutation(len(places))[:14], 1):
        cy, cx = places[place]
        numbers[(y - cy) ** 2 + (x - cx) ** 2 <= rng.uniform(4, 7) ** 2] = number
    picture = np.where(numbers > 0, 70, 190) + rng.normal(0, 6, numbers.shape)
    return np.clip(picture, 0, 255).astype(np.uint8), numbers


def test_a_pupil_of_objects_finds_objects(tmp_path):
    for part in ("images", "truth"):
        (tmp_path / part).mkdir()
    for seed in range(3):
        picture, numbers = cells(seed)
        Pillow.fromarray(picture).save(tmp_path / "images" / f"{seed}.png")
        Pillow.fromarray(numbers).save(tmp_path / "truth" / f"{seed}.png")
    teacher = Segmenter("objects", seed=0).fit(tmp_path / "images")
    options = {
        "width": 8,
        "depth": 2,
        "patch": 64,
        "iterations": 150,
        "learning_rate": 0.005,
        "scale": 0.0,
        "elastic": 0.0,
    }
    found = distill(
        teacher, tmp_path / "images", tmp_path / "m", options=options, truth=tmp_path / "truth", truth_as="objects"
    )
    truth = found.comparison.truth
    assert truth["teacher"]["ap_50"] > 0.9 and truth["pupil"]["ap_50"] > 0.85
    assert found.comparison.parts["teacher"] == pytest.approx(14, abs=1)
    again = load(tmp_path / "m")
    assert [item.name for item in again.table_.classes] == ["ground", "object"], "the ground is the first class"
    assert str(again.preparation_) == "auto,percentile=1:99.8" and again.method_.config.distance > 0
    assert json.loads((tmp_path / "m" / "distillation.json").read_text())["confidence"] == 0.7
    picture, numbers = cells(7)
    assert again.predict(picture).objects.max() == pytest.approx(14, abs=1)
