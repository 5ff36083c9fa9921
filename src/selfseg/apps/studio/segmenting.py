"""From a model to the files of a result, frame by frame; used by the processes that have torch."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from selfseg.apps.studio.results import find_result, result_folder, write_result
from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.read import Source, split_frames
from selfseg.read.frames import is_video
from selfseg.read.video import VideoFrames
from selfseg.segmenting.edited import leaves_of

FIRST_FRAMES = 24
"""Frames of a video that a run segments by itself; further ones when they are looked at."""


@lru_cache(maxsize=4)
def _video(path: Path, stamp: float) -> VideoFrames:
    return VideoFrames(path)


def frames_of(source: Source, axes: str | None, only: int | None = None) -> Iterator[tuple[int, Image]]:
    """Yield number and image of each frame: of a series all of them, of a video the first `FIRST_FRAMES`; `only` one if asked.

    Raises
    ------
    InputError
        If the picture, or that one frame, cannot be read. Other frames of a video that do not decode are left out.
    """
    if not is_video(source, axes) or source.path is None:
        yield from (item for item in enumerate(split_frames(source.read(axes))) if only is None or item[0] == only)
        return
    video = _video(source.path, source.path.stat().st_mtime)
    if only is not None:
        yield only, video.frame(only)
        return
    for number, frame in zip(range(FIRST_FRAMES), video.frames(), strict=False):
        if not isinstance(frame, InputError):
            yield number, frame


def store_results(
    model: Segmenter,
    source: Source,
    axes: str | None,
    run: Path,
    only: int | None = None,
    stored: Callable[[int], None] = lambda number: None,
) -> int:
    """Segment a picture into a run's folder; return how many frames are there now. `stored` hears the number of each."""
    count = 0
    if only is not None and find_result(run, source.name, only):
        return 1
    for number, frame in frames_of(source, axes, only):
        result = model.predict_image(frame)
        write_result(result_folder(run, source.name, number), result, leaves_of(model.fitted, result))
        stored(number)
        count += 1
    return count
