"""First look: which parts of the inputs are shown, what the tiles say, the page and its facts."""

import json

import numpy as np
import pytest
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

from conftest import blobs
from selfseg.apps.cli import main
from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.learning.look import CANDIDATES, MOST_PIXELS, candidates, choose_views, look, suggest
from selfseg.read import find_inputs
from selfseg.regions.membranes import dark_lines


def test_three_images_that_differ_most_are_shown():
    pictures = [np.full((40, 48, 3), tone, np.uint8) for tone in (10, 12, 14, 120, 250)]
    views, failures = choose_views(find_inputs([blobs(40, 48, 3, seed=1), *pictures]))
    assert len(views) == 3 and failures == [] and all(view.share == 1 for view in views)


def test_slices_of_a_volume_and_frames_of_a_series_are_named():
    volume = Image(np.stack([blobs(24, 32, 1, seed=i)[..., 0] for i in range(9)]), "ZYX", name="v")
    views, _ = choose_views(find_inputs(volume))
    assert [view.part for view in views] == ["slice 2 of 9", "slice 5 of 9", "slice 8 of 9"]
    assert all(view.image.axes == "YX" and view.whole == (9, 24, 32) for view in views)
    series = Image(volume.data, "TYX", name="t")
    assert [view.part for view in choose_views(find_inputs(series))[0]] == [
        "frame 2 of 9",
        "frame 5 of 9",
        "frame 8 of 9",
    ]


def test_large_images_are_shown_in_crops_that_differ():
    large = np.zeros((2100, 2200), np.uint8)
    large[:1000, 1200:] = 200
    large[1100:, :1000] = np.random.default_rng(0).integers(0, 255, (1000, 1000))
    assert large.size > MOST_PIXELS
    views, _ = choose_views(find_inputs(large))
    assert len({view.part for view in views}) == 3 and all("crop at row" in view.part for view in views)
    assert all(view.image.spatial_shape == (1024, 1024) and view.whole == large.shape for view in views)


def test_an_input_that_fails_is_named_and_the_others_are_shown(tmp_path):
    Picture.fromarray(blobs()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    views, failures = choose_views(find_inputs(tmp_path))
    assert [view.image.name for view in views] == ["a"] and [name for name, _ in failures] == ["b"]
    with pytest.raises(InputError, match=r"b\.png"):
        choose_views(find_inputs(tmp_path / "b.png"))


def test_each_candidate_gives_a_picture_of_each_view_or_its_reason():
    views, _ = choose_views(find_inputs([blobs(48, 64, 3, seed=1), blobs(48, 64, 3, seed=2)]))
    tiles = list(look(views))
    assert [tile.candidate for tile in tiles] == candidates()
    for tile in tiles:
        assert tile.error or (len(tile.pictures) == len(tile.counts) == 2 and tile.seconds > 0)
    assert sum(not tile.error for tile in tiles) >= 5
    assert sum(bool(tile.suggested) for tile in tiles) <= 1


def test_the_page_holds_the_tiles_and_their_commands(tmp_path, capsys):
    Picture.fromarray(blobs(48, 64, 3)).save(tmp_path / "a photo.png")
    assert main(["look", str(tmp_path / "a photo.png"), "-o", str(tmp_path / "out"), "-q"]) == 0
    facts = json.loads((tmp_path / "out" / "look.json").read_text())
    assert facts["total"] == len(facts["tiles"]) == len(candidates())
    page = (tmp_path / "out" / "look.html").read_text()
    for tile in facts["tiles"]:
        assert tile["command"].replace("'", "&#39;") in page
        assert f"--method {tile['method']}" in tile["command"] and f"'{tmp_path / 'a photo.png'}'" in tile["command"]
    assert "look.html" in capsys.readouterr().out


@pytest.fixture
def suggested(monkeypatch):
    """The candidate that is suggested of a picture, among those that can be."""
    able = [one for one in CANDIDATES if one.method in ("objects", "membranes") or one.title == "Regions"]
    monkeypatch.setattr("selfseg.learning.look.CANDIDATES", able)
    return suggestion


def suggestion(picture):
    views, _ = choose_views(find_inputs(picture))
    tiles = suggest(list(look(views)))
    (tile,) = [tile for tile in tiles if tile.suggested]
    return tile.candidate


def discs(n=24, side=160, seed=0):
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:side, :side]
    picture = rng.normal(20, 3, (side, side))
    for cell in range(n):
        row, column = 14 + 32 * (cell // 5) + rng.integers(-3, 4), 14 + 32 * (cell % 5) + rng.integers(-3, 4)
        picture += 120 * ((y - row) ** 2 + (x - column) ** 2 < rng.integers(40, 70))
    return gaussian_filter(picture, 1).clip(0, 255).astype(np.uint8)


def cells_between_dark_lines(side=256, n=160, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.random((n, 2)) * side
    near = np.sort(np.hypot(*(points[:, :, None, None] - np.mgrid[:side, :side]).transpose(1, 0, 2, 3)), axis=0)
    line = np.exp(-(((near[1] - near[0]) / 3) ** 2))
    return (170 - 110 * line + rng.normal(0, 12, (side, side))).clip(0, 255).astype(np.uint8)


def test_objects_are_suggested_with_their_polarity_membranes_by_their_lines_and_else_regions(suggested):
    assert suggested(discs()).title == "Bright objects"
    assert suggested(255 - discs()).title == "Dark objects"
    assert suggested(cells_between_dark_lines()).method == "membranes"
    assert suggested(blobs(64, 80, 3)).method == "contours"


def test_dark_lines_are_even_where_they_are_everywhere_and_absent_from_flat_images():
    lines = cells_between_dark_lines().astype(np.float32)
    everywhere, strong = dark_lines(lines)
    one_corner = np.full_like(lines, 170)
    one_corner[:64, :64] = lines[:64, :64]
    assert everywhere > 0.85 and dark_lines(one_corner)[0] < 0.1
    assert dark_lines(-lines)[1] < strong  # bright lines are none, but for noise and corners
    assert dark_lines(3 * lines + 7) == pytest.approx((everywhere, strong), rel=1e-3)
    assert dark_lines(np.ones((5, 3))) == (0, 0)
