"""`selfseg export`: write results in the formats of other programs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from selfseg.apps.cli.app import Bar, Folder, Images, Quiet, app, exit_code

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
