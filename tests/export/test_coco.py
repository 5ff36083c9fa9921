"""COCO: pycocotools reads the file, and its masks are exactly the objects, holes included."""

import contextlib
import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import InputError
from selfseg.export.outlines import outlines
from selfseg.export.shape_files import CocoImage, run_lengths, write_coco

TABLE = ClassTable(tuple(SegmentClass(i, f"class {i}", (i, i, i, 255), 0.3, 0.1 * i, (i,)) for i in (1, 2, 3)))


def _read(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def _counts(mask):
    """Return run lengths down the columns, beginning with pixels outside, in a slow loop."""
    flat = mask.ravel(order="F").tolist()
    runs = [(value, len(list(group))) for value, group in itertools.groupby(flat)]
    return [0] * runs[0][0] + [length for _, length in runs]


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)))
@settings(deadline=None)
def test_run_lengths_are_those_of_the_mask(labels):
    for item in outlines(labels):
        counts = run_lengths([item.exterior, *item.holes], labels.shape)
        mask = coco_mask.decode(coco_mask.frPyObjects({"size": list(labels.shape), "counts": counts}, *labels.shape))
        assert counts == _counts(mask)
        assert mask.sum() == item.area
        assert (labels[mask == 1] == item.label).all()


@pytest.mark.parametrize("seed", range(4))
def test_pycocotools_gives_the_label_images_back(tmp_path, seed):
    rng = np.random.default_rng(seed)
    images = []
    for i in range(2):
        labels = np.kron(rng.integers(0, 4, (9, 7)), np.ones((3, 4), int))
        labels[rng.random(labels.shape) < 0.05] = 0
        images.append(CocoImage(f"a/{i}.png", labels))
    n_written = write_coco(tmp_path / "c.json", images, TABLE)
    coco = _read(tmp_path / "c.json")
    assert len(coco.anns) == n_written
    assert [cat["name"] for cat in coco.loadCats(coco.getCatIds())] == ["class 1", "class 2", "class 3"]
    kinds = set()
    for entry, image in zip(coco.loadImgs(coco.getImgIds()), images, strict=True):
        assert (entry["file_name"], entry["height"], entry["width"]) == (image.file_name, 27, 28)
        painted = np.zeros_like(image.labels)
        for row in coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]])):
            kinds.add(type(row["segmentation"]))
            encoded = coco.annToRLE(row)
            mask = coco_mask.decode(encoded).astype(bool)
            assert row["area"] == coco_mask.area(encoded)
            assert row["bbox"] == coco_mask.toBbox(encoded).tolist()
            assert not painted[mask].any()
            painted[mask] = row["category_id"]
        np.testing.assert_array_equal(painted, image.labels)
    assert kinds == {list, dict}


def test_objects_of_several_parts_are_one_annotation(tmp_path):
    labels, objects = np.full((8, 8), 2), np.zeros((8, 8), int)
    objects[1:3, 1:3] = objects[5:7, 2:8] = 3
    assert write_coco(tmp_path / "c.json", [CocoImage("a.png", labels, objects)], TABLE) == 1
    coco = _read(tmp_path / "c.json")
    (row,) = coco.loadAnns(coco.getAnnIds())
    assert row["category_id"] == 2
    assert len(row["segmentation"]) == 2
    np.testing.assert_array_equal(coco.annToMask(row), objects > 0)


def test_an_empty_file_is_read_too(tmp_path):
    write_coco(tmp_path / "c.json", [CocoImage("a.png", np.zeros((4, 4), int))], TABLE)
    assert _read(tmp_path / "c.json").getAnnIds() == []


def test_volumes_are_refused(tmp_path):
    with pytest.raises(InputError, match="COCO has no volumes"):
        write_coco(tmp_path / "c.json", [CocoImage("a.tif", np.zeros((2, 4, 4), int))], TABLE)
    assert not (tmp_path / "c.json").exists()
