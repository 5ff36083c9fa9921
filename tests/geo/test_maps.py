"""Maps stay maps, written and read back by rasterio and pyproj: `make test-geo`, in a virtual environment of its own."""

import json
from itertools import chain

import numpy as np
import pytest
import tifffile

pytest.importorskip("rasterio")
pytest.importorskip("pyproj")

import pyproj
import rasterio
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform

from conftest import blobs
from selfseg.apps.cli import main
from selfseg.export.georeference import affine, coordinate_system
from selfseg.export.shape_files import write_geojson
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.read import open_lazy, read_image

UTM = from_origin(500_000.0, 5_400_000.0, 10.0, 10.0)


def write_map(path, picture, crs="EPSG:32632", place=UTM, **options):
    height, width, bands = picture.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": bands, "dtype": picture.dtype.name}
    profile |= {"photometric": "RGB"} if bands == 3 else {}
    with rasterio.open(path, "w", **profile, crs=crs, transform=place, **options) as file:
        file.write(np.moveaxis(picture, -1, 0))
    return path


def features(path):
    return json.loads(path.read_text())["features"]


def corners(feature):
    """All corners of a feature, [N 2]."""
    geometry = feature["geometry"]
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return np.array(list(chain.from_iterable(chain.from_iterable(parts))))


def area_on_earth(feature):
    """Geodesic area in square metres, exteriors positive where they run counter-clockwise."""
    geometry, geod = feature["geometry"], pyproj.Geod(ellps="WGS84")
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return sum(geod.polygon_area_perimeter(*np.array(ring).T)[0] for part in parts for ring in part)


def test_labels_cuts_and_confidence_lie_where_the_map_lies(tmp_path):
    path = write_map(tmp_path / "map.tif", blobs(40, 52))
    words = ["--method", "kmeans", "--classes", "3", "--tree", "--confidence-map", "--instances", "components", "-q"]
    assert main(["segment", str(path), "-o", str(tmp_path / "out"), *words]) == 0
    assert main(["cut", str(tmp_path / "out"), "--regions", "5", "-q"]) == 0
    for folder in ("labels", "confidence", "cut", "tree", "instances"):
        with rasterio.open(tmp_path / "out" / folder / "map.tif") as file:
            assert file.crs.to_epsg() == 32632 and file.transform == UTM and file.shape == (40, 52), folder
            assert file.nodata == (None if folder == "confidence" else 0)


def test_geojson_is_in_longitude_and_latitude(tmp_path):
    path = write_map(tmp_path / "map.tif", blobs(40, 52))
    assert main(["segment", str(path), "-o", str(tmp_path / "out"), "--method", "kmeans", "--classes", "3", "-q"]) == 0
    assert main(["export", str(tmp_path / "out"), "-f", "geojson", "-f", "qupath", "-q"]) == 0
    found = features(tmp_path / "out" / "export" / "geojson" / "map.geojson")
    lon, lat = np.concatenate([corners(one) for one in found]).T
    # the outer corners, by pyproj from the coordinates that stand in the file
    to_degrees = pyproj.Transformer.from_crs(32632, 4326, always_xy=True)
    west, north = to_degrees.transform(500_000.0, 5_400_000.0)
    east, south = to_degrees.transform(500_520.0, 5_399_600.0)
    assert (lon.min(), lat.max()) == pytest.approx((west, north), abs=1e-6)
    assert (lon.max(), lat.min()) == pytest.approx((east, south), abs=1e-6)
    # UTM on its central meridian: an area on the ground is that on the map over 0.9996 squared
    areas = [area_on_earth(one) for one in found]
    assert min(areas) > 0  # exteriors run counter-clockwise, holes the other way
    assert sum(areas) == pytest.approx(40 * 52 * 100 / 0.9996**2, rel=1e-4)
    assert {*found[0]["properties"]} == {"class", "label", "fill"} and "plane" not in found[0]["geometry"]
    pixels = features(tmp_path / "out" / "export" / "qupath" / "map.geojson")
    assert np.concatenate([corners(one) for one in pixels]).max() == 52 and "plane" in pixels[0]["geometry"]


