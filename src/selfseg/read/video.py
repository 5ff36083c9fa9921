"""Videos of any container and codec that FFmpeg reads, with PyAV: frame by frame, in order or by number."""

import bisect
import contextlib
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read.arrays import Decoded, check_size, unchanged
from selfseg.read.frames import Frames, same_size
from selfseg.read.sources import Source

SHORTFALL = 0.02
"""Share of the promised frames that may be missing at the end: containers count what an edit list leaves out."""


def import_av() -> ModuleType:
    """Return PyAV, with FFmpeg's own messages switched off, or raise `InputError` if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise InputError(
            "video",
            expected="PyAV for reading videos",
            got="no such package",
            fix="pip install 'selfseg[video]', or extract the frames into a folder",
        ) from error
    # Not `set_level`: its messages pass through Python, and a decoder that ends while it has one waits for itself.
    av.logging.set_libav_level(av.logging.PANIC)
    return av


class VideoFrames(Frames):
    """The first video stream of a file, upright. Grey stays one channel; more than 8 bits become 16.

    `name` is the stem for outputs, None = the file's. A file that cannot be opened, without a video stream or a frame is an `InputError`.
    """

    def __init__(self, path: Path | str, name: str | None = None) -> None:
        self.path = Path(path)
        with _opened(self.path) as (container, stream):
            rate = stream.average_rate or stream.guessed_rate
            fps = float(rate) if rate else None
            self.promised = _promised(container, stream, fps)
        origin = Source(self.path.stem if name is None else name, self.path)
        super().__init__(origin.name, str(path), len(self._listed[0]), self._seek, origin.fingerprint, fps=fps)
        if not self.n_frames:
            raise InputError(
                self.source,
                expected="at least one frame",
                got="a video stream without a frame",
                fix="copy or export the file again",
            )

    @cached_property
    def _listed(self) -> tuple[list[int], bool]:
        """The time of each packet, ascending, and whether packets have times of their own; else their numbers."""
        av, times = import_av(), []
        with _opened(self.path) as (container, stream), contextlib.suppress(av.FFmpegError):
            for packet in container.demux(stream):
                if packet.size:
                    times.append(packet.pts)
        timed = None not in times and len(set(times)) == len(times)
        return (sorted(times), True) if timed else (list(range(len(times))), False)

    def frames(self, every: int = 1) -> Iterator[Image | InputError]:
        """See `Frames.frames`. Frames that do not decode are errors; decoding goes on from one to the next."""
        first: Image | None = None
        due = 0
        for number, image in self._decoded(every=every):
            for missing in range(due, number, every):
                yield self._undecodable(missing)
            due = number + every
            first = first or image
            yield same_size(image.source, image, first)
        for missing in range(due, self.n_frames, every):
            yield self._undecodable(missing)
        if self.promised is not None and self.n_frames < math.floor(self.promised * (1 - SHORTFALL)) - 1:
            raise InputError(
                self.source,
                expected=f"about {self.promised} frames, as the file says",
                got=str(self.n_frames),
                fix="the file ends early or has gaps: what there is is used; copy it again for the rest",
            )

    def _seek(self, number: int) -> Image:
        for found, image in self._decoded(number):
            if found == number:
                return image
            if found > number:
                break
        raise self._undecodable(number)

    def frames_from(self, number: int) -> Iterator[tuple[int, Image]]:
        """Yield number and image of the frames that decode, from this one on; the file stays open while they are asked for."""
        self.check_number(number)
        yield from self._decoded(number)

    def _decoded(self, start: int = 0, every: int = 1) -> Iterator[tuple[int, Image]]:
        """Yield number and image of the frames `start`, `start` + `every`, ... that can be decoded."""
        times, timed = self._listed
        with _opened(self.path) as (container, stream):
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"err_detect": "explode"}  # else some decoders hand out half a picture
            if start and timed:
                container.seek(times[start], stream=stream, backward=True)
            number = -1
            for frame in _frames_of(container, stream):
                number = _place(times, frame.pts) if timed and frame.pts is not None else number + 1
                if start <= number < self.n_frames and (number - start) % every == 0:
                    yield number, self._image(frame, number)

    def _image(self, frame: Any, number: int) -> Image:
        data = _pixels(frame)
        axes = "YX" if data.ndim == 2 else "YXC"
        return Image(data, axes, name=self.frame_name(number), source=f"{self.source}, frame {number}")

    def _undecodable(self, number: int) -> InputError:
        fix = "it is skipped, and those up to the next key frame may suffer from it; copy or export the file again"
        what = f"{self.source}, frame {number}"
        return InputError(what, expected="a frame that decodes", got="damaged data", fix=fix)


def open_file(path: Path, max_bytes: int | None, as_labels: bool) -> Decoded:
    """Read a whole clip into memory, ``TYX`` or ``TYXC``; `VideoFrames` reads one of any length.

    `as_labels` changes nothing: a grey video without loss has its values either way. Raise `InputError` if the file is
    too large or damaged, or a frame has another size than the first.
    """
    video = VideoFrames(path)
    stack: NDArray[Any] | None = None
    for number, frame in enumerate(video.frames()):
        if isinstance(frame, InputError):
            raise frame
        if stack is None:
            shape = (video.n_frames, *frame.data.shape)
            check_size(path, shape, frame.data.itemsize, path.stat().st_size, max_bytes, math.inf)
            stack = np.empty(shape, frame.data.dtype)
        stack[number] = frame.data
    if stack is None:
        raise video._undecodable(0)
    return Decoded(stack, "TYX" if stack.ndim == 3 else "TYXC")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield the container and its first video stream; turn what goes wrong at opening into one line."""
    av = import_av()
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            path,
            expected="a video that can be opened",
            got=reason,
            fix="the file is damaged, cut short or no video: copy or export it again",
        ) from error
    try:
        if not container.streams.video:
            raise InputError(
                path, expected="a video stream", got="none (sound only?)", fix="check that it is the right file"
            )
        if container.streams.video[0].codec_context is None:
            raise InputError(
                path,
                expected="a codec that FFmpeg has",
                got="one it does not know",
                fix="copy or export the file again",
            )
        with unchanged(path):
            yield container, container.streams.video[0]
    finally:
        container.close()


