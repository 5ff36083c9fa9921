"""The project's folder: what is asked of it again is found again, and the log survives any cut."""

import errno
import json
import os
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from conftest import blobs
from selfseg.apps.studio.project import EventLog, open_project
from selfseg.core.errors import InputError, OutputError, UsageError


def names(project):
    return [source.name for source in project.sources()]


def test_the_same_inputs_find_the_same_project(photos):
    project = open_project([str(photos)])
    assert project.folder == photos.parent / "photos.studio" and names(project) == ["photo0", "photo1"]
    project.log.do("001", {"op": "rename", "id": 1, "name": "x"})
    project.log.close()
    for inputs in ([str(photos)], [str(project.folder)]):
        again = open_project(inputs)
        assert names(again) == ["photo0", "photo1"] and again.roots == [photos]
        assert again.log.history("001").done == [{"op": "rename", "id": 1, "name": "x"}]
        again.log.close()


def test_a_file_gives_its_folder_as_root_and_a_model_is_no_picture(photos, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").touch()
    project = open_project([str(photos / "photo0.png"), str(model)])
    assert project.folder.name == "photo0.studio" and project.models == [model]
    assert project.roots == [photos, model] and names(project) == ["photo0"]


def test_what_cannot_be_opened_is_said_in_one_line(photos, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_project([str(tmp_path / "nothing.png")])
    with pytest.raises(UsageError, match="a project or a new folder"):
        open_project([str(photos)], photos)
    other = tmp_path / "other"
    other.mkdir()
    for text in ("{", json.dumps({"format": 99})):
        (other / "project.json").write_text(text)
        with pytest.raises(InputError):
            open_project([str(photos)], other)


def test_uploads_get_a_number_where_the_name_is_taken(project):
    first = project.upload_path("a.tif")
    first.parent.mkdir()
    Pillow.fromarray(blobs()).save(first)
    assert first == project.uploads / "a.tif" and project.upload_path("x\\a.tif").name == "a_2.tif"
    project.refresh()
    assert "a" in names(project)


OPERATIONS = st.lists(st.sampled_from(["do", "do", "do", "undo", "redo"]), max_size=40)


@settings(max_examples=40, deadline=None)
@given(moves=OPERATIONS, cut=st.integers(0, 60))
def test_undo_and_redo_are_a_list_and_a_place_in_it_and_a_cut_log_is_a_shorter_one(tmp_path_factory, moves, cut):
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    log = EventLog(path)
    states, at, stages = [()], 0, [()]
    for count, move in enumerate(moves):
        if move == "do":
            log.do("001", {"op": "rename", "id": count, "name": "n"})
            states = [*states[: at + 1], (*states[at], count)]
            at += 1
        elif move == "undo":
            assert (log.undo("001") is None) == (at == 0)
            at = max(0, at - 1)
        else:
            assert (log.redo("001") is None) == (at == len(states) - 1)
            at = min(len(states) - 1, at + 1)
        stages.append(states[at])
    assert tuple(row["id"] for row in log.history("001").done) == states[at]
    log.close()
    raw = path.read_bytes()
    path.write_bytes(raw[: max(0, len(raw) - cut)])  # as if the machine had stopped while it wrote
    again = EventLog(path)
    assert tuple(row["id"] for row in again.history("001").done) in stages
    again.do("001", {"op": "rename", "id": 99, "name": "after"})
    again.close()
    final = EventLog(path)
    assert final.history("001").done[-1]["id"] == 99
    final.close()


def test_what_a_failed_write_leaves_in_the_log_does_not_count(tmp_path, monkeypatch):
    """A write that fails leaves half a line, or a whole one; all that follows would be lost behind half a line."""
    log = EventLog(tmp_path / "events.jsonl")
    log.do("001", {"id": 1})
    for name, fails in (("fsync", OSError(errno.EIO, "Input/output error")), ("half", OSError(errno.ENOSPC, "full"))):
        with monkeypatch.context() as patch, pytest.raises(OutputError, match="free some space"):
            if name == "fsync":
                patch.setattr(os, "fsync", Mock(side_effect=fails))
            else:
                patch.setattr(log, "_file", HalfWritten(log._file, fails))
            log.do("001", {"id": 2})
        assert [row["id"] for row in log.history("001").done] == [1]
    log.do("001", {"id": 3})
    log.close()
    again = EventLog(tmp_path / "events.jsonl")
    assert [row["id"] for row in again.history("001").done] == [1, 3]
    again.close()


class HalfWritten:
    """A file that takes half of what is written and then fails; nor can it be made shorter, but at first."""

    def __init__(self, file, error):
        self.file, self.error, self.cuts = file, error, 0

    def truncate(self, size):
        self.cuts += 1
        if self.cuts > 1:
            raise self.error
        return self.file.truncate(size)

    def write(self, data):
        if len(data) < 10:
            raise self.error
        return self.file.write(data[: len(data) // 2])


def test_scopes_are_undone_each_by_itself(project):
    log = project.log
    log.do("001", {"op": "ignore", "id": 1, "on": True})
    log.do("002", {"op": "ignore", "id": 2, "on": True})
    assert log.undo("001") == {"op": "ignore", "id": 1, "on": True} and log.undo("001") is None
    assert log.history("002").done and log.history("001").undone
