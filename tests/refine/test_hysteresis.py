"""Two thresholds on the probability of a class: against scikit-image, whole and in blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import apply_hysteresis_threshold

from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.refine.decide import decide
from selfseg.refine.hysteresis import Hysteresis, link_blocks
from selfseg.refine.steps import parse_refinements, refine


def drawn(shape, n_classes, seed):
    values = np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.4), shape)
    return np.moveaxis(values, -1, 0).astype(np.float32)


@st.composite
def cases(draw):
    shape = tuple(draw(st.integers(1, 14)) for _ in range(draw(st.sampled_from([2, 3]))))
    n_classes = draw(st.integers(2, 4))
    low = draw(st.sampled_from([0.0, 0.2, 0.5]))
    rule = Hysteresis(low, draw(st.sampled_from([low, 0.6, 0.9])), draw(st.integers(0, n_classes)))
    return drawn(shape, n_classes, draw(st.integers(0, 999))), rule, draw(st.booleans())


@settings(deadline=None, max_examples=60)
@given(cases(), st.integers(1, 5))
def test_parts_with_a_strong_pixel_are_the_class_whole_and_in_blocks(case, side):
    probabilities, rule, masked = case
    n_classes, shape = len(probabilities), probabilities.shape[1:]
    valid = np.random.default_rng(0).random(shape) > 0.2 if masked else None
    label = rule.label or n_classes
    own = np.where(valid, probabilities[label - 1], -1) if masked else probabilities[label - 1]
    # scikit-image's thresholds are exclusive, as ours
    wanted = apply_hysteresis_threshold(own, rule.low, rule.high)
    others = probabilities.copy()
    others[label - 1] = -1
    expected = np.where(wanted, label, others.argmax(0) + 1)
    if masked:
        expected = np.where(valid, expected, 0)
    labels = rule.mark(probabilities, valid)
    parts = labels.copy()
    link_blocks(labels, None, n_classes, label)
    link_blocks(parts, (side,) * len(shape), n_classes, label)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(parts, expected)
    refined = rule.apply(probabilities, valid)
    np.testing.assert_array_equal(decide(refined, valid), expected)
    np.testing.assert_allclose(refined.sum(0), 1, atol=1e-5)
    same = decide(probabilities, valid) == expected
    np.testing.assert_array_equal(refined[:, same], probabilities[:, same])


def test_it_is_a_step_of_the_one_grammar():
    (step,) = parse_refinements("hysteresis(low=0.3, high=0.7)")
    assert str(step) == "hysteresis=low:0.3,high:0.7" and parse_refinements(str(step)) == (step,)
    assert step.reach == 0 and step.hysteresis == Hysteresis(0.3, 0.7, 0)
    probabilities = drawn((9, 8), 3, 1)
    refined = refine((step,), probabilities, Image(np.zeros((9, 8), np.uint8), "YX"))
    np.testing.assert_array_equal(refined.probabilities, step.hysteresis.apply(probabilities))


@pytest.mark.parametrize("text", ["hysteresis(0.7, 0.3)", "hysteresis,crf"])
def test_wrong_order_is_refused(text):
    with pytest.raises(UsageError, match="as the last step, with low up to high"):
        parse_refinements(text)


@pytest.mark.parametrize(("n_classes", "label"), [(1, 0), (3, 4)])
def test_a_class_that_is_not_there_is_refused(n_classes, label):
    with pytest.raises(UsageError, match="a class up to"):
        Hysteresis(0.2, 0.8, label).apply(drawn((3, 4), n_classes, 0))
