"""Annotations: strokes that are drawn in the page, as scribble images that a method learns from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.apps.studio.editing import class_rows
from selfseg.apps.studio.pictures import Pictures
from selfseg.apps.studio.project import SCRIBBLES, Operation, Project
from selfseg.apps.studio.runs import Run, Runs
from selfseg.core.errors import UsageError
from selfseg.core.files import writing
from selfseg.read import Source
from selfseg.read.sources import SCRIBBLE_ENDING

NOT_DRAWN = 255


def visible_strokes(operations: list[Operation]) -> list[Operation]:
    """Return the strokes that were not cleared later."""
    strokes: list[Operation] = []
    for row in operations:
        if row["op"] == "clear":
            strokes = [stroke for stroke in strokes if stroke["image"] != row["image"]]
        else:
            strokes.append(row)
    return strokes


def draw(shape: tuple[int, ...], strokes: Sequence[dict[str, Any]]) -> NDArray[np.uint8]:
    """Return strokes as a label image ``[*S]``, 255 where nothing is drawn; later strokes cover earlier ones.

    Parameters
    ----------
    shape
        ``(Y, X)`` or ``(Z, Y, X)``.
    strokes
        Operations of the log: `plane`, `value`, `radius` in pixels, `points` (Y, X) with (0, 0) the outer corner of the
        first pixel. A pixel belongs to a stroke if its centre is at most `radius` from the line, and the one under a
        point always does.
    """
    labels = np.full(shape, NOT_DRAWN, np.uint8)
    volume = labels if labels.ndim == 3 else labels[None]
    for stroke in strokes:
        if stroke["plane"] < len(volume):
            points = np.array(stroke["points"], np.float64)
            _draw_one(volume[stroke["plane"]], points, stroke["radius"], stroke["value"])
    return labels


def _draw_one(plane: NDArray[np.uint8], points: NDArray[np.float64], radius: float, value: int) -> None:
    height, width = plane.shape
    for start, end in zip(points, [*points[1:], points[-1]], strict=True):
        low = np.floor(np.minimum(start, end) - radius).astype(int)
        high = np.ceil(np.maximum(start, end) + radius).astype(int) + 1
        top, left = max(0, low[0]), max(0, low[1])
        y, x = np.mgrid[top : min(height, high[0]), left : min(width, high[1])] + 0.5
        along = end - start
        share = np.clip(((y - start[0]) * along[0] + (x - start[1]) * along[1]) / max(along @ along, 1e-9), 0, 1)
        gap = (y - start[0] - share * along[0]) ** 2 + (x - start[1] - share * along[1]) ** 2
        plane[top : top + y.shape[0], left : left + y.shape[1]][gap <= radius**2] = value
        row, column = int(start[0]), int(start[1])
        if 0 <= row < height and 0 <= column < width:
            plane[row, column] = value


def write_scribbles(project: Project, pictures: Pictures, run: Run, sources: Sequence[Source]) -> Path:
    """Write the scribbles of these pictures into a run's folder, as ``NAME_scribble.tif``; return the folder.

    UsageError if none of the pictures has any, or one that has is a video.
    """
    import tifffile

    strokes = visible_strokes(project.log.history(SCRIBBLES).done)
    folder, drawn = run.folder / "scribbles", {stroke["image"] for stroke in strokes}
    annotated = [source.name for source in sources if source.name in drawn]
    for name in annotated:
        picture = pictures.get(name)
        if picture.is_video:
            fix = "extract frames into a folder and draw on those"
            raise UsageError("scribbles", expected="pictures", got=f"{name}, a video", fix=fix)
        labels = draw(picture.image.spatial_shape, [stroke for stroke in strokes if stroke["image"] == name])
        with writing(folder / f"{name}{SCRIBBLE_ENDING}.tif") as temporary:
            tifffile.imwrite(temporary, labels, photometric="minisblack", compression="zlib")
    if not annotated:
        raise UsageError("scribbles", expected="some on these pictures", got="none", fix="draw a few strokes first")
    return folder


def scribble_names(project: Project, runs: Runs) -> dict[str, str]:
    """Return the names of classes by their scribble values, from the last run in which they have names."""
    used = {int(stroke["value"]) for stroke in visible_strokes(project.log.history(SCRIBBLES).done)}
    names: dict[str, str] = {}
    for run in runs.all():
        rows = (row for row in class_rows(project, run) if row.id in used)
        names |= {str(row.id): row.name for row in rows if not row.name.startswith("class ")}
    return names
