"""`selfseg edit`: change a model after looking at its result; every later prediction repeats the change."""

import json
import re
from copy import copy
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.app import Flags, Report, app, exit_code, reporter
from selfseg.core.errors import InputError, UsageError
from selfseg.core.options import LoadOptions


@app.command
def edit(
    folder: Annotated[
        Path, Parameter(help="Model folder, or the output folder of `segment`, whose images are then done again.")
    ],
    /,
    *,
    merge: Annotated[
        list[str] | None,
        Parameter(help="Classes that become one, by their numbers: 3+5; repeatable. The others are renumbered."),
    ] = None,
    name: Annotated[
        list[str] | None, Parameter(help="Name of a class, by its number before the merging: 3=cheetah.")
    ] = None,
    remove_objects: Annotated[
        int | None, Parameter(help="Parts of a class of fewer pixels go to their neighbour; 0 = none do.")
    ] = None,
    fill_holes: Annotated[
        int | None, Parameter(help="Holes of fewer pixels go to what surrounds them; 0 = none do.")
    ] = None,
    numbers: Annotated[bool, Parameter(help="Write the number of its class into each region of the overlays.")] = False,
    out: Annotated[
        Path | None,
        Parameter(name=["--out", "-o"], help="Folder of the edited model. Default: the old one is replaced."),
    ] = None,
    loading: Annotated[LoadOptions | None, Flags] = None,
    report: Report = None,
) -> int:
    """Merge and name classes, remove small objects and holes: stored with the model, repeated at every prediction."""
    from selfseg.learning.run import load, predict
    from selfseg.refine.decide import Cleaning

    bar, place = reporter(report), folder / "model" if (folder / "run.json").is_file() else folder
    how = vars(loading or LoadOptions())
    model, failures = load(place, **how), []
    before = Cleaning.parse(model.clean)
    holes = before.holes if fill_holes is None else fill_holes
    objects = before.objects if remove_objects is None else remove_objects
    cleaned = model.set_params(clean=str(Cleaning(holes, objects)))
    model = copy(cleaned).edit([_ids(text) for text in merge or []], dict(_name(text) for text in name or []))
    again = place != folder and out is None
    if again:  # before the model is replaced: the same command after a failure finds the classes that it names
        failures = predict(model, _inputs_of(folder), folder, numbers=numbers, progress=bar)
    if out is None:
        cleaned.save(place)  # a change that can be made twice; that of the classes is then the renaming of one file
    model.save(out or place)
    bar.say(f"{len(model.table_)} classes, cleaning {model.clean}; the model is in {out or place}")
    if again:
        bar.say(f"labels, overlays and {folder / 'report.html'} are written anew")
    return exit_code(failures, bar)


def _inputs_of(folder: Path) -> list[object]:
    """Return the images of which an output folder has the labels."""
    from selfseg.read import Source

    try:
        rows = json.loads((folder / "run.json").read_text(encoding="utf-8"))["images"]
        return [Source(str(row["name"]), Path(row["source"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            folder / "run.json",
            expected="the images of a run",
            got=str(error),
            fix="segment the images again with `selfseg predict`",
        ) from error


def _ids(text: str) -> list[int]:
    if not re.fullmatch(r"\s*\d+\s*(\+\s*\d+\s*)+", text):
        raise UsageError("--merge", expected="numbers of classes such as 3+5", got=repr(text), fix="see --numbers")
    return [int(word) for word in text.split("+")]


def _name(text: str) -> tuple[int, str]:
    number, sign, name = text.partition("=")
    if not sign or not number.strip().isdigit():
        raise UsageError("--name", expected="NUMBER=NAME", got=repr(text), fix="write for example 3=cheetah")
    return int(number), name
