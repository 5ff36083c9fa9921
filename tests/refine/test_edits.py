"""Edits by hand: merges, splits, ignored classes and levels, against loops over pixels."""

import json

import numpy as np
import pytest

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import UsageError
from selfseg.refine.edits import Edits, Merge, Split, split_class
from selfseg.refine.hierarchy import Leaves
from selfseg.regions.merge_tree import MergeTree


def four_leaves() -> Leaves:
    """Leaves 0 1 2 3 in a row, of 1 2 3 4 pixels; 0 and 1 merge at 1, 2 and 3 at 2, all at 3."""
    superpixels = np.repeat(np.arange(4), [1, 2, 3, 4])[None].astype(np.int32)
    parents = np.array([4, 4, 5, 5, 6, 6, 6], np.int32)
    tree = MergeTree(parents, np.array([0, 0, 0, 0, 1.0, 2.0, 3.0]), np.array([1, 2, 3, 4, 3, 7, 10.0]))
    features = np.array([[0.0], [1.0], [10.0], [11.0]], np.float32)
    return Leaves(superpixels, tree, np.array([1, 2, 3, 2]), features)


def table(n: int = 3) -> ClassTable:
    colour = (10, 20, 30, 255)
    return ClassTable(tuple(SegmentClass(i, f"class {i}", colour, 0.1 * i, 0.5, (i - 1,)) for i in range(1, n + 1)))


def test_as_learned_leaves_the_labels_as_they_are():
    leaves = four_leaves()
    assert Edits().labels(leaves).tolist() == [[1, 2, 2, 3, 3, 3, 2, 2, 2, 2]]


@pytest.mark.parametrize("level", [0.0, 1.0, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("ignored", [frozenset(), frozenset({2})])
def test_regions_take_the_class_of_most_pixels(level, ignored):
    leaves = four_leaves()
    edits = Edits(level=level, ignored=ignored)
    classes = [0 if c in ignored else c for c in leaves.classes]
    regions = leaves.tree.labels(leaves.superpixels, level=level)
    learned = np.array(classes)[leaves.superpixels]
    expected = np.zeros_like(learned)
    for region in np.unique(regions):
        inside = learned[regions == region].tolist()
        expected[regions == region] = min(set(inside), key=lambda c: (-inside.count(c), c))
    assert np.array_equal(edits.labels(leaves), expected)


def test_merge_then_ignore_and_outside_is_zero():
    leaves = four_leaves()
    outside = Leaves(
        np.where(leaves.superpixels == 0, -1, leaves.superpixels), leaves.tree, leaves.classes, leaves.features
    )
    assert Edits(steps=(Merge(3, 2),)).labels(outside).tolist() == [[0] + [2] * 9]
    assert Edits(steps=(Merge(3, 2),), ignored=frozenset({2})).labels(leaves).tolist() == [[1] + [0] * 9]


def test_split_takes_the_nearest_centre_and_the_largest_part_keeps_the_id():
    leaves = four_leaves()
    found = split_class([leaves], [leaves.classes], 2, 2, [1, 2, 3])
    assert found.parts == (2, 4) and found.centres == ((11.0,), (1.0,))  # leaf 3 has 4 pixels, leaf 1 has 2
    assert Edits(steps=(found,)).classes(leaves).tolist() == [1, 4, 3, 2]
    merged = Edits(steps=(found, Merge(4, 1)))
    assert merged.classes(leaves).tolist() == [1, 1, 3, 2]
    assert [row.id for row in merged.table(table()).classes] == [1, 2, 3]
    assert [row.id for row in Edits(steps=(found,)).table(table()).classes] == [1, 2, 3, 4]


def test_split_of_what_cannot_be_split_is_refused():
    leaves = four_leaves()
    with pytest.raises(UsageError, match="different regions"):
        split_class([leaves], [leaves.classes], 1, 2, [1, 2, 3])
    with pytest.raises(UsageError, match="1 parts"):
        split_class([leaves], [leaves.classes], 2, 1, [1, 2, 3])
    with pytest.raises(UsageError, match="255"):
        split_class([leaves], [leaves.classes], 2, 2, [255])


def test_table_joins_shares_names_and_colours():
    edits = Edits(
        steps=(Merge(1, 3),), names={3: "sky", 9: "nobody"}, colours={2: (1, 2, 3, 255)}, ignored=frozenset({2})
    )
    rows = edits.table(table()).classes
    assert [(row.id, row.name, row.sources) for row in rows] == [(3, "sky", (0, 2))]
    assert rows[0].area_share == pytest.approx(0.4)
    shown = Edits(colours={2: (1, 2, 3, 255)}).table(table()).classes
    assert [row.rgba for row in shown] == [(10, 20, 30, 255), (1, 2, 3, 255), (10, 20, 30, 255)]


def test_edits_come_back_out_of_json():
    edits = Edits(
        0.1 + 0.2, (Merge(3, 1), Split(1, (1, 5), ((0.1,), (0.2,)))), frozenset({2, 4}), {1: "é"}, {1: (1, 2, 3, 4)}
    )
    assert Edits.from_json(json.loads(json.dumps(edits.to_json()))) == edits
    for wrong in ({"level": "high"}, {"steps": [{"source": 1}]}, {"colours": {"1": [1, 2]}}, {"names": [1]}):
        with pytest.raises(UsageError, match="edits"):
            Edits.from_json(wrong)
