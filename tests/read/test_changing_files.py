"""Files that are cut, rewritten or removed while they are read: one line that says so, and never a crash or old and new mixed."""

import os
from pathlib import Path

import numpy as np
import pytest

from reference.damage import WHOLE, write
from reference.image_files import SMOOTH, tiff
from selfseg.core.errors import InputError
from selfseg.read import open_lazy, read_image

LARGE = np.stack([SMOOTH] * 40)
LAZY = {
    "a.npy": None,
    "a.mrc": None,
    "a.nii": None,
    "a.h5": None,
    "packed.h5": None,
    "plain.tif": None,
    "big.tif": None,
    "imagej.tif": None,
    "zlib.tif": None,
    "pages.tif": None,
    "tiles.tif": tiff(LARGE, tile=(32, 32), photometric="minisblack", compression="zlib"),
}
CHANGED = r"expected a file that stays as it is while it is read, got one that was"


def content(name):
    return LAZY.get(name) or WHOLE[name]


def cut(path):
    os.truncate(path, path.stat().st_size // 3)


def rewrite(path):
    path.write_bytes(bytes(reversed(path.read_bytes())))


def replace(path):
    write(path.parent, "new", path.read_bytes()).replace(path)


CHANGES = {"cut": cut, "rewritten": rewrite, "replaced": replace, "removed": Path.unlink}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", LAZY)
def test_an_open_file_that_changes_is_not_read_on(tmp_path, name, change):
    path = write(tmp_path, name, content(name))
    with open_lazy(path) as image:
        whole = image.load().data
        part = image.window(Y=slice(0, 5), X=slice(0, 5)).data
        np.testing.assert_array_equal(part.ravel()[:2], whole.ravel()[:2])
        CHANGES[change](path)
        with pytest.raises(InputError, match=CHANGED) as caught:
            image.load()
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_changes_while_it_is_read_whole_is_refused(tmp_path, monkeypatch, name):
    """The file is cut by half when its first bytes have been looked at, or is given other bytes at the very end."""
    from selfseg.read import formats

    path, real = write(tmp_path, name, WHOLE[name]), formats.import_module

    def cutting(module):
        os.truncate(path, path.stat().st_size // 2)
        return real(module)

    monkeypatch.setattr(formats, "import_module", cutting)
    with pytest.raises(InputError, match=CHANGED):
        read_image(path)


def test_a_video_that_changes_while_its_frames_are_read(tmp_path):
    from conftest import write_clip
    from selfseg.read.video import VideoFrames

    path = write_clip(tmp_path / "a.avi", 30, codec="mjpeg", pixels="yuvj420p")
    frames = VideoFrames(path).frames()
    next(frames)
    cut(path)
    with pytest.raises(InputError, match=CHANGED):
        list(frames)


def test_no_image_is_mapped():
    """A mapped file that is cut short ends the process (SIGBUS); so none is."""
    folder = Path(__file__).parents[2] / "src" / "selfseg" / "read"
    users = [
        path.name for path in folder.rglob("*.py") if "memmap" in path.read_text() or "mmap_mode" in path.read_text()
    ]
    assert users == []
