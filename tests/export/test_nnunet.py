"""nnU-Net v2: the rules of its documentation and of its own check of a dataset, written down here as a check."""

import json
import re

import numpy as np
import pytest
import skimage.io
import tifffile

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import InputError, OutputError, UsageError
from selfseg.core.image import Image
from selfseg.export.nnunet import case_name, label_values, write_nnunet

TABLE = ClassTable(tuple(SegmentClass(i, f"class {i}", (i, i, i, 255), 0.3, 0.1 * i, (i,)) for i in (1, 2, 3)))


def check_dataset(folder):
    """Check what nnU-Net checks: names, counts, labels without gaps, ignore highest, shapes, spacings, no NaN."""
    assert re.fullmatch(r"Dataset\d{3}_.+", folder.name)
    facts = json.loads((folder / "dataset.json").read_text())
    assert {"channel_names", "labels", "numTraining", "file_ending"} <= set(facts)
    values = list(facts["labels"].values())
    assert facts["labels"]["background"] == 0
    assert sorted(values) == list(range(len(values)))
    assert facts["labels"]["ignore"] == max(values)
    n_channels, ending = len(facts["channel_names"]), facts["file_ending"]
    assert list(facts["channel_names"]) == [str(i) for i in range(n_channels)]
    cases = {path.name[: -len(ending) - 5] for path in (folder / "imagesTr").glob(f"*{ending}")}
    assert len(cases) == facts["numTraining"]
    read = {"NaturalImage2DIO": skimage.io.imread, "Tiff3DIO": tifffile.imread}[facts["overwrite_image_reader_writer"]]
    n_dims = {"NaturalImage2DIO": 2, "Tiff3DIO": 3}[facts["overwrite_image_reader_writer"]]
    for case in cases:
        pattern = re.compile(re.escape(case) + r"_\d\d\d\d" + re.escape(ending))
        files = sorted(p for p in (folder / "imagesTr").iterdir() if pattern.fullmatch(p.name))
        images, labels = [read(path) for path in files], read(folder / "labelsTr" / f"{case}{ending}")
        assert len(images) == n_channels
        assert labels.ndim == n_dims
        assert {image.shape for image in images} == {labels.shape}
        assert not any(np.isnan(image.astype(np.float32)).any() for image in images)
        assert set(np.unique(labels)) <= set(values)
        if n_dims == 3:
            spacings = [
                json.loads((folder / d / f"{case}.json").read_text())["spacing"] for d in ("imagesTr", "labelsTr")
            ]
            assert spacings[0] == spacings[1]
            assert len(spacings[0]) == 3
            assert min(spacings[0]) > 0
    return facts, cases


def _case(name, shape=(8, 9), seed=0, **more):
    rng = np.random.default_rng(seed)
    return Image(rng.integers(0, 255, (*shape, 3), dtype=np.uint8), "YXC", name=name, **more), rng.integers(0, 4, shape)


def test_two_dimensional_images_make_a_valid_dataset(tmp_path):
    cases = [_case("a"), _case("deep/b", (5, 6), 1)]
    folder = tmp_path / "Dataset501_cells"
    assert write_nnunet(folder, iter(cases), TABLE, background=2) == {"a": "a", "deep/b": "deep__b"}
    facts, names = check_dataset(folder)
    assert names == {"a", "deep__b"}
    assert facts["labels"] == {"background": 0, "class 1": 1, "class 3": 2, "ignore": 3}
    assert list(facts["channel_names"].values()) == ["red", "green", "blue"]
    image, labels = cases[0]
    stored = skimage.io.imread(folder / "labelsTr" / "a.tif")
    for ours, theirs in {0: 3, 1: 1, 2: 0, 3: 2}.items():
        np.testing.assert_array_equal(stored == theirs, labels == ours)
    np.testing.assert_array_equal(skimage.io.imread(folder / "imagesTr" / "a_0001.tif"), image.data[..., 1])


