import numpy as np
import pytest
import tifffile

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read import find_inputs, with_masks
from selfseg.read.labels import mask_facts


def test_a_mask_of_the_same_name_says_which_pixels_count(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", np.arange(24, dtype=np.uint8).reshape(4, 6))
        mask = np.zeros((4, 6), np.uint8)
        mask[:2] = 7 if name == "a" else 0
        mask[:, :1] = 1
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", mask)
    a, b = with_masks(find_inputs(tmp_path / "images"), tmp_path / "masks")
    assert a.read().valid.sum() == 14 and b.read().valid.sum() == 4
    assert set(mask_facts([a, b])["masks"]) == {"a", "b"} and mask_facts(find_inputs(tmp_path / "images")) == {}
    with pytest.raises(InputError, match="none for a"):
        with_masks(find_inputs(tmp_path / "images"), tmp_path / "masks" / "b.tif")
    with pytest.raises(InputError, match="got nothing"):
        with_masks([a, b], tmp_path / "no_masks")


def test_a_mask_adds_to_what_the_image_lacks_and_goes_for_every_time_point():
    data = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    valid = np.ones((3, 4, 5), bool)
    valid[1, 0, 0] = False
    mask = np.zeros((4, 5), np.uint8)
    mask[0] = 1
    (source,) = with_masks(find_inputs([Image(data, "TYX", valid=valid)]), mask)
    expected = np.zeros((3, 4, 5), bool)
    expected[:, 0] = True
    expected[1, 0, 0] = False
    np.testing.assert_array_equal(source.read().valid, expected)


@pytest.mark.parametrize(
    ("mask", "words"), [(np.ones((4, 4), np.uint8), "4 x 5.*got 4 x 4"), (np.zeros((4, 5), np.uint8), "zeros alone")]
)
def test_masks_that_do_not_fit_are_refused(mask, words):
    (source,) = with_masks(find_inputs(np.ones((4, 5), np.uint8)), mask)
    with pytest.raises(InputError, match=words):
        source.read()


def test_a_video_takes_no_mask(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="a video"):
        with_masks(find_inputs(tmp_path / "clip.mp4"), np.ones((4, 4)))
