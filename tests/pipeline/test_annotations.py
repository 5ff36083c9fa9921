import json

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from conftest import blobs
from selfseg import Segmenter
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Silent
from selfseg.learning.annotations import find_label_files
from selfseg.learning.fitting import split_sources
from selfseg.learning.training_set import build_training_set
from selfseg.read import find_inputs
from selfseg.sample.prepare import Preparation

QUICK = {"width": 4, "depth": 1, "iterations": 4, "patch": None, "validation": 0.0}


@pytest.fixture
def folders(tmp_path):
    """Three images, of which two have labels, one in a sub-folder."""
    for name in ("a", "more/b", "c"):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(blobs(20, 24)).save(path)
    labels = np.zeros((20, 24), np.uint8)
    labels[:, 4:10], labels[:, 12:20] = 2, 5
    for name in ("a", "more/b"):
        path = tmp_path / "labels" / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, labels)
    return tmp_path


def read(folders, labels="labels", meaning="sparse"):
    sources = find_inputs(folders / "images")
    found = find_label_files(folders / labels, sources, meaning)
    return found.read({source.name: source.read() for source in sources})


def test_labels_are_found_by_name_and_0_is_not_labelled(folders):
    annotations = read(folders)
    assert set(annotations.arrays) == {"a", "more/b"}
    (found,) = annotations.arrays["a"]
    assert (annotations.values, annotations.ids, annotations.names) == ((2, 5), (2, 5), ("class 2", "class 5"))
    assert found[0, 0] == -1 and found[0, 5] == 0 and found[0, 15] == 1


def test_0_may_be_a_class(folders):
    annotations = read(folders, meaning="full")
    assert (annotations.values, annotations.ids) == ((0, 2, 5), (1, 2, 3))
    assert annotations.names == ("label 0", "label 2", "label 5") and annotations.arrays["a"][0][0, 0] == 0


def test_objects_are_one_class_and_set_apart_after_the_image_was_shrunk(folders):
    objects = np.zeros((20, 24), np.uint16)
    objects[:, :12], objects[:, 12:] = 700, 40000
    for name in ("a", "more/b"):
        tifffile.imwrite(folders / "labels" / f"{name}.tif", objects)
    annotations = read(folders, meaning="objects")
    preparation = Preparation.parse("size=12,range")
    prepared = preparation.apply(find_inputs(folders / "images")[0].read())
    classes = annotations.prepared("a", 0, prepared)
    assert classes.shape == prepared.array.shape[1:] == (10, 12)
    assert classes.tolist() == [[1] * 5 + [0, 0] + [1] * 5] * 10
    assert annotations.prepared("c", 0, prepared) is None


def test_the_table_keeps_the_ids_and_a_gap_stays_an_empty_class(folders):
    model = Segmenter("unet", options=QUICK).fit(folders / "images", folders / "labels")
    assert [(item.id, item.name, item.sources) for item in model.table_.classes] == [
        (1, "class 1, no labels", ()),
        (2, "class 2", (0,)),
        (3, "class 3, no labels", ()),
        (4, "class 4, no labels", ()),
        (5, "class 5", (1,)),
    ]
    result = model.predict(folders / "images" / "c.png")
    assert set(np.unique(result.labels)) <= {2, 5} and result.probabilities.shape[0] == 5
    assert not result.probabilities[[0, 2, 3]].any()
    assert model.facts_["n_images"] == 2  # the third has no labels


def test_names_come_from_the_class_table_beside_the_labels(folders):
    row = {"rgba": [1, 2, 3, 255], "area_share": 0.5, "intensity": 0.1, "sources": [0]}
    table = [{"id": 2, "name": "nucleus", **row}, {"id": 5, "name": "wall", **row}]
    (folders / "classes.json").write_text(json.dumps(table))
    assert read(folders).names == ("nucleus", "wall")


def test_the_output_folder_of_another_model_serves_as_labels(folders):
    out = folders / "out"
    quick = {"n_features": 6, "n_clusters": 6, "iterations": 6, "min_classes": 1}
    teacher = Segmenter("feature_clustering", n_classes=2, options=quick).fit(folders / "images")
    from selfseg.learning.run import predict

    predict(teacher, folders / "images", out)
    annotations = read(folders, "out")
    assert annotations.values == (1, 2) and set(annotations.arrays) == {"a", "c", "more/b"}


def test_arrays_and_series(tmp_path):
    series = np.stack([blobs(20, 24, 1, seed)[..., 0] for seed in range(5)])
    labels = (series > 100).astype(np.uint8)
    model = Segmenter("unet", options={**QUICK, "validation": 0.4}).fit(Image(series, "TYX"), labels, labels_as="full")
    assert model.facts_["n_images"] == 3  # the last two of five frames are held out
    assert model.predict(Image(series, "TYX")).labels.shape == (5, 20, 24)
    some = Segmenter("unet", options=QUICK).fit([series[0], series[1]], [None, labels[1]], labels_as="full")
    assert some.facts_["n_images"] == 1


