"""Images that stay in their files: opened at once, read window by window."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np

from selfseg.core.axes import check_axes, spatial_axes
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.read._decoded import Decoded, decoding
from selfseg.read._lazy_array import LazyArray, check_real, from_sliceable
from selfseg.read._unchanged import unchanged
from selfseg.read.arrays import chosen_axes, make_image
from selfseg.read.formats import module_of, stem_of
from selfseg.read.sources import Source


@dataclass(frozen=True)
class LazyImage:
    """An image of which nothing is in memory but what was asked for.

    Attributes
    ----------
    data
        Array-like with shape, dtype, ndim and indexing by integers and slices; each indexing reads the file.
    axes, spacing, unit, channels, name, source, guessed_axes, meta
        As in `selfseg.core.image.Image`.
    valid
        Array-like of bools over the axes other than C, False where the file has nothing (alpha 0, no data); None = there is
        something everywhere. Whether values are finite is not known before they are read: `window` says so.

    Examples
    --------
    >>> with open_lazy("huge.ome.zarr") as image:  # doctest: +SKIP
    ...     corner = image.window(Y=slice(0, 512), X=slice(0, 512))
    """

    data: LazyArray
    axes: str
    spacing: tuple[float, ...]
    unit: str = "pixel"
    channels: tuple[str, ...] = ()
    name: str = "image"
    source: str = "file"
    valid: LazyArray | None = field(default=None, repr=False)
    guessed_axes: bool = False
    meta: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Sizes of the spatial axes, in their order."""
        return tuple(n for n, letter in zip(self.data.shape, self.axes, strict=True) if letter in "ZYX")

    @property
    def n_channels(self) -> int:
        """Number of channels; 1 without a channel axis."""
        return int(self.data.shape[self.axes.index("C")]) if "C" in self.axes else 1

    def window(self, **ranges: slice | int) -> Image:
        """Read a part of the image.

        Parameters
        ----------
        **ranges
            Range of an axis by its letter, ``Y=slice(0, 512)``; an integer takes one place and drops the axis. Axes that
            are not named are read whole.

        Returns
        -------
        Image
            With `valid` False where there is nothing and where values are not finite; they need not all be finite.

        Raises
        ------
        UsageError
            If there is no such axis, or Y or X is given as an integer.
        InputError
            If the file is damaged there.
        """
        strange = [letter for letter in ranges if letter not in self.axes]
        strange += [letter for letter in "YX" if letter in ranges and not isinstance(ranges[letter], slice)]
        if strange:
            fix = "give a slice for each of them"
            raise UsageError("window", expected=f"axes out of {self.axes}", got=", ".join(strange), fix=fix)
        index = tuple(ranges.get(letter, slice(None)) for letter in self.axes)
        data = self.data[index]
        left = "".join(a for a, one in zip(self.axes, index, strict=True) if isinstance(one, slice))
        valid = None
        if self.valid is not None:
            valid = self.valid[tuple(one for a, one in zip(self.axes, index, strict=True) if a != "C")]
        if data.dtype.kind == "b":
            data = data.astype(np.uint8) * np.uint8(255)
        if data.dtype.kind == "f" and not np.isfinite(data).all():
            finite = np.isfinite(data)
            finite = finite.all(axis=left.index("C")) if "C" in left else finite
            valid = finite if valid is None else valid & finite
        steps = zip(spatial_axes(self.axes), self.spacing, strict=True)
        spacing = tuple(step for letter, step in steps if letter in left)
        channels = self.channels if "C" in left else ()
        return Image(data, left, spacing, self.unit, channels, self.name, self.source, valid, self.guessed_axes)

    def at(self, axis: str, number: int) -> "LazyImage":
        """Return one plane across Z, or one time point, as an image of its own, without reading it.

        Raises
        ------
        UsageError
            If there is no such axis, or no such place on it.
        """
        size = int(self.data.shape[self.axes.index(axis)]) if axis in self.axes and axis in "TZ" else 0
        if not 0 <= number < size:
            got, fix = f"{axis} {number} of {self.axes}", "count from 0"
            raise UsageError(self.source, expected=f"a place on T or Z below {size}", got=got, fix=fix)
        steps = zip(spatial_axes(self.axes), self.spacing, strict=True)
        valid = None if self.valid is None else self.valid.at(self.axes.replace("C", "").index(axis), number)
        return replace(
            self,
            data=self.data.at(self.axes.index(axis), number),
            axes=self.axes.replace(axis, ""),
            spacing=tuple(step for letter, step in steps if letter != axis),
            valid=valid,
        )

    def read(self) -> Image:
        """Read all of it; see `selfseg.read.read_image` for what is checked."""
        spacing = dict(zip(spatial_axes(self.axes), self.spacing, strict=True))
        valid = None if self.valid is None else self.valid[...]
        whole = Decoded(
            self.data[...], self.axes, self.guessed_axes, spacing, self.unit, self.channels, valid, self.meta
        )
        return make_image(whole, None, self.name, self.source)

    def close(self) -> None:
        """Close the file; nothing can be read after it."""
        self.data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_lazy(path: Path | str, axes: str | None = None, name: str | None = None, level: int = 0) -> LazyImage:
    """Open an image without reading it: TIFF, OME-Zarr and zarr, HDF5, NumPy, NIfTI, MRC.

    Formats that cannot be read in parts (PNG, JPEG, packed NIfTI, NPZ, DICOM) are read whole, and looked at in the same way.

    Parameters
    ----------
    path
        As for `selfseg.read.read_image`.
    axes
        What its axes are, None = as the file says.
    name
        Output stem; None = the file's name without its suffix.
    level
        Level of a pyramid, 0 = the finest.

    Raises
    ------
    InputError
        If the file is missing, damaged, of no known format, holds no real numbers, or has no such level.
    UsageError
        If `axes` is no axes string.
    """
    path = Path(path)
    module = import_module(f"selfseg.read.{module_of(path)}")
    with unchanged(path):
        decoded: Decoded = module.open_lazy(path, level=level) if hasattr(module, "open_lazy") else module.decode(path)
    decoded = _lazy(path, decoded)
    try:
        check_real(path, decoded.data.dtype)
        if 0 in decoded.data.shape:
            raise InputError(path, expected="at least one pixel", got="an empty array", fix="leave it out")
        chosen = check_axes(chosen_axes(decoded, axes, str(path)), decoded.data.ndim)
    except Exception:
        decoded.data.close()
        raise
    return LazyImage(
        decoded.data,
        chosen,
        tuple(float(decoded.spacing.get(letter, 1.0)) for letter in spatial_axes(chosen)),
        decoded.unit,
        decoded.channels if "C" in chosen else (),
        stem_of(path) if name is None else name,
        str(path),
        decoded.valid,
        decoded.guessed and axes is None,
        decoded.meta,
    )


def open_in_parts(source: Source, axes: str | None = None) -> LazyImage | None:
    """Open an input without reading it.

    Parameters
    ----------
    source
        The input.
    axes
        What its axes are, None = as the file says.

    Returns
    -------
    LazyImage or None
        None for an array in memory, and for a file that can only be read as a whole.

    Raises
    ------
    InputError, UsageError
        As for `open_lazy`.
    """
    # what is packed as a whole can only be read as a whole, and so can a mask
    if source.path is None or source.path.suffix == ".gz" or source.whole_only:
        return None
    if not hasattr(import_module(f"selfseg.read.{module_of(source.path)}"), "open_lazy"):
        return None
    return open_lazy(source.path, axes, source.name)


def _lazy(path: Path, decoded: Decoded) -> Decoded:
    """Give arrays that are in memory the manners of one that is not."""
    data, valid = decoded.data, decoded.valid
    with decoding(path):
        data = data if isinstance(data, LazyArray) else from_sliceable(path, data)
        valid = valid if valid is None or isinstance(valid, LazyArray) else from_sliceable(path, valid)
    return replace(decoded, data=data, valid=valid)
