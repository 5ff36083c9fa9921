"""Scribbles and masks: read as labels whatever the file makes of them, and found by name."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read import find_annotations, find_inputs, read_annotations, with_masks

LABELS = np.array([[0, 255, 3], [255, 7, 1]], np.uint8)
WANTED = np.array([[0, -1, 3], [-1, 7, 1]])


def put(path, array=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(array).save(path)
    return path


def test_grey_and_palette_pngs(tmp_path):
    annotations = read_annotations(put(tmp_path / "a.png"), (2, 3))
    assert annotations.dtype == np.int64
    np.testing.assert_array_equal(annotations, WANTED)
    picture = Picture.new("P", (3, 2))
    picture.putdata(LABELS.ravel().tolist())
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    picture.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_annotations(tmp_path / "p.png", (2, 3)), WANTED)


def test_small_bit_depths_are_not_spread(tmp_path):
    Picture.fromarray(LABELS == 3).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_annotations(tmp_path / "a.png", (2, 3)), LABELS == 3)
    rows = b"".join(b"\0" + bytes([low << 4 | high]) for low, high in ((1, 2), (15, 0)))
    header = struct.pack(">IIBBBBB", 2, 2, 4, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    (tmp_path / "four.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    np.testing.assert_array_equal(read_annotations(tmp_path / "four.png", (2, 2)), [[1, 2], [15, 0]])


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u2"])
def test_tiffs_of_every_width(tmp_path, dtype):
    stack = np.stack([WANTED, WANTED[::-1]]).astype(dtype)  # -1 becomes 65535 in u2
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    np.testing.assert_array_equal(read_annotations(tmp_path / "a.tif", (2, 2, 3)), np.stack([WANTED, WANTED[::-1]]))


def test_transparent_pixels_are_no_scribble(tmp_path):
    alpha = np.full((2, 3), 255, np.uint8)
    alpha[0, 0] = 0
    put(tmp_path / "a.png", np.dstack([LABELS, alpha]))
    want = WANTED.copy()
    want[0, 0] = -1
    np.testing.assert_array_equal(read_annotations(tmp_path / "a.png", (2, 3)), want)


def test_wrong_scribbles(tmp_path):
    path = put(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: expected the size of the image, 20 x 30, got 2 x 3"):
        read_annotations(path, (20, 30))
    with pytest.raises(InputError, match="got 3 channels"):
        read_annotations(put(tmp_path / "c.png", np.arange(75, dtype=np.uint8).reshape(5, 5, 3)), (5, 5))
    tifffile.imwrite(tmp_path / "f.tif", np.full((5, 5), 0.5, np.float32))
    with pytest.raises(InputError, match="float32"):
        read_annotations(tmp_path / "f.tif", (5, 5))
    tifffile.imwrite(tmp_path / "l.tif", np.full((5, 5), 300, np.uint16))
    with pytest.raises(InputError, match="class numbers up to 254, got 300"):
        read_annotations(tmp_path / "l.tif", (5, 5))
    with pytest.raises(InputError, match="no such file"):
        read_annotations(tmp_path / "gone.png", (5, 5))


def test_found_in_the_same_folder_and_in_another(tmp_path):
    for name in ("in/a.jpg", "in/b.jpg", "in/s/a.jpg", "in/a_scribble.png", "annotations/b.png", "annotations/s/a.png"):
        put(tmp_path / name)
    sources = find_inputs(tmp_path / "in")
    assert [source.name for source in sources] == ["a", "b", "s/a"]
    assert find_annotations(tmp_path / "in", sources) == {"a": tmp_path / "in/a_scribble.png"}
    assert find_annotations(tmp_path / "annotations", sources) == {
        "b": tmp_path / "annotations/b.png",
        "s/a": tmp_path / "annotations/s/a.png",
    }


def test_one_file_for_one_image_has_any_name(tmp_path):
    sources = find_inputs(put(tmp_path / "photo.jpg"))
    path = put(tmp_path / "marks.png")
    assert find_annotations(str(path), sources) == {"photo": path}
    assert find_annotations(path, find_inputs(np.zeros((2, 3)))) == {"image": path}


def test_named_files_and_globs(tmp_path):
    sources = find_inputs([put(tmp_path / f"{name}.jpg") for name in "abc"])
    first, third = put(tmp_path / "a_scribble.png"), put(tmp_path / "c.png")
    assert find_annotations([first, third], sources) == {"a": first, "c": third}
    assert find_annotations(tmp_path / "*.png", sources) == {"a": first, "c": third}


def test_hints_that_fit_nothing_or_twice(tmp_path):
    sources = find_inputs([put(tmp_path / "a.jpg"), put(tmp_path / "b.jpg")])
    with pytest.raises(InputError, match="none that fits a, b"):
        find_annotations(put(tmp_path / "h/other.png"), sources)
    with pytest.raises(InputError, match="none that fits a, b"):
        find_annotations(tmp_path / "h", sources)
    with pytest.raises(InputError, match="nothing of that name"):
        find_annotations(tmp_path / "gone.png", sources)
    put(tmp_path / "h/a.png")
    put(tmp_path / "h/a_scribble.png")
    with pytest.raises(InputError, match="one file for an input"):
        find_annotations(tmp_path / "h", sources)
    twins = find_inputs([put(tmp_path / "x/a.jpg"), put(tmp_path / "y/a.jpg")])
    with pytest.raises(InputError, match="one input, got 2"):
        find_annotations(put(tmp_path / "z/a.png"), twins)


@pytest.mark.data
def test_published_scribbles(data_dir):
    folder = data_dir / "kim_tip" / "PASCAL_VOC_2012"
    sources = find_inputs(folder)
    pairs = find_annotations(folder, sources)
    assert len(sources) == len(pairs) == 6
    for source in sources:
        annotations = read_annotations(pairs[source.name], source.read().spatial_shape)
        assert annotations.min() == -1 and 0 in annotations and 0 < (annotations >= 0).mean() < 0.2


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
    assert a.mask_fingerprint() != b.mask_fingerprint()
    assert find_inputs(tmp_path / "images")[0].mask_fingerprint() is None
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