def samples_of(names, frames=1):
    shape, axes = ((frames, 4, 4), "TYX") if frames > 1 else ((4, 4), "YX")
    images = [Image(np.zeros(shape, np.uint8), axes, name=name) for name in names]
    return build_training_set(find_inputs(images), "range", None, None, Silent())


def test_the_split_is_by_source_and_a_function_of_the_seed():
    data = samples_of("abcdefghij", frames=3)
    splits = [split_sources(data, 0.2, seed) for seed in (0, 0, 1, 2, 3)]
    assert splits[0].held_names == splits[1].held_names
    assert len({tuple(split.held_names) for split in splits}) > 1
    for split in splits:
        assert len(split.held_names) == 2 and len(split.held) == 6 and len(split.learned) == 24
        assert not {id(sample) for sample in split.held} & {id(sample) for sample in split.learned}
    nothing = split_sources(data, 0.0, 0)
    assert not nothing.held and len(nothing.learned) == 30


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 0), (3, 1), (8, 2)])
def test_few_images_hold_few_out(count, held):
    assert len(split_sources(samples_of("abcdefgh"[:count]), 0.2, 0).held) == held


def test_of_one_series_the_last_frames_are_held_out():
    data = samples_of("a", frames=10)
    split = split_sources(data, 0.3, 0)
    assert [id(s) for s in split.held] == [id(s) for s in data.samples[7:]]


@pytest.mark.parametrize(
    ("labels", "meaning", "told"),
    [
        (np.zeros((20, 24), np.uint8), "sparse", "class numbers from 1 to 255, got none"),
        (np.full((20, 24), 300), "sparse", "--labels-as objects"),
        (np.zeros((9, 9), np.uint8), "full", "20 x 24, got 9 x 9"),
        (np.full((20, 24), 0.5), "full", "integers"),
        (np.full((20, 24), 255, np.uint8), "sparse", "two classes or more, got one.*--labels-as full"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_in_one_line(labels, meaning, told):
    with pytest.raises(InputError, match=told) as caught:
        Segmenter("unet", options=QUICK).fit(blobs(20, 24), labels, labels_as=meaning)
    assert "\n" not in str(caught.value)


def test_the_number_of_arrays_and_the_meaning_are_checked(folders):
    with pytest.raises(UsageError, match="2, one for each input, got 1"):
        Segmenter("unet", options=QUICK).fit([blobs(), blobs()], [np.ones((40, 52), int)])
    with pytest.raises(UsageError, match="sparse, full, objects"):
        read(folders, meaning="dense")
    with pytest.raises(InputError, match="none of c"):
        (folders / "labels" / "a.tif").rename(folders / "x.tif")
        (folders / "labels" / "more" / "b.tif").unlink()
        tifffile.imwrite(folders / "labels" / "c9.tif", np.ones((20, 24), np.uint8))
        read(folders)


def test_the_number_of_classes_is_that_of_the_labels(folders):
    with pytest.raises(UsageError, match="values for 3 classes, got 2 values"):
        Segmenter("unet", n_classes=3, options=QUICK).fit(folders / "images", folders / "labels")


def test_without_labels_a_supervised_method_is_refused(folders):
    with pytest.raises(UsageError, match="labels of some of the images, got images alone"):
        Segmenter("unet", options=QUICK).fit(folders / "images")
    with pytest.raises(UsageError, match="a method that learns from them"):
        Segmenter("region_merging").fit(folders / "images", folders / "labels")
    with pytest.raises(UsageError, match="labels or scribbles, got both"):
        Segmenter("unet", options=QUICK).fit(folders / "images", folders / "labels", scribbles=folders / "labels")


def test_scribbles_teach_a_u_net(folders):
    scribble = np.full((20, 24), 255, np.uint8)
    scribble[2, 2:6], scribble[10, 10:14] = 0, 7
    Pillow.fromarray(scribble).save(folders / "images" / "a_scribble.png")
    model = Segmenter("unet", options=QUICK).fit(folders / "images", scribbles=folders / "images" / "a_scribble.png")
    assert [(item.id, item.name) for item in model.table_.classes] == [(1, "scribble 0"), (2, "scribble 7")]


def test_other_labels_cannot_resume(folders):
    out = folders / "model"
    Segmenter("unet", options=QUICK).fit(folders / "images", folders / "labels", out=out)
    labels = tifffile.imread(folders / "labels" / "a.tif")
    tifffile.imwrite(folders / "labels" / "a.tif", labels.T.copy().reshape(20, 24))
    with pytest.raises(UsageError, match="other hints_sha256"):
        Segmenter("unet", options=QUICK).fit(folders / "images", folders / "labels", out=out, resume=True)
