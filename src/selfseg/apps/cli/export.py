"""`selfseg export`: write results in the formats of other programs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from selfseg.apps.cli.app import Folder, Images, Report, app, exit_code, reporter
from selfseg.core.errors import UsageError

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
            help="nnunet, coco, geojson (maps in longitude and latitude), qupath (GeoJSON in pixels), "
            "imagej-roi (Fiji), csv (measures); the model, also of a model folder: onnx, "
            "bioimageio (ilastik, deepImageJ); repeatable.",
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
    values: Annotated[
        str | None,
        Parameter(
            help="Values of the images that an exported model takes: uint8, uint16, float32. Default: as learned from."
        ),
    ] = None,
    images: Images = None,
    report: Report = None,
) -> int:
    """Write a folder of results, or its model, in the formats of other programs."""
    from selfseg.results.exporting import MODEL_FORMATS, export_folder, export_model

    bar, objects = reporter(report), OBJECTS[from_]
    models = [one for one in format_ if one in MODEL_FORMATS]
    others = [one for one in format_ if one not in MODEL_FORMATS]
    if values is not None and not models:
        raise UsageError("--values", expected="--format onnx or bioimageio", got=", ".join(others), fix="leave it out")
    for path, before in export_model(folder, models, out, values):
        bar.say(f"{path} is written")
        if before:
            bar.say(f"prepare images by {before} before they go into it: that depends on the image")
    if not others:
        return 0
    written, failures = export_folder(
        folder,
        others,
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
    return exit_code(failures, bar)
