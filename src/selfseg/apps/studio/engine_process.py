"""The process behind `studio.Engine`: a line of JSON in, a line of JSON out. It holds torch and the model that was used last."""

import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from selfseg import Segmenter, load
from selfseg.apps.studio.exports import further_formats, save_edited, save_folder, save_video
from selfseg.apps.studio.objects import count_frame, found_objects, labels_of, video_objects
from selfseg.apps.studio.results import find_result, store_results
from selfseg.core.errors import SelfsegError
from selfseg.core.image import Image
from selfseg.core.options import AUTO, FitOptions
from selfseg.learning.default_method import choose_method
from selfseg.methods.base import Method, build_config, current_options, find_method, method_names
from selfseg.read import Source, find_inputs, split_frames
from selfseg.refine.edits import Edits
from selfseg.segmenting.images import leaves_of

BOUNDS = {"min": "minimum", "above": "exclusiveMinimum", "max": "maximum", "below": "exclusiveMaximum"}
"""Bounds of a form field, and their names in a JSON schema."""


def describe_methods() -> list[dict[str, Any]]:
    """Return every method as a form: text, presets, and for each option of its `Config` kind, bounds, default and meaning."""
    automatic = {
        "name": AUTO,
        "title": "automatic",
        "text": "Contours for pictures in 2D; learned features for volumes, sequences, scribbles and very large pictures.",
        "more": "",
        "uses_annotations": True,
        "presets": {"default": {}},
        "fields": [],
    }
    return [automatic, *(_described(name, find_method(name)) for name in method_names())]


def _described(name: str, method: type[Method]) -> dict[str, Any]:
    text = inspect.getdoc(inspect.getmodule(method)) or ""
    schema = method.Config.model_json_schema()
    return {
        "name": name,
        "title": name.replace("_", " "),
        "text": text.partition("\n")[0],
        "more": text.partition("\n")[2].strip(),
        "uses_annotations": method.uses_annotations,
        "presets": json.loads(json.dumps({"default": {}, **method.presets})),  # lists for tuples
        "fields": [_field(key, entry, key in method.live) for key, entry in schema["properties"].items()],
    }


def _field(name: str, entry: Mapping[str, Any], live: bool) -> dict[str, Any]:
    """Return one option as a form field; ``optional``: it may be empty; ``live``: it may change while a run learns."""
    kinds = entry.get("anyOf", [entry])
    chosen = next((kind for kind in kinds if kind.get("type") != "null"), entry)
    return {
        "name": name,
        "kind": "choice" if "enum" in chosen else chosen.get("type", "string"),
        "choices": chosen.get("enum"),
        "live": live,
        "optional": any(kind.get("type") == "null" for kind in kinds),
        "default": entry.get("default"),
        "help": " ".join(entry.get("description", "").split()),
        **{key: chosen[long] for key, long in BOUNDS.items() if long in chosen},
    }


def choose(paths: list[str], axes: str | None, scribbles: bool) -> tuple[str, str]:
    """Return the default method for these pictures, and the reason."""
    options = FitOptions(axes=axes, scribbles="scribbles" if scribbles else None)
    return choose_method(find_inputs(list(paths)), options)


def check_options(method: str, preset: str, options: Mapping[str, Any], n_classes: int | None = None) -> Any:
    """Raise what a run with these options would raise at its start."""
    given = current_options(find_method(method), options)
    if n_classes is not None:
        given["n_classes"] = n_classes
    return build_config(method, preset, **given).model_dump(mode="json")


def predict(model: str, name: str, path: str, axes: str | None, run: str, frame: int) -> int:
    """Segment a frame of a picture into a run's folder."""
    return store_results(_load(model), Source(name, Path(path)), axes, Path(run), frame)


def list_pictures(path: str) -> list[list[str]]:
    """Return name and path of the pictures of a folder."""
    return [[source.name, str(source.path)] for source in find_inputs(path)]


def apply(
    model: str, name: str, path: str, axes: str | None, edits: Mapping[str, Any], out: str, formats: list[str]
) -> list[str]:
    """Segment one file with a model and its edits, and write it; return the files' names below `out`."""
    source, fitted, steps = Source(name, Path(path)), _load(model), Edits.from_json(edits)
    if source.is_video(axes):
        return save_video(Path(out), source, fitted, steps)
    image = source.read(axes)
    frames = [leaves_of(fitted.fitted, fitted.predict_image(frame)) for frame in split_frames(image)]
    return save_edited(Path(out), image, frames, steps, steps.table(fitted.table_), formats)