def test_volumes_have_their_spacing_in_the_order_of_their_axes(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(2, 6, 5, 4)).astype(np.float64)
    data[1, 0, 0, 0] = np.nan
    valid = np.ones((6, 5, 4), bool)
    valid[0, 0, 0] = False
    image = Image(data, "CXYZ", (0.5, 0.25, 2.0), "micrometer", ("T1", "FLAIR"), "head", valid=valid)
    labels = rng.integers(1, 4, (6, 5, 4))
    folder = tmp_path / "Dataset007_heads"
    write_nnunet(folder, [(image, labels)], TABLE, background=1)
    facts, _ = check_dataset(folder)
    assert list(facts["channel_names"].values()) == ["T1", "FLAIR"]
    assert json.loads((folder / "imagesTr" / "head.json").read_text()) == {"spacing": [2.0, 0.25, 0.5]}
    stored = tifffile.imread(folder / "labelsTr" / "head.tif")
    assert stored.shape == (4, 5, 6)
    assert stored[0, 0, 0] == 3
    np.testing.assert_array_equal(stored.transpose(2, 1, 0)[1:], labels[1:] - 1)
    read = tifffile.imread(folder / "imagesTr" / "head_0000.tif")
    np.testing.assert_array_equal(read, data[0].transpose(2, 1, 0).astype(np.float32))


def test_ids_that_are_no_class_are_ignored():
    gaps = ClassTable(tuple(SegmentClass(i, str(i), (0, 0, 0, 255), 0.1, 0.0, (0,)) for i in (2, 5)))
    assert label_values(gaps, 5).tolist() == [2, 2, 1, 2, 2, 0]
    with pytest.raises(UsageError, match="background"):
        label_values(gaps, 3)


def test_class_names_that_mean_something_to_nnunet_are_told_apart(tmp_path):
    names = {1: "ignore", 2: "Background", 3: "cell", 4: "cell"}
    table = ClassTable(tuple(SegmentClass(i, n, (0, 0, 0, 255), 0.1, 0.0, (0,)) for i, n in names.items()))
    write_nnunet(tmp_path / "Dataset501_a", [_case("a")], table, background=2)
    facts, _ = check_dataset(tmp_path / "Dataset501_a")
    assert facts["labels"] == {"background": 0, "ignore 1": 1, "cell 3": 2, "cell 4": 3, "ignore": 4}


def test_cases_that_do_not_go_together_are_refused(tmp_path):
    folder = tmp_path / "Dataset501_a"
    grey = Image(np.zeros((4, 4), np.uint8), "YX", name="grey"), np.ones((4, 4), int)
    with pytest.raises(InputError, match="like the others"):
        write_nnunet(folder, [_case("a"), grey], TABLE, 1)
    with pytest.raises(InputError, match="one image of that name"):
        write_nnunet(folder, [_case("a/b"), _case("a/b")], TABLE, 1)
    with pytest.raises(InputError, match="labels of"):
        write_nnunet(folder, [(grey[0], np.ones((5, 4), int))], TABLE, 1)
    with pytest.raises(InputError, match="at least one image"):
        write_nnunet(folder, [], TABLE, 1)
    with pytest.raises(UsageError, match="Dataset501_cells"):
        write_nnunet(tmp_path / "cells", [grey], TABLE, 1)
    assert not (folder / "dataset.json").exists()


def test_cases_of_another_export_are_not_mixed_in(tmp_path):
    folder = tmp_path / "Dataset501_a"
    write_nnunet(folder, [_case("a"), _case("b")], TABLE, 1)
    write_nnunet(folder, [_case("a"), _case("b")], TABLE, 1)  # the same again is no harm
    with pytest.raises(OutputError, match="such as b"):
        write_nnunet(folder, [_case("a")], TABLE, 1)
    assert not (folder / "dataset.json").exists()


def test_names_become_file_names():
    assert case_name("mice/day 3/cell_01.a") == "mice__day_3__cell_01.a"


def test_a_case_that_fails_does_not_keep_the_others_from_being_written(tmp_path):
    folder, failed = tmp_path / "Dataset501_a", {}
    odd = Image(np.zeros((4, 4), np.uint8), "YX", name="odd"), np.ones((4, 4), int)
    names = write_nnunet(folder, [_case("a b"), odd, _case("a_b")], TABLE, 1, failed.__setitem__)
    assert names == {"a b": "a_b", "a_b": "a_b_2"} and check_dataset(folder)[1] == {"a_b", "a_b_2"}
    assert list(failed) == ["odd"] and "like the others" in str(failed["odd"])
