"""A GeoTIFF's place on Earth goes on to labels and to confidence maps; written and read by rasterio."""

import numpy as np
import pytest

from conftest import blobs
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.read import read_image


def test_labels_lie_where_the_map_lies(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from rasterio.transform import from_origin

    place, photo = from_origin(500_000.0, 5_400_000.0, 10.0, 10.0), blobs(40, 52)
    profile = {"driver": "GTiff", "width": 52, "height": 40, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    with rasterio.open(tmp_path / "map.tif", "w", **profile, crs="EPSG:32632", transform=place, nodata=0) as file:
        file.write(np.moveaxis(photo, -1, 0))
    model = Segmenter("kmeans", n_classes=3).fit(tmp_path / "map.tif")
    assert predict(model, tmp_path / "map.tif", tmp_path / "out", confidence_map=True) == []
    for folder in ("labels", "confidence"):
        with rasterio.open(tmp_path / "out" / folder / "map.tif") as file:
            assert file.crs.to_epsg() == 32632 and file.transform == place, folder
            assert file.shape == (40, 52)


def test_an_ordinary_tiff_has_no_place(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", blobs(40, 52), photometric="rgb")
    assert "geotiff" not in read_image(tmp_path / "a.tif").meta
