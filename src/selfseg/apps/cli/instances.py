"""`selfseg instances`: count and measure objects in a folder of results."""

from typing import Annotated

from cyclopts import Parameter

from selfseg.apps.cli.app import Folder, Images, Report, app, exit_code, reporter, split_names


@app.command
def instances(
    folder: Folder,
    /,
    *,
    kind: Annotated[
        str | None,
        Parameter(
            help="components: each connected part is one object; watershed: and is cut at its necks; own: those that the method found, "
            "measured again. Default: own where there are such, else watershed."
        ),
    ] = None,
    of: Annotated[
        str | None,
        Parameter(help="Classes that consist of objects, names or ids by commas. Default: all but the largest."),
    ] = None,
    min_size: Annotated[int, Parameter(help="Leave out objects of fewer pixels.")] = 1,
    depth: Annotated[
        float, Parameter(help="Cut a neck whose half width is less than that of both parts by this many pixels.")
    ] = 1.0,
    images: Images = None,
    report: Report = None,
) -> int:
    """Count and measure objects (cells, nuclei, grains) in a folder of results.

    Adds instances/ (label images), instances_overlay/ and instances.csv: a line an object, with class, area or volume,
    centroid, box, axes and the intensity of each channel, in the unit of the image.
    """
    from selfseg.results.exporting import instances as run
    from selfseg.results.folder import RunFolder
    from selfseg.results.instances import ObjectOptions

    bar = reporter(report)
    classes = None if of is None else tuple(split_names(of))
    kind = kind or RunFolder(folder).best_kind
    n_objects, failures = run(folder, ObjectOptions(kind, classes, min_size, depth), images, bar)
    bar.say(f"{n_objects} objects; {folder / 'instances.csv'}, instances/ and instances_overlay/ are written")
    return exit_code(failures, bar)
