"""Tiles: put together they are the picture, and their levels are means of it; volumes for the 3D view."""

import numpy as np
import pytest

from selfseg.apps.studio.pictures import (
    TILE,
    TilePosition,
    as_nifti,
    as_picture,
    image_tile,
    leaf_tile,
    probability_tile,
    thumbnail_png,
)
from selfseg.apps.studio.results import find_result, need_result
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image


def whole(picture, axis, frame, index, level, channels, dtype):
    """Every tile of a level, side by side, until there is none."""
    plane = picture.plane(axis, frame, index, level)
    rows = []
    for y in range(-(-plane.shape[0] // TILE)):
        row = []
        for x in range(-(-plane.shape[1] // TILE)):
            raw = image_tile(picture, TilePosition(axis, frame, index, level, x, y), channels)
            size = (min(TILE, plane.shape[0] - y * TILE), min(TILE, plane.shape[1] - x * TILE), len(channels))
            row.append(np.frombuffer(raw, dtype).reshape(size))
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows, 0)


def test_tiles_are_the_picture_and_levels_its_means():
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (700, 1101, 3), np.uint8)
    picture = as_picture(Image(data, "YXC"))
    assert picture.n_levels == 3 and picture.facts()["bits"] == 8
    assert np.array_equal(whole(picture, "z", 0, 0, 0, [0, 1, 2], np.uint8), data)
    assert np.array_equal(whole(picture, "z", 0, 0, 0, [2], np.uint8), data[..., 2:])
    half = whole(picture, "z", 0, 0, 1, [0, 1, 2], np.uint8)
    assert half.shape == (350, 551, 3)
    for y, x in ((0, 0), (349, 17), (120, 549)):
        assert np.allclose(half[y, x], data[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(-1, 3).mean(0), atol=0.51)


def test_planes_along_every_axis_of_a_series_of_volumes():
    rng = np.random.default_rng(1)
    data = rng.integers(0, 60000, (2, 5, 2, 30, 40)).astype(np.uint16)  # T Z C Y X
    picture = as_picture(Image(data, "TZCYX"))
    facts = picture.facts()
    assert (facts["frames"], facts["depth"], facts["height"], facts["width"], facts["channels"]) == (2, 5, 30, 40, 2)
    assert np.array_equal(whole(picture, "z", 1, 3, 0, [1], np.uint16)[..., 0], data[1, 3, 1])
    assert np.array_equal(whole(picture, "y", 0, 7, 0, [0], np.uint16)[..., 0], data[0, :, 0, 7])
    assert np.array_equal(whole(picture, "x", 0, 39, 0, [0, 1], np.uint16), np.moveaxis(data[0, :, :, :, 39], 1, -1))


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint32", "float64"])
def test_other_values_are_spread_over_16_bits_and_can_be_read_back(dtype):
    values = np.linspace(-300, 900, 600).reshape(20, 30).clip(0 if dtype == "uint32" else -300, None).astype(dtype)
    picture = as_picture(Image(values, "YX"))
    back = picture.offset + picture.scale * picture.data[0, 0, :, :, 0].astype(float)
    assert np.allclose(back, values, atol=0.51 * picture.scale + 1e-6)
    assert picture.data.min() == 0 and picture.data.max() == 65535


def test_nan_and_one_colour_do_not_disturb():
    values = np.full((9, 9), 5.0, np.float32)
    values[0, 0] = np.nan
    picture = as_picture(Image(values, "YX"))
    assert len(np.unique(picture.data)) == 1 and thumbnail_png(picture)[1:4] == b"PNG"
    low, high = picture.ranges[0]
    assert low < high


@pytest.mark.parametrize(
    "place", [("z", 0, 0, 0, 9, 0), ("z", 1, 0, 0, 0, 0), ("z", 0, 3, 0, 0, 0), ("z", 0, 0, 9, 0, 0)]
)
def test_tiles_that_are_not_there_are_refused(place):
    picture = as_picture(Image(np.zeros((40, 40), np.uint8), "YX"))
    with pytest.raises(UsageError, match="inside the picture"):
        image_tile(picture, TilePosition(*place), [0])


def test_places_and_channels_are_checked():
    picture = as_picture(Image(np.zeros((40, 40), np.uint8), "YX"))
    for wrong in (("q", 0, 0, 0, 0, 0), ("z", -1, 0, 0, 0, 0), ("z", 0, 0, 99, 0, 0)):
        with pytest.raises(UsageError):
            TilePosition(*wrong)
    for channels in ([], [1], [0] * 5):
        with pytest.raises(UsageError, match="channel"):
            image_tile(picture, TilePosition("z", 0, 0, 0, 0, 0), channels)


def test_leaves_and_probabilities_of_a_result(project, run):
    stored = need_result(run.folder, "photo0", 0)
    superpixels = stored.array("superpixels")
    height, width = superpixels.shape
    raw = leaf_tile(stored, TilePosition("z", 0, 0, 0, 0, 0))
    tile = np.frombuffer(raw, np.uint32).reshape(height + 2, width + 2)
    assert np.array_equal(tile, np.pad(superpixels, 1, mode="edge") + 1)
    raw = leaf_tile(stored, TilePosition("z", 0, 0, 1, 0, 0))
    assert np.array_equal(np.frombuffer(raw, np.uint32).reshape(22, 28)[1:-1, 1:-1], superpixels[::2, ::2] + 1)
    probabilities = stored.array("probabilities")
    one = np.frombuffer(probability_tile(stored, TilePosition("z", 0, 0, 0, 0, 0), [1]), np.uint8).reshape(
        height, width
    )
    best = np.frombuffer(probability_tile(stored, TilePosition("z", 0, 0, 0, 0, 0), []), np.uint8).reshape(
        height, width
    )
    assert np.array_equal(one, probabilities[1]) and np.array_equal(best, probabilities.max(0))
    with pytest.raises(UsageError):
        probability_tile(stored, TilePosition("z", 0, 0, 0, 0, 0), [9])
    with pytest.raises(UsageError):
        leaf_tile(stored, TilePosition("z", 0, 0, 0, 1, 0))
    assert find_result(run.folder, "photo0", 1) is None
    with pytest.raises(InputError, match="none yet"):
        need_result(run.folder, "nobody", 0)


def test_the_server_answers_with_tiles_tables_and_volumes(project, run):
    from starlette.testclient import TestClient

    from selfseg.apps.studio.security import Access
    from selfseg.apps.studio.server import make_app
    from selfseg.apps.studio.studio import Studio

    studio = Studio(project)
    client = TestClient(make_app(studio, Access(8123, token="t")), base_url="http://127.0.0.1:8123")
    headers = {"Authorization": "Bearer t"}
    place = "axis=z&frame=0&index=0&level=0&x=0&y=0"
    facts = client.get("/api/picture?name=photo0", headers=headers).json()
    assert (facts["width"], facts["height"], facts["channels"], facts["bits"]) == (52, 40, 3, 8)
    tile = client.get(f"/tiles/image?name=photo0&channels=0,1,2&{place}", headers=headers)
    assert np.array_equal(
        np.frombuffer(tile.content, np.uint8).reshape(40, 52, 3), studio.pictures.get("photo0").image.data
    )
    assert client.get("/api/thumbnail?name=photo0", headers=headers).content[1:4] == b"PNG"
    for wrong in (
        f"/tiles/image?name=nobody&channels=0&{place}",
        f"/tiles/image?name=photo0&channels=7&{place}",
        f"/tiles/leaves?run=009&name=photo0&{place}",
        "/api/tree?run=001&name=../photo0",
        "/api/preview?run=001&step=77",
        "/api/volume.nii?name=photo0",
        "/api/volume.nii?name=photo0&frame=9",
    ):
        answer = client.get(wrong, headers=headers)
        assert answer.status_code == 400 and "expected" in answer.json()["error"], wrong


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_volumes_for_the_3d_view_are_read_by_nibabel_as_they_are(tmp_path, dtype):
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(dtype)
    path = tmp_path / "v.nii"
    path.write_bytes(as_nifti(volume, (3.0, 2.0, 1.5)))
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.dtype(dtype) and image.header.get_zooms() == (1.5, 2.0, 3.0)
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), volume)
    assert np.allclose(image.affine[:3, :3], np.diag([1.5, -2.0, 3.0]))


def test_a_picture_is_no_volume():
    for shape in ((1, 5, 6), (5, 6)):
        with pytest.raises(InputError, match="volume"):
            as_nifti(np.zeros(shape, np.uint8), (1, 1, 1))
