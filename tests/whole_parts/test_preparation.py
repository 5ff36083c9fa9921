"""Whole == parts: whatever the chain of steps, the values of a region do not depend on how the image is cut."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.sample import statistics
from selfseg.sample.chain import PreparedImage
from selfseg.sample.prepare import Preparation, prepare

BAND = 70
"""Pixels that are read at a time here: many bands, some of them shorter than a row."""

STEPS = [
    "rescale=0.5",
    "rescale=0.37",
    "rescale=1.6",
    "size=9",
    "border=1",
    "border=2",
    "multiple=4",
    "multiple=3",
    "foreground=0.2",
    "clahe=0.02:3",
    "clahe=0.3:2",
    "unsharp=0.7:2",
    "unsharp=2:0.5",
    "smooth=0.8",
    "smooth=2",
    "tophat=5",
    "tophat=7:dark",
    "flatten=4",
    "flatten=9",
    "range",
    "minmax",
    "max",
    "percentile=5:90",
    "percentile",
    "zscore",
    "robust",
    "minmax:global",
    "max:global",
    "percentile=2:98:global",
    "zscore:global",
    "robust:global",
]
DTYPES = {"u1": 255, "u2": 60000, "i2": 30000, "f4": 1, "f8": 1, "f4 beyond": 3, "f8 beyond": -40, "bool": 1}


class InFile:
    """An array that is read by regions, as one in a file is."""

    def __init__(self, array):
        self._array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim

    def __getitem__(self, index):
        return self._array[index].copy()


@st.composite
def images(draw):
    """Draw an image in memory: values in and beyond 0-1, 1 to 3 channels, 2D and 3D, with masks and NaN."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    three = draw(st.booleans())
    shape = tuple(
        draw(st.integers(low, high)) for low, high in ([(3, 7), (6, 12), (6, 12)] if three else [(8, 30), (8, 30)])
    )
    channels = draw(st.integers(1, 3))
    name = draw(st.sampled_from(list(DTYPES)))
    values = rng.random((*shape, channels)) ** draw(st.sampled_from([1, 3])) * DTYPES[name]
    data = values > 0.5 if name == "bool" else values.astype(name.split()[0])
    valid = None
    if draw(st.booleans()):
        valid = rng.random(shape) > draw(st.sampled_from([0.02, 0.3]))
    if data.dtype.kind == "f" and draw(st.booleans()):
        data[tuple(rng.integers(0, n, 3) for n in shape)] = draw(st.sampled_from([np.nan, np.inf]))
    spacing = (draw(st.sampled_from([1.0, 2.5])), 1.0, 1.0)[-len(shape) :]
    return Image(data, "ZYXC"[-data.ndim :], spacing, valid=valid)


def in_file(image):
    valid = None if image.valid is None else InFile(image.valid)
    return Image(InFile(image.data), image.axes, image.spacing, valid=valid)


def regions(shape, rng):
    """Yield random regions: the whole, single pixels, and any others."""
    yield tuple(slice(0, n) for n in shape)
    for _ in range(2):
        yield tuple(slice(i, i + 1) for i in (int(rng.integers(n)) for n in shape))
    for _ in range(3):
        ends = [sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in shape]
        yield tuple(slice(a, b) for a, b in ends)


