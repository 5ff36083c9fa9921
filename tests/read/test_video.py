"""Videos: written here with PyAV, read frame by frame; damage of each kind is named, and the rest is read."""

import hashlib

import numpy as np
import pytest
from PIL import Image as Picture

from conftest import write_clip
from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read import find_inputs, read_image
from selfseg.read.frames import Frames
from selfseg.read.video import VideoFrames

av = pytest.importorskip("av")

KINDS = [
    ("a.mp4", "libx264", "yuv420p"),
    ("a.mov", "mpeg4", "yuv420p"),
    ("a.mkv", "ffv1", "bgr0"),
    ("a.avi", "mjpeg", "yuvj420p"),
    ("a.webm", "libvpx-vp9", "yuv420p"),
]


def split(frames):
    """The frames that were read, by number, and the numbers of the others, with their errors; what ended the sequence."""
    good, bad, end = {}, {}, None
    try:
        for number, frame in enumerate(frames):
            (bad if isinstance(frame, InputError) else good)[number] = frame
    except InputError as error:
        end = str(error)
    return good, bad, end


@pytest.mark.parametrize(("name", "codec", "pixels"), KINDS, ids=[kind[0] for kind in KINDS])
def test_every_frame_comes_in_order_and_by_number(tmp_path, name, codec, pixels):
    path = write_clip(tmp_path / name, 30, codec=codec, pixels=pixels)
    video = VideoFrames(path)
    assert video.n_frames == 30 and video.fps == pytest.approx(24)
    good, bad, end = split(video.frames())
    assert list(good) == list(range(30)) and not bad and end is None
    for number, frame in good.items():  # the bar of `write_clip` stands at 2 pixels a frame
        row = np.maximum(frame.data[20, :, 1].astype(float) - 100, 0)
        assert abs(float((row * np.arange(96)).sum() / row.sum()) - (2 * number + 3.5)) < 1
        assert frame.axes == "YXC" and frame.name == f"a_f{number:04d}"
    some, _, _ = split(video.frames(every=7))
    for place, frame in some.items():
        np.testing.assert_array_equal(frame.data, good[7 * place].data)
    assert len(some) == 5
    for number in (29, 0, 7, 23, 8):
        np.testing.assert_array_equal(video.frame(number).data, good[number].data)
    with pytest.raises(InputError, match="frame number from 0 to 29, got 30"):
        video.frame(30)