def answer_strokes(**fields: Any) -> dict[str, Any] | None:
    """Classify what is in view by the strokes (`answering.answer`)."""
    from selfseg.apps.studio.answering import answer as answered  # in the process that does nothing else

    return answered(**fields)


def write_objects(
    model: str, name: str, path: str, axes: str | None, run: str | None, edits: Mapping[str, Any], out: str
) -> dict[str, Any]:
    """Find the objects of a picture and write them; return the files' names below `out`, and measures, a table a picture or frame.

    The labels are those that the run `run` has stored, if it has, else the model's.
    """
    source, steps, fitted = Source(name, Path(path)), Edits.from_json(edits), _load(model)
    before = {file for file in Path(out).rglob("*") if file.is_file()}
    if source.is_video(axes):
        tables = video_objects(fitted, source, None if run is None else Path(run), steps, Path(out))
    else:
        tables = [_picture_objects(fitted, source, axes, run, steps, Path(out))]
    written = sorted(
        file.relative_to(out).as_posix() for file in Path(out).rglob("*") if file.is_file() and file not in before
    )
    plain = [{key: np.asarray(column).tolist() for key, column in table.items()} for table in tables]
    return {"files": written, "tables": plain}


def _picture_objects(
    fitted: Segmenter, source: Source, axes: str | None, run: str | None, steps: Edits, out: Path
) -> dict[str, Any]:
    image, name = source.read(axes), source.name
    frames = len(split_frames(image))
    stored = [None if run is None else find_result(Path(run), name, number) for number in range(frames)]
    if all(stored):
        kept = [one for one in stored if one is not None]
        labels = [labels_of(steps, one, name, number) for number, one in enumerate(kept)]
        mine: list[Any] = [one.own for one in kept]
    else:
        results = [fitted.predict_image(frame) for frame in split_frames(image)]
        leaves = [leaves_of(fitted.fitted, result) for result in results]
        labels = [steps.correct(steps.labels(one), name, number) for number, one in enumerate(leaves)]
        mine = [result.objects if fitted.method_.finds_objects else None for result in results]
    found = found_objects(image, _stacked(image, labels), steps.table(fitted.table_), _joined(image, mine), steps)
    found.save(out)
    return dict(found.columns)


def _stacked(image: Image, frames: list[Any]) -> Any:
    return np.stack(frames, image.axes.replace("C", "").index("T")) if "T" in image.axes else frames[0]


def _joined(image: Image, frames: list[Any]) -> Any:
    """Return the objects of all frames, numbered on; None if a frame has none of the method's own."""
    if any(one is None for one in frames):
        return None
    before, made = 0, []
    for one in frames:
        made.append(np.where(one > 0, one + np.uint32(before), 0).astype(np.uint32))
        before += int(one.max(initial=0))
    return _stacked(image, made)


def _load(folder: str) -> Segmenter:
    return _model(folder, (Path(folder) / "model.safetensors").stat().st_mtime)


@lru_cache(maxsize=1)
def _model(folder: str, stamp: float) -> Segmenter:
    return load(folder)


TASKS: dict[str, Callable[..., Any]] = {
    "methods": describe_methods,
    "choose": choose,
    "check": check_options,
    "predict": predict,
    "formats": further_formats,
    "folder": save_folder,
    "list": list_pictures,
    "answer": answer_strokes,
    "apply": apply,
    "count": count_frame,
    "objects": write_objects,
}


def answer(line: str) -> dict[str, Any]:
    """Do the task of one line; return its value as ``ok``, or the line of its error as ``error``."""
    fields: dict[str, Any] = json.loads(line)
    try:
        return {"ok": TASKS[fields.pop("task")](**fields)}
    except SelfsegError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "out of memory: expected pictures that fit; make them smaller"}
    except Exception as error:  # noqa: BLE001 (the page must see it, and the next line be answered)
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def main(questions: TextIO, answers: TextIO) -> None:
    """Answer until the questions end, which they do when the server does."""
    for line in questions:
        answers.write(json.dumps(answer(line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    main(sys.stdin, own)
