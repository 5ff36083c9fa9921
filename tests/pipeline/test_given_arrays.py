"""Whatever holds an image is an input of the Python interface, and what does not gets one line."""

import os
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from conftest import blobs
from selfseg import Image, Segmenter, evaluate, segment
from selfseg.core.errors import InputError, UsageError
from selfseg.read import find_inputs
from selfseg.read.sources import is_single

PHOTO = np.ascontiguousarray(blobs(32, 40)[..., 0])


class Interface:
    """An array behind its interface, as other libraries hold one."""

    def __init__(self, array):
        self.array = array
        self.__array_interface__ = array.__array_interface__


class Lazy:
    """An array that is made when it is asked for."""

    def __array__(self, dtype=None, copy=None):
        return PHOTO


class Place(os.PathLike):
    """A path of a kind of its own."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return os.fspath(self.path)


def pixels(item, axes=None):
    (source,) = find_inputs(item)
    return source.read(axes)


@pytest.mark.parametrize(
    "make",
    [
        Picture.fromarray,
        torch.from_numpy,
        lambda array: torch.from_numpy(array.astype(np.float32)).requires_grad_(),
        lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(torch.float32).bfloat16(),
        Interface,
        lambda array: Lazy(),
        np.ma.array,
        lambda array: array[::-1][::-1],
    ],
)
def test_what_holds_an_array_is_an_image(make):
    item = make(PHOTO)
    image = pixels(item)
    assert image.data.shape == PHOTO.shape and np.array_equal(np.asarray(image.data, float), PHOTO)
    assert is_single(item) and find_inputs(item)[0].fingerprint() == find_inputs([item])[0].fingerprint()


def test_a_tensor_has_its_channels_first():
    image = pixels(torch.zeros(3, 20, 30))
    assert image.axes == "CYX" and image.guessed_axes
    assert pixels(torch.zeros(20, 30, 3)).axes == "YXC" and pixels(torch.zeros(9, 20, 30)).axes == "ZYX"
    assert pixels(np.zeros((2, 3, 4, 20, 30)), "TCZYX").axes == "TCZYX"


def test_masked_pixels_do_not_count():
    mask = np.zeros(PHOTO.shape, bool)
    mask[:, :8] = True
    image = pixels(np.ma.array(PHOTO, mask=mask))
    assert np.array_equal(image.valid, ~mask)
    colours = np.ma.array(np.stack([PHOTO] * 3, -1), mask=np.stack([mask, mask & False, mask & False], -1))
    assert np.array_equal(pixels(colours).valid, ~mask)
    assert pixels(np.ma.array(PHOTO)).valid is None
    labels = segment(np.ma.array(PHOTO, mask=mask), "region_merging").labels
    assert np.array_equal(labels == 0, mask)
    other = find_inputs(np.ma.array(PHOTO, mask=~mask))[0].fingerprint()
    assert other != find_inputs(PHOTO)[0].fingerprint()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_a_picture_is_what_its_file_is(tmp_path, mode):
    grey = Picture.fromarray(PHOTO)
    picture = (
        grey.convert("RGB").convert(mode) if mode not in ("I;16", "I", "F") else grey.convert(mode.partition(";")[0])
    )
    if mode == "I;16":
        picture = Picture.fromarray(PHOTO.astype(np.uint16) * 200)
    if mode in ("RGBA", "LA"):
        alpha = np.full(PHOTO.shape, 255, np.uint8)
        alpha[:4] = 0
        picture.putalpha(Picture.fromarray(alpha))
    image = pixels(picture)
    if mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"):
        picture.save(tmp_path / "a.png")
        own = pixels(tmp_path / "a.png")
        assert image.axes == own.axes and np.array_equal(image.data, own.data)
        assert (image.valid is None) == (own.valid is None)
    assert image.data.shape[:2] == PHOTO.shape
    assert image.n_channels == (3 if mode in ("P", "RGB", "RGBA", "CMYK", "YCbCr") else 1)


def test_a_picture_that_lies_on_its_side_stands_upright(tmp_path):
    exif = Picture.Exif()
    exif[274] = 6
    Picture.fromarray(PHOTO).save(tmp_path / "turned.png", exif=exif)
    with Picture.open(tmp_path / "turned.png") as opened:
        (source,) = find_inputs(opened)
        assert source.name == "turned" and np.array_equal(source.read().data, pixels(tmp_path / "turned.png").data)


def test_paths_of_every_kind(tmp_path):
    Picture.fromarray(PHOTO).save(tmp_path / "a.png")
    for path in (tmp_path, tmp_path / "a.png"):
        for given in (
            Place(path),
            os.fsencode(path),
            PurePosixPath(path),
            np.array([str(path)]),
            iter([path]),
            (path,),
        ):
            assert [source.path for source in find_inputs(given)] == [tmp_path / "a.png"]
    with os.scandir(tmp_path) as entries:
        assert [source.name for source in find_inputs(entries)] == ["a"]


def test_lists_of_anything():
    several = [PHOTO, torch.from_numpy(PHOTO), Picture.fromarray(PHOTO), Image(PHOTO, "YX", name="mine")]
    assert [source.name for source in find_inputs(several)] == ["image_1", "image_2", "image_3", "mine"]
    objects = np.empty(2, object)
    objects[:] = [PHOTO, PHOTO[:20]]
    assert [source.read().data.shape for source in find_inputs(objects)] == [(32, 40), (20, 40)]


def test_labels_masks_and_scribbles_of_any_kind():
    truth = (PHOTO.mean() < PHOTO).astype(np.uint8)
    kinds = (torch.from_numpy(truth), Picture.fromarray(truth * 255), truth.astype(np.float32))
    options = {"iterations": 1}
    for labels in kinds:
        fitted = Segmenter("unet", preset="fast", options=options).fit([PHOTO], [labels])
        assert len(fitted.table_) == 2
    result = segment(PHOTO, "region_merging", mask=Picture.fromarray(truth * 255))
    assert np.array_equal(result.labels > 0, truth > 0)
    several = segment([PHOTO, PHOTO], "region_merging", mask=[torch.from_numpy(truth), truth])
    assert all(np.array_equal(one.labels > 0, truth > 0) for one in several)
    scribbles = np.full(PHOTO.shape, 255, np.uint8)
    scribbles[2:6, 2:6], scribbles[20:24, 20:24] = 0, 1
    drawn = Segmenter("feature_clustering", options={"iterations": 2}).fit(PHOTO, scribbles=scribbles)
    assert "scribble 0" in str([row.name for row in drawn.table_.classes])


def test_evaluate_takes_arrays():
    truth = (PHOTO.mean() < PHOTO).astype(np.uint8)
    assert evaluate(truth, torch.from_numpy(truth), ["mask"]).summary()["dice"] == 1
    two = evaluate([truth, 1 - truth], [Picture.fromarray(truth), truth.astype(float)], ["mask"])
    assert [row["dice"] for row in (scores.row() for scores in two.images.values())] == [1, 0]
    with pytest.raises(UsageError, match="2, one for each, got 1"):
        evaluate([truth, truth], [truth])
    with pytest.raises(UsageError, match="got int"):
        evaluate([3], [truth])


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (3, "got int"),
        (None, "got NoneType"),
        ({"a": PHOTO}, "got dict"),
        ([[1, 2], [3, 4]], "got a list of numbers; make an array of it with numpy.asarray"),
        ([PHOTO, 3.5], "got float"),
        (open, "got builtin_function_or_method"),
        ([], "an empty list"),
        (np.zeros(5), "2 to 4 axes"),
        (np.float64(3), "2 to 4 axes"),
        (np.zeros((4, 4), complex), "real numbers"),
        (np.zeros((0, 4)), "at least one pixel"),
        ("a\0b", "a zero character"),
        ("\ud800.png", "characters that no file name has"),
    ],
)
def test_what_is_no_image_gets_one_line(item, told):
    with pytest.raises((UsageError, InputError), match=told) as caught:
        [source.read() for source in find_inputs(item)]
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)


def test_a_picture_that_is_cut_short_gets_one_line(tmp_path):
    Picture.fromarray(np.tile(PHOTO, (20, 20))).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    with (
        Picture.open(Path(tmp_path / "a.png")) as opened,
        pytest.raises(InputError, match="expected a whole image file"),
    ):
        pixels(opened)
