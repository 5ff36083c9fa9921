"""A folder of results in the formats of other programs: nnU-Net, COCO, QuPath, ImageJ, tables; its model as ONNX and BioImage.IO."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfseg.core.classes import ClassTable
from selfseg.core.errors import Failure, InputError, SelfsegError, UsageError
from selfseg.core.files import Manifest, clear_unfinished, write_json
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.export.georeference import is_map
from selfseg.export.labels import write_object_table
from selfseg.export.nnunet import FOLDER, write_nnunet
from selfseg.export.shape_files import CocoImage, require_roifile, write_coco, write_geojson, write_imagej_rois
from selfseg.read import split_frames
from selfseg.results.folder import RunFolder, SegmentedImage
from selfseg.results.instances import (
    INSTANCES,
    OVERLAYS,
    OWN,
    TABLE,
    InstanceFolder,
    Instances,
    ObjectOptions,
    image_instances,
)
from selfseg.results.model import FittedModel, selfseg_version
from selfseg.results.result import Result

EXPORT_FILE = "export.json"
"""File beside what is exported: the name of each image in each format, and the list of files where there is no ``run.json``."""


@dataclass
class ExportJob:
    """One export.

    Attributes
    ----------
    items
        The segmented images, one in memory at a time.
    table
        Their classes.
    dest
        Folder for what comes out.
    background
        Id of the class that is nnU-Net's background.
    least_area
        Regions of fewer pixels are left out of polygons.
    failures
        Collects (name, message).
    dataset
        Name of nnU-Net's folder.
    """

    items: Iterable[SegmentedImage]
    table: ClassTable
    dest: Path
    background: int
    least_area: int = 1
    failures: list[Failure] = field(default_factory=list)
    dataset: str = "Dataset501_selfseg"
    names: dict[str, str] = field(default_factory=dict)
    """Name of each image in what is written: a file below `dest`, or the name that stands in one file for all."""

    def guarded(self, work: Callable[[SegmentedImage], None]) -> None:
        """Do something with each item; one that fails is named, and the others are done."""
        for item in self.items:
            try:
                work(item)
            except SelfsegError as error:
                self.failures.append((item.name, str(error)))


def export_folder(
    out: Path | str,
    formats: Iterable[str],
    dest: Path | str | None = None,
    *,
    images: Any = None,
    objects: bool | None = None,
    background: str | int | None = None,
    dataset: str | None = None,
    least_area: int = 1,
    progress: Progress | None = None,
) -> tuple[list[Path], list[Failure]]:
    """Export a folder that segment or predict wrote.

    Parameters
    ----------
    out
        The folder.
    formats
        Names out of `FORMATS`.
    dest
        Folder for what comes out; None = ``OUT/export``.
    images
        Where the images are now, if not where they were: a file, folder or glob.
    objects
        Export objects (``OUT/instances``) rather than the connected regions of classes; None = where there are any.
    background
        Name or id of the class that is nnU-Net's background; None = the one of the largest share.
    dataset
        Name of nnU-Net's folder, ``"Dataset501_cells"``; None = ``Dataset501_`` and the name of the folder `out`.
    least_area
        Regions of fewer pixels are left out of polygons.
    progress
        Who watches.

    Returns
    -------
    tuple
        What was written, one path a format, and (name, message) of each image, or format, that failed.

    Raises
    ------
    UsageError
        If a format, a class or the name of the dataset is wrong, or objects are asked for and there are none.
    InputError
        If `out` is not a folder of results.
    """
    wanted = list(dict.fromkeys(formats))
    _check_formats(wanted)
    folder = RunFolder(out, images)
    clear_unfinished(folder.out, ("export",))
    if objects and not folder.has_objects:
        raise UsageError(
            out, expected="objects of every image in instances/", got="none", fix="run `selfseg instances` first"
        )
    whole = folder.has_objects if objects is None else objects
    place = Path(dest) if dest is not None else folder.out / "export"
    failures: list[Failure] = []
    jobs: dict[str, ExportJob] = {}
    written = []
    with Manifest(folder.out) if _is_below(place, folder.out) else Manifest(place, EXPORT_FILE) as manifest:
        for name in wanted:
            items = _watched(folder.read(failures, whole), len(folder), name, progress or Silent())
            job = ExportJob(items, folder.table, place, folder.table.background(background), least_area, failures)
            job.dataset = dataset or dataset_name(folder.out.resolve().name)
            try:
                written.append(FORMATS[name](job))
                jobs[name] = job
            except InputError as error:  # the other formats may still be written
                failures.append((name, str(error)))
        _settle(manifest, folder.out, place, {name: job.names for name, job in jobs.items()}, written)
    return written, list(dict.fromkeys(failures))


def _is_below(place: Path, folder: Path) -> bool:
    return place.absolute().is_relative_to(folder.absolute())


def _settle(manifest: Manifest, out: Path, place: Path, names: dict[str, dict[str, str]], written: list[Path]) -> None:
    """Write the names of the images in each format into ``export.json``, and note all files."""
    known = read_names(place / EXPORT_FILE)
    facts = {"selfseg": selfseg_version(), "of": str(out.absolute()), "names": known | names}
    within = [path.absolute().relative_to(manifest.folder).as_posix() for path in written if path.is_dir()]
    if manifest.file == EXPORT_FILE:
        manifest.settle(facts, within)
    else:
        write_json(place / EXPORT_FILE, facts)
        manifest.settle(within=within)


def read_names(path: Path) -> dict[str, dict[str, str]]:
    """Return the names of the images in each format, as ``export.json`` has them; empty where there is no such file."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["names"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return names if isinstance(names, dict) else {}


