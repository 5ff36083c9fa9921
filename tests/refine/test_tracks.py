"""Ids over time: objects that move, divide, are missed for a frame, come and go."""

import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.refine.tracks import link_objects

pytest.importorskip("laptrack")


def tracks(*frames, reach=6.0):
    return link_objects([np.array(frame, float).reshape(-1, 2) for frame in frames], reach)


def test_objects_keep_their_ids_whatever_their_order():
    found = tracks([[10, 10], [30, 30]], [[31, 30], [11, 11]], [[12, 11], [32, 31]])
    assert [ids.tolist() for ids in found.ids] == [[1, 2], [2, 1], [1, 2]]
    assert found.parents == {}


def test_a_division_begins_two_tracks_of_one_parent():
    found = tracks(
        [[10, 10], [40, 40]], [[11, 10], [40, 41]], [[9, 8], [13, 12], [40, 42]], [[8, 7], [14, 13], [40, 43]]
    )
    assert [ids.tolist() for ids in found.ids] == [[1, 2], [1, 2], [3, 4, 2], [3, 4, 2]]
    assert found.parents == {3: 1, 4: 1}


def test_one_missing_frame_is_bridged_and_two_are_not():
    once = tracks([[10, 10]], [], [[11, 11]])
    assert [ids.tolist() for ids in once.ids] == [[1], [], [1]]
    twice = tracks([[10, 10]], [], [], [[11, 11]])
    assert [ids.tolist() for ids in twice.ids] == [[1], [], [], [2]]


def test_what_is_too_far_is_another_object():
    found = tracks([[10, 10]], [[20, 20]])
    assert [ids.tolist() for ids in found.ids] == [[1], [2]]
    assert all(ids.size == 0 for ids in tracks([], []).ids)


def test_without_laptrack_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "laptrack", None)
    with pytest.raises(UsageError, match=r"selfseg\[track\]"):
        tracks([[1, 1]])
