"""`selfseg cut`: cut stored merge trees into any number of regions."""

from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.app import Folder, Report, app, exit_code, reporter


@app.command
def cut(
    folder: Folder,
    /,
    *,
    regions: Annotated[int | None, Parameter(help="Regions wanted in each image.")] = None,
    level: Annotated[float | None, Parameter(help="Do every merge up to this altitude of the tree.")] = None,
    report: Report = None,
) -> int:
    """Cut the merge trees of a folder made with --tree: cut/NAME.tif, or .zarr of large images."""
    from selfseg.results.merge_trees import cut_folder

    bar = reporter(report)
    failures = cut_folder(folder, regions, level, bar)
    bar.say(f"{folder / 'cut'} is written")
    return exit_code(failures, bar)