def export_result(result: Result, name: str, dest: Path | str, objects: Instances | None = None) -> Path:
    """Export the segmentation of one image that is in memory; see `export_folder`.

    Parameters
    ----------
    result
        What a model returned.
    name
        One of `FORMATS`.
    dest
        Folder for what comes out.
    objects
        Its objects, to be exported rather than the connected regions of classes.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    UsageError
        If there is no such format.
    SelfsegError
        If the image cannot be exported in it.
    """
    _check_formats([name])
    image = result.image
    labels = image.with_data(result.labels, image.axes.replace("C", ""), channels=(), valid=None)
    item = SegmentedImage(labels, None if objects is None else objects.labels, axes=image.axes, content=image)
    job = ExportJob([item], result.table, Path(dest), result.table.background())
    written = FORMATS[name](job)
    for _, message in job.failures:
        raise InputError(message)
    return written


def dataset_name(name: str) -> str:
    """Return what nnU-Net may call a dataset of this name."""
    return f"Dataset501_{re.sub(r'[^A-Za-z0-9_-]', '_', name).lstrip('-') or 'selfseg'}"


def _check_formats(wanted: list[str]) -> None:
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise UsageError(
            "format",
            expected=f"some of {', '.join(FORMATS)}",
            got=", ".join(unknown) or "none",
            fix="write for example --format coco",
        )


def _watched(items: Iterable[SegmentedImage], total: int, task: str, progress: Progress) -> Iterator[SegmentedImage]:
    progress.start(task, total)
    try:
        for done, item in enumerate(items, 1):
            yield item
            progress.update(done, {})
    finally:
        progress.finish()


def to_geojson(job: ExportJob, folder: str = "geojson", pixels: bool = False) -> Path:
    """Write ``geojson/NAME.geojson`` for each image: maps in longitude and latitude, unless `pixels`."""
    place = job.dest / folder

    def write(item: SegmentedImage) -> None:
        labels = item.labels
        path = place / f"{item.name}.geojson"
        job.names[item.name] = path.relative_to(job.dest).as_posix()
        tags = labels.geotiff if is_map(labels.geotiff) and not pixels else ()
        write_geojson(path, labels.data, job.table, item.objects, labels.axes, job.least_area, tags)

    job.guarded(write)
    return place


def to_qupath(job: ExportJob) -> Path:
    """Write ``qupath/NAME.geojson`` for each image, in pixels."""
    return to_geojson(job, "qupath", pixels=True)


def to_imagej(job: ExportJob) -> Path:
    """Write ``imagej-roi/NAME.zip`` for each image."""
    place = job.dest / "imagej-roi"
    require_roifile(place)  # said once, not for each image

    def write(item: SegmentedImage) -> None:
        labels, axes = item.labels, item.axes or item.labels.axes
        path, many = place / f"{item.name}.zip", "C" in axes
        job.names[item.name] = path.relative_to(job.dest).as_posix()
        write_imagej_rois(path, labels.data, job.table, item.objects, labels.axes, job.least_area, many)

    job.guarded(write)
    return place


def to_coco(job: ExportJob) -> Path:
    """Write ``coco.json`` for all images."""

    def planes() -> Iterator[CocoImage]:
        for item in job.items:
            if item.labels.axes == "YX":
                file = item.file_name if item.file_name not in job.names.values() else item.name
                job.names[item.name] = file
                yield CocoImage(file, item.labels.data, item.objects)
            else:
                fix = "COCO has no volumes and series: use geojson, imagej-roi or nnunet"
                error = InputError(item.name, expected="an image with axes YX", got=item.labels.axes, fix=fix)
                job.failures.append((item.name, str(error)))

    write_coco(job.dest / "coco.json", planes(), job.table, job.least_area)
    return job.dest / "coco.json"


