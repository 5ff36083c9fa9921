"""Export: edited labels as files, in the formats of the studio and of the rest of selfseg; and recipes, which repeat a run."""

import shlex
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from selfseg.apps.studio.runs import Spec
from selfseg.core.classes import ClassTable
from selfseg.core.errors import UsageError
from selfseg.core.files import writing
from selfseg.core.image import Image
from selfseg.core.progress import Silent
from selfseg.export.labels import FORMATS as LABEL_FORMATS
from selfseg.export.labels import LabelWriter, write_classes
from selfseg.read import Source
from selfseg.refine.edits import AS_LEARNED, Edits

if TYPE_CHECKING:  # the server exports what is segmented already, without torch
    from selfseg import Segmenter
    from selfseg.refine.hierarchy import Leaves

OWN_FORMATS = {
    "labels": "Label TIFF: integers, for Fiji, napari, QuPath and programs",
    "overlay": "Overlay PNG: the picture under the colours of its classes",
    "colours": "Colour PNG: the classes alone",
    "objects": "Objects: numbers as TIFF, outlines as PNG, and one CSV with size, place and intensity of each",
}
"""Formats that are always there, with a line about each."""

TITLES = {
    "ome-zarr": "OME-Zarr: labels in chunks, with levels, colours and names",
    "nifti": "NIfTI: for volumes",
    "mrc": "MRC: for electron microscopy",
    "hdf5": "HDF5: for programs",
    "numpy": "NumPy: npz, for programs",
    "dicom-seg": "DICOM-SEG: for pictures that came from DICOM",
    "nnunet": "nnU-Net: a dataset to train on",
    "coco": "COCO: polygons and masks as JSON, to train on",
    "geojson": "GeoJSON: outlines of every region, for GIS (maps in longitude and latitude) and QuPath",
    "qupath": "QuPath: GeoJSON in pixels, also of maps",
    "imagej-roi": "ImageJ: outlines for its ROI manager",
    "csv": "CSV: area, place and intensity of every region",
}
"""A line about each further format; one that is missing here is listed by its name."""

SEGMENTER_DEFAULTS = {
    "preset": "default",
    "n_classes": None,
    "seed": 0,
    "prepare": None,
    "refine": None,
    "device": "auto",
}


def label_kinds() -> list[str]:
    """Return the further formats of single label images whose packages are installed."""
    return [name for name, kind in LABEL_FORMATS.items() if name != "tiff" and all(map(find_spec, kind.packages))]


def further_formats() -> dict[str, str]:
    """Return the formats beside `OWN_FORMATS`, with a line about each; for the engine, as it imports torch."""
    from selfseg.results.exporting import FORMATS

    return {name: TITLES.get(name, name) for name in [*label_kinds(), *FORMATS]}


def save_edited(
    out: Path, image: Image, frames: Sequence["Leaves"], edits: Edits, table: ClassTable, formats: Sequence[str]
) -> list[str]:
    """Write one picture in some formats, and the class table beside it; return the files' names below `out`.

    `frames` has the leaves of each frame, one for a picture without T; `table` has the classes as edited. Formats of whole
    folders are left to `save_folder`.

    UsageError if no format is given, or one cannot hold this picture.
    """
    from selfseg.export.overlay import write_labels_picture, write_overlay

    if not formats:
        raise UsageError("format", expected="at least one", got="none", fix="choose from the list")
    parts = [edits.correct(edits.labels(leaves), image.name, number) for number, leaves in enumerate(frames)]
    labels = np.stack(parts, image.axes.replace("C", "").index("T")) if "T" in image.axes else parts[0]
    before = set(_files(out))
    for name in formats:
        if name == "labels":
            LabelWriter().write(out / "labels", image.name, labels, image, table)
        elif name == "overlay":
            write_overlay(out / "overlay" / f"{image.name}.png", image, labels, table)
        elif name == "colours":
            write_labels_picture(out / "colours" / f"{image.name}.png", image, labels, table)
        elif name in label_kinds():
            LabelWriter((name,)).write(out / "labels", image.name, labels, image, table)
    write_classes(out / "classes.json", table)
    return sorted(set(_files(out)) - before)


def save_video(out: Path, source: Source, model: "Segmenter", edits: Edits) -> list[str]:
    """Segment a video frame by frame and write its label stack, its overlay and its class colours; return the files' names.

    InputError if it cannot be opened, or no frame can be segmented.
    """
    from selfseg.read.video import open_video
    from selfseg.segmenting.frames import segment_sequence

    before = set(_files(out))
    segment_sequence(model.fitted, open_video(source), out, False, Silent(), edits)
    write_classes(out / "classes.json", edits.table(model.table_))
    return sorted(set(_files(out)) - before)


