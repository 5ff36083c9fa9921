"""GeoJSON: the fields that QuPath reads, and polygons that shapely finds valid and to hold exactly their pixels."""

import json

import numpy as np
import pytest
import shapely
from shapely.geometry import shape as read_geometry

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import UsageError
from selfseg.export.shape_files import write_geojson


def _features(path):
    return json.loads(path.read_text(encoding="utf-8"))["features"]


def _paint(features, size, value):
    """Return the label image that polygons hold, each pixel asked by its centre."""
    painted = np.zeros(size, int)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for feature in features:
        geometry = read_geometry(feature["geometry"])
        assert geometry.is_valid, shapely.is_valid_reason(geometry)
        painted[shapely.contains_xy(geometry, x, y)] = value(feature)
    return painted


def test_geojson_is_what_qupath_reads(tmp_path):
    table = ClassTable((SegmentClass(1, 'cell "wall"', (10, 20, 30, 255), 1.0, 0.0, (0,)),))
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0, 1:3], labels[1, 2, 0] = 1, 5
    write_geojson(tmp_path / "a.geojson", labels, table, axes="ZYX")
    first, second = _features(tmp_path / "a.geojson")
    ring = first["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    assert {tuple(point) for point in ring} == {(1, 0), (3, 0), (3, 1), (1, 1)}
    assert first["geometry"]["plane"]["z"] == 0
    assert first["properties"]["classification"] == {"name": 'cell "wall"', "color": [10, 20, 30]}
    assert first["properties"]["objectType"] == "annotation"
    assert second["geometry"]["plane"]["z"] == 1
    assert second["properties"]["classification"]["name"] == "class 5"
    with pytest.raises(UsageError, match="YX, ZYX"):
        write_geojson(tmp_path / "b.geojson", labels, axes="YX")


def test_polygons_with_holes_hold_the_label_image(tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, (40, 31))
    labels[5:25, 4:20] = 2
    labels[8:20, 7:15] = 3
    write_geojson(tmp_path / "a.geojson", labels)
    painted = _paint(_features(tmp_path / "a.geojson"), labels.shape, lambda f: f["properties"]["label"])
    np.testing.assert_array_equal(painted, labels)


def test_objects_are_detections_of_one_or_several_polygons(tmp_path):
    labels = np.ones((9, 9), int)
    objects = np.zeros((9, 9), int)
    objects[0:3, 0:3] = objects[5:8, 0:2] = 4
    objects[4:9, 4:9] = 11
    objects[6, 6] = 0
    write_geojson(tmp_path / "a.geojson", labels, objects=objects)
    features = _features(tmp_path / "a.geojson")
    assert [f["geometry"]["type"] for f in features] == ["MultiPolygon", "Polygon"]
    assert {f["properties"]["objectType"] for f in features} == {"detection"}
    painted = _paint(features, labels.shape, lambda f: int(f["properties"]["name"]))
    np.testing.assert_array_equal(painted, objects)
