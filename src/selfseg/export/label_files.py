"""The formats in which labels can be written. A new one is a function of this package and a row in `FORMATS`."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import UsageError
from selfseg.core.image import Image, check_axes
from selfseg.export.labels import smallest_integers, write_labels


class LabelFormat(NamedTuple):
    """One way to write labels."""

    suffix: str
    """Of the files."""
    writer: str = ""
    """Module of this package, and its function that takes a path and a `LabelImage`; empty = `labels.write_labels`."""
    extra: str = ""
    """Extra to install, ``selfseg[EXTRA]``; empty = nothing more."""
    packages: tuple[str, ...] = ()
    """Packages that the extra brings and the writer imports."""


FORMATS = {
    "tiff": LabelFormat(".tif"),
    "ome-zarr": LabelFormat(".ome.zarr", "ome_zarr.write_ome_zarr", "zarr", ("zarr",)),
    "nifti": LabelFormat(".nii.gz", "nifti.write_nifti", "nifti", ("nibabel",)),
    "mrc": LabelFormat(".mrc", "mrc.write_mrc"),
    "hdf5": LabelFormat(".h5", "array_files.write_hdf5", "hdf5", ("h5py",)),
    "numpy": LabelFormat(".npz", "array_files.write_npz"),
    "dicom-seg": LabelFormat(".dcm", "dicom_seg.write_dicom_seg", "dicom", ("pydicom", "highdicom")),
}
"""Formats by the name that ``--write`` takes."""

NGFF_VERSIONS = ("0.5", "0.4")


@dataclass(frozen=True)
class LabelImage:
    """Labels and all that a file may say of them."""

    labels: NDArray[Any]
    """The smallest unsigned integers that hold the ids, 0 = ignore."""
    axes: str
    """Letters out of T Z Y X."""
    image: Image
    """The image that was segmented: its spacing, unit and place."""
    table: ClassTable | None = None
    """The classes; None = regions without a meaning."""


@dataclass(frozen=True)
class LabelWriter:
    """Writes label images in chosen formats.

    Raises
    ------
    UsageError
        At once, before anything is computed: if a name is unknown, or its extra is not installed.
    """

    kinds: Sequence[str] = ("tiff",)
    """Names out of `FORMATS`."""
    ngff: str = "0.5"
    """Version of OME-Zarr, ``"0.5"`` or ``"0.4"``."""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in FORMATS:
                known = f"one of {', '.join(FORMATS)}"
                raise UsageError("--write", expected=known, got=repr(kind), fix="check the name")
            for package in FORMATS[kind].packages:
                if find_spec(package) is None:
                    what, fix = f"the package {package}", f"pip install 'selfseg[{FORMATS[kind].extra}]'"
                    raise UsageError(f"--write {kind}", expected=what, got="none installed", fix=fix)
        if self.ngff not in NGFF_VERSIONS:
            versions = " or ".join(NGFF_VERSIONS)
            raise UsageError("--ngff", expected=versions, got=repr(self.ngff), fix="leave it out for 0.5")

    def write(
        self, folder: Path | str, name: str, labels: NDArray[Any], image: Image, table: ClassTable | None = None
    ) -> list[Path]:
        """Write ``folder/NAME.SUFFIX`` in each format; return the paths.

        Parameters
        ----------
        folder, name
            The place; `name` may have ``/`` in it.
        labels
            Ids with the axes of `image` other than C, 0 = ignore.
        image
            The image that was segmented.

        Raises
        ------
        UsageError
            If `labels` are no ids or do not fit the axes.
        InputError
            If a format cannot hold them: DICOM-SEG of an image that did not come from DICOM.
        OutputError
            If a file cannot be written.
        """
        axes = check_axes(image.axes.replace("C", ""), np.ndim(labels))
        written = []
        for kind in self.kinds:
            path = Path(folder) / f"{name}{FORMATS[kind].suffix}"
            if kind == "tiff":
                write_labels(path, labels, table, image.spacing, image.unit, axes)
            else:
                options = {"ngff": self.ngff} if kind == "ome-zarr" else {}
                content = LabelImage(smallest_integers(np.asarray(labels), table), axes, image, table)
                module, function = FORMATS[kind].writer.split(".")
                getattr(import_module(f"selfseg.export.{module}"), function)(path, content, **options)
            written.append(path)
        return written
