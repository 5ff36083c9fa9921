"""Whole videos whose times, parts and orientation are not the usual ones: every frame, upright, and no word of damage."""

import struct
from fractions import Fraction

import numpy as np
import pytest

from selfseg.core.errors import InputError
from selfseg.read.video import VideoFrames

av = pytest.importorskip("av")

PAUSE = [33 * i for i in range(10)] + [20_000 + 33 * i for i in range(10)]
LATE = [60_000 + 33 * i for i in range(12)]
SLOW = [1000 * i for i in range(12)]
SIZE = (64, 96)
NOISE = np.random.default_rng(0).integers(0, 256, (20, *SIZE, 3), dtype=np.uint8)


def write(path, times, codec="libx264", pixels="yuv420p", unit=1000, **options):
    """A video whose header says 30 frames a second and whose frames have times of their own."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=30, options={"g": "5"})
        stream.height, stream.width = SIZE
        stream.pix_fmt, stream.codec_context.time_base = pixels, Fraction(1, unit)
        for time, picture in zip(times, NOISE, strict=False):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, unit)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(path):
    video = VideoFrames(path)
    frames = list(video.frames())
    assert not any(isinstance(frame, InputError) for frame in frames)
    return video, frames


@pytest.mark.parametrize(
    ("name", "times", "fps", "options"),
    [
        ("pause.mkv", PAUSE, 30, {}),
        ("pause.mp4", PAUSE, 30.3, {}),
        ("pieces.mp4", PAUSE, 30.3, {"movflags": "frag_keyframe+empty_moov"}),
        ("live.mkv", PAUSE, 30, {"live": "1"}),
        ("late.mkv", LATE, 30, {}),
        ("late.mp4", LATE, 30.3, {}),
        ("slow.mkv", SLOW, 1, {}),
        ("slow.mp4", SLOW, 1, {}),
        ("one.mkv", [0], 30, {}),
    ],
)
def test_irregular_times_fail_no_video(tmp_path, name, times, fps, options):
    video, frames = read(write(tmp_path / name, times, **options))
    assert len(frames) == len(times) == video.n_frames and video.fps == pytest.approx(fps, rel=0.1)


def test_times_that_vary_are_a_note_and_a_cut_is_an_error(tmp_path):
    path = write(tmp_path / "pause.mkv", PAUSE)
    (note,) = read(path)[0].notes
    assert "20 frames where duration and rate give about 610: their times vary, or some are lost" in note
    assert read(write(tmp_path / "late.mkv", LATE))[0].notes == ()
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"ends early or has gaps.*bytes are missing"):
        list(VideoFrames(path).frames())


def test_an_avi_counts_places_of_which_some_are_empty(tmp_path):
    path = write(tmp_path / "a.avi", [0, 1, 2, 50, 51, 52], "mjpeg", "yuvj420p", unit=30)
    assert len(read(path)[1]) == 6
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"idx1") - 4000])
    with pytest.raises(InputError, match="bytes are missing"):
        list(VideoFrames(path).frames())


def test_what_an_edit_list_cuts_off_is_no_frame(tmp_path):
    path = write(tmp_path / "a.mp4", SLOW)
    whole, content = read(path)[1], bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    _, first, _ = struct.unpack_from(">IiI", content, at)
    struct.pack_into(">Ii", content, at, 3000, first + 5 * 16_000)  # three seconds from the fifth on
    path.write_bytes(content)
    video, frames = read(path)
    assert video.n_frames == len(frames) == 3
    for frame, expected in zip(frames, whole[5:8], strict=True):
        np.testing.assert_array_equal(frame.data, expected.data)


def test_a_picture_of_vp8_that_is_never_shown_is_no_frame(tmp_path):
    path = write(tmp_path / "a.webm", LATE, "libvpx")
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.webm"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                data = bytearray(bytes(packet))
                data[0] &= 0xFF if number != 3 else 0xEF
                copied = av.Packet(bytes(data))
                copied.pts, copied.dts, copied.time_base = packet.pts, packet.dts, packet.time_base
                copied.is_keyframe, copied.stream = packet.is_keyframe, stream
                target.mux(copied)
    assert len(read(path)[1]) == 12 and len(read(tmp_path / "b.webm")[1]) == 11


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_display_matrix_turns_and_mirrors(tmp_path, mirrored, turned, backwards):
    path = write(tmp_path / "a.mp4", [0, 33])
    plain, content = read(path)[1][0].data, bytearray(path.read_bytes())
    x, y = (-1 if mirrored else 1), (-1 if backwards else 1)
    matrix = np.array([[0, x], [y, 0]] if turned else [[x, 0], [0, y]])  # (column, row) times this is where it is shown
    at = content.index(b"tkhd") + 4 + 40
    fixed = matrix << 16
    struct.pack_into(">9i", content, at, *fixed[0], 0, *fixed[1], 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    rows, columns = SIZE
    places = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1) @ matrix  # [Y X 2]
    places -= places.min((0, 1))
    expected = np.empty((places[..., 1].max() + 1, places[..., 0].max() + 1, 3), np.uint8)
    expected[places[..., 1], places[..., 0]] = plain
    np.testing.assert_array_equal(read(path)[1][0].data, expected)
