"""The spelling of preparation steps, and what is refused."""

import json

import pytest

from selfseg.core.errors import ModelError, UsageError
from selfseg.sample.prepare import Preparation
from selfseg.sample.statistics import Scaling
from selfseg.sample.steps import KINDS, Step, parse_steps


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", "auto"),
        ("rescale=0.33", "rescale=0.33,auto"),
        (" Rescale = 0.5 : 1 , unsharp=5:1,percentile=1:99.8 ", "rescale=0.5:1,unsharp=5:1,percentile=1:99.8"),
        ("unsharp=2", "unsharp=2:1,auto"),
        ("clahe=0.01", "clahe=0.01:8,range"),
        ("percentile", "percentile=1:99.8"),
        ("percentile:global", "percentile=1:99.8:global"),
        ("percentile=2:98:global", "percentile=2:98:global"),
        ("zscore=global", "zscore=global"),
        ("max:image", "max"),
        ("border=0,multiple=32:16,size=500,minmax", "border=0,multiple=32:16,size=500,minmax"),
        ("rescale(0.5), percentile(low=1, high=99.8)", "rescale=0.5,percentile=1:99.8"),
        ("rescale(0.5:1), percentile(2, 98, global)", "rescale=0.5:1,percentile=2:98:global"),
        ("zscore(scope=global)", "zscore=global"),
        ("unsharp(amount=2, radius=5), max()", "unsharp=5:2,max"),
        ("smooth=2", "smooth=2,auto"),
        ("tophat=51", "tophat=51,auto"),
        ("tophat(bright, size=51), max", "tophat=51,max"),
        ("tophat(51, polarity=dark), flatten(100)", "tophat=51:dark,flatten=100,auto"),
    ],
)
def test_text_round_trips(text, want):
    preparation = Preparation.parse(text)
    assert str(preparation) == want
    assert Preparation.parse(str(preparation)) == preparation
    assert Preparation.from_json(json.loads(json.dumps(preparation.to_json()))) == preparation


def test_every_step_has_a_meaning_and_appears_in_the_error():
    with pytest.raises(UsageError) as caught:
        Preparation.parse("qqq=3")
    for kind in KINDS.values():
        assert kind.usage in str(caught.value) and kind.meaning in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "rescale",
        "rescale=0",
        "rescale=-1",
        "rescale=nan",
        "rescale=17",
        "rescale=1:1:1:1",
        "size=0",
        "size=1.5",
        "size=100:100",
        "border=-1",
        "multiple=0",
        "multiple=two",
        "clahe=0",
        "clahe=2",
        "clahe=0.1:0",
        "clahe=0.1:2.5",
        "unsharp=0",
        "unsharp=inf",
        "unsharp=1:2:3",
        "smooth",
        "smooth=0",
        "smooth=1:2",
        "tophat=1",
        "tophat=9:grey",
        "tophat:dark",
        "flatten=0",
        "flatten=9:dark",
        "range=3",
        "auto=3",
        "range:global",
        "minmax=1:2",
        "percentile=5:5",
        "percentile=99:1",
        "percentile=1:101",
        "percentile=-1:99",
        "percentile=1:50:99",
        "zscore:everywhere",
        "rescale=0.5:global",
        "minmax:global,zscore:global",
    ],
)
def test_wrong_values_are_refused_with_the_usage(text):
    with pytest.raises(UsageError) as caught:
        parse_steps(text)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_the_statistics_are_stored():
    preparation = Preparation((Step("zscore", (), "global"),), Scaling((1.5, -2.0), (0.1, 3.0)))
    assert not preparation.needs_fit and Preparation.parse("zscore:global").needs_fit
    assert Preparation.from_json(json.loads(json.dumps(preparation.to_json()))) == preparation


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"steps": "nosuch", "fitted": None},
        {"steps": 3, "fitted": None},
        {"steps": "zscore:global", "fitted": {"offset": [1.0]}},
        {"steps": "zscore:global", "fitted": {"offset": [1.0], "scale": [1.0, 2.0]}},
        {"steps": "zscore:global", "fitted": {"offset": [1.0], "scale": [0.0]}},
        {"steps": "zscore:global", "fitted": {"offset": [float("nan")], "scale": [1.0]}},
        {"steps": "zscore:global", "fitted": {"offset": ["x"], "scale": [1.0]}},
        {"steps": "zscore:global", "fitted": [1.0]},
    ],
)
def test_damaged_json_is_a_model_error(values):
    with pytest.raises(ModelError, match="stored preparation"):
        Preparation.from_json(values)
