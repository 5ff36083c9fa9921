"""Objects in the studio: counted by the engine, kept beside the results, corrected by hand, and written with the exports."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from selfseg.apps.studio.editing import edits_of, learned_table
from selfseg.apps.studio.project import Project
from selfseg.apps.studio.results import StoredResult, find_result, frames_of, need_result, result_folders
from selfseg.apps.studio.runs import Run
from selfseg.core.classes import ClassTable
from selfseg.core.errors import UsageError
from selfseg.core.files import write_json, writing
from selfseg.core.image import Image
from selfseg.read import Source
from selfseg.refine.edits import Counting, Edits, draw_stroke, runs_of

OBJECTS, NUMBERS, TABLE = "objects", "objects.npy", "objects.json"

UNTOUCHED = np.uint32(2**32 - 1)
"""Value of pixels that no hand has corrected."""

DIGITS = 6
"""Significant digits of the measures that a page gets."""


def finds_own(run: Run) -> bool:
    """Return whether the method of a run found objects itself."""
    return any((folder / "own.npy").is_file() for folder in result_folders(run.folder)[:1])


def correction_stamp(edits: Edits, name: str) -> int:
    """Return a number that differs where the corrections of a picture do."""
    return zlib.crc32(repr(edits.corrections.get(name, ())).encode())


def count_stamp(edits: Edits, name: str) -> int:
    """Return a number that differs where the objects of a picture do; the least size is not among it: the page applies that."""
    counting = None if edits.counting is None else replace(edits.counting, min_size=1)
    parts = (edits.level, edits.steps, sorted(edits.ignored), sorted(edits.names.items()), counting)
    return zlib.crc32(repr((*parts, edits.corrections.get(name, ()))).encode())


def labels_of(edits: Edits, result: StoredResult, name: str, frame: int) -> NDArray[Any]:
    """Return the labels ``[*S]`` of a stored result, edited and corrected."""
    return edits.correct(edits.labels(result.leaves()), name, frame)


def count_frame(
    run: str, name: str, path: str, axes: str | None, frame: int, edits: Mapping[str, Any]
) -> dict[str, Any]:
    """Find and measure the objects of a frame that a run has segmented; keep them in its folder, with every size; return the measures."""
    from selfseg.export.labels import read_classes

    steps, folder = Edits.from_json(edits), Path(run)
    place, stamp = folder / OBJECTS / name / f"t{frame:05d}", count_stamp(steps, name)
    known = _read(place / TABLE)
    if known is not None and known["stamp"] == stamp:
        return known
    result = need_result(folder, name, frame)
    number, image = next(frames_of(Source(name, Path(path)), axes, frame))
    table = steps.table(read_classes(_model_of(folder) / "classes.json"))
    one_frame = steps.of_frame(name, number, image.name)
    found = found_objects(image, labels_of(steps, result, name, frame), table, result.own, one_frame, min_size=1)
    columns = {
        key: _plain(column) for key, column in found.columns.items() if key not in ("image", "unit", "size_unit")
    }
    units = {key: (found.columns[key][0] if len(found) else "") for key in ("unit", "size_unit")}
    with writing(place / NUMBERS) as temporary:
        np.save(temporary, found.labels.astype(np.uint32))
    answer = {"stamp": stamp, "n": len(found), "columns": columns, **units}
    write_json(place / TABLE, answer)
    return answer


def found_objects(
    image: Image,
    labels: NDArray[Any],
    table: ClassTable,
    own: NDArray[Any] | None,
    edits: Edits,
    min_size: int | None = None,
) -> Any:
    """Return the objects of a picture as `Edits.counting` has them, with those made by hand (`results.instances.Instances`)."""
    from selfseg.results.instances import OWN, image_instances

    options = object_options(edits, table, own is not None, min_size)
    return image_instances(image, labels, table, options, own if options.kind == OWN else None, edits)


def object_options(edits: Edits, table: ClassTable, finds_own: bool, min_size: int | None = None) -> Any:
    """Return how objects are found (`results.instances.ObjectOptions`): as counted, but only those classes that are still there."""
    from selfseg.results.instances import OWN, ObjectOptions

    counting = edits.counting or Counting()
    kind = "watershed" if counting.kind == OWN and not finds_own else counting.kind
    known = {row.id for row in table.classes}
    of = tuple(key for key in counting.of if key in known)
    return ObjectOptions(kind, of or None, counting.min_size if min_size is None else min_size)


def video_objects(model: Any, source: Source, run: Path | None, edits: Edits, out: Path) -> list[dict[str, Any]]:
    """Find the objects of every frame of a video and write ``instances/FRAME.tif``; return the measures of each by column.

    Frames that the run has segmented are not segmented again; one that does not decode is left out.
    """
    from selfseg.core.progress import Silent
    from selfseg.read.video import VideoFrames
    from selfseg.results.instances import InstanceFolder
    from selfseg.results.tracks import SequenceObjects
    from selfseg.segmenting.images import leaves_of

    table, video = edits.table(model.table_), VideoFrames(cast(Path, source.path), source.name)
    options = object_options(edits, table, model.method_.finds_objects)
    folder = InstanceFolder(out, table, options)
    objects = SequenceObjects(folder, source.name, linked=False)
    for number, frame in enumerate(video.frames()):
        if not isinstance(frame, Image):
            continue
        result = None if run is None else find_result(run, source.name, number)
        if result is None:
            found = model.predict_image(frame)
            leaves, own = leaves_of(model.fitted, found), found.objects if model.method_.finds_objects else None
        else:
            leaves, own = result.leaves(), result.own
        steps = edits.of_frame(source.name, number, frame.name)
        labels = steps.correct(steps.labels(leaves), frame.name)
        objects.add(number, frame.name, frame, labels, own if objects.wants_own else None, steps)
    objects.close(Silent())
    return folder.tables


def _model_of(run: Path) -> Path:
    return Run(run).model


def _plain(column: Any) -> list[Any]:
    values = np.asarray(column)
    if values.dtype.kind != "f":
        return values.tolist()
    return [None if not np.isfinite(value) else float(f"{value:.{DIGITS}g}") for value in values.tolist()]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def stored_numbers(run: Path, name: str, frame: int) -> NDArray[np.uint32] | None:
    """Return the objects of a frame that were counted last ``[*S]``, memory-mapped; None if none were."""
    path = run / OBJECTS / name / f"t{frame:05d}" / NUMBERS
    return np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else None


def correction(project: Project, run: Run, what: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operation of the log for what a person did to the labels or the objects of a picture.

    A region or an object is written down as its pixels, so that it is repeated exactly, however objects are counted later.

    UsageError if there is nothing under the points.
    """
    name, frame, how = str(what["image"]), int(what["frame"]), what["do"]
    if how == "paint":
        made: dict[str, Any] = {"kind": "painted", **{key: what[key] for key in ("value", "radius", "points", "plane")}}
    elif how == "give":
        made = {"kind": "given", "value": what["value"], "runs": runs_of(_under(project, run, what))}
    else:
        made = {"kind": "remade", **_remade(_numbers(run, name, frame), what)}
    return {"op": "correct", "image": name, "correction": {**made, "frame": frame}}


