"""Videos that are cut, changed or of absurd size: frames and lines, never a crash, a hang or memory without end."""

import struct
import time

import numpy as np
import pytest

from conftest import write_clip
from reference.damage import SLOWEST, flipped, write
from selfseg.core.errors import InputError
from selfseg.read import read_image
from selfseg.read.video import VideoFrames

pytest.importorskip("av")

KINDS = {
    "a.mp4": ("libx264", "yuv420p"),
    "a.mov": ("mpeg4", "yuv420p"),
    "a.mkv": ("ffv1", "bgr0"),
    "a.avi": ("mjpeg", "yuvj420p"),
    "a.webm": ("libvpx-vp9", "yuv420p"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0).integers(0, 256, (30, 32, 48, 3), dtype=np.uint8)
    return {
        name: write_clip(folder / name, pictures=noise, codec=codec, pixels=pixels).read_bytes()
        for name, (codec, pixels) in KINDS.items()
    }


def outcome(path):
    """Read all frames; return how many there are, and the lines of what is wrong."""
    begun, good, lines = time.monotonic(), 0, []
    try:
        for frame in VideoFrames(path).frames():
            if isinstance(frame, InputError):
                lines.append(str(frame))
            else:
                good += 1
    except InputError as error:
        lines.append(str(error))
    assert time.monotonic() - begun < SLOWEST
    assert all("\n" not in line and path.name in line and len(line) < 700 for line in lines)
    return good, lines


@pytest.mark.parametrize("name", KINDS)
def test_truncated_at_every_tenth_is_never_taken_for_the_whole(tmp_path, whole, name):
    assert outcome(write(tmp_path, name, whole[name])) == (30, [])
    counts = []
    for tenth in range(10):
        good, lines = outcome(write(tmp_path, name, whole[name][: len(whole[name]) * tenth // 10]))
        assert lines, f"{name} cut to {tenth}/10 was read without a word"
        counts.append(good)
    assert counts == sorted(counts) and counts[-1] < 30


@pytest.mark.parametrize("name", KINDS)
def test_flipped_bytes_never_crash(tmp_path, capfd, whole, name):
    rng = np.random.default_rng(sum(name.encode()))
    for attempt in range(30):
        good, lines = outcome(write(tmp_path, name, flipped(whole[name], attempt, rng)))
        assert good or lines
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_many_flipped_bytes_never_crash(tmp_path, whole, name):
    rng = np.random.default_rng(11)
    for attempt in range(1000):
        good, lines = outcome(write(tmp_path, name, flipped(whole[name], attempt, rng)))
        assert good or lines


@pytest.mark.parametrize("name", KINDS)
def test_the_container_is_told_by_its_bytes_and_not_by_its_suffix(tmp_path, whole, name):
    for suffix in (".mp4", ".avi", ".mkv"):
        assert outcome(write(tmp_path, f"wrong{suffix}", whole[name])) == (30, [])
    assert outcome(write(tmp_path, "picture.mp4", b"\x89PNG\r\n\x1a\n" + bytes(50)))[0] == 0


def test_an_avi_of_absurd_size_allocates_nothing(tmp_path, whole):
    content = bytearray(whole["a.avi"])
    header = content.index(b"strf") + 8
    struct.pack_into("<ii", content, header + 4, 60_000, 60_000)
    good, lines = outcome(write(tmp_path, "a.avi", bytes(content)))
    assert good == 30 or lines  # the size that counts is that of the frames
    with pytest.raises(InputError, match="at most"):
        read_image(write(tmp_path, "b.avi", whole["a.avi"]), max_bytes=10_000)


def test_zero_bytes_and_no_file(tmp_path):
    assert outcome(write(tmp_path, "a.mp4", b""))[0] == 0
    assert outcome(tmp_path / "none.mp4")[0] == 0
    with pytest.raises(InputError, match="zero bytes"):
        read_image(tmp_path / "a.mp4")
