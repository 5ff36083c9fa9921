"""Scribbles as label images, which is how a method takes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfseg.apps.studio.events import SCRIBBLES
from selfseg.apps.studio.runs import Run
from selfseg.apps.studio.states import visible_strokes
from selfseg.core.errors import UsageError
from selfseg.core.files import writing
from selfseg.read import Source
from selfseg.read.sources import SCRIBBLE_ENDING

if TYPE_CHECKING:
    from selfseg.apps.studio.studio import Studio

NOTHING = 255


def draw(shape: tuple[int, ...], strokes: Sequence[dict[str, Any]]) -> NDArray[np.uint8]:
    """Return strokes as a label image ``[*S]``, 255 where there is none; later strokes lie over earlier ones.

    Parameters
    ----------
    shape
        ``(Y, X)`` or ``(Z, Y, X)``.
    strokes
        Operations of the log: `plane`, `value`, `radius` in pixels, `points` (Y, X) with (0, 0) the outer corner of the
        first pixel. A pixel belongs to a stroke if its centre is at most `radius` from the line, and the one under a
        point always does.
    """
    hints = np.full(shape, NOTHING, np.uint8)
    volume = hints if hints.ndim == 3 else hints[None]
    for stroke in strokes:
        if stroke["plane"] < len(volume):
            _draw_one(
                volume[stroke["plane"]], np.array(stroke["points"], np.float64), stroke["radius"], stroke["value"]
            )
    return hints


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


def write_hints(studio: "Studio", run: Run, sources: Sequence[Source]) -> Path:
    """Write the scribbles of these pictures into a run's folder, where training finds them by name; return the folder.

    Raises
    ------
    UsageError
        If none of the pictures has any.
    """
    import tifffile

    strokes = visible_strokes(studio.project.log.history(SCRIBBLES).done)
    folder, count = run.folder / "scribbles", 0
    for source in sources:
        own = [stroke for stroke in strokes if stroke["image"] == source.name]
        if own:
            picture = studio.pictures.get(source.name)
            if picture.is_video:
                fix = "extract frames into a folder and draw on those"
                raise UsageError("scribbles", expected="pictures", got=f"{source.name}, a video", fix=fix)
            shape = picture.image.spatial_shape
            with writing(folder / f"{source.name}{SCRIBBLE_ENDING}.tif") as temporary:
                tifffile.imwrite(temporary, draw(shape, own), photometric="minisblack", compression="zlib")
            count += 1
    if not count:
        raise UsageError("scribbles", expected="some on these pictures", got="none", fix="draw a few strokes first")
    return folder
