"""ImageJ ROIs: roifile reads them back, and their polygons hold exactly the pixels of the objects."""

import sys

import numpy as np
import pytest
import roifile
from skimage.draw import polygon2mask

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import OutputError, UsageError
from selfseg.export.shape_files import write_imagej_rois

TABLE = ClassTable(tuple(SegmentClass(i, f"class {i}", (9, 8, i, 255), 0.3, 0.1 * i, (i,)) for i in (1, 2, 3)))


def _mask(roi, size):
    inside = np.zeros(size, bool)
    parts = roi.coordinates(multi=True)
    for ring in parts if isinstance(parts, list) else [parts]:
        inside ^= polygon2mask(size, ring[:, ::-1] - 0.5)
    return inside


def test_rois_give_the_label_image_back(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 4, (8, 9)), np.ones((4, 3), int))
    labels[rng.random(labels.shape) < 0.04] = 0
    n_rois = write_imagej_rois(tmp_path / "a.zip", labels, TABLE)
    rois = roifile.roiread(tmp_path / "a.zip")
    assert len(rois) == n_rois
    assert {roi.composite for roi in rois} == {True, False}
    painted = np.zeros_like(labels)
    for roi in rois:
        inside = _mask(roi, labels.shape)
        rows, columns = np.nonzero(inside)
        assert (roi.top, roi.left) == (rows.min(), columns.min())
        assert (roi.bottom, roi.right) == (rows.max() + 1, columns.max() + 1)
        assert roi.name.endswith(f"class {roi.group}")
        assert roi.stroke_color == bytes((255, 9, 8, roi.group))
        painted[inside] = roi.group
    np.testing.assert_array_equal(painted, labels)


def test_simple_regions_are_traced_polygons_as_the_wand_makes_them(tmp_path):
    labels = np.zeros((6, 7), int)
    labels[2:5, 3:5] = 1
    write_imagej_rois(tmp_path / "a.zip", labels, TABLE)
    (roi,) = [roifile.roiread(tmp_path / "a.zip")][0:1]
    (roi,) = roi if isinstance(roi, list) else [roi]
    assert roi.roitype == roifile.ROI_TYPE.TRACED
    assert {tuple(corner) for corner in roi.coordinates().tolist()} == {(3, 2), (5, 2), (5, 5), (3, 5)}


@pytest.mark.parametrize(
    ("axes", "shape", "hyperstack", "wanted"),
    [
        ("ZYX", (3, 4, 5), False, {(2, 0, 0), (3, 0, 0)}),
        ("TYX", (3, 4, 5), False, {(2, 0, 0), (3, 0, 0)}),
        ("ZYX", (3, 4, 5), True, {(0, 2, 0), (0, 3, 0)}),
        ("TZYX", (2, 2, 4, 5), False, {(0, 1, 2), (0, 2, 2)}),
    ],
)
def test_positions_are_those_that_imagej_heeds(tmp_path, axes, shape, hyperstack, wanted):
    objects = np.zeros(shape, int)
    planes = objects.reshape(-1, 4, 5)
    planes[-1, :2, :2] = planes[-2, :2, :3] = 1
    write_imagej_rois(tmp_path / "a.zip", np.ones_like(objects), TABLE, objects, axes, hyperstack=hyperstack)
    rois = roifile.roiread(tmp_path / "a.zip")
    assert {(roi.position, roi.z_position, roi.t_position) for roi in rois} == wanted


def test_equal_input_gives_equal_bytes(tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, (20, 20))
    for name in ("a.zip", "b.zip"):
        write_imagej_rois(tmp_path / name, labels, TABLE)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_too_large_an_image_is_refused(tmp_path):
    with pytest.raises(UsageError, match="32767"):
        write_imagej_rois(tmp_path / "a.zip", np.zeros((1, 40000), np.uint8), TABLE)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(OutputError, match=r"pip install 'selfseg\[roi\]'"):
        write_imagej_rois(tmp_path / "a.zip", np.ones((3, 3), int), TABLE)