def to_nnunet(job: ExportJob) -> Path:
    """Write the folder ``DatasetNNN_NAME``; each time point of a series is a case."""
    folder = job.dest if FOLDER.fullmatch(job.dest.name) else job.dest / job.dataset

    def cases() -> Iterator[tuple[Any, Any]]:
        for item in job.items:
            try:
                images, labels = split_frames(item.image()), split_frames(item.labels)
            except SelfsegError as error:
                job.failures.append((item.name, str(error)))
                continue
            yield from zip(images, (frame.data for frame in labels), strict=True)

    def failed(name: str, error: InputError) -> None:
        job.failures.append((name, str(error)))

    job.names |= write_nnunet(folder, cases(), job.table, job.background, failed)
    return folder


def to_csv(job: ExportJob) -> Path:
    """Write ``regions.csv``: measures of each object, or of each connected region of every class."""
    every = ObjectOptions("components", of=tuple(item.id for item in job.table.classes))
    tables: list[dict[str, Any]] = []

    def measure(item: SegmentedImage) -> None:
        try:
            image = item.image()
        except InputError:
            image = item.labels  # measures without intensities are better than none
        job.names[item.name] = item.name
        tables.append(image_instances(image, item.labels.data, job.table, every, item.objects).columns)

    job.guarded(measure)
    write_object_table(job.dest / "regions.csv", tables)
    return job.dest / "regions.csv"


FORMATS: dict[str, Callable[[ExportJob], Path]] = {
    "nnunet": to_nnunet,
    "coco": to_coco,
    "geojson": to_geojson,
    "qupath": to_qupath,
    "imagej-roi": to_imagej,
    "csv": to_csv,
}
"""Formats by name."""


def instances(
    out: Path | str, options: ObjectOptions | None = None, images: Any = None, progress: Progress | None = None
) -> tuple[int, list[Failure]]:
    """Find and measure objects in a folder that segment or predict wrote.

    Where an image cannot be found or has changed, its objects are found in the labels alone, without intensities.

    Parameters
    ----------
    out
        The folder; ``instances/``, ``instances_overlay/`` and ``instances.csv`` are added to it.
    options
        How objects are found; None = those that the method found itself where the folder has such, else ``watershed``. Own ones are
        measured again, and small ones left out, but not searched for.
    images
        Where the images are now, if not where they were.
    progress
        Who watches.

    Returns
    -------
    tuple
        The number of objects, and (name, message) of each image that failed.
    """
    progress = progress or Silent()
    folder = RunFolder(out, images)
    options = options or ObjectOptions(folder.best_kind)
    if options.kind == OWN and folder.best_kind != OWN:
        fix = "use --kind watershed, or segment with a method that finds objects"
        raise UsageError("--kind", expected="components or watershed", got="own, and a folder without such", fix=fix)
    clear_unfinished(folder.out, (INSTANCES, OVERLAYS))
    written = InstanceFolder(folder.out, folder.table, options)
    failures: list[Failure] = []
    progress.say(f"{written.options.kind} of {written.names}")
    progress.start("objects", len(folder))
    with Manifest(folder.out) as manifest:
        try:
            for done, item in enumerate(folder.read(failures, objects=options.kind == OWN), 1):
                image = _image_or_labels(item, progress)
                try:
                    written.add(image, item.labels.data, progress, item.objects)
                except InputError as error:
                    failures.append((item.name, str(error)))
                progress.update(done, {"objects": sum(len(table["id"]) for table in written.tables)})
        finally:
            progress.finish()
        folder.note_instances(options.kind)
        n_objects = written.close()
        manifest.settle(within=[INSTANCES, OVERLAYS, TABLE])
    return n_objects, failures


def _image_or_labels(item: SegmentedImage, progress: Progress) -> Image:
    try:
        return item.image()
    except SelfsegError as error:
        progress.say(f"{error} (its objects have no intensities)")
        return item.labels


MODEL_FORMATS = {"onnx": ".onnx", "bioimageio": ".bioimageio.zip"}
"""Suffix of the file of a model by the name of its format."""


def export_model(
    folder: Path | str, formats: Sequence[str], dest: Path | str | None = None, values: str | None = None
) -> Iterator[tuple[Path, str]]:
    """Write the model of a folder in some formats; yield each file, and the preparation that must be done before it.

    Parameters
    ----------
    folder
        A model folder, or the OUT folder of segment, whose model is taken. The file has its name.
    formats
        Names out of `MODEL_FORMATS`.
    dest
        Folder for what comes out; None = ``FOLDER/export``.
    values
        As for `make_portable`.

    Raises
    ------
    SelfsegError
        If there is no model, it is no network, or a file cannot be written.
    """
    from selfseg.results.bioimageio import export_bioimageio
    from selfseg.results.portable import export_onnx

    if not formats:
        return
    folder = Path(folder)
    model = FittedModel.load(folder / "model" if (folder / "model").is_dir() else folder, "cpu")
    write = {"onnx": export_onnx, "bioimageio": export_bioimageio}
    for one in formats:
        path = (folder / "export" if dest is None else Path(dest)) / f"{folder.absolute().name}{MODEL_FORMATS[one]}"
        yield path, write[one](model, path, values).before
