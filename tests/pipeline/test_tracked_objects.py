"""Objects of a sequence: found in each frame; with --link they have one id over time, and divisions are noted."""

import csv

import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.apps.cli import main
from selfseg.read.labels import read_labels

STEPS = [[(20, 20), (60, 70)], [(22, 22), (60, 68)], [(24, 24), (56, 64), (64, 70)], [(26, 26), (52, 62), (68, 72)]]
"""Centres of the bright discs in each frame: one moves, one divides."""


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells") / "cells"
    folder.mkdir()
    y, x = np.mgrid[:90, :100]
    for number, centres in enumerate(STEPS):
        light = np.full((90, 100), 40)
        for cy, cx in centres:
            light[(y - cy) ** 2 + (x - cx) ** 2 <= 16] = 220
        grain = np.random.default_rng(number).normal(0, 4, light.shape)
        Picture.fromarray(np.clip(light + grain, 0, 255).astype(np.uint8)).save(folder / f"t{number}.png")
    return folder


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("link", [True, False])
def test_objects_have_ids_over_time_where_frames_are_linked(frames, link, tmp_path):
    if link:
        pytest.importorskip("laptrack")
    words = ["segment", frames, "--method", "region_merging", "--preset", "cells", "--classes", 2, "--sequence"]
    words += ["--instances", "components", "-o", tmp_path / "out", "-q", *["--link"] * link]
    assert main([str(word) for word in words]) == 0
    table = rows(tmp_path / "out" / "instances.csv")
    assert [int(row["frame"]) for row in table] == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]
    ids = [[int(row["id"]) for row in table if int(row["frame"]) == t] for t in range(4)]
    for number, found in enumerate(ids):
        labels = read_labels(tmp_path / "out" / "instances" / f"t{number}.tif")
        assert np.unique(labels).tolist() == [0, *sorted(found)]
        assert labels[STEPS[number][0]] == found[0] == 1
    if not link:
        assert ids == [[1, 2], [1, 2], [1, 2, 3], [1, 2, 3]] and not (tmp_path / "out" / "tracks.csv").exists()
        return
    assert ids == [[1, 2], [1, 2], [1, 3, 4], [1, 3, 4]]
    tracks = rows(tmp_path / "out" / "tracks.csv")
    assert [(row["track"], row["parent"], row["first"], row["last"], row["frames"]) for row in tracks] == [
        ("1", "0", "0", "3", "4"),
        ("2", "0", "0", "1", "2"),
        ("3", "2", "2", "3", "2"),
        ("4", "2", "2", "3", "2"),
    ]
    assert float(tracks[0]["path"]) == pytest.approx(3 * 8**0.5, abs=0.5)
