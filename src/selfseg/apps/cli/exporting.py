"""The commands that carry results on: instances, cut, export. Heavy imports happen inside them."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from selfseg.apps.cli.parameters import Quiet, app, verdict
from selfseg.core.errors import UsageError

Folder = Annotated[Path, Parameter(help="The OUT folder of segment or predict.")]
Images = Annotated[
    str | None, Parameter(help="Where the images are now, if they have moved: a file, a folder or a glob.")
]

Formats = Annotated[
    list[str],
    Parameter(
        name=["--format", "-f"],
        negative="",
        help="nnunet, coco, geojson (QuPath), imagej-roi (Fiji), csv (measures); may be repeated.",
    ),
]
Destination = Annotated[
    Path | None, Parameter(name=["--out", "-o"], help="Folder for what comes out; without it, FOLDER/export.")
]
Origin = Annotated[
    str, Parameter(name="--from", help="classes, instances, or auto: instances where `selfseg instances` ran.")
]
Background = Annotated[
    str | None, Parameter(help="Class, name or id, that is nnU-Net's background; without it, the largest.")
]
Dataset = Annotated[
    str | None, Parameter(help="Name of nnU-Net's dataset; without it, Dataset501_ and the folder's name.")
]


@app.command
def instances(
    folder: Folder,
    /,
    *,
    kind: Annotated[
        str, Parameter(help="components: what hangs together is one object; watershed: and is cut at its necks.")
    ] = "watershed",
    of: Annotated[
        str | None,
        Parameter(help="Classes that consist of objects, names or ids by commas; without it, all but the largest."),
    ] = None,
    min_size: Annotated[int, Parameter(help="Leave out objects of fewer pixels.")] = 1,
    depth: Annotated[
        float,
        Parameter(
            help="Cut where half the width of a neck is less than that of both parts by so many pixels, or more."
        ),
    ] = 1.0,
    images: Images = None,
    quiet: Quiet = False,
) -> int:
    """Count and measure objects (cells, nuclei, grains) in a folder of results.

    Adds instances/ (label images), instances_overlay/ and instances.csv: a line an object, with class, area or volume,
    centroid, box, axes and the intensity of each channel, in the unit of the image.
    """
    from selfseg.apps.cli.bar import Bar
    from selfseg.results.exporting import instances as run
    from selfseg.results.instances import ObjectOptions

    bar = Bar(quiet)
    found, failures = run(folder, ObjectOptions(kind, _names(of), min_size, depth), images, bar)
    bar.say(f"{found} objects; {folder / 'instances.csv'}, instances/ and instances_overlay/ are written")
    return verdict(failures)


@app.command
def cut(
    folder: Folder,
    /,
    *,
    regions: Annotated[int | None, Parameter(help="Regions wanted in each image.")] = None,
    level: Annotated[float | None, Parameter(help="Do every merge up to this altitude of the tree.")] = None,
    quiet: Quiet = False,
) -> int:
    """Cut the merge trees of a folder made with --tree into any number of regions: cut/NAME.tif, or .zarr of large images."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.results.trees import cut_folder

    bar = Bar(quiet)
    failures = cut_folder(folder, regions, level, bar)
    bar.say(f"{folder / 'cut'} is written")
    return verdict(failures)


@app.command
def export(
    folder: Folder,
    /,
    *,
    format_: Formats,
    out: Destination = None,
    from_: Origin = "auto",
    background: Background = None,
    dataset: Dataset = None,
    least_area: Annotated[int, Parameter(help="Leave polygons of fewer pixels out.")] = 1,
    images: Images = None,
    quiet: Quiet = False,
) -> int:
    """Write a folder of results in the formats of other programs."""
    from selfseg.apps.cli.bar import Bar
    from selfseg.results.exporting import export_folder

    choices: dict[str, Any] = {"auto": None, "classes": False, "instances": True}
    if from_ not in choices:
        raise UsageError("--from", expected=" or ".join(choices), got=repr(from_), fix="choose one")
    bar = Bar(quiet)
    how: dict[str, Any] = {"images": images, "background": background, "dataset": dataset, "least_area": least_area}
    written, failures = export_folder(folder, format_, out, objects=choices[from_], progress=bar, **how)
    for path in written:
        bar.say(f"{path} is written")
    return verdict(failures)


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(name.strip() for name in text.split(",") if name.strip())
