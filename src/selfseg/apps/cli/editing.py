"""`selfseg edit`: what is done to a model after looking at what it found; every later prediction repeats it."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.parameters import Device, Numbers, Quiet, app, verdict
from selfseg.core.errors import InputError, UsageError

Place = Annotated[
    Path, Parameter(help="Model folder, or the output folder of `segment`, whose images are then done again.")
]
Merge = Annotated[
    list[str] | None,
    Parameter(
        negative="", help="Classes that become one, by their numbers: 3+5; repeatable. The others are renumbered."
    ),
]
Names = Annotated[
    list[str] | None, Parameter(negative="", help="Name of a class, by its number before the merging: 3=cheetah.")
]
Objects = Annotated[int | None, Parameter(help="Parts of a class of fewer pixels go to their neighbour; 0 = none do.")]
Holes = Annotated[int | None, Parameter(help="Holes of fewer pixels go to what surrounds them; 0 = none do.")]
NewModel = Annotated[
    Path | None,
    Parameter(name=["--out", "-o"], help="Folder of the edited model; without it, the old one is replaced."),
]


@app.command
def edit(
    place: Place,
    /,
    *,
    merge: Merge = None,
    name: Names = None,
    remove_objects: Objects = None,
    fill_holes: Holes = None,
    numbers: Numbers = False,
    out: NewModel = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> int:
    """Merge and name classes, remove small objects and holes: stored with the model, repeated at every prediction."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.learning.run import load
    from selfseg.refine.cleaning import Cleaning

    bar, folder = Bar(quiet), place / "model" if (place / "run.json").is_file() else place
    model = load(folder, device)
    model.edit([_numbers(text) for text in merge or []], dict(_name(text) for text in name or []))
    before = Cleaning.parse(model.clean)
    holes = before.holes if fill_holes is None else fill_holes
    objects = before.objects if remove_objects is None else remove_objects
    model.set_params(clean=str(Cleaning(holes, objects)))
    model.save(out or folder)
    bar.say(f"{len(model.table_)} classes, cleaning {model.clean}; the model is in {out or folder}")
    return _again(place, folder, device, numbers, bar) if folder != place and out is None else 0


def _again(place: Path, folder: Path, device: str, numbers: bool, bar) -> int:
    """Segment the images of an output folder once more."""
    import json

    from selfseg.learning.run import load, predict
    from selfseg.read import Source

    try:
        rows = json.loads((place / "run.json").read_text(encoding="utf-8"))["images"]
        sources = [Source(str(row["name"]), Path(row["source"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "segment the images again with `selfseg predict`"
        raise InputError(str(place / "run.json"), expected="the images of a run", got=str(error), fix=fix) from error
    failures = predict(load(folder, device), sources, place, look={"numbers": numbers}, progress=bar)
    bar.say(f"labels, overlays and {place / 'report.html'} are written anew")
    return verdict(failures)


def _numbers(text: str) -> list[int]:
    words = text.split("+")
    if len(words) < 2 or not all(word.strip().isdigit() for word in words):
        raise UsageError("--merge", expected="numbers of classes such as 3+5", got=repr(text), fix="see --numbers")
    return [int(word) for word in words]


def _name(text: str) -> tuple[int, str]:
    number, sign, name = text.partition("=")
    if not sign or not number.strip().isdigit():
        raise UsageError("--name", expected="NUMBER=NAME", got=repr(text), fix="write for example 3=cheetah")
    return int(number), name
