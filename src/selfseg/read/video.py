"""Videos of any container and codec that FFmpeg reads, with PyAV: frame by frame, in order or by number."""

import bisect
import contextlib
import math
import operator
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.read._containers import is_cut
from selfseg.read.arrays import Decoded, check_size, unchanged
from selfseg.read.frames import Frames, same_size
from selfseg.read.sources import Source

SHORTFALL = 0.02
"""Share of the frames in a file's header that may be missing without a note."""

OTHER_RATE = 1.2
"""Factor by which a header's frame rate may differ from that of the frames' own times; beyond it, theirs counts."""

SHOWN = 1 << 4
"""Bit of the first byte of a VP8 frame: it is shown, and no mere reference for others (RFC 6386, section 9.1)."""


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


@dataclass(frozen=True)
class Listing:
    """The frames of a stream as its packets tell them, none of which is decoded."""

    times: list[int]
    """Time of each frame, ascending, in the stream's unit; their numbers where they have no times of their own."""
    timed: bool
    """True if they have times of their own."""
    fps: float | None
    """Frames a second; None = unknown."""
    lost: str
    """Proof that frames are missing; empty = none."""
    doubt: str
    """A sign that frames are missing, without proof; empty = none."""


class VideoFrames(Frames):
    """The first video stream of a file, upright. Grey stays one channel; more than 8 bits become 16.

    Frames are counted by their packets. A duration times a nominal rate is no count: recordings pause, begin late and vary, so that
    what these say otherwise is a note. Frames that an edit list cuts off are not shown, and none.

    `name` is the stem for outputs, None = the file's. A file that cannot be opened, without a video stream or a frame is an `InputError`.
    """

    def __init__(self, path: Path | str, name: str | None = None) -> None:
        self.path = Path(path)
        origin = Source(self.path.stem if name is None else name, self.path)
        listed = self._listed
        super().__init__(origin.name, str(path), len(listed.times), self._seek, origin.fingerprint, fps=listed.fps)
        if not self.n_frames:
            raise InputError(
                self.source,
                expected="at least one frame",
                got="a video stream without a frame",
                fix="copy or export the file again",
            )
        if listed.doubt and not listed.lost:
            self.notes = (listed.doubt,)

    @cached_property
    def _listed(self) -> Listing:
        with _opened(self.path) as (container, stream):
            return _list(self.path, container, stream)

    def frames(self, every: int = 1) -> Iterator[Image | InputError]:
        """See `Frames.frames`. Frames that do not decode are errors; decoding continues from one to the next."""
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
        if self._listed.lost:
            raise InputError(
                self.source,
                expected="a whole video",
                got=f"{self.n_frames} frames of one that ends early or has gaps ({self._listed.lost})",
                fix="copy it again",
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
        times, timed = self._listed.times, self._listed.timed
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


def _list(path: Path, container: Any, stream: Any) -> Listing:
    """Go through the packets of a stream."""
    av, vp8, lost = import_av(), stream.codec_context.name == "vp8", ""
    times: list[Any] = []
    stamps: list[Any] = []
    try:
        for packet in container.demux(stream):
            if packet.size:
                stamps.append(packet.dts if packet.pts is None else packet.pts)
                if not packet.is_discard and (not vp8 or bytes(packet)[0] & SHOWN):
                    times.append(packet.pts)
    except av.FFmpegError as error:
        lost = f"reading stops: {error.strerror}"
    timed = None not in times and len(set(times)) == len(times)
    times = sorted(times) if timed else list(range(len(times)))
    fps = _rate(stream, times if timed else [])
    lost = lost or _lost(path, container, stream, stamps)
    return Listing(times, timed, fps, lost, _doubt(container, stream, fps, len(stamps)))


def _rate(stream: Any, times: list[int]) -> float | None:
    """Return frames a second: by the header, unless most of the frames' own times say otherwise."""
    said = float(stream.average_rate) if stream.average_rate else None
    if len(times) < 2 or not stream.time_base:
        return said
    own = 1 / float(statistics.median(map(operator.sub, times[1:], times)) * stream.time_base)
    return said if said and 1 / OTHER_RATE < own / said < OTHER_RATE else own


def _lost(path: Path, container: Any, stream: Any, stamps: list[Any]) -> str:
    """Return the proof that frames are missing: the file's own table of them, or bytes that it lacks."""
    counted, reached = _counted(container, stream), len(stamps)
    if container.format.name == "avi":
        reached = max((stamp + 1 for stamp in stamps if stamp is not None), default=0)
    elif _falls_short(reached, counted):
        return f"its own table lists {counted}"
    whole = counted and reached >= counted
    return "bytes are missing at its end" if not whole and is_cut(path) else ""


def _counted(container: Any, stream: Any) -> int:
    """Return how many frames the file's own table lists, without those that an edit list leaves out; 0 = it has none.

    That of an AVI is one of places for frames, of which some are empty.
    """
    n = int(stream.frames)
    return n if container.format.name == "avi" else min(n, len(stream.index_entries))


def _doubt(container: Any, stream: Any, fps: float | None, n_packets: int) -> str:
    """Return how duration and rate differ from the frames that are there; nothing follows from that for certain."""
    promised = _counted(container, stream)
    if not promised and fps is not None:
        if stream.duration and stream.time_base:
            promised = round(float(stream.duration * stream.time_base) * fps)
        elif container.duration and len(container.streams) == 1:  # else the duration may be that of the sound
            late = float((stream.start_time or 0) * stream.time_base) if "matroska" in container.format.name else 0.0
            promised = round((container.duration / 1e6 - late) * fps)
    if not _falls_short(n_packets, promised):
        return ""
    return f"{n_packets} frames where duration and rate give about {promised}: their times vary, or some are lost"


def _falls_short(n: int, promised: int) -> bool:
    return n < math.floor(promised * (1 - SHORTFALL)) - 1


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
    return np.ascontiguousarray(_upright(array, _display_matrix(frame)))


def _display_matrix(frame: Any) -> NDArray[np.int32]:
    """Return where columns and rows go, ``[2 2]``: a pixel x to the right and y below is shown at (x, y) times this."""
    said = frame.side_data.get("DISPLAYMATRIX")
    return np.eye(2, dtype=np.int32) if said is None else np.frombuffer(bytes(said), np.int32).reshape(3, 3)[:2, :2]


def _upright(array: NDArray[Any], matrix: NDArray[np.int32]) -> NDArray[Any]:
    """Return a picture ``[Y X ...]`` turned and mirrored as a display matrix asks, by whole quarters."""
    (x_to_x, x_to_y), (y_to_x, y_to_y) = matrix.tolist()
    if abs(x_to_y) > abs(x_to_x):
        array, x_to_x, y_to_y = array.swapaxes(0, 1), y_to_x, x_to_y
    return array[:: -1 if y_to_y < 0 else 1, :: -1 if x_to_x < 0 else 1]


def open_video(source: Source, progress: Progress | None = None) -> VideoFrames:
    """Open an input that `is_video`, and say what is odd about it."""
    if source.path is None:
        raise InputError(source.name, expected="a video file", got="an array", fix="give its path")
    video = VideoFrames(source.path, source.name)
    source.tell(video.notes, progress or Silent())
    return video