def save_folder(out: str, formats: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Write a folder of results, which has label TIFFs and ``run.json``, in formats of whole folders.

    Returns new files below `out`, and (name, message) of each picture that failed.
    """
    from selfseg.results.exporting import export_folder

    before = set(_files(Path(out)))
    _, failures = export_folder(out, formats, out)
    return sorted(set(_files(Path(out))) - before), failures


def zip_folder(folder: Path, path: Path) -> None:
    """Write a folder's files into a zip, stored without compression: most are compressed already."""
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in _files(folder):
            archive.write(folder / name, f"{folder.name}/{name}")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def as_python(spec: Spec, model: Path, edits: Edits, edits_file: Path, out: str = "out") -> str:
    """Return a script that learns, segments, edits and saves as the studio did; corrections by hand are read from their file."""
    inputs = repr(spec.inputs[0] if len(spec.inputs) == 1 else list(spec.inputs))
    axes = "" if spec.axes is None else f", axes={spec.axes!r}"
    if _needs_model(spec):
        note = (
            "  # its options were changed during the run: it is loaded, not learned again" if spec.model is None else ""
        )
        learn = [f"model = selfseg.load({str(model)!r}){note}"]
    else:
        scribbles = "" if spec.scribbles is None else f", scribbles={spec.scribbles!r}"
        scribbles += "" if spec.labels is None else f", labels={spec.labels!r}, labels_as='sparse'"
        options = {"options": dict(spec.options)} if spec.options else {}
        arguments = [repr(spec.method), *(f"{key}={value!r}" for key, value in (_not_default(spec) | options).items())]
        learn = [f"model = selfseg.Segmenter({', '.join(arguments)})", f"model.fit({inputs}{scribbles}{axes})"]
    lines = ["import selfseg", "from selfseg import predict"]
    if edits == Edits():
        return "\n".join([*lines, "", *learn, f"predict(model, {inputs}, {out!r}{axes})", ""])
    if edits.corrections:
        lines += ["from selfseg.refine.edits import read_edits", "", *learn, f"edits = read_edits({str(edits_file)!r})"]
        return "\n".join([*lines, f"predict(model, {inputs}, {out!r}{axes}, edits=edits)", ""])
    given = edits.to_json().items()
    values = {
        key: value for key, value in given if value not in ({}, [], (), None) and (key, value) != ("level", AS_LEARNED)
    }
    lines += ["from selfseg.refine.edits import Edits", "", *learn, f"edits = Edits.from_json({values!r})"]
    return "\n".join([*lines, f"predict(model, {inputs}, {out!r}{axes}, edits=edits)", ""])


def as_command(spec: Spec, model: Path, edits: Edits, edits_file: Path, out: str = "out") -> str:
    """Return commands that learn, segment, edit and save as the studio did."""
    inputs = " ".join(shlex.quote(path) for path in spec.inputs)
    axes = "" if spec.axes is None else f" --axes {spec.axes}"
    edited = "" if edits == Edits() else f" --edits {shlex.quote(str(edits_file))}"
    end = f"{inputs}{axes}{edited} -o {shlex.quote(out)}\n"
    if _needs_model(spec):
        return f"selfseg predict {shlex.quote(str(model))} {end}"
    words = [f"--method {spec.method}"]
    words += [f"--{key.removeprefix('n_')} {shlex.quote(str(value))}" for key, value in _not_default(spec).items()]
    words += [f"--set {shlex.quote(f'{key}={_plain(value)}')}" for key, value in spec.options.items()]
    words += [] if spec.scribbles is None else [f"--scribbles {shlex.quote(spec.scribbles)}"]
    words += [] if spec.labels is None else [f"--labels {shlex.quote(spec.labels)} --labels-as sparse"]
    return f"selfseg fit {inputs} {' '.join(words)}{axes} -o model\nselfseg predict model {end}"


def _needs_model(spec: Spec) -> bool:
    """Return whether training cannot be repeated from the inputs: the run was given a model, forked, changed or numbered anew."""
    return spec.model is not None or spec.origin is not None or bool(spec.changes) or spec.arranged


def _not_default(spec: Spec) -> dict[str, Any]:
    """Return the arguments of `Segmenter` that are not its defaults, except `options`."""
    return {key: getattr(spec, key) for key, value in SEGMENTER_DEFAULTS.items() if getattr(spec, key) != value}


def _plain(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
