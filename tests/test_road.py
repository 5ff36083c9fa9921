"""The road of one photo: few files, and the photo is opened, decoded, hashed, prepared and assigned once."""

import importlib.util
from pathlib import Path

import pytest
from PIL import Image as Picture

from conftest import blobs


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    path = Path(__file__).parents[1] / "benchmarks" / "speed" / "road.py"
    spec = importlib.util.spec_from_file_location("road", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    photo = tmp_path_factory.mktemp("road") / "photo.png"
    Picture.fromarray(blobs(96, 120)).save(photo)
    return module.trace(photo)


@pytest.mark.parametrize("station", ["opened", "decoded", "hashed", "prepared", "assigned"])
def test_a_photo_is_taken_through_each_station_once(road, station):
    assert road.count(station) == 1


def test_few_files_are_entered(road):
    assert len(road.files) <= 45, road.files
