import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.refine.crf import dense_crf
from selfseg.refine.steps import Refinement, parse_refinements


@pytest.mark.parametrize("text", [None, "", "none", " none ", ","])
def test_no_refinement(text):
    assert parse_refinements(text) == ()


def test_a_refinement_with_values_and_back():
    (crf,) = parse_refinements("crf=weight:12.5,colour:0.1,iterations:4")
    assert crf == Refinement("crf", (("weight", 12.5), ("colour", 0.1), ("iterations", 4.0)))
    assert str(crf) == "crf=weight:12.5,colour:0.1,iterations:4"
    assert parse_refinements(str(crf)) == (crf,)
    assert parse_refinements("CRF")[0].values == () and str(parse_refinements("crf")[0]) == "crf"
    assert parse_refinements("crf(12.5, colour=0.1, iterations=4)") == (crf,)
    assert [step.name for step in parse_refinements("crf=near:2,crf")] == ["crf", "crf"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("smooth", "refinement 'smooth': expected a known one"),
        ("crf=sigma:3", "got 'sigma'"),
        ("crf=weight:heavy", "got 'heavy'"),
        ("crf=colour:0", "of numbers above 0"),
        ("crf(iterations=2.5)", "whole numbers from 1"),
        ("weight:3", "refinement 'weight': expected a known one"),
    ],
)
def test_mistakes_are_named_with_what_there_is(text, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse_refinements(text)
    assert "crf(weight=20, space=60, colour=0.1, smooth=15, near=3, iterations=10, gpu=0)" in str(caught.value)


def test_distances_are_counted_in_the_finest_pixels_and_colours_in_shares_of_the_range():
    rng = np.random.default_rng(0)
    data = rng.integers(300, 900, (4, 12, 14)).astype(np.uint16)
    data[0, 0, 0], data[0, 0, 1] = 300, 900
    probabilities = rng.dirichlet(np.ones(3), (4, 12, 14)).transpose(3, 0, 1, 2).astype(np.float32)
    image = Image(data, "ZYX", spacing=(0.3, 0.1, 0.1), unit="um")
    (crf,) = parse_refinements("crf=weight:5,space:6,colour:0.2,smooth:2,near:1.5,iterations:3")
    low, high = np.percentile(data, (1, 99.8))
    expected = dense_crf(
        probabilities,
        data.astype(float),
        iterations=3,
        bilateral_weight=5,
        bilateral_sigma_space=6,
        bilateral_sigma_colour=0.2 * (high - low),
        spatial_weight=2,
        spatial_sigma=1.5,
        spacing=(3.0, 1.0, 1.0),
    )
    np.testing.assert_allclose(crf.apply(probabilities, image, None).probabilities, expected, atol=1e-3)


def test_the_defaults_are_those_of_the_function():
    data = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), (20, 24)).transpose(2, 0, 1).astype(np.float32)
    (crf,) = parse_refinements("crf")
    expected = dense_crf(probabilities, data.transpose(2, 0, 1))
    np.testing.assert_allclose(crf.apply(probabilities, Image(data, "YXC"), None).probabilities, expected, atol=1e-4)
