"""``classes.json`` and ``classes.csv``: round trips, and areas counted by hand."""

import csv
import json

import numpy as np
import pytest

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import ModelError
from selfseg.export.labels import count_areas, read_classes, write_areas, write_classes

TABLE = ClassTable(
    (
        SegmentClass(1, "Wiese, grün", (1, 2, 3, 255), 0.75, 0.125, (0, 4)),
        SegmentClass(2, "sky", (4, 5, 6, 255), 0.25, 0.5, (1,)),
        SegmentClass(3, "gone", (7, 8, 9, 255), 0.0, 0.9, ()),
    )
)


def test_the_table_comes_back(tmp_path):
    write_classes(tmp_path / "classes.json", TABLE)
    assert read_classes(tmp_path / "classes.json") == TABLE
    assert json.loads((tmp_path / "classes.json").read_text(encoding="utf-8"))[0]["name"] == "Wiese, grün"


def _changed(**values):
    rows = TABLE.to_json()
    rows[0].update(values)
    return json.dumps(rows)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}x",
        '{"a": 1}',
        '[{"id": 1}]',
        _changed(id=2),
        _changed(id=0),
        _changed(rgba=[1, 2, 300, 4]),
        _changed(name=3),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        read_classes(tmp_path / "classes.json")
    assert "classes.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(ModelError, match="FileNotFound"):
        read_classes(tmp_path / "no.json")


def test_areas_by_hand(tmp_path):
    labels = np.array([[1, 1, 1, 0], [1, 1, 2, 2]])
    areas = count_areas("a/b", np.bincount(labels.ravel()), TABLE, (0.5, 0.25), "µm")
    assert [(a.id, a.pixels, a.area, a.unit) for a in areas] == [
        (1, 5, 0.625, "µm²"),
        (2, 2, 0.25, "µm²"),
        (3, 0, 0.0, "µm²"),
    ]
    assert areas[0].share == pytest.approx(5 / 7)
    write_areas(tmp_path / "classes.csv", areas)
    with (tmp_path / "classes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    first = {
        "image": "a/b",
        "class": "1",
        "name": "Wiese, grün",
        "pixels": "5",
        "share": "0.714286",
        "area": "0.625",
        "unit": "µm²",
    }
    assert rows[0] == first
    assert len(rows) == 3


def test_volumes_and_ignored_images():
    volume = count_areas("v", np.array([0, 8]), TABLE, (2.0, 1.0, 1.0), "mm")
    assert (volume[0].area, volume[0].unit) == (16.0, "mm³")
    assert [a.share for a in count_areas("v", np.array([4]), TABLE, (1.0, 1.0))] == [0.0, 0.0, 0.0]
