"""Tags of a GeoTIFF: the affine transformation by hand, attributes of a zarr, and one line where rasterio is needed and missing."""

import sys

import numpy as np
import pytest
import tifffile

from conftest import blobs
from selfseg.apps.cli import main
from selfseg.core.image import Image
from selfseg.export.georeference import _with_points, affine, epsg, is_map, zarr_attributes
from selfseg.export.ome_zarr import open_label_zarr
from selfseg.read import open_lazy, read_image


def run(*words) -> int:
    return main([str(word) for word in words])


UTM = (34735, 3, 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632))
SCALE = (33550, 12, 3, (10.0, 20.0, 0.0))
TIE = (33922, 12, 6, (2.0, 1.0, 0.0, 500_000.0, 5_400_000.0, 0.0))
MAP = (SCALE, TIE, UTM)


def test_a_tie_point_and_a_scale_make_the_matrix():
    matrix = affine(MAP)
    # the tie point (2, 1) lies at (500000, 5400000); x grows to the east by 10 a pixel, y falls by 20
    assert matrix @ (2, 1, 1) == pytest.approx((500_000, 5_400_000))
    assert matrix @ (3, 3, 1) == pytest.approx((500_010, 5_399_960))
    assert epsg(MAP) == 32632 and is_map(MAP)


def test_points_are_centres_where_the_tags_say_so():
    point = (34735, 3, 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 2, 3072, 0, 1, 32632))
    assert affine((SCALE, TIE, point)) @ (2.5, 1.5, 1) == pytest.approx((500_000, 5_400_000))


def test_a_matrix_in_the_tags_is_taken_and_a_description_is_no_code():
    turned = (34264, 12, 16, (0.0, 2.0, 0.0, 7.0, 3.0, 0.0, 0.0, 9.0, 0, 0, 0, 0, 0, 0, 0, 1.0))
    own = (34735, 3, 12, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32767))
    assert affine((turned, own)) @ (1, 4, 1) == pytest.approx((2 * 4 + 7, 3 * 1 + 9))
    assert epsg((turned, own)) is None
    assert affine((UTM,)) is None and not is_map((SCALE, TIE)) and zarr_attributes((UTM,)) == {}


def test_sides_get_points_where_their_neighbours_do():
    ring = np.array([(0, 0), (70, 0), (70, 5), (0, 5)])
    found = _with_points(ring)
    assert [tuple(p) for p in found] == [
        (0, 0), (32, 0), (64, 0), (70, 0), (70, 5), (64, 5), (32, 5), (0, 5), (0, 0),
    ]  # fmt: skip


def test_a_zarr_keeps_the_place_of_a_map(tmp_path):
    zarr = pytest.importorskip("zarr")
    image = Image(np.zeros((6, 8), np.uint8), "YX", meta={"geotiff": MAP})
    open_label_zarr(tmp_path / "a.zarr", (6, 8), np.uint8, (6, 8), "YX", image)[...] = 1
    with open_lazy(tmp_path / "a.zarr") as found:
        assert found.geotiff == MAP
    attributes = zarr.open_array(tmp_path / "a.zarr" / "0", mode="r").attrs.asdict()
    assert attributes["spatial:transform"] == [10.0, 0.0, 499_980.0, 0.0, -20.0, 5_400_020.0]
    assert attributes["proj:code"] == "EPSG:32632"
    assert [one["name"] for one in attributes["zarr_conventions"]] == ["proj:", "spatial:"]
    assert zarr_attributes(MAP, 2.0)["spatial:transform"] == [20.0, 0.0, 499_980.0, 0.0, -40.0, 5_400_020.0]


@pytest.mark.parametrize("rows", [7, "text", [[1, 2]], [[1, 2, 3, [4]]], [[33550, 12, 3, [0.0] * 20_000]]])
def test_what_a_strange_zarr_calls_geotiff_is_no_place(tmp_path, rows):
    zarr = pytest.importorskip("zarr")
    image = Image(np.zeros((6, 8), np.uint8), "YX")
    open_label_zarr(tmp_path / "a.zarr", (6, 8), np.uint8, (6, 8), "YX", image)
    zarr.open_array(tmp_path / "a.zarr" / "0", mode="r+").attrs["geotiff"] = rows
    with open_lazy(tmp_path / "a.zarr") as found:
        assert found.geotiff == ()


def test_cut_tree_objects_and_maps_keep_the_place_without_rasterio(tmp_path, monkeypatch, capsys):
    for name in ["rasterio", *(name for name in sys.modules if name.startswith("rasterio."))]:
        monkeypatch.setitem(sys.modules, name, None)
    tags = [(*tag, True) for tag in MAP]
    tifffile.imwrite(tmp_path / "map.tif", blobs(40, 52), photometric="rgb", extratags=tags)
    out = tmp_path / "out"
    words = ("segment", tmp_path / "map.tif", "-o", out, "--method", "kmeans", "--classes", "3", "--tree", "-q")
    assert run(*words, "--instances", "components", "--confidence-map") == 0
    assert run("cut", out, "--regions", "5", "-q") == 0
    for folder in ("labels", "cut", "tree", "instances", "confidence"):
        assert read_image(out / folder / "map.tif").geotiff == MAP, folder
    with tifffile.TiffFile(out / "labels" / "map.tif") as file:
        assert file.pages[0].tags[42113].value == "0"
    assert run("export", out, "-f", "qupath", "-f", "csv", "-q") == 0
    capsys.readouterr()
    assert run("export", out, "-f", "geojson", "-q") == 1
    told = capsys.readouterr().err
    assert "pip install 'selfseg[geo]'" in told and "--format qupath" in told and "Traceback" not in told
