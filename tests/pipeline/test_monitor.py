import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from selfseg import Segmenter, measure
from selfseg.apps.cli import main
from selfseg.train.loop import read_journal

FAST = {"n_features": 6, "n_clusters": 6, "iterations": 6, "min_classes": 1}


@pytest.fixture
def photo(tmp_path, picture):
    Picture.fromarray(picture.data).save(tmp_path / "photo.png")
    truth = np.zeros(picture.spatial_shape, np.uint8)
    truth[:, truth.shape[1] // 2 :] = 1
    tifffile.imwrite(tmp_path / "truth.tif", truth)
    return tmp_path


def test_truth_is_shown_and_changes_nothing(photo):
    plain = Segmenter(options=FAST, seed=3).fit(photo / "photo.png", out=photo / "plain")
    watched = Segmenter(options=FAST, seed=3).fit(photo / "photo.png", out=photo / "watched", truth=photo / "truth.tif")
    for name, tensor in plain.method_.state().items():
        assert (tensor == watched.method_.state()[name]).all(), name
    rows = list(read_journal(photo / "watched" / "journal.jsonl"))
    assert all({"covering", "PRI", "VI"} <= row.keys() for row in rows)
    assert "covering" not in next(iter(read_journal(photo / "plain" / "journal.jsonl")))


def test_the_score_is_that_of_the_classes_at_that_moment(photo):
    seen = []

    class Spy:
        def start(self, task, total, done=0): ...

        def update(self, done, values):
            seen.append(values)

        def finish(self): ...

        def say(self, message): ...

    options = {**FAST, "iterations": 1, "learning_rate": 1e-12}
    model = Segmenter(options=options, seed=3).fit(photo / "photo.png", truth=photo / "truth.tif", progress=Spy())
    labels = model.predict(photo / "photo.png").labels  # the step moved nothing, so the fitted model is what was scored
    truth = tifffile.imread(photo / "truth.tif")
    scored = next(values for values in seen if "covering" in values)
    assert scored["covering"] == pytest.approx(measure.covering(labels, truth), abs=1e-3)


@pytest.mark.parametrize("name", ["other.tif", "nowhere"])
def test_truth_that_fits_no_image_is_refused(photo, capsys, name):
    (photo / "folder").mkdir()
    (photo / "truth.tif").rename(photo / "folder" / "other.tif")
    place = photo / ("folder" if name == "other.tif" else name)
    code = main(["fit", str(photo / "photo.png"), "-o", str(photo / "m"), "--truth", str(place), "-q"])
    assert code == 1 and str(place) in capsys.readouterr().err


def test_truth_of_another_size_is_named(photo, capsys):
    tifffile.imwrite(photo / "truth.tif", np.zeros((5, 6), np.uint8))
    code = main(["fit", str(photo / "photo.png"), "-o", str(photo / "m"), "--truth", str(photo / "truth.tif")])
    assert code == 1 and "5 x 6" in capsys.readouterr().err
