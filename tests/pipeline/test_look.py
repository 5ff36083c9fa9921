"""First look: which parts of the inputs are shown, what the tiles say, the page and its facts."""

import json

import numpy as np
import pytest
from PIL import Image as Picture

from conftest import blobs
from selfseg.apps.cli import main
from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.learning.look import MOST_PIXELS, candidates, choose_views, look
from selfseg.read import find_inputs


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
