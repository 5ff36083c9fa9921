"""From a model to the files of a result, frame by frame; used by the processes that have torch."""

from collections.abc import Iterator
from pathlib import Path

from selfseg.apps.studio.results import find_result, result_folder, write_result
from selfseg.pipeline.edited import leaves_of
from selfseg.pipeline.result import Result
from selfseg.pipeline.segmenter import Segmenter
from selfseg.read import Source, split_frames
from selfseg.refine.leaves import Leaves


def segment_frames(
    model: Segmenter, source: Source, axes: str | None, only: int | None = None
) -> Iterator[tuple[int, Result, Leaves]]:
    """Segment a picture, or the frames of a series one by one; `only` one of them where asked.

    Yields
    ------
    tuple
        Number of the frame, its result, its leaves.
    """
    for number, frame in enumerate(split_frames(source.read(axes))):
        if only is None or number == only:
            result = model.predict_image(frame)
            yield number, result, leaves_of(model, result)


def store_results(model: Segmenter, source: Source, axes: str | None, run: Path, only: int | None = None) -> int:
    """Segment a picture into a run's folder; return how many frames are there now."""
    count = 0
    if only is not None and find_result(run, source.name, only):
        return 1
    for number, result, leaves in segment_frames(model, source, axes, only):
        write_result(result_folder(run, source.name, number), result, leaves)
        count += 1
    return count