@lru_cache(maxsize=4)
def _corrected(folder: Path, name: str, frame: int, stamp: int, edits: str) -> NDArray[np.uint32]:
    steps, shape = Edits.from_json(json.loads(edits)), need_result(folder, name, frame).array("superpixels").shape
    untouched = np.full(shape, UNTOUCHED, np.uint32)
    return np.asarray(steps.correct(untouched, name, frame) + np.uint32(1), np.uint32)  # UNTOUCHED + 1 wraps to 0


def corrected_pixels(project: Project, run: Run, name: str, frame: int) -> NDArray[np.uint32]:
    """Return the labels + 1 of the pixels that were corrected by hand ``[*S]``, 0 elsewhere."""
    edits = edits_of(project, run)
    made = Edits(corrections={name: edits.corrections.get(name, ())})
    return _corrected(run.folder, name, frame, correction_stamp(edits, name), json.dumps(made.to_json()))


def corrected_areas(project: Project, run: Run, name: str, frame: int) -> dict[int, int]:
    """Return by how many pixels each class of a frame has more than without the corrections by hand."""
    edits, fixed = edits_of(project, run), corrected_pixels(project, run, name, frame)
    touched = fixed > 0
    before = edits.labels(need_result(run.folder, name, frame).leaves())[touched]
    n = int(max(before.max(initial=0), fixed.max(initial=0))) + 1
    change = np.bincount(fixed[touched] - 1, minlength=n) - np.bincount(before, minlength=n)
    return {int(key): int(change[key]) for key in np.flatnonzero(change)}


def _numbers(run: Run, name: str, frame: int) -> NDArray[np.uint32]:
    numbers = stored_numbers(run.folder, name, frame)
    if numbers is None:
        raise UsageError(f"objects of {name!r}", expected="counted ones", got="none", fix="count objects first")
    return numbers


