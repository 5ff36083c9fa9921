import numpy as np
import pytest
from PIL import Image as Pillow

import selfseg
from conftest import blobs
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image

QUICK = {"iterations": 8, "n_features": 8, "n_clusters": 8}


def test_public_names_are_few_and_all_there():
    assert len(selfseg.__all__) <= 20
    assert all(getattr(selfseg, name) is not None for name in selfseg.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = selfseg.nothing


def test_segment_gives_a_result_with_everything(tmp_path):
    path = tmp_path / "photo.png"
    Pillow.fromarray(blobs()).save(path)
    result = selfseg.segment(path, options=QUICK)
    assert result.labels.shape == (40, 52) and result.labels.dtype == np.uint8
    assert result.probabilities.shape == (len(result.table), 40, 52)
    np.testing.assert_allclose(result.confidence, result.probabilities.max(0))
    assert np.array_equal(result.labels, result.probabilities.argmax(0) + 1)
    result.save(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").rglob("photo.*")} == {"photo.tif", "photo.png"}


def test_a_model_is_saved_loaded_and_predicts_the_same(tmp_path):
    pictures = [blobs(seed=1), blobs(30, 44, seed=2)]
    model = selfseg.Segmenter("feature_clustering", n_classes=3, seed=2, options=QUICK).fit(pictures)
    model.save(tmp_path / "m")
    again = selfseg.load(tmp_path / "m")
    assert again.get_params() == {**model.get_params(), "device": "auto"}
    for one, other in zip(model.predict(pictures), again.predict(pictures), strict=True):
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.probabilities, other.probabilities)
    assert "3" in (tmp_path / "m" / "README.md").read_text()


def test_scikit_learn_can_clone_and_set():
    from sklearn.base import clone

    model = selfseg.Segmenter("feature_clustering", n_classes=4, options=QUICK)
    copy = clone(model)
    assert copy is not model and copy.get_params() == model.get_params()
    assert copy.set_params(seed=9).seed == 9
    with pytest.raises(UsageError, match="sed"):
        copy.set_params(sed=9)


def test_an_unknown_option_is_one_line_before_any_work(tmp_path):
    nothing = tmp_path / "no such file.png"
    model = selfseg.Segmenter(options=QUICK)
    calls = {
        "seed": lambda: selfseg.segment(nothing, sed=1),
        "n_classes": lambda: selfseg.fit(nothing, clases=3),
        "method": lambda: selfseg.Segmenter(metod="wnet"),
        "slices": lambda: model.predict(nothing, slces="z"),
        "labels": lambda: model.fit(nothing, lables=nothing),
        "link": lambda: selfseg.predict(model, nothing, tmp_path, lnk=True),
    }
    for name, call in calls.items():
        with pytest.raises(UsageError, match=rf"^option '\w+': expected one of .*; did you mean {name}\?$"):
            call()


def test_predicting_before_fitting_says_so():
    with pytest.raises(UsageError, match="expected a fitted model"):
        selfseg.Segmenter(options=QUICK).predict(blobs())


def test_a_series_is_segmented_frame_by_frame():
    series = np.stack([blobs(seed=1), blobs(seed=2), blobs(seed=3)])
    model = selfseg.Segmenter(options=QUICK).fit(Image(series, "TYXC"))
    assert model.facts_["n_images"] == 3
    result = model.predict(Image(series, "TYXC"))
    assert result.labels.shape == (3, 40, 52)
    assert np.array_equal(result.labels[1], model.predict(Image(series[1], "YXC")).labels)
    with pytest.raises(UsageError, match="got a series"):
        _ = result.hierarchy


def test_an_image_is_predicted_alone_as_in_company():
    pictures = [blobs(seed=1), blobs(seed=2)]
    model = selfseg.Segmenter(options=QUICK).fit(pictures)
    assert np.array_equal(model.predict(pictures)[1].labels, model.predict(pictures[1]).labels)


def test_what_was_shown_last_is_what_is_predicted():
    """For one image, frozen statistics are those of the last step's own weights: training and prediction agree."""
    import torch

    picture = blobs(seed=4)
    model = selfseg.Segmenter(prepare="range", options=QUICK).fit(picture)
    prepared = model.preparation_.apply(Image(picture, "YXC"))
    model.method_.train()
    with torch.no_grad():
        shown = model.method_.assign(torch.from_numpy(prepared.array)[None])[0].argmax(0).numpy()
    model.method_.eval()
    predicted = model.predict(picture).labels
    pairs = {(int(a), int(b)) for a, b in zip(shown.ravel(), predicted.ravel(), strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_preparation_is_stored_and_repeated(tmp_path):
    picture = blobs(60, 80)
    model = selfseg.Segmenter(prepare="rescale=0.5,border=2,percentile=1:99:global", options=QUICK).fit(picture)
    model.save(tmp_path)
    again = selfseg.load(tmp_path)
    assert str(again.preparation_) == str(model.preparation_)
    labels = again.predict(picture).labels
    assert labels.shape == (60, 80)
    assert (labels[:3] == 0).all() and (labels[10:50, 10:70] > 0).all()
    assert np.array_equal(labels, model.predict(picture).labels)


def test_an_image_too_large_for_memory_is_refused_before_it_is_started(monkeypatch):
    monkeypatch.setattr("selfseg.learning.model_folder.free_on", lambda device: 10**6)
    with pytest.raises(InputError, match=r"takes about .* GiB of memory: expected at most .*\(--prepare size="):
        selfseg.segment(blobs(200, 200), options={"n_features": 100})


def test_progress_hears_every_loss_term_and_the_class_count():
    heard = []

    class Listener:
        def start(self, task, total, done=0):
            heard.append((task, total))

        def update(self, done, values):
            heard.append(set(values))

        def finish(self):
            heard.append("end")

        def say(self, message):
            heard.append(message)

    options = {**QUICK, "too_large": 1.0, "too_small": 1.0}
    selfseg.Segmenter(options=options).fit(blobs(), progress=Listener())
    assert ("learning", 8) in heard and "end" in heard
    assert {"similarity", "continuity", "too_large", "too_small", "classes"} in heard


@pytest.mark.parametrize("term", ["similarity", "continuity"])
def test_a_weight_of_zero_switches_a_term_off(term):
    seen = []

    class Listener:
        def __getattr__(self, name):
            return lambda *words: seen.append(words) if name == "update" else None

    selfseg.Segmenter(options={**QUICK, term: 0.0}).fit(blobs(), progress=Listener())
    assert seen and all(term not in words[1] for words in seen)


def test_a_refinement_is_stored_with_the_model_and_changes_only_the_prediction(tmp_path):
    picture = blobs(seed=5)
    plain = selfseg.Segmenter(seed=1, options=QUICK).fit(picture)
    refined = selfseg.Segmenter(seed=1, options=QUICK, refine="crf=space:10,colour:0.2").fit(picture)
    refined.save(tmp_path)
    again = selfseg.load(tmp_path)
    assert again.refine == "crf=space:10,colour:0.2"
    labels = again.predict(picture).labels
    assert np.array_equal(labels, refined.predict(picture).labels)
    assert not np.array_equal(labels, plain.predict(picture).labels)
    same = again.set_params(refine=None).predict(picture)
    assert np.array_equal(same.probabilities, plain.predict(picture).probabilities)


def test_a_refinement_leaves_masked_pixels_out_and_takes_series():
    series = np.stack([blobs(seed=1), blobs(seed=2)])
    model = selfseg.Segmenter(options=QUICK, refine="crf=iterations:2").fit(Image(series, "TYXC"))
    result = model.predict(Image(series, "TYXC"))
    assert np.array_equal(result.labels[1], model.predict(Image(series[1], "YXC")).labels)
    valid = np.ones((40, 52), bool)
    valid[:, :9] = False
    masked = model.predict(Image(series[0], "YXC", valid=valid))
    assert (masked.labels[:, :9] == 0).all() and (masked.labels[:, 9:] > 0).all()
    np.testing.assert_allclose(masked.probabilities.sum(0), 1, atol=1e-5)


def test_a_wrong_refinement_is_refused_before_learning():
    with pytest.raises(UsageError, match="refinement 'crv': expected one of crf, contours"):
        selfseg.Segmenter(options=QUICK, refine="crv").fit("there is no such file.png")