def check(image, text):
    """Prepare an image whole and in parts, and compare values, masks and ways back."""
    lazy, preparation = in_file(image), Preparation.parse(text)
    with mock.patch.object(statistics, "WINDOW", BAND):
        fitted = preparation.fit([image])
        assert preparation.fit([lazy]) == fitted
        whole, parts = prepare(image, fitted), prepare(lazy, fitted)
        again = PreparedImage.from_plan(in_file(image), parts.plan)
        rng, size = np.random.default_rng(0), max(1.0, np.ptp(whole.array))
        assert parts.shape == again.shape == whole.shape == whole.array.shape[1:]
        assert parts.spacing == whole.spacing and parts.shrinking == whole.shrinking
        everywhere = np.ones(whole.shape, bool) if whole.valid() is None else whole.valid()
        for region in regions(whole.shape, rng):
            want, counts = whole.array[(slice(None), *region)], everywhere[region]
            for prepared in (whole, parts, again):
                np.testing.assert_allclose(prepared.read(region), want, atol=1e-5 * size)
                valid = prepared.valid(region)
                np.testing.assert_array_equal(np.ones_like(counts) if valid is None else valid, counts)
        values = rng.random((2, *whole.shape)).astype(np.float32)
        restored, inside = whole.restore_all(values), whole.inside()
        annotations = rng.integers(-1, 3, image.spatial_shape)
        drawn, labels = whole.forward_annotations(annotations), whole.forward_labels(annotations)
        for region in regions(image.spatial_shape, rng):
            back = parts.restore(region, lambda inner: values[(slice(None), *inner)])
            np.testing.assert_allclose(back, restored[(slice(None), *region)], atol=1e-6)
            part = parts.inside(region)
            want = np.ones(back.shape[1:], bool) if inside is None else inside[region]
            np.testing.assert_array_equal(np.ones_like(want) if part is None else part, want)
        for region in regions(whole.shape, rng):
            np.testing.assert_array_equal(parts.forward_annotations(annotations, region), drawn[region])
            np.testing.assert_array_equal(parts.forward_labels(annotations, region), labels[region])


@given(images(), st.lists(st.sampled_from(STEPS), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_region_is_that_of_the_whole(image, steps):
    assume(sum(":global" in step for step in steps) < 2)
    try:
        whole = Preparation.parse(",".join(steps)).fit([image]).apply(image)
    except (InputError, UsageError) as error:
        with mock.patch.object(statistics, "WINDOW", BAND), pytest.raises(type(error)) as caught:
            lazy = in_file(image)
            Preparation.parse(",".join(steps)).fit([lazy]).apply(lazy)
        assert str(caught.value) == str(error)
        return
    assert whole.array.dtype == np.float32
    check(Image(image.data, image.axes, image.spacing, valid=image.valid), ",".join(steps))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["u1", "f4 beyond"])
def test_every_step_alone(step, kind):
    rng = np.random.default_rng(1)
    data = (rng.random((21, 26, 3)) * DTYPES[kind]).astype(kind.split()[0])
    check(Image(data, "YXC", valid=rng.random((21, 26)) > 0.01), step)


@pytest.mark.parametrize(
    "steps", ["max,range", "max,rescale=0.5,range", "zscore,rescale=0.5,range", "max,unsharp=1,range"]
)
@pytest.mark.parametrize("top", [1, 7, -3])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_limits_follow_one_rule(steps, top, kind):
    """Values in 0-1 after any step are of a known range; others are mapped to it by their own extremes."""
    data = (np.random.default_rng(2).random((33, 41)) ** 2 * top).astype(kind)
    whole = Preparation.parse(steps).apply(Image(data, "YX"))
    with mock.patch.object(statistics, "WINDOW", BAND):
        parts = Preparation.parse(steps).apply(in_file(Image(data, "YX")))
        region = (slice(3, 9), slice(5, 13))
        np.testing.assert_allclose(parts.read(region), whole.array[(slice(None), *region)], atol=1e-6)
    if steps == "max,range" and top > 0:
        np.testing.assert_allclose(whole.array[0], data / data.max(), rtol=1e-5)


def test_of_many_pixels_the_same_subset_is_sampled(monkeypatch):
    monkeypatch.setattr(statistics, "MAX_SAMPLED", 500)
    rng = np.random.default_rng(3)
    data = rng.normal(size=(60, 70)).astype(np.float32)
    for steps in ("percentile=5:95", "robust"):
        whole = Preparation.parse(steps).apply(Image(data, "YX"))
        with mock.patch.object(statistics, "WINDOW", BAND):
            parts = Preparation.parse(steps).apply(in_file(Image(data, "YX")))
            assert parts.plan == whole.plan
    low, high = np.percentile(data, [5, 95])
    found = Preparation.parse("percentile=5:95").apply(Image(data, "YX")).plan[0].scaling
    assert found.offset[0] == pytest.approx(low, abs=0.3) and found.scale[0] == pytest.approx(high - low, abs=0.5)
