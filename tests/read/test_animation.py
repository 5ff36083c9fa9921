"""Animated GIF, WebP and PNG: every picture as a viewer shows it, one at a time."""

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageSequence

from selfseg.core.errors import InputError
from selfseg.read import find_inputs, open_lazy, read_image

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
GREY = np.add.outer(np.arange(5), RNG.integers(0, 200, (20, 30))).astype(np.uint8)


def save(path, frames, **options):
    pictures = [Picture.fromarray(frame) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)
    return path


def shown(path):
    """The pictures by Pillow's own iterator, in colours and opacity."""
    with Picture.open(path) as picture:
        return np.stack([np.array(frame.convert("RGBA")) for frame in ImageSequence.Iterator(picture)])


@pytest.mark.parametrize(("name", "options"), [("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {})])
def test_every_picture_is_a_time_point(tmp_path, name, options):
    path = save(tmp_path / name, COLOURS, duration=200, **options)
    image = read_image(path)
    assert image.axes == "TYXC" and not image.guessed_axes and image.valid is None
    np.testing.assert_array_equal(image.data, shown(path)[..., :3])
    if name != "a.gif":
        np.testing.assert_array_equal(image.data, COLOURS)
    assert image.meta["interval"] == pytest.approx(0.2)
    with open_lazy(path) as lazy:
        for index in (np.s_[3], np.s_[1, 5:9, ::2], np.s_[4:0:-2, 3, 4, 1]):
            np.testing.assert_array_equal(lazy.data[index], image.data[index])
    (source,) = find_inputs(path)
    assert source.name == "a" and not source.is_video()


@pytest.mark.parametrize(("name", "options"), [("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {})])
def test_grey_pictures_have_one_channel(tmp_path, name, options):
    image = read_image(save(tmp_path / name, GREY, **options))
    assert image.axes == "TYX"
    np.testing.assert_array_equal(image.data, GREY)


def test_deep_grey_keeps_its_values_and_deep_colours_are_refused(tmp_path):
    deep = GREY.astype(np.uint16) * 250
    (tmp_path / "a.png").write_bytes(imagecodecs.apng_encode(deep))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").data, deep)
    content = save(tmp_path / "b.png", COLOURS).read_bytes()
    (tmp_path / "b.png").write_bytes(content[:24] + b"\x10" + content[25:])
    with pytest.raises(InputError, match=r"animated PNG of 16 bits|damaged"):
        read_image(tmp_path / "b.png")


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
def test_parts_of_a_picture_are_put_upon_those_before(tmp_path, disposal):
    frames = []
    for number in range(4):
        frame = Picture.new("RGBA", (30, 20), (0, 0, 0, 0))
        frame.paste((50 * number + 50, 200, 10, 255), (2 + 5 * number, 3, 9 + 5 * number, 12))
        frames.append(frame)
    frames[0].paste((9, 9, 200, 255), (0, 0, 30, 20))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], disposal=disposal, optimize=False)
    image = read_image(tmp_path / "a.gif")
    expected = shown(tmp_path / "a.gif")
    valid = np.ones(expected.shape[:3], bool) if image.valid is None else image.valid
    np.testing.assert_array_equal(valid, expected[..., 3] > 0)
    np.testing.assert_array_equal(image.data[valid], expected[..., :3][valid])


def test_transparent_pixels_are_not_valid(tmp_path):
    with_alpha = np.concatenate([COLOURS, np.full((5, 20, 30, 1), 255, np.uint8)], -1)
    with_alpha[2, 4:9, 5:11, 3] = 0
    image = read_image(save(tmp_path / "a.png", with_alpha, disposal=1, blend=0))
    np.testing.assert_array_equal(image.valid, with_alpha[..., 3] > 0)
    np.testing.assert_array_equal(image.data[image.valid], COLOURS[image.valid])


def test_a_picture_for_those_who_know_no_animation_is_none_of_it(tmp_path):
    path = save(tmp_path / "a.png", COLOURS, default_image=True)
    np.testing.assert_array_equal(read_image(path).data, COLOURS[1:])
    path = save(tmp_path / "b.png", COLOURS[:2], default_image=True)
    image = read_image(path)
    assert image.axes == "YXC"
    np.testing.assert_array_equal(image.data, COLOURS[1])


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_a_single_picture_stays_a_picture(tmp_path, name):
    image = read_image(save(tmp_path / name, COLOURS[:1]))
    assert image.axes == "YXC" and image.data.shape == (20, 30, 3)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_cut_files_are_never_taken_for_whole_ones(tmp_path, name):
    whole = save(tmp_path / name, COLOURS).read_bytes()
    for tenth in range(1, 10):
        (tmp_path / name).write_bytes(whole[: len(whole) * tenth // 10])
        try:
            image = read_image(tmp_path / name)
        except InputError as error:
            assert name in str(error)
        else:  # a GIF that breaks off between two pictures
            assert name == "a.gif" and "does not end as a GIF does" in image.notes[0]


def test_too_large_together(tmp_path):
    path = save(tmp_path / "a.png", COLOURS)
    with pytest.raises(InputError, match="at most"):
        read_image(path, max_bytes=COLOURS.nbytes - 1)
    assert read_image(path, max_bytes=COLOURS.nbytes).data.shape == COLOURS.shape