def _under(project: Project, run: Run, what: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the pixels of the region or the object under a point."""
    name, frame = str(what["image"]), int(what["frame"])
    point: tuple[int, ...] = tuple(what["point"])
    if what["whole"] == "object":
        values: NDArray[Any] = _numbers(run, name, frame)
    else:
        edits = edits_of(project, run)
        values = labels_of(edits, need_result(run.folder, name, frame), name, frame)
    from scipy import ndimage  # here, since the server needs it for no more than this

    inside = len(point) == values.ndim and all(0 <= at < n for at, n in zip(point, values.shape, strict=True))
    if not inside or (what["whole"] == "object" and not values[point]):
        raise UsageError("point", expected="one on an object or a region", got=str(point), fix="click on one")
    same: NDArray[np.bool_] = np.asarray(values) == values[point]
    if what["whole"] == "object":
        return same
    parts, _ = ndimage.label(same)
    return np.asarray(parts == parts[point])


def _remade(numbers: NDArray[np.uint32], what: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is cleared and what is made, as runs."""
    plane: NDArray[np.uint8] = np.zeros(numbers.shape[-2:], np.uint8)
    points = np.array(what["points"], np.float64)
    line = np.zeros(numbers.shape, np.bool_)
    volume = line if line.ndim == 3 else line[None]
    if not 0 <= what["plane"] < len(volume):
        raise UsageError("plane", expected=f"one below {len(volume)}", got=str(what["plane"]), fix="choose another")
    if what["do"] in ("join", "drop"):
        for y, x in points.astype(int):
            if 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1]:
                plane[y, x] = 1
    else:
        draw_stroke(plane, points, what["radius"], 1)
    volume[what["plane"]] = plane > 0
    under = np.unique(numbers[line])
    under = under[under > 0]
    if what["do"] == "draw":
        return {"clear": runs_of(line), "parts": [runs_of(line)]}
    if len(under) < (2 if what["do"] == "join" else 1):
        wanted = "two objects" if what["do"] == "join" else "an object"
        raise UsageError(what["do"], expected=f"{wanted} under the hand", got=str(len(under)), fix="click on objects")
    whole = np.isin(numbers, under)
    if what["do"] == "join":
        return {"clear": runs_of(whole), "parts": [runs_of(whole)]}
    if what["do"] == "drop":
        return {"clear": runs_of(whole), "parts": []}
    return _cut(numbers, under, line)


def _cut(numbers: NDArray[np.uint32], under: NDArray[np.integer], line: NDArray[np.bool_]) -> dict[str, Any]:
    """Cut objects along a line: what is left of each without the line, each pixel of the line with the part that is nearest to it."""
    from scipy import ndimage

    parts: list[tuple[int, ...]] = []
    cleared = np.zeros(numbers.shape, np.bool_)
    through = ndimage.binary_dilation(line) if line.sum() > 1 else line
    for one in under:
        whole = np.asarray(numbers == one)
        pieces, n = ndimage.label(whole & ~through)
        if n < 2:
            continue
        nearest = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
        pieces = np.where(whole, pieces[tuple(nearest)], 0)
        cleared |= whole
        parts += [runs_of(pieces == part) for part in range(1, n + 1)]
    if not parts:
        raise UsageError(
            "cut", expected="a line right through an object", got="one that cuts none", fix="draw it longer"
        )
    return {"clear": runs_of(cleared), "parts": parts}


def write_teacher(project: Project, run: Run, out: Path, names: Sequence[str]) -> Path:
    """Write the labels of a run, as edited and corrected, as ``NAME.tif`` for another to learn from; return their folder.

    UsageError if no picture has any, or classes are too many for a label image of a method that learns from them.
    """
    import tifffile

    edits, written = edits_of(project, run), 0
    for name in names:
        result = find_result(run.folder, name, 0)
        if result is None or find_result(run.folder, name, 1) is not None:
            continue
        with writing(out / f"{name}.tif") as temporary:
            tifffile.imwrite(temporary, labels_of(edits, result, name, 0), compression="zlib")
        written += 1
    if not written:
        raise UsageError(
            "labels", expected="a picture that is segmented", got="none", fix="wait until the run has labels"
        )
    return out


def counting_of(project: Project, run: Run) -> Mapping[str, Any]:
    """Return the edits of a run for the engine, with a way of counting."""
    edits = edits_of(project, run)
    table = learned_table(run)
    if table is None:
        raise UsageError(
            f"run {run.id}", expected="a run with classes", got="none yet", fix="wait until it has learned"
        )
    edits = (
        edits
        if edits.counting is not None
        else replace(edits, counting=Counting("own" if finds_own(run) else "watershed"))
    )
    return edits.to_json() | {"counting": asdict(edits.counting or Counting())}
