"""The step that leaves out the background: what counts, what the statistics are of, what comes back as ignored."""

import numpy as np
import pytest

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.sample.prepare import Preparation

RNG = np.random.default_rng(0)


def brain():
    """A bright disc on a ground of 0 with a rim of small negative values."""
    y, x = np.mgrid[:30, :40]
    distance = np.hypot(y - 15, x - 20)
    data = np.where(distance < 11, RNG.normal(100, 10, (30, 40)), 0.0).astype(np.float32)
    data[(distance >= 11) & (distance < 13)] = -0.01
    return data, distance < 11


def test_statistics_are_of_the_foreground_alone():
    data, inside = brain()
    prepared = Preparation.parse("foreground=0,zscore").apply(Image(data, "YX"))
    assert np.array_equal(prepared.valid(), inside)
    kept = data[inside].astype(float)
    np.testing.assert_allclose(prepared.array[0][inside], (kept - kept.mean()) / kept.std(), atol=1e-4)
    assert (prepared.array[0][~inside] == 0).all()


def test_what_is_left_out_gets_the_label_0_at_the_image_s_own_size():
    data, inside = brain()
    prepared = Preparation.parse("foreground=0,rescale=0.5,max").apply(Image(data, "YX"))
    labels = prepared.restore_labels(np.ones(prepared.array.shape[1:], int))
    assert np.array_equal(labels > 0, inside) and np.array_equal(prepared.inside(), inside)


def test_the_image_s_own_mask_stays_and_any_channel_may_be_above():
    data, inside = brain()
    own = np.ones(data.shape, bool)
    own[:15] = False
    two = np.stack([np.zeros_like(data), data], -1)
    prepared = Preparation.parse("foreground=0,max").apply(Image(two, "YXC", valid=own))
    assert np.array_equal(prepared.valid(), inside & own)


def test_a_threshold_after_normalising_is_in_its_units():
    data, _ = brain()
    prepared = Preparation.parse("max,foreground=0.9").apply(Image(data, "YX"))
    assert np.array_equal(prepared.valid(), data > 0.9 * data.max())


def test_negative_thresholds_and_global_statistics():
    data = RNG.normal(-500, 100, (20, 20)).astype(np.float32)
    images = [Image(data, "YX"), Image(data + 50, "YX")]
    fitted = Preparation.parse("foreground=-600,max:global").fit(images)
    largest = max(np.abs(image.data[image.data > -600]).max() for image in images)
    assert fitted.fitted.scale[0] == pytest.approx(largest)
    assert str(Preparation.parse(str(fitted))) == "foreground=-600,max=global"


def test_nothing_above_and_a_wrong_place_are_refused_in_one_line():
    data, _ = brain()
    with pytest.raises(InputError, match="no valid pixel above 1000"):
        Preparation.parse("foreground=1000").apply(Image(data, "YX"))
    with pytest.raises(UsageError, match="before the steps that change the size"):
        Preparation.parse("rescale=0.5,foreground=0").apply(Image(data, "YX"))