PLACES = {
    "longitude and latitude": ("EPSG:4326", from_origin(10.0, 50.0, 0.001, 0.0005)),
    "web map": ("EPSG:3857", from_origin(-8_000_000.0, 5_000_000.0, 2.0, 2.0)),
    "feet": ("EPSG:2263", from_origin(980_000.0, 200_000.0, 3.0, 3.0)),
    "old datum": ("EPSG:31467", from_origin(3_500_000.0, 5_400_000.0, 25.0, 25.0)),
    "turned": ("EPSG:32633", Affine(3.0, 1.0, 400_000.0, 1.0, -3.0, 5_000_000.0)),
    "the south, upwards": ("EPSG:32719", Affine(5.0, 0.0, 300_000.0, 0.0, 5.0, 6_000_000.0)),
    "no code": (
        "+proj=laea +lat_0=51 +lon_0=9 +x_0=4321000 +y_0=3210000 +ellps=GRS80 +units=m",
        from_origin(4_300_000.0, 3_200_000.0, 100.0, 100.0),
    ),
    "polar": ("EPSG:3413", from_origin(-500_000.0, -1_000_000.0, 1000.0, 1000.0)),
}


@pytest.mark.parametrize("name", PLACES)
def test_any_map_is_read_as_gdal_reads_it(tmp_path, name):
    crs, place = PLACES[name]
    path = write_map(tmp_path / "a.tif", blobs(30, 70)[..., :1], crs, place)
    tags = read_image(path).geotiff
    assert Affine(*affine(tags).ravel()).almost_equals(place, precision=1e-9)
    with rasterio.open(path) as file:
        assert coordinate_system(tags) == file.crs
    labels = np.ones((30, 70), np.uint8)
    labels[8:20, 10:40] = 2
    write_geojson(tmp_path / "a.geojson", labels, geotiff=tags)
    first, second = features(tmp_path / "a.geojson")
    expected = np.array(transform(crs, "EPSG:4326", *np.array([place @ p for p in CORNERS]).T)).T
    pixel = np.abs(np.diff(np.array(transform(crs, "EPSG:4326", *np.array([place @ (0, 0), place @ (1, 1)]).T)))).max()
    for corner in expected:
        assert np.abs(corners(first) - corner).max(1).min() < 0.02 * pixel
    assert area_on_earth(first) > 0 and area_on_earth(second) > 0
    assert area_on_earth(second) / (area_on_earth(first) + area_on_earth(second)) == pytest.approx(360 / 2100, rel=0.02)


CORNERS = [(0, 0), (70, 0), (70, 30), (0, 30), (32, 0), (64, 30)]


