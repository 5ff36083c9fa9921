"""Files and folders that are one image together, or several each: DICOM series, OME-TIFF over several files, plates, scenes."""

from collections.abc import Sequence
from pathlib import Path

from selfseg.read._ome_tiff import series_files
from selfseg.read.dicom import group_series
from selfseg.read.formats import format_of, suffix_of
from selfseg.read.ome_zarr import fields_of, is_zarr
from selfseg.read.search import PassedOver
from selfseg.read.vendor import KINDS as VENDOR
from selfseg.read.vendor import scenes_of

KINDS = tuple(VENDOR)
"""Suffixes of files that may have several scenes."""


def images_of(files: Sequence[Path], passed: PassedOver, named: bool = False) -> dict[Path, tuple[Path, ...]]:
    """Return the images that each file stands for: itself, its series, the fields of its plate, nothing if another has its place.

    Parameters
    ----------
    files
        Files and folders that are images, in their order.
    passed
        Counts those that stand for nothing.
    named
        The user named each file, and did not leave it to a search. A DICOM series then counts as one only if all of it was named, and
        what holds no image is kept, and fails when it is read.
    """
    taken = {file: (file,) for file in files} | group_series(files, passed, named)
    tiffs = [file for file in files if format_of(file) == "tiff" and file.is_file()]
    for file in _partners(tiffs) if len(tiffs) > 1 else ():
        taken[file] = ()
        passed.add("TIFF files of a series that another one stands for", file.name)
    for file in files:
        if is_zarr(file) or suffix_of(file) in KINDS:
            taken[file] = tuple(parts_of(file)) or taken[file]
    return taken


def parts_of(path: Path) -> list[Path]:
    """Return the fields of a plate, or the scenes of a microscope's file that has several; empty for anything else."""
    return fields_of(path) if path.is_dir() else scenes_of(path)


def _partners(files: Sequence[Path]) -> list[Path]:
    """Return the files that belong to a series that another of them opens: the first one whose metadata describe it."""
    partners: dict[Path, Path] = {}
    opened = set[Path]()
    for file in files:
        place = file.absolute()
        series = series_files(place)
        if series and place not in partners:
            opened.add(place)
            partners |= {one: place for one in series if one != place and one not in opened}
    return [file for file in files if file.absolute() in partners]
