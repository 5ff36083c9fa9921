"""The formats in which labels can be taken away: some of the studio's own, and all that the rest of selfseg can write."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

OWN = {
    "labels": "Label TIFF: integers, for Fiji, napari, QuPath and programs",
    "overlay": "Overlay PNG: the picture under the colours of its classes",
    "colours": "Colour PNG: the classes alone",
}
"""Formats that are always there, with a line about each."""

LABEL_FILES, FOLDERS = "selfseg.export.label_files", "selfseg.results.exporting"
"""Where selfseg keeps its registries: of files with one label image each, and of exports of a whole folder of results."""

TITLES = {
    "ome-zarr": "OME-Zarr: labels in pieces, with levels, colours and names",
    "nifti": "NIfTI: for volumes",
    "mrc": "MRC: for electron microscopy",
    "hdf5": "HDF5: for programs",
    "numpy": "NumPy: npz, for programs",
    "dicom-seg": "DICOM-SEG: for pictures that came from DICOM",
    "nnunet": "nnU-Net: a dataset to train on",
    "coco": "COCO: polygons and masks as JSON, to train on",
    "geojson": "GeoJSON: outlines of every region, for QuPath and GIS",
    "imagej-roi": "ImageJ: outlines for its ROI manager",
    "csv": "CSV: area, place and intensity of every region",
}
"""A line about formats that are known by name; others are listed by their names."""


def registry(home: str) -> dict[str, Any]:
    """Return the registry of formats in a module, empty where selfseg has no such module."""
    return dict(import_module(home).FORMATS) if find_spec(home) is not None else {}


def label_kinds() -> list[str]:
    """Return the further formats of single label images whose packages are installed."""
    found = registry(LABEL_FILES)
    return [name for name, kind in found.items() if name != "tiff" and all(map(find_spec, kind.packages))]


def further_formats() -> dict[str, str]:
    """Return what can be written beside `OWN`. It imports the pipeline, so it is the engine that is asked."""
    return {name: TITLES.get(name, name) for name in [*label_kinds(), *registry(FOLDERS)]}
