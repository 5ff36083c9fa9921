"""Operations of the log become edits; strokes become scribble images."""

import numpy as np
import pytest

from selfseg.apps.studio.editing import check_operation, draw, edits_from, visible_strokes
from selfseg.core.errors import UsageError
from selfseg.refine.edits import AS_LEARNED, Edits, Merge


def test_operations_come_to_edits():
    rows = [
        {"op": "level", "level": 0.5},
        {"op": "merge", "source": 3, "target": 1},
        {"op": "ignore", "id": 2, "on": True},
        {"op": "rename", "id": 1, "name": "sky"},
        {"op": "recolour", "id": 1, "rgba": [1, 2, 3, 255]},
        {"op": "level", "level": 0.7},
    ]
    expected = Edits(0.7, (Merge(3, 1),), frozenset({2}), {1: "sky"}, {1: (1, 2, 3, 255)})
    assert edits_from(rows) == expected and edits_from([]) == Edits() and Edits().level == AS_LEARNED
    assert edits_from([*rows, {"op": "ignore", "id": 2, "on": False}]).ignored == frozenset()


@pytest.mark.parametrize(
    "row",
    [
        {"op": "merge", "source": 1, "target": 9},
        {"op": "rename", "id": 9, "name": "x"},
        {"op": "merge", "source": 2, "target": 2},
    ],
)
def test_operations_on_classes_that_are_not_there_are_refused(row):
    with pytest.raises(UsageError):
        check_operation(row, {1, 2})


def test_strokes_are_drawn_as_discs_along_lines():
    stroke = {"op": "stroke", "image": "a", "plane": 0, "value": 7, "radius": 2.2, "points": [[5.0, 4.0], [9.0, 15.0]]}
    labels = draw((14, 20), [stroke])
    for row in range(14):
        for column in range(20):
            centre = np.array([row + 0.5, column + 0.5])
            share = np.linspace(0, 1, 4001)[:, None]
            line = np.array([5.0, 4.0]) + share * np.array([4.0, 11.0])
            gap = np.sqrt(((line - centre) ** 2).sum(1)).min()
            if abs(gap - 2.2) > 0.01:
                assert (labels[row, column] == 7) == (gap < 2.2)
    dot = {**stroke, "points": [[3.2, 3.2]], "radius": 0.1, "value": 1}
    assert np.argwhere(draw((8, 8), [dot]) == 1).tolist() == [[3, 3]]
    volume = draw((3, 8, 8), [{**dot, "plane": 2}, {**dot, "plane": 7}])
    assert np.argwhere(volume == 1).tolist() == [[2, 3, 3]]


def test_clearing_takes_the_strokes_of_one_picture():
    rows = [
        {"op": "stroke", "image": "a"},
        {"op": "stroke", "image": "b"},
        {"op": "clear", "image": "a"},
        {"op": "stroke", "image": "a"},
    ]
    assert [row["image"] for row in visible_strokes(rows)] == ["b", "a"]