def test_a_whole_clip_without_loss_is_an_image_with_time(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
    path = write_clip(tmp_path / "b.mkv", pictures=pictures, codec="ffv1", pixels="bgr0")
    image = read_image(path)
    assert image.axes == "TYXC"
    np.testing.assert_array_equal(image.data, pictures)
    with pytest.raises(InputError, match="at most"):
        read_image(path, max_bytes=1000)


def test_grey_and_deep_grey_keep_one_channel_and_their_values(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (3, 20, 30), dtype=np.uint16)
    path = write_clip(tmp_path / "deep.mkv", pictures=deep, codec="ffv1", pixels="gray16le")
    np.testing.assert_array_equal(read_image(path).data, deep)
    grey = (deep >> 8).astype(np.uint8)
    path = write_clip(tmp_path / "grey.mkv", pictures=grey, codec="ffv1", pixels="gray")
    np.testing.assert_array_equal(read_image(path).data, grey)


def test_a_clip_that_ends_early_gives_its_frames_and_then_says_so(tmp_path):
    whole = write_clip(tmp_path / "a.mkv", 40, codec="ffv1", pixels="bgr0").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    good, bad, end = split(VideoFrames(tmp_path / "cut.mkv").frames())
    assert 10 < len(good) < 30 and not bad and list(good) == list(range(len(good)))
    assert end is not None and f"{len(good)} frames of one that ends early" in end


def test_a_frame_that_does_not_decode_is_named_and_the_others_keep_their_numbers(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), dtype=np.uint8)
    path = write_clip(tmp_path / "a.avi", pictures=noise, codec="mjpeg", pixels="yuvj444p")
    whole, content = split(VideoFrames(path).frames())[0], bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        at, size = [(packet.pos, packet.size) for packet in container.demux(container.streams.video[0])][7]
    content[at + size // 2 : at + size // 2 + 40] = bytes(40)
    path.write_bytes(content)
    good, bad, end = split(VideoFrames(path).frames())
    assert split(VideoFrames(path).frames(every=3))[1].keys() == set()
    assert split(VideoFrames(path).frames(every=7))[1].keys() == {1}
    assert list(bad) == [7] and "frame 7" in str(bad[7]) and "decodes" in str(bad[7])
    assert end is None and list(good) == [n for n in range(20) if n != 7]
    for number, frame in good.items():
        np.testing.assert_array_equal(frame.data, whole[number].data)
    with pytest.raises(InputError, match="frame 7"):
        VideoFrames(path).frame(7)


def test_frames_of_another_size_are_named(tmp_path):
    parts = [
        write_clip(tmp_path / f"{n}.h264", 6, size=size).read_bytes() for n, size in ((0, (64, 96)), (1, (48, 80)))
    ]
    path = tmp_path / "change.h264"
    path.write_bytes(b"".join(parts))
    good, bad, _ = split(VideoFrames(path).frames())
    assert list(good) == list(range(6)) and list(bad) == list(range(6, 12))
    assert "64 x 96 x 3 (rows, columns, channels) like the first frame, got 48 x 80 x 3" in str(bad[6])


def test_what_is_no_video_is_said_in_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("no video at all")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    with av.open(str(tmp_path / "none.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()
    for name, words in (
        ("text.mp4", "a video that can be opened"),
        ("gone.mp4", "No such file"),
        ("sound.mp4", "a video stream, got none"),
        ("none.avi", "at least one frame"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            VideoFrames(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_phone_held_upright_gives_upright_frames(tmp_path):
    plain = write_clip(tmp_path / "a.mp4", 3)
    with av.open(str(plain)) as source, av.open(str(tmp_path / "turned.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90) if hasattr(stream, "set_display_rotation") else pytest.skip(
            "PyAV cannot write it"
        )
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert VideoFrames(tmp_path / "turned.mp4").frame(0).data.shape == (96, 64, 3)


def test_videos_are_found_like_images(tmp_path):
    write_clip(tmp_path / "b.mp4", 3)
    Picture.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    found = find_inputs(tmp_path)
    assert [source.name for source in found] == ["a", "b"] and [source.is_video() for source in found] == [False, True]
    digest = hashlib.sha256((tmp_path / "b.mp4").read_bytes()).hexdigest()
    assert VideoFrames(tmp_path / "b.mp4").fingerprint() == digest


def test_a_folder_of_frames_names_what_does_not_fit(tmp_path):
    for number, shape in enumerate(((6, 8), (6, 8), (6, 9), (6, 8))):
        Picture.fromarray(np.full(shape, number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"\x89PNG broken")
    frames = Frames.of_folder(find_inputs(tmp_path), "clip")
    good, bad, end = split(frames.frames())
    assert list(good) == [0, 3] and list(bad) == [1, 2] and end is None and frames.n_frames == 4
    assert "1.png" in str(bad[1]) and "6 x 8 x 1" in str(bad[2])
    assert frames.frame(3).data.max() == 3 and frames.frame_name(3) == "3"


@pytest.mark.parametrize(
    ("axis", "index", "spacing"), [("Z", 0, (2.0, 3.0)), ("Y", 1, (5.0, 3.0)), ("X", 2, (5.0, 2.0))]
)
def test_slices_of_a_volume_carry_their_spacing_and_mask(axis, index, spacing):
    data = np.arange(4 * 5 * 6 * 2).reshape(4, 5, 6, 2)
    valid = np.random.default_rng(0).random((4, 5, 6)) < 0.5
    stack = Frames.along(Image(data, "ZYXC", (5.0, 2.0, 3.0), "nm", name="v", valid=valid), axis)
    assert stack.n_frames == data.shape[index]
    for number, frame in enumerate(stack.frames()):
        np.testing.assert_array_equal(frame.data, data.take(number, index))
        np.testing.assert_array_equal(frame.valid, valid.take(number, index))
        assert frame.axes == "YXC" and frame.spacing == spacing and frame.name == f"v_{axis.lower()}{number:04d}"
    with pytest.raises(InputError, match="axis T"):
        Frames.along(Image(data, "ZYXC"), "T")
