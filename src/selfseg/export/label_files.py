"""The formats in which labels can be written, and the writing of one label image in any of them.

A new format is one file in this package and one row in `FORMATS`. The file has a function
``write(path, label_image, **options)`` and a constant `NEEDS`: the packages of its extra.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.axes import check_axes
from selfseg.core.classes import ClassTable
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.export._label_values import smallest_integers
from selfseg.export.labels import write_labels


@dataclass(frozen=True)
class LabelFormat:
    """One way to write labels.

    Attributes
    ----------
    suffix
        Of the files.
    module
        File of this package that writes them; empty = `selfseg.export.labels`.
    extra
        What must be installed, ``selfseg[EXTRA]``; empty = nothing more.
    packages
        What the extra brings and the writer imports.
    """

    suffix: str
    module: str = ""
    extra: str = ""
    packages: tuple[str, ...] = ()


FORMATS = {
    "tiff": LabelFormat(".tif"),
    "ome-zarr": LabelFormat(".ome.zarr", "ome_zarr", "zarr", ("zarr",)),
    "nifti": LabelFormat(".nii.gz", "nifti", "nifti", ("nibabel",)),
    "mrc": LabelFormat(".mrc", "mrc"),
    "hdf5": LabelFormat(".h5", "hdf5", "hdf5", ("h5py",)),
    "numpy": LabelFormat(".npz", "npz"),
    "dicom-seg": LabelFormat(".dcm", "dicom_seg", "dicom", ("pydicom", "highdicom")),
}
"""Formats by the name that ``--write`` takes."""

NGFF_VERSIONS = ("0.5", "0.4")


@dataclass(frozen=True)
class LabelImage:
    """Labels and all that a file may say of them.

    Attributes
    ----------
    labels
        The smallest unsigned integers that hold the ids, 0 = ignore.
    axes
        Letters out of T Z Y X.
    image
        The image that was segmented: its spacing, unit and place.
    table
        The classes; None = regions without a meaning.
    """

    labels: NDArray[Any]
    axes: str
    image: Image
    table: ClassTable | None = None


@dataclass(frozen=True)
class LabelWriter:
    """Writes label images in chosen formats.

    Attributes
    ----------
    kinds
        Names out of `FORMATS`.
    ngff
        Version of OME-Zarr, ``"0.5"`` or ``"0.4"``.

    Raises
    ------
    UsageError
        At once, before anything is computed: if a name is unknown, or its extra is not installed.
    """

    kinds: Sequence[str] = ("tiff",)
    ngff: str = "0.5"

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in FORMATS:
                fix = "check the name"
                raise UsageError("--write", expected=f"one of {', '.join(FORMATS)}", got=repr(kind), fix=fix)
            for package in FORMATS[kind].packages:
                if find_spec(package) is None:
                    fix = f"pip install 'selfseg[{FORMATS[kind].extra}]'"
                    raise UsageError(
                        f"--write {kind}", expected=f"the package {package}", got="none installed", fix=fix
                    )
        if self.ngff not in NGFF_VERSIONS:
            expected, fix = " or ".join(NGFF_VERSIONS), "leave it out for 0.5"
            raise UsageError("--ngff", expected=expected, got=repr(self.ngff), fix=fix)

    def write(
        self, folder: Path | str, name: str, labels: NDArray[Any], image: Image, table: ClassTable | None = None
    ) -> list[Path]:
        """Write ``folder/NAME.SUFFIX`` in each format.

        Parameters
        ----------
        folder, name
            The place; `name` may have ``/`` in it.
        labels
            Ids with the axes of `image` other than C, 0 = ignore.
        image
            The image that was segmented.
        table
            Names and colours of the classes.

        Returns
        -------
        list of Path
            What was written.

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
                import_module(f"selfseg.export.{FORMATS[kind].module}").write(path, content, **options)
            written.append(path)
        return written
