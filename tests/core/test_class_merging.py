import pytest

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import UsageError

RED, BLUE, GREEN, GREY = (255, 0, 0, 255), (0, 0, 255, 255), (0, 255, 0, 255), (9, 9, 9, 255)


def table():
    return ClassTable(
        (
            SegmentClass(1, "class 1", RED, 0.1, 0.2, (4,)),
            SegmentClass(2, "class 2", BLUE, 0.3, 0.4, (0, 2)),
            SegmentClass(3, "sky", GREEN, 0.2, 0.6, (1,)),
            SegmentClass(4, "class 4", GREY, 0.4, 0.9, (3,)),
        )
    )


def test_areas_add_up_and_ids_are_given_anew_dark_to_bright():
    merged = table().merged([(1, 4)])
    assert [(c.id, c.name, c.rgba, c.sources) for c in merged.classes] == [
        (1, "class 1", BLUE, (0, 2)),
        (2, "sky", GREEN, (1,)),
        (3, "class 3", GREY, (3, 4)),
    ]
    assert merged.classes[2].area_share == pytest.approx(0.5)
    assert merged.classes[2].intensity == pytest.approx((0.1 * 0.2 + 0.4 * 0.9) / 0.5)
    assert sum(c.area_share for c in merged.classes) == pytest.approx(1)


def test_a_name_given_by_hand_survives_a_larger_member():
    merged = table().named({1: "cheetah"}).merged([(1, 4)], keep={1})
    assert [c.name for c in merged.classes] == ["class 1", "sky", "cheetah"]


@pytest.mark.parametrize("groups", [[(1,)], [(1, 9)], [(1, 2), (2, 3)], [(2, 2)]])
def test_groups_that_make_no_sense_are_refused(groups):
    with pytest.raises(UsageError, match="each id once"):
        table().merged(groups)


@pytest.mark.parametrize("names", [{9: "x"}, {1: " "}])
def test_names_of_nothing_and_empty_names_are_refused(names):
    with pytest.raises(UsageError, match="ID=NAME"):
        table().named(names)
