"""Folders of the studio: what they hold, what is left out, places that lead elsewhere, pictures that are added."""

import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.apps.studio import browsing
from selfseg.apps.studio.browsing import add_places, find_place, homes, list_place
from selfseg.apps.studio.project import open_project
from selfseg.core.errors import InputError


@pytest.fixture
def data(tmp_path):
    """``a/photos/one.png``, ``a/photos/deep/two.png`` and ``b/photos/three.png`` beside things that are no pictures."""
    for name in ("a/photos/one.png", "a/photos/deep/two.png", "b/photos/three.png", "elsewhere/secret.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(np.full((8, 9), 90, np.uint8)).save(path)
    (tmp_path / "a/photos/notes.txt").write_text("words")
    (tmp_path / "a/photos/.hidden.png").write_bytes(b"")
    (tmp_path / "a/photos/empty").mkdir()
    return tmp_path


@pytest.fixture
def project(data):
    return open_project([str(data / "a/photos/one.png")], data / "p.studio", [data / "a/photos", data / "b/photos"])


def test_homes_have_names_of_their_own(project, data):
    assert homes(project) == {"photos": data / "a/photos", "photos 2": data / "b/photos"}
    top = list_place(project, "")
    assert [row["place"] for row in top["folders"]] == ["photos", "photos 2"] and top["pictures"] == []


def test_a_folder_lists_folders_and_pictures_only(project, monkeypatch):
    found = list_place(project, "photos")
    assert [row["place"] for row in found["folders"]] == ["photos/deep", "photos/empty"]
    assert [row["name"] for row in found["pictures"]] == ["one.png"] and found["more"] == 0
    monkeypatch.setattr(browsing, "MOST_ENTRIES", 2)
    assert list_place(project, "photos")["more"] == 2  # notes.txt and one.png


@pytest.mark.parametrize("place", ["photos/../../elsewhere", "../elsewhere", "elsewhere", "photos/link"])
def test_places_lead_nowhere_else(project, data, place):
    (data / "a/photos/link").symlink_to(data / "elsewhere")
    with pytest.raises(InputError, match="path inside"):
        list_place(project, place)


def test_a_path_of_the_machine_is_a_place_too(project, data):
    assert find_place(project, str(data / "b/photos")) == data / "b/photos"
    with pytest.raises(InputError, match="can be listed"):
        list_place(project, "photos/one.png")


def test_pictures_and_folders_are_added_and_stay(project, data):
    assert add_places(project, ["photos/deep", "photos 2/three.png"]) == 2
    assert add_places(project, ["photos/deep"]) == 0
    with pytest.raises(InputError):
        add_places(project, ["photos/empty"])
    project.log.close()
    again = open_project([str(data / "p.studio")])
    assert [source.name for source in again.sources()] == ["one", "two", "three"]
