"""Changes of size: the weights against loops and against Pillow, the way back, and the places of edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.sample.geometry import nearest, resample_matrix, resampled
from selfseg.sample.prepare import Preparation

RNG = np.random.default_rng(0)


def resample(array, shape):
    return resampled(
        array, [resample_matrix(*pair) for pair in zip(array.shape, shape, strict=False)]
    )  # the last axes stay


def weights_by_loops(n_in, n_out):
    """Triangle of the width of an output pixel, at least one input pixel wide, normalised over pixels that exist."""
    scale = n_in / n_out
    width = max(scale, 1.0)
    matrix = np.zeros((n_out, n_in))
    for o in range(n_out):
        centre = (o + 0.5) * scale - 0.5
        for i in range(n_in):
            matrix[o, i] = max(0.0, 1.0 - abs(i - centre) / width)
        matrix[o] /= matrix[o].sum()
    return matrix


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (1, 5), (5, 1), (7, 7), (10, 3), (3, 10), (11, 4), (9, 8), (8, 9)])
def test_weights(n_in, n_out):
    np.testing.assert_allclose(resample_matrix(n_in, n_out).toarray(), weights_by_loops(n_in, n_out), atol=1e-6)


@pytest.mark.parametrize("size", [(13, 10), (40, 60), (37, 5), (1, 1)])
def test_resampling_is_pillows(size):
    image = RNG.random((31, 23)).astype(np.float32)
    want = np.asarray(Picture.fromarray(image).resize(size[::-1], Picture.Resampling.BILINEAR))
    np.testing.assert_allclose(resample(image, size), want, atol=2e-6)


def test_axes_are_resampled_one_by_one():
    volume = RNG.random((5, 8, 9, 2))
    want = np.einsum("aZ,bY,cX,ZYXk->abck", *(weights_by_loops(*pair) for pair in ((5, 9), (8, 3), (9, 4))), volume)
    np.testing.assert_allclose(resample(volume, (9, 3, 4)), want, atol=1e-6)


@given(st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_nearest_is_where_the_centre_lies(n_from, n_to):
    want = [int(np.floor((i + 0.5) * n_from / n_to + 1e-12)) for i in range(n_to)]
    assert nearest(n_from, n_to).tolist() == want


def prepared(shape, text, dtype=np.uint8):
    data = (RNG.random(shape) * 200).astype(dtype)
    image = Image(data, "ZYXC"[-len(shape) :] if shape[-1] <= 4 else "ZYX"[-len(shape) :])
    return Preparation.parse(text).apply(image)


@pytest.mark.parametrize("text", ["rescale=0.33", "rescale=0.5", "rescale=2", "size=20", "rescale=0.7:0.4"])
def test_an_edge_stays_in_its_place(text):
    for column in (17, 40, 63):
        data = np.full((50, 80), 40, np.uint8)
        data[:, column:] = 200
        image = Preparation.parse(text).apply(Image(data, "YX"))
        restored = image.restore_all(image.array)[0] * 255
        assert restored.shape == data.shape
        edge = (restored > 120).argmax(axis=1)
        assert (np.abs(edge - column) <= 1).all()
        labels = image.restore_labels((image.array[0] * 255 > 120).astype(np.int32))
        cell = max(before / after for before, after in zip(data.shape, image.array.shape[1:], strict=True))
        assert (np.abs(labels.argmax(axis=1) - column) <= max(1, cell / 2)).all()


def test_the_centre_of_mass_is_not_shifted():
    y, x = np.mgrid[:90, :120]
    blob = np.exp(-((y - 31.3) ** 2 + (x - 77.7) ** 2) / (2 * 9**2))
    image = Preparation.parse("rescale=0.3").apply(Image(blob, "YX"))
    restored = image.restore_all(image.array)[0]
    for grid, centre in ((y, 31.3), (x, 77.7)):
        assert abs((grid * restored).sum() / restored.sum() - centre) < 0.05


@given(
    st.lists(
        st.sampled_from(["rescale=0.33", "rescale=1.7", "size=13", "border=2", "multiple=4", "multiple=3:2"]),
        max_size=4,
    ),
    st.integers(24, 40),
    st.integers(24, 40),
)
@settings(max_examples=60, deadline=None)
def test_any_chain_comes_back_to_its_size_and_a_constant_to_itself(steps, height, width):
    image = Image(np.full((height, width, 3), 102, np.uint8), "YXC")
    try:
        result = Preparation.parse(",".join(steps)).apply(image)
    except InputError as error:
        assert "large enough" in str(error)  # cuts in a chain can use an image up
        return
    assert result.array.dtype == np.float32 and result.array.flags.c_contiguous
    np.testing.assert_allclose(result.array, 0.4, atol=1e-6)
    np.testing.assert_allclose(result.restore_all(result.array), np.full((3, height, width), 0.4), atol=1e-6)
    labels = result.restore_labels(np.full(result.array.shape[1:], 7, np.uint16))
    assert labels.dtype == np.uint16 and labels.shape == (height, width)
    want = 7 if result.inside() is None else np.where(result.inside(), 7, 0)
    np.testing.assert_array_equal(labels, np.broadcast_to(want, labels.shape))


def test_probabilities_still_sum_to_one():
    image = prepared((31, 47, 3), "rescale=0.4,multiple=4")
    logits = RNG.random((5, *image.array.shape[1:]))
    restored = image.restore_all(logits / logits.sum(axis=0))
    np.testing.assert_allclose(restored.sum(axis=0), 1, atol=1e-5)
    assert restored.shape == (5, 31, 47) and restored.min() >= 0


def test_volumes_and_spacing():
    data = (RNG.random((10, 20, 30)) * 200).astype(np.uint8)
    image = Preparation.parse("rescale=1:0.5:0.5,border=1").apply(Image(data, "ZYX", (5.0, 1.0, 1.5)))
    assert image.array.shape == (1, 8, 8, 13) and image.spacing == (5.0, 2.0, 3.0)
    assert image.restore_all(image.array).shape == (1, 10, 20, 30)
    assert image.inside().sum() == 8 * 16 * 26


def test_channels_keep_their_order():
    data = np.zeros((3, 20, 30), np.uint8) + np.array([10, 20, 30], np.uint8)[:, None, None]
    image = Preparation.parse("rescale=0.5").apply(Image(data, "CYX"))
    np.testing.assert_allclose(image.array[:, 0, 0] * 255, [10, 20, 30], rtol=1e-5)


def test_a_border_is_outside_and_a_multiple_is_not():
    image = prepared((21, 30, 3), "border=2,multiple=8")
    assert image.array.shape == (3, 16, 24)
    labels = image.restore_labels(np.ones((16, 24), int))
    want = np.zeros((21, 30), int)
    want[2:-2, 2:-2] = 1
    np.testing.assert_array_equal(labels, want)
    values = np.arange(16 * 24, dtype=np.float32).reshape(1, 16, 24)
    restored = image.restore_all(values)
    np.testing.assert_array_equal(restored[:, 2:18, 3:27], values)  # 17 x 26 cut to 16 x 24 about its centre
    np.testing.assert_array_equal(restored, np.pad(values, ((0, 0), (2, 3), (3, 3)), mode="edge"))
    assert image.restore_labels(np.ones((16, 24), np.int32), fill=-1).min() == -1


def test_values_of_another_size_are_refused():
    image = prepared((20, 30, 3), "rescale=0.5")
    for call in (lambda: image.restore_all(np.zeros((2, 20, 30))), lambda: image.restore_labels(np.zeros((20, 30)))):
        with pytest.raises(UsageError, match="expected the prepared size 10 x 15, got 20 x 30"):
            call()


@pytest.mark.parametrize(("text", "line"), [("border=10", "border=10"), ("multiple=32", "multiple=32")])
def test_images_that_are_too_small(text, line):
    with pytest.raises(InputError, match=f"large enough for {line}, got 20 x 30"):
        Preparation.parse(text).apply(Image(np.zeros((20, 30)), "YX"))
    with pytest.raises(UsageError, match="expected 2 values, got 3"):
        Preparation.parse("rescale=1:2:3").apply(Image(np.zeros((20, 30)), "YX", source="a.png"))


def test_size_never_enlarges():
    assert prepared((20, 30, 3), "size=100").array.shape == (3, 20, 30)
    assert prepared((20, 300, 3), "size=100").array.shape == (3, 7, 100)
    assert prepared((1, 3000), "size=10").array.shape == (1, 1, 10)


def hints_by_loops(annotations, shape):
    result = np.full(shape, -1)
    votes = {}
    for y, x in np.argwhere(annotations >= 0):
        cell = (int((y + 0.5) * shape[0] / annotations.shape[0]), int((x + 0.5) * shape[1] / annotations.shape[1]))
        votes.setdefault(cell, []).append(int(annotations[y, x]))
    for cell, found in votes.items():
        result[cell] = min(set(found), key=lambda label: (-found.count(label), label))
    return result


def test_a_thin_scribble_survives():
    annotations = np.full((60, 90), -1)
    annotations[17, 5:80] = 2
    annotations[10:50, 44] = 0
    image = prepared((60, 90, 3), "rescale=0.33")
    small = image.forward_annotations(annotations)
    np.testing.assert_array_equal(small, hints_by_loops(annotations, image.array.shape[1:]))
    crossed = np.delete(small[:, 2:26], 44 // 3 - 2, axis=1)  # where the lines cross, the longer one wins
    assert small.dtype == np.int64 and (crossed == 2).any(axis=0).all() and (small == 0).any(axis=1)[4:16].all()


def test_hints_against_loops_where_classes_meet():
    annotations = RNG.integers(-1, 4, (31, 47))
    image = prepared((31, 47, 3), "rescale=0.3")
    small = image.forward_annotations(annotations)
    np.testing.assert_array_equal(small, hints_by_loops(annotations, image.array.shape[1:]))


def test_hints_grow_are_cut_and_leave_what_is_not_valid():
    annotations = np.arange(20 * 30).reshape(20, 30) % 5 - 1
    image = prepared((20, 30, 3), "rescale=2")
    np.testing.assert_array_equal(image.forward_annotations(annotations), np.kron(annotations, np.ones((2, 2), int)))
    image = prepared((20, 30, 3), "border=3")
    np.testing.assert_array_equal(image.forward_annotations(annotations), annotations[3:-3, 3:-3])
    data = np.ones((20, 30))
    data[4, 5] = np.nan
    image = Preparation.parse("").apply(Image(data, "YX"))
    assert image.forward_annotations(np.full((20, 30), 1))[4, 5] == -1
    with pytest.raises(InputError, match="the size of the image, 20 x 30, got 2 x 3"):
        image.forward_annotations(annotations[:2, :3])


def test_no_hints_stay_no_hints():
    image = prepared((20, 30, 3), "rescale=0.5")
    assert (image.forward_annotations(np.full((20, 30), -1)) == -1).all()