def _frames_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield what decodes, past packets that do not, to the end or to where the file breaks off."""
    av, packets = import_av(), container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        with contextlib.suppress(av.FFmpegError):
            for frame in packet.decode():
                if not frame.is_corrupt:
                    yield frame


def _promised(container: Any, stream: Any, fps: float | None) -> int | None:
    """Return how many frames the header speaks of, by number or by duration; None = it does not say."""
    if stream.frames:
        return int(stream.frames)
    if fps is None:
        return None
    if stream.duration and stream.time_base:
        return round(float(stream.duration * stream.time_base) * fps)
    alone = len(container.streams) == 1  # else the duration may be that of the sound
    return round(container.duration / 1e6 * fps) if container.duration and alone else None


def _place(times: list[int], time: int) -> int:
    """Return the number of the frame of a time: the last one that is not later."""
    return max(0, bisect.bisect_right(times, time) - 1)


def _pixels(frame: Any) -> NDArray[Any]:
    """Return ``[Y X]`` or ``[Y X 3]``, upright, in the fewest of 8 and 16 bits that hold the stream's values."""
    components = frame.format.components
    deep = max(component.bits for component in components) > 8
    grey = len(components) == 1 and not frame.format.has_palette
    wanted = {(True, False): "gray", (True, True): "gray16le", (False, False): "rgb24", (False, True): "rgb48le"}
    array: NDArray[Any] = frame.to_ndarray(format=wanted[grey, deep])
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def open_video(source: Source) -> VideoFrames:
    """Open an input that `is_video`."""
    if source.path is None:
        raise InputError(source.name, expected="a video file", got="an array", fix="give its path")
    return VideoFrames(source.path, source.name)
