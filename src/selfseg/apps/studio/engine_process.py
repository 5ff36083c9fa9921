"""The process behind `engine`: a line of JSON in, a line of JSON out. It holds torch and the model that was used last."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from selfseg.apps.studio.formats import further_formats
from selfseg.apps.studio.forms import describe_methods
from selfseg.apps.studio.segmenting import store_results
from selfseg.core.errors import SelfsegError
from selfseg.learning.run import load
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import build_config, current_options, find_method
from selfseg.read import Source, find_inputs, split_frames
from selfseg.read.frames import is_video
from selfseg.refine.edits import Edits
from selfseg.segmenting.edited import leaves_of


@lru_cache(maxsize=1)
def _model(folder: str, stamp: float) -> Segmenter:
    return load(folder)


def _load(folder: str) -> Segmenter:
    return _model(folder, (Path(folder) / "model.safetensors").stat().st_mtime)


def methods(_: dict[str, Any]) -> Any:
    """Return every method with the form of its options."""
    return describe_methods()


def check(ask: dict[str, Any]) -> Any:
    """Raise what a run with these options would raise at its start."""
    options = current_options(find_method(ask["method"]), ask["options"])
    if ask.get("n_classes") is not None:
        options["n_classes"] = ask["n_classes"]
    return build_config(ask["method"], ask["preset"], **options).model_dump(mode="json")


def predict(ask: dict[str, Any]) -> Any:
    """Segment a picture into a run's folder."""
    source = Source(ask["name"], Path(ask["path"]))
    return store_results(_load(ask["model"]), source, ask.get("axes"), Path(ask["run"]), ask.get("frame"))


def formats(_: dict[str, Any]) -> Any:
    """Return the formats that selfseg can write beside the studio's own."""
    return further_formats()


def folder(ask: dict[str, Any]) -> Any:
    """Write a folder of results in formats of whole folders."""
    from selfseg.apps.studio.takeaway import save_folder

    return save_folder(Path(ask["out"]), ask["formats"])


def listed(ask: dict[str, Any]) -> Any:
    """Return the pictures of a folder."""
    return [[source.name, str(source.path)] for source in find_inputs(ask["path"])]


def apply(ask: dict[str, Any]) -> Any:
    """Segment one file with a model and everything that was done to it by hand, into an output folder."""
    from selfseg.apps.studio.takeaway import save_edited, save_video

    source, axes, out = Source(ask["name"], Path(ask["path"])), ask.get("axes"), Path(ask["out"])
    model, edits = _load(ask["model"]), Edits.from_json(ask["edits"])
    if is_video(source, axes):
        return save_video(out, source, model, edits)
    image = source.read(axes)
    frames = [leaves_of(model.fitted, model.predict_image(frame)) for frame in split_frames(image)]
    return save_edited(out, image, frames, edits, edits.table(model.table_), ask["formats"])


TASKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "methods": methods,
    "check": check,
    "predict": predict,
    "formats": formats,
    "folder": folder,
    "listed": listed,
    "apply": apply,
}


def answer(line: str) -> dict[str, Any]:
    """Do what one line asks; return the answer, an error being one of its kinds."""
    ask: dict[str, Any] = json.loads(line)
    try:
        return {"id": ask["id"], "ok": TASKS[ask["task"]](ask)}
    except SelfsegError as error:
        return {"id": ask["id"], "error": str(error)}
    except MemoryError:
        return {"id": ask["id"], "error": "out of memory: expected pictures that fit; make them smaller"}
    except Exception as error:  # noqa: BLE001 (the page must hear of it, and the next question be answered)
        traceback.print_exc()
        return {"id": ask["id"], "error": f"{type(error).__name__}: {error}"}


def main(questions: TextIO, answers: TextIO) -> None:
    """Answer until the questions end, which they do when the server does."""
    for line in questions:
        answers.write(json.dumps(answer(line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    main(sys.stdin, own)
