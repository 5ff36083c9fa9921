"""The contact sheet of a contender: its best, median and worst image, beside the truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfseg.benchmark.jobs import BenchmarkJob, find_item
from selfseg.benchmark.standings import Standing
from selfseg.export.display import displayed, middle_planes, plane_shape
from selfseg.export.overlay import overlay
from selfseg.export.page import thumbnail
from selfseg.read.datasets import find_dataset
from selfseg.read.labels import read_labels

SIDE = 360
"""Longer side of a picture on a sheet, in pixels."""

GAP = 6


@dataclass(frozen=True)
class Sheet:
    """Three rows of pictures: photo, labels, truth."""

    names: tuple[str, ...]
    """Images of the rows: best, median, worst."""
    scores: tuple[float, ...]
    """Their main scores."""
    picture: NDArray[np.uint8]
    """``[H W 3]`` uint8."""


def ranked(standing: Standing, sign: int) -> list[str]:
    """Return the best, the median and the worst image; fewer if there are fewer."""
    known = [(score, name) for name, score in standing.by_image.items() if not np.isnan(score)]
    order = [name for _, name in sorted(known, key=lambda pair: (-sign * pair[0], pair[1]))]
    chosen = [order[0], order[len(order) // 2], order[-1]] if order else []
    return list(dict.fromkeys(chosen))


def make_sheet(standing: Standing, jobs: Sequence[BenchmarkJob], sign: int) -> Sheet | None:
    """Return the sheet of one contender, of its first seed; None if it has no ranked image.

    `sign` is 1 where larger scores are better, -1 where smaller.
    """
    job_of = {job.item: job for job in reversed(jobs)}
    names = [name for name in ranked(standing, sign) if name in job_of]
    if not names:
        return None
    rows = [_row(job_of[name]) for name in names]
    return Sheet(tuple(names), tuple(standing.by_image[name] for name in names), _stacked(rows))


def _row(job: BenchmarkJob) -> list[NDArray[np.uint8]]:
    item = find_item(job.place, job.item)
    image = item.load_image()
    truths = item.load_truths()
    planes = middle_planes(plane_shape(image)[0], 1)
    tiles = [displayed(image, planes)[0], overlay(image, read_labels(job.label_file).astype(np.int64))]
    task = find_dataset(job.place.dataset).task
    if task != "none":
        truth = np.asarray(truths[len(truths) // 2], np.int64)
        # The first region of a partition may be 0, which elsewhere is the background and stays uncoloured.
        tiles.append(overlay(image, truth - truth.min() + 1 if task == "partition" else truth))
    return [thumbnail(tile, SIDE) for tile in tiles]


def _stacked(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    widths = [sum(tile.shape[1] + GAP for tile in row) - GAP for row in rows]
    heights = [max(tile.shape[0] for tile in row) for row in rows]
    sheet = np.full((sum(heights) + GAP * (len(rows) - 1), max(widths), 3), 255, np.uint8)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for tile in row:
            sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
            left += tile.shape[1] + GAP
        top += height + GAP
    return sheet
