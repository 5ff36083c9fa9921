"""Sources are found, sniffed, decoded and hashed once a run, and again only where what was kept is not right any more."""

import gc
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read import find_inputs, formats, labels, open_lazy, sources, with_masks
from selfseg.read.frames import Frames

DATA = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)


@pytest.fixture
def counts(monkeypatch):
    """Count the calls of what is to be done once."""
    seen = Counter()

    def counted(place, name):
        inner = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *args, **kw: seen.update([name]) or inner(*args, **kw))

    counted(formats, "module_of")
    counted(formats, "open_file")
    counted(Image, "load")
    counted(sources, "_digest")
    counted(labels, "decode_labels")
    return seen


def written(folder, suffix):
    path = folder / f"a{suffix}"
    if suffix == ".png":
        Picture.fromarray(DATA.astype(np.uint8)).save(path)
    elif suffix == ".npy":
        np.save(path, DATA)
    else:
        tifffile.imwrite(path, DATA, compression="zlib")
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_one_sniff_one_decode_one_hash(tmp_path, counts, suffix):
    (source,) = find_inputs(find_inputs(written(tmp_path, suffix)))
    for _ in range(3):
        source.open().size("Y")
        assert source.read().in_memory
        source.fingerprint()
    assert counts == {"module_of": 1, "open_file": 1, "_digest": 1} | ({} if suffix == ".png" else {"load": 1})
    assert source.open() is find_inputs([source])[0].open() and source.read() is find_inputs([source])[0].read()
    assert source.open().in_memory == (suffix == ".png")  # as the format allows, whatever was read before
    assert source.open().memo is source.read().memo


def test_a_masked_input_and_its_mask_are_decoded_once(tmp_path, counts):
    mask = np.zeros(DATA.shape, np.uint8)
    mask[:9] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    (source,) = with_masks(find_inputs(written(tmp_path, ".npy")), tmp_path / "mask.tif")
    for _ in range(3):
        assert source.open() is source.read() and source.read().valid.sum() == 9 * 50
        source.mask_fingerprint()
    assert (counts["decode_labels"], counts["load"], counts["open_file"]) == (1, 1, 2)  # the image, and the mask


def test_axes_of_their_own_are_opened_apart(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 6), np.uint8))
    (source,) = find_inputs(tmp_path / "a.npy")
    assert [source.read(axes).axes for axes in ("TYX", None, "TYX")] == ["TYX", "ZYX", "TYX"]
    assert [source.open(axes).axes for axes in ("YXC", "ZYX")] == ["YXC", "ZYX"]


def test_a_file_that_was_changed_or_closed_is_opened_again(tmp_path):
    path = written(tmp_path, ".tif")
    (source,) = find_inputs(path)
    opened, digest = source.open(), source.fingerprint()
    opened.close()
    with source.open() as again:
        assert again is not opened and again.window(Y=slice(0, 2)).data.shape == (2, 50)
    assert source.read().data[0, 1] == 1
    tifffile.imwrite(path, DATA + 7)
    os.utime(path, (1, 1))
    assert source.read().data[0, 1] == 8 and source.fingerprint() != digest


def test_memory_is_kept_within_a_share(tmp_path, monkeypatch, counts):
    """Five images, of which two fit: what is beyond is decoded again, and one that does not fit goes before the next is decoded."""
    for name in "abcde":
        np.save(tmp_path / f"{name}.npy", DATA)
    monkeypatch.setattr(sources, "free_memory", lambda: sources.SHARE * 2 * DATA.nbytes)
    found = find_inputs(tmp_path)
    for source in found:
        source.read()
    found[4].read(), found[3].read()
    assert counts["load"] == 5
    found[0].read()
    assert counts["load"] == 6
    np.save(tmp_path / "z.npy", np.zeros((200, 200), np.uint16))
    large = find_inputs([*found, tmp_path / "z.npy"])[-1]
    large.read()
    assert large.read() is large.read()
    assert large.images.get_or_make("another", None, large.open) and not large.images._in_memory._values
    Picture.fromarray(np.zeros((300, 300), np.uint8)).save(tmp_path / "y.png")
    whole = find_inputs([*found, tmp_path / "y.png"])[-1]
    assert whole.open() is whole.read() is whole.open()


def test_many_open_files_are_closed_when_nobody_uses_them(tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("no list of open files")
    for number in range(100):
        tifffile.imwrite(tmp_path / f"{number}.tif", DATA[:9, :9], compression="zlib")
    gc.collect()
    before = len(list(descriptors.iterdir()))
    found = find_inputs(tmp_path)
    first = found[0].open()
    gc.disable()
    try:
        for source in found:
            source.open()
        assert len(list(descriptors.iterdir())) <= before + sources.MOST_OPEN + 2
    finally:
        gc.enable()
    assert first.window(Y=slice(0, 2)).data[1, 1] == 51


def test_an_image_that_does_not_fit_is_refused_before_it_is_loaded(tmp_path):
    np.save(tmp_path / "a.npy", DATA)
    with open_lazy(tmp_path / "a.npy") as image, pytest.raises(InputError, match=r"at most 0\.0 MB of pixels"):
        image.load(max_bytes=DATA.nbytes - 1)


def test_sequences_of_one_image_and_of_a_stack_that_is_damaged_in_the_middle(tmp_path):
    (single,) = Frames.of_image(Image(DATA, "YX", name="one")).frames()
    assert single.name == "one" and len(Frames.of_image(single)) == 1
    stack = np.stack([DATA.astype(np.float32)] * 3)
    stack[1] = np.nan
    np.save(tmp_path / "a.npy", stack)
    good, bad, end = Frames.along(open_lazy(tmp_path / "a.npy", "TYX"), "T").frames()
    assert isinstance(bad, InputError) and "finite" in str(bad)
    assert (good.name, end.name) == ("a_t0000", "a_t0002")
