"""`selfseg instances`, `cut`, `export` and `edit`: what is done with results."""

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from selfseg.apps.cli.app import Bar, Flags, Folder, Images, Quiet, app, exit_code, split_names
from selfseg.core.errors import InputError, UsageError
from selfseg.core.options import LoadOptions


@app.command
def instances(
    folder: Folder,
    /,
    *,
    kind: Annotated[
        str, Parameter(help="components: each connected part is one object; watershed: and is cut at its necks.")
    ] = "watershed",
    of: Annotated[
        str | None,
        Parameter(help="Classes that consist of objects, names or ids by commas. Default: all but the largest."),
    ] = None,
    min_size: Annotated[int, Parameter(help="Leave out objects of fewer pixels.")] = 1,
    depth: Annotated[
        float, Parameter(help="Cut a neck whose half width is less than that of both parts by this many pixels.")
    ] = 1.0,
    images: Images = None,
    quiet: Quiet = False,
) -> int:
    """Count and measure objects (cells, nuclei, grains) in a folder of results.

    Adds instances/ (label images), instances_overlay/ and instances.csv: a line an object, with class, area or volume,
    centroid, box, axes and the intensity of each channel, in the unit of the image.
    """
    from selfseg.results.exporting import instances as run
    from selfseg.results.instances import ObjectOptions

    bar = Bar(quiet)
    classes = None if of is None else tuple(split_names(of))
    n_objects, failures = run(folder, ObjectOptions(kind, classes, min_size, depth), images, bar)
    bar.say(f"{n_objects} objects; {folder / 'instances.csv'}, instances/ and instances_overlay/ are written")
    return exit_code(failures)


@app.command
def cut(
    folder: Folder,
    /,
    *,
    regions: Annotated[int | None, Parameter(help="Regions wanted in each image.")] = None,
    level: Annotated[float | None, Parameter(help="Do every merge up to this altitude of the tree.")] = None,
    quiet: Quiet = False,
) -> int:
    """Cut the merge trees of a folder made with --tree: cut/NAME.tif, or .zarr of large images."""
    from selfseg.results.merge_trees import cut_folder

    bar = Bar(quiet)
    failures = cut_folder(folder, regions, level, bar)
    bar.say(f"{folder / 'cut'} is written")
    return exit_code(failures)


OBJECTS = {"auto": None, "classes": False, "instances": True}


@app.command
def export(
    folder: Folder,
    /,
    *,
    format_: Annotated[
        list[str],
        Parameter(
            name=["--format", "-f"],
            help="nnunet, coco, geojson (QuPath), imagej-roi (Fiji), csv (measures); repeatable.",
        ),
    ],
    out: Annotated[
        Path | None, Parameter(name=["--out", "-o"], help="Folder for what comes out. Default: FOLDER/export.")
    ] = None,
    from_: Annotated[
        Literal["auto", "classes", "instances"],
        Parameter(name="--from", help="auto = instances where `selfseg instances` ran."),
    ] = "auto",
    background: Annotated[
        str | None, Parameter(help="Class, name or id, that is nnU-Net's background. Default: the largest.")
    ] = None,
    dataset: Annotated[
        str | None, Parameter(help="Name of nnU-Net's dataset. Default: Dataset501_ and the folder's name.")
    ] = None,
    least_area: Annotated[int, Parameter(help="Leave polygons of fewer pixels out.")] = 1,
    images: Images = None,
    quiet: Quiet = False,
) -> int:
    """Write a folder of results in the formats of other programs."""
    from selfseg.results.exporting import export_folder

    bar, objects = Bar(quiet), OBJECTS[from_]
    written, failures = export_folder(
        folder,
        format_,
        out,
        objects=objects,
        progress=bar,
        images=images,
        background=background,
        dataset=dataset,
        least_area=least_area,
    )
    for path in written:
        bar.say(f"{path} is written")
    return exit_code(failures)


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
    quiet: Quiet = False,
) -> int:
    """Merge and name classes, remove small objects and holes: stored with the model, repeated at every prediction."""
    from selfseg.learning.run import load, predict
    from selfseg.refine.decide import Cleaning

    bar, place = Bar(quiet), folder / "model" if (folder / "run.json").is_file() else folder
    how = vars(loading or LoadOptions())
    model = load(place, **how)
    model.edit([_ids(text) for text in merge or []], dict(_name(text) for text in name or []))
    before = Cleaning.parse(model.clean)
    holes = before.holes if fill_holes is None else fill_holes
    objects = before.objects if remove_objects is None else remove_objects
    model.set_params(clean=str(Cleaning(holes, objects)))
    model.save(out or place)
    bar.say(f"{len(model.table_)} classes, cleaning {model.clean}; the model is in {out or place}")
    if place == folder or out is not None:
        return 0
    failures = predict(load(place, **how), _inputs_of(folder), folder, numbers=numbers, progress=bar)
    bar.say(f"labels, overlays and {folder / 'report.html'} are written anew")
    return exit_code(failures)


def _inputs_of(folder: Path) -> list[object]:
    """Return the images of which an output folder has the labels."""
    from selfseg.read import Source

    try:
        rows = json.loads((folder / "run.json").read_text(encoding="utf-8"))["images"]
        return [Source(str(row["name"]), Path(row["source"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "segment the images again with `selfseg predict`"
        raise InputError(folder / "run.json", expected="the images of a run", got=str(error), fix=fix) from error


def _ids(text: str) -> list[int]:
    if not re.fullmatch(r"\s*\d+\s*(\+\s*\d+\s*)+", text):
        raise UsageError("--merge", expected="numbers of classes such as 3+5", got=repr(text), fix="see --numbers")
    return [int(word) for word in text.split("+")]


def _name(text: str) -> tuple[int, str]:
    number, sign, name = text.partition("=")
    if not sign or not number.strip().isdigit():
        raise UsageError("--name", expected="NUMBER=NAME", got=repr(text), fix="write for example 3=cheetah")
    return int(number), name