def test_pixel_centres_as_ties_are_read_as_gdal_reads_them(tmp_path):
    path = write_map(tmp_path / "a.tif", blobs(30, 70)[..., :1])
    with rasterio.open(path, "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    with rasterio.open(path) as file:
        assert Affine(*affine(read_image(path).geotiff).ravel()).almost_equals(file.transform)


def test_long_sides_bend_with_the_earth(tmp_path):
    """A strip of 3000 pixels of 1 km: its southern side is no straight line in longitude and latitude."""
    place = from_origin(3_000_000.0, 4_000_000.0, 1000.0, 1000.0)
    path = write_map(tmp_path / "a.tif", np.ones((64, 3000, 1), np.uint8), "EPSG:3035", place)
    write_geojson(tmp_path / "a.geojson", np.ones((64, 3000), np.uint8), geotiff=read_image(path).geotiff)
    found = corners(features(tmp_path / "a.geojson")[0])
    y = np.asarray(transform("EPSG:4326", "EPSG:3035", *found.T)[1])
    south = np.flatnonzero(np.abs(y - 3_936_000) < 30)
    middles = (found[south[:-1]] + found[south[1:]]) / 2
    on_map = np.asarray(transform("EPSG:4326", "EPSG:3035", *middles.T))
    assert len(south) > 90 and np.abs(on_map[1] - 3_936_000).max() < 100  # a tenth of a pixel
    ends = (found[south[0]] + found[south[-1]]) / 2
    assert abs(transform("EPSG:4326", "EPSG:3035", [ends[0]], [ends[1]])[1][0] - 3_936_000) > 50_000


def test_what_crosses_the_antimeridian_is_cut(tmp_path):
    place = from_origin(3.2e6, 0.0, 1e4, 1e4)  # of the Pacific, whose middle is 150 degrees east
    path = write_map(tmp_path / "a.tif", np.ones((20, 40, 1), np.uint8), "EPSG:3832", place)
    write_geojson(tmp_path / "a.geojson", np.ones((20, 40), np.uint8), geotiff=read_image(path).geotiff)
    (one,) = features(tmp_path / "a.geojson")
    assert one["geometry"]["type"] == "MultiPolygon" and len(one["geometry"]["coordinates"]) == 2
    assert np.abs(corners(one)[:, 0]).max() <= 180 and area_on_earth(one) > 0


def test_no_data_is_no_feature(tmp_path):
    picture = blobs(40, 52)
    picture[:, :20] = 0
    path = write_map(
        tmp_path / "map.tif", np.maximum(picture, 1) * (picture.sum(-1, keepdims=True) > 0).astype(np.uint8), nodata=0
    )
    model = Segmenter("kmeans", n_classes=3).fit(path)
    assert predict(model, path, tmp_path / "out") == []
    with rasterio.open(tmp_path / "out" / "labels" / "map.tif") as file:
        assert (file.read(1)[:, :20] == 0).all() and (file.dataset_mask()[:, :20] == 0).all()
    assert main(["export", str(tmp_path / "out"), "-f", "geojson", "-q"]) == 0
    lon = np.concatenate([corners(one) for one in features(tmp_path / "out" / "export" / "geojson" / "map.geojson")])[
        :, 0
    ]
    west = pyproj.Transformer.from_crs(32632, 4326, always_xy=True).transform(500_200.0, 5_399_800.0)[0]
    assert lon.min() == pytest.approx(west, abs=1e-5)


def test_a_map_in_parts_keeps_its_place(tmp_path):
    zarr = pytest.importorskip("zarr")
    path = write_map(tmp_path / "map.tif", blobs(700, 900), tiled=True)
    model = Segmenter("kmeans", n_classes=3).fit(path)
    out = tmp_path / "out"
    failures = predict(model, path, out, memory="1M", tree=True, confidence_map=True, probability_maps=True)
    assert failures == []
    assert main(["cut", str(out), "--regions", "5", "-q"]) == 0
    for folder in ("labels", "tree", "cut", "confidence", "probabilities"):
        attributes = zarr.open_array(out / folder / "map.zarr" / "0", mode="r").attrs
        assert Affine(*attributes["spatial:transform"]) == UTM and attributes["proj:code"] == "EPSG:32632", folder
        with open_lazy(out / folder / "map.zarr") as stored:
            assert stored.geotiff == read_image(path).geotiff
    assert main(["export", str(out), "-f", "geojson", "--least-area", "50", "-q"]) == 0
    lon, lat = np.concatenate([corners(one) for one in features(out / "export" / "geojson" / "map.geojson")]).T
    assert lon.min() == pytest.approx(9.0, abs=2e-3) and lat.max() < 48.76


def test_a_system_without_a_code_goes_into_a_zarr_as_text(tmp_path):
    zarr = pytest.importorskip("zarr")
    crs, place = PLACES["no code"]
    path = write_map(tmp_path / "map.tif", blobs(40, 52), crs, place)
    model = Segmenter("kmeans", n_classes=3).fit(path)
    assert predict(model, path, tmp_path / "out", write=["ome-zarr"]) == []
    for level in zarr.open_group(tmp_path / "out" / "labels" / "map.ome.zarr", mode="r").arrays():
        found = rasterio.crs.CRS.from_wkt(level[1].attrs["proj:wkt2"])
        assert found.to_dict()["proj"] == "laea"


def test_a_place_that_is_not_on_earth_is_one_line(tmp_path, capsys):
    local = 'LOCAL_CS["stage",UNIT["metre",1]]'
    path = write_map(tmp_path / "map.tif", blobs(40, 52), local)
    assert main(["segment", str(path), "-o", str(tmp_path / "out"), "--method", "kmeans", "--classes", "3", "-q"]) == 0
    capsys.readouterr()
    assert main(["export", str(tmp_path / "out"), "-f", "geojson", "-q"]) == 1
    told = capsys.readouterr().err.strip()
    assert "longitude and latitude" in told and "--format qupath" in told and "Traceback" not in told


def test_an_ordinary_tiff_has_no_place(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", blobs(40, 52), photometric="rgb")
    assert "geotiff" not in read_image(tmp_path / "a.tif").meta
