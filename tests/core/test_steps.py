import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfseg.core.errors import UsageError
from selfseg.core.steps import Bounds, Parameter, StepKind, parse_calls

SCOPE = Parameter("scope", ("image", "global"), "image")
KINDS = {
    kind.name: kind
    for kind in (
        StepKind("rescale", "change the size", (Parameter("factor", Bounds(0, closed=False), repeats=3),)),
        StepKind("range", "divide by the largest value"),
        StepKind("minmax", "map the extremes to 0 and 1", (SCOPE,)),
        StepKind("percentile", "map two", (Parameter("low", Bounds(0), 1.0), Parameter("high", Bounds(0), 99.8), SCOPE)),
        StepKind("crf", "connect", (Parameter("weight", Bounds(0), 20, "how much they count"), Parameter("space", Bounds(0), 60))),
        StepKind("contours", "decide by region", (Parameter("level", Bounds(0), 0.2),)),
        StepKind("objects", "remove small parts", (Parameter("size", Bounds(0, whole=True)),)),
    )
}  # fmt: skip


def parse(text):
    return [(call.name, call.given) for call in parse_calls(text, KINDS, "step")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rescale=0.5,range", "rescale(0.5), range()"),
        (" Rescale = 0.5 : 1 ", "rescale(factor=0.5:1)"),
        ("rescale=0.5:1", "rescale(0.5, 1)"),
        ("percentile=1:99.8", "percentile(low=1, high=99.8)"),
        ("percentile=1:99.8:global,minmax:global", "percentile(1, 99.8, global), minmax(scope=global)"),
        ("minmax=global", "minmax(GLOBAL)"),
        ("crf=weight:10,space:30,contours", "crf(weight=10, space=30), contours"),
        ("CRF,weight:10,contours=level:0.5", "crf(weight:10), contours(level=0.5)"),
        ("objects:200", "objects(size=200)"),
        ("percentile", "percentile()"),
    ],
)
def test_older_spellings_give_the_same_steps(old, new):
    assert parse(old) == parse(new) != []


def test_values_and_defaults():
    (call,) = parse_calls("percentile(high=90)", KINDS, "step")
    assert call.given == {"high": 90.0}
    assert call.values == {"low": 1.0, "high": 90.0, "scope": "image"}
    (call,) = parse_calls("rescale(2)", KINDS, "step")
    assert call.values == {"factor": (2.0,)}


@pytest.mark.parametrize("text", [None, "", " ", "none", " None ,", ",,"])
def test_no_step(text):
    assert parse(text) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rescal=2", "did you mean rescale(factor:factor), change the size"),
        ("x", "there are rescale"),
        ("none=3", "step 'none': expected"),
        ("weight:3", "step 'weight': expected"),
        ("rescale", "step 'rescale': expected rescale(factor:factor), got no factor"),
        ("rescale=1:1:1:1", "got the value '1'"),
        ("range=3", "expected range, got the value '3'"),
        ("minmax=sideways", "expected scope of image or global, got 'sideways'"),
        ("crf(wieght=3)", "did you mean weight?"),
        ("crf=weight:heavy", "weight (how much they count) of numbers from 0, got 'heavy'"),
        ("crf(weight=1, weight=2)", "expected weight once"),
        ("crf(1, 2, 3)", "got the value '3'"),
        ("objects:2.5", "whole numbers from 0"),
        ("objects=nan", "whole numbers from 0"),
        ("crf(weight=3", "expected pairs of parentheses"),
        ("crf((3))", "expected pairs of parentheses"),
        ("crf(3)4", "expected pairs of parentheses"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(text, says):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@given(st.text(alphabet="crfweight=:,() 0.5-none\n", max_size=30))
def test_any_text_is_steps_or_an_error_of_ours(text):
    try:
        parse(text)
    except UsageError as error:
        assert "\n" not in str(error)
