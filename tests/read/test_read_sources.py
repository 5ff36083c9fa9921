"""Inputs: found in natural order, named uniquely, refused in one line."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.read import find_inputs
from selfseg.read.arrays import guess_axes


@pytest.fixture
def folder(tmp_path):
    names = ["img10.png", "img2.png", "Img1.png", "b/c/x.png", "b/x.jpg", ".hidden.png", ".git/y.png", "notes.txt"]
    for i, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("not an image")
        else:
            Picture.fromarray(np.full((3, 4), i, np.uint8)).save(path)
    return tmp_path


def names(sources):
    return [source.name for source in sources]


def test_a_folder_is_read_deep_in_natural_order(folder):
    found = find_inputs(folder)
    assert names(found) == ["b/c/x", "b/x", "Img1", "img2", "img10"]
    assert all(source.content is None for source in found)
    assert found[3].read().data[0, 0] == 1 and found[3].read().name == "img2"
    assert names(find_inputs(str(folder), limit=2)) == ["b/c/x", "b/x"]


def test_globs(folder):
    assert names(find_inputs(str(folder / "img*.png"))) == ["img2", "img10"]
    assert names(find_inputs(folder / "**" / "x.*")) == ["b/c/x", "b/x"]
    assert names(find_inputs(f"{folder}/b/*")) == ["x"]


def test_a_file_whose_name_looks_like_a_glob(folder):
    path = (folder / "img2.png").rename(folder / "a[1].png")
    assert [source.path for source in find_inputs(str(path))] == [path]


def test_relative_paths_and_globs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert names(find_inputs("*.png")) == ["Img1", "img2", "img10"]
    assert names(find_inputs("b")) == ["c/x", "x"]
    assert names(find_inputs("b/../img2.png")) == ["img2"]


def test_a_list_of_everything_keeps_its_order_and_takes_a_file_once(folder):
    image = Image(np.zeros((2, 3), np.uint8), "YX", name="mine")
    found = find_inputs([folder / "img10.png", str(folder / "b"), image, str(folder / "img10.png"), np.ones((4, 5))])
    assert names(found) == ["img10", "c/x", "x", "mine", "image"]
    assert found[3].read().data.shape == (2, 3) and found[4].read().axes == "YX"


def test_equal_names_are_told_apart(tmp_path):
    for name in ("a.png", "A.jpg", "s/a.png", "t/a.png", "u/v.png", "v.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Picture.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / name)
    assert names(find_inputs([tmp_path / "a.png", tmp_path / "A.jpg"])) == ["a_png", "A_jpg"]
    assert names(find_inputs([tmp_path / "s", tmp_path / "t"])) == ["s/a", "t/a"]
    assert names(find_inputs([np.zeros((2, 2)), np.ones((2, 2))])) == ["image_1", "image_2"]
    same = [Image(np.zeros((2, 2)), "YX", name=name) for name in ("x", "x", "X_2", "x")]
    assert names(find_inputs(same)) == ["x", "x_2", "X_2_2", "x_3"]


def test_a_name_cannot_leave_the_output_folder():
    for name in ("../../etc/passwd", "/etc/passwd", "..\\etc\\passwd", "./etc//passwd"):
        found = find_inputs(Image(np.zeros((2, 2)), "YX", name=name))
        assert found[0].name == "etc/passwd"
    assert find_inputs(Image(np.zeros((2, 2)), "YX", name=".."))[0].name == "image"


def test_scribbles_beside_their_image_are_no_inputs(tmp_path):
    for name in ("a.jpg", "a_scribble.png", "lonely_scribble.png"):
        Picture.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / name)
    assert names(find_inputs(tmp_path)) == ["a", "lonely_scribble"]
    assert names(find_inputs(tmp_path / "*.*")) == ["a", "lonely_scribble"]
    assert names(find_inputs(tmp_path / "a_scribble.png")) == ["a_scribble"]


def test_nothing_found_is_said_in_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(InputError, match=r"folder .*expected images \(.*\.bmp .*\.tiff.*got none"):
        find_inputs(tmp_path)
    with pytest.raises(InputError, match=r"glob .*\*\.png: expected images \(.*\.png"):
        find_inputs(tmp_path / "*.png")
    with pytest.raises(InputError, match=r"gone\.png: .*no such file"):
        find_inputs(tmp_path / "gone.png")
    with pytest.raises(InputError, match="empty list"):
        find_inputs([])
    with pytest.raises(UsageError, match="limit"):
        find_inputs(tmp_path, limit=0)
    with pytest.raises(UsageError, match="got int"):
        find_inputs([3])


def test_one_missing_file_among_others_fails_only_when_it_is_read(folder):
    found = find_inputs([folder / "img2.png", folder / "gone.png"])
    assert found[0].read().data.shape == (3, 4)
    with pytest.raises(InputError, match=r"gone\.png: .*no such file"):
        found[1].read()
    with pytest.raises(InputError, match=r"gone\.png"):
        found[1].fingerprint()


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def scandir(top):
        raise PermissionError(13, "Permission denied", str(top))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match="Permission denied"):
        find_inputs(tmp_path)


def test_fingerprints(folder):
    source = find_inputs(folder / "img2.png")[0]
    assert source.fingerprint() == hashlib.sha256((folder / "img2.png").read_bytes()).hexdigest()
    one = np.arange(6, dtype=np.uint8)
    prints = {
        find_inputs(array)[0].fingerprint()
        for array in (one.reshape(2, 3), one.reshape(3, 2), one.reshape(2, 3).astype(np.int8), one[::-1].reshape(2, 3))
    }
    assert len(prints) == 4
    assert find_inputs(np.asfortranarray(one.reshape(2, 3)))[0].fingerprint() in prints


@pytest.mark.parametrize(
    ("shape", "axes", "guessed"),
    [
        ((5, 6), "YX", False),
        ((1, 1), "YX", False),
        ((50, 60, 3), "YXC", False),
        ((50, 60, 4), "YXC", False),
        ((50, 60, 1), "YXC", True),
        ((20, 50, 60), "ZYX", True),
        ((3, 50, 60), "ZYX", True),
        ((4, 4, 4), "ZYX", True),
        ((20, 50, 60, 3), "ZYXC", True),
        ((7, 20, 50, 60), "TZYX", True),
        ((7, 20, 50, 60, 2), "TZYXC", True),
    ],
)
def test_axes_of_arrays(shape, axes, guessed):
    assert guess_axes(shape) == (axes, guessed)


def test_arrays_are_checked():
    for array, line in (
        (np.zeros(5), "2 to 4 axes"),
        (np.zeros((2, 2, 9, 9, 9, 9)), "2 to 4 axes"),
        (np.zeros((0, 5)), "at least one pixel"),
        (np.zeros((4, 5), complex), "real numbers"),
        (np.array([["a", "b"]]), "real numbers"),
        (np.full((4, 5), np.inf), "finite"),
    ):
        with pytest.raises(InputError, match=line):
            find_inputs(array)[0].read()
    with pytest.raises(InputError, match=r"expected 3 axes \(ZYX\)"):
        find_inputs(np.zeros((4, 5)))[0].read("ZYX")


def test_arrays_keep_their_values_and_lose_what_is_not_finite():
    array = np.array([[1.0, np.nan], [np.inf, 4.0]])
    image = find_inputs(array)[0].read()
    np.testing.assert_array_equal(image.data, array)
    np.testing.assert_array_equal(image.valid, [[True, False], [False, True]])
    np.testing.assert_array_equal(find_inputs(np.eye(3, dtype=bool))[0].read().data, 255 * np.eye(3))


def test_an_image_keeps_what_it_knows():
    mask = np.ones((4, 5, 6), bool)
    mask[1, 2, 3] = False
    given = Image(np.ones((4, 5, 6)), "ZYX", (3.0, 2.0, 1.0), "nanometer", name="a/b", source="there", valid=mask)
    image = find_inputs(given)[0].read()
    assert (image.axes, image.spacing, image.unit, image.name, image.source) == (
        "ZYX",
        (3.0, 2.0, 1.0),
        "nanometer",
        "a/b",
        "there",
    )
    np.testing.assert_array_equal(image.valid, mask)
    as_channels = find_inputs(given)[0].read("CYX")
    assert as_channels.spacing == (2.0, 1.0)
    np.testing.assert_array_equal(as_channels.valid, mask.all(axis=0))


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(InputError, match="mask of array: expected 4 x 5, got 5 x 4"):
        find_inputs(Image(np.zeros((4, 5)), "YX", valid=np.ones((5, 4), bool)))[0].read()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    source = find_inputs(tmp_path / "pipe.png")[0]
    for call in (source.read, source.fingerprint):
        with pytest.raises(InputError, match="ordinary file"):
            call()
    with pytest.raises(InputError, match="got none"):
        find_inputs(tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000 + ".png", "x" * 5000 + "*.png", "a\0b.png", "**.png"])
def test_impossible_names(tmp_path, name):
    with pytest.raises(InputError):
        find_inputs(str(tmp_path / name))


def test_paths_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert find_inputs("~/img2.png")[0].path == Path(folder) / "img2.png"
