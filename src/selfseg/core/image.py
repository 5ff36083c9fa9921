"""The one image type: an array, in memory or in its file, with its axes, spacing, unit and channel names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.options import Channels

GeoTags = tuple[tuple[int, int, int, Any], ...]
"""Tags of a GeoTIFF that say where on Earth it lies: code, TIFF type, count and value of each."""


@dataclass(frozen=True)
class Image:
    """An image of any kind: integers keep their range, nothing is rescaled.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg import Image
    >>> image = Image(np.arange(12).reshape(3, 4), "YX")
    >>> image.window(Y=slice(0, 2)).data.shape
    (2, 4)
    """

    data: Any
    """Array whose axes are named by `axes`: a NumPy array, or an array-like in a file (`selfseg.read.open_lazy`) with
    shape, dtype, ndim, indexing by integers and slices, of which each reads the file, ``at``, ``check_fits`` and
    ``close``."""
    axes: str
    """One letter an axis, out of ``T C Z Y X``, in the order of `data`."""
    spacing: tuple[float, ...] = ()
    """Size of a pixel along each spatial axis, in the order in which the spatial axes stand in `axes`."""
    unit: str = "pixel"
    """Unit of `spacing`: ``"pixel"`` when the file does not say."""
    channels: tuple[str, ...] = ()
    """Channel names, empty when unknown."""
    name: str = "image"
    """Stem for outputs, with ``/`` for sub-folders: ``"series1/cell_03"``."""
    source: str = "array"
    """Where it came from, for messages and for `run.json`."""
    valid: Any = field(default=None, repr=False)
    """Boolean array over the spatial axes, and T where there is one, in the order of `axes`: False where a pixel must
    be ignored (transparent, no data, NaN); None = all count. Of data in a file it is in the file too, and whether
    values are finite is found out when they are read."""
    guessed_axes: bool = False
    """True when nothing said what the axes are and `axes` could be wrong: to be shown to the user."""
    meta: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Position of a file's grid in the world, besides `spacing`, to write labels back onto the same grid
    (`selfseg.export`). ``"affine"`` ``[4 4]``: from the indices (X, Y, Z) of `data` to millimetres to the right, front
    and top of a patient; ``"offset"``: place of the first pixel by the axis' letter, in `unit`; ``"interval"``: seconds
    from one time point to the next; ``"geotiff"``: `GeoTags`; ``"nifti"``,
    ``"dicom"``, ``"mrc"``: what their readers keep for their writers. Empty when the file has none."""
    notes: tuple[str, ...] = ()
    """Lines to be shown to the user: what is odd about the file and does not keep it from being read."""
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Cache of values computed from this image while it is open: its hash, its preparation."""

    def __post_init__(self) -> None:
        check_axes(self.axes, self.data.ndim)
        if not self.spacing:
            object.__setattr__(self, "spacing", (1.0,) * len(spatial_axes(self.axes)))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines to be shown to the user: `notes`, and how the axes were guessed."""
        guess = f"the file does not name its axes; read as {self.axes} (--axes overrides)"
        return (*self.notes, guess) if self.guessed_axes else self.notes

    @property
    def geotiff(self) -> GeoTags:
        """Tags that say where on Earth the image lies; empty = nowhere."""
        tags: GeoTags = self.meta.get("geotiff", ())
        return tags

    @property
    def in_memory(self) -> bool:
        """True if the pixels are in memory, and not in a file."""
        return isinstance(self.data, np.ndarray)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Sizes of the spatial axes, in their order: ``(Y, X)`` or ``(Z, Y, X)``."""
        return tuple(n for n, letter in zip(self.data.shape, self.axes, strict=True) if letter in "ZYX")

    @property
    def n_channels(self) -> int:
        """Number of channels; 1 without a channel axis."""
        return self.size("C")

    def size(self, axis: str) -> int:
        """Return the length of an axis by its letter; 1 where there is no such axis."""
        return int(self.data.shape[self.axes.index(axis)]) if axis in self.axes else 1

    def channels_last(self) -> NDArray[Any]:
        """Return the data with spatial axes in order and the channel axis last, added if missing: ``[*S C]``."""
        data: NDArray[Any] = self.data[...]
        if "C" not in self.axes:
            return data[..., None]
        return np.moveaxis(data, self.axes.index("C"), -1)

    def with_data(self, data: NDArray[Any], axes: str, **changes: Any) -> "Image":
        """Return a copy with other data and axes; name, source and unit stay."""
        return replace(self, data=data, axes=axes, memo={}, **changes)

    def window(self, **ranges: slice | int) -> "Image":
        """Read a part of the image into memory.

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
            raise UsageError(
                "window",
                expected=f"axes out of {self.axes}",
                got=", ".join(strange),
                fix="give a slice for each of them",
            )
        index = tuple(ranges.get(letter, slice(None)) for letter in self.axes)
        data = self.data[index]
        left = "".join(a for a, one in zip(self.axes, index, strict=True) if isinstance(one, slice))
        valid = None
        if self.valid is not None:
            valid = self.valid[tuple(one for a, one in zip(self.axes, index, strict=True) if a != "C")]
        if data.dtype.kind == "b":
            data = data.astype(np.uint8) * np.uint8(255)
        return replace(
            self,
            data=data,
            axes=left,
            spacing=self._spacing_of(left),
            channels=self.channels if "C" in left else (),
            valid=finite_mask(data, left, valid),
            meta={},
            memo={},
        )

    def at(self, axis: str, number: int) -> "Image":
        """Return one time point, or one plane of a volume, as an image of its own; one in a file is not read yet.

        A plane across Y or X of a volume has Z as its rows: they are called Y, and columns X, each with its own
        spacing. Raise `UsageError` if there is no such axis, or no such place on it.
        """
        if axis not in self.axes or axis == "C" or not 0 <= number < self.size(axis):
            raise UsageError(
                self.source,
                expected=f"a place on an axis of {self.axes} below its length",
                got=f"{axis} {number} of {self.axes}",
                fix="count from 0",
            )
        rest = self.axes.replace(axis, "")
        spatial = iter("YX")
        flat = rest if len(spatial_axes(rest)) > 2 else "".join(next(spatial) if a in "ZYX" else a for a in rest)
        valid = None if self.valid is None else _place(self.valid, self.axes.replace("C", "").index(axis), number)
        data = _place(self.data, self.axes.index(axis), number)
        return replace(self, data=data, axes=flat, spacing=self._spacing_of(rest), valid=valid, memo={})

    def select_channels(self, wanted: Channels) -> "Image":
        """Return the image with some of its channels, in the order in which they are given; one in a file is not read yet.

        Parameters
        ----------
        wanted
            Names, or numbers from 0, also as ``"DAPI,2"``; None = the image as it is.

        Raises
        ------
        InputError
            If the image has no such channel.
        """
        if wanted is None:
            return self
        items = [wanted] if isinstance(wanted, int) else wanted.split(",") if isinstance(wanted, str) else wanted
        numbers = [self._channel_number(str(item).strip()) for item in items]
        if not numbers:
            raise InputError(self.source, expected="a channel or more", got="none", fix="leave --channels out for all")
        if "C" not in self.axes or numbers == list(range(self.n_channels)):
            return self
        key = f"channels {numbers}"
        if key not in self.memo:  # what is computed of the channels is kept with the image too
            axis, names = self.axes.index("C"), tuple(self.channels[n] for n in numbers if self.channels)
            self.memo[key] = replace(self, data=self.data.take(numbers, axis), channels=names, memo={})
        chosen: Image = self.memo[key]
        return chosen

    def _channel_number(self, item: str) -> int:
        if item in self.channels:
            return self.channels.index(item)
        if item.isdecimal() and int(item) < self.n_channels:
            return int(item)
        known = ", ".join(f"{n} ({name})" for n, name in enumerate(self.channels)) or f"0 to {self.n_channels - 1}"
        raise InputError(
            self.source, expected=f"a channel out of {known}", got=repr(item), fix="choose among them with --channels"
        )

    def load(self, max_bytes: int | None = None) -> "Image":
        """Return the image with its pixels in memory, at most `max_bytes`; None = three quarters of the memory that is free.

        Raise `InputError` if the file is damaged or too large, or no value is finite.
        """
        if self.in_memory:
            return self
        self.data.check_fits(max_bytes)
        whole = replace(self.window(), meta=self.meta, memo=self.memo)
        if whole.data.dtype.kind == "f" and whole.valid is not None and not np.isfinite(whole.data).any():
            raise no_finite_values(self.source)
        return whole

    @property
    def closed(self) -> bool:
        """True if the file was closed; never of pixels in memory."""
        return not self.in_memory and bool(self.data.closed)

    def close(self) -> None:
        """Close the file; nothing can be read after it. Pixels in memory stay."""
        if not self.in_memory:
            self.data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spacing_of(self, axes: str) -> tuple[float, ...]:
        known = dict(zip(spatial_axes(self.axes), self.spacing, strict=True))
        return tuple(known[letter] for letter in spatial_axes(axes))


def finite_mask(data: NDArray[Any], axes: str, valid: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Return `valid`, over the axes other than C, and False where any channel is NaN or infinite; None = all count."""
    valid = None if valid is None or valid.all() else valid
    if data.dtype.kind != "f":
        return valid
    finite: Any = np.isfinite(data)
    if finite.all():
        return valid
    finite = finite.all(axis=axes.index("C")) if "C" in axes else finite
    mask: NDArray[np.bool_] = finite if valid is None else valid & finite
    return mask


def no_finite_values(source: str) -> InputError:
    """Return the error for an image without a finite value."""
    return InputError(
        source,
        expected="some finite values",
        got="only NaN or infinite ones",
        fix="check how the file was written, or leave it out",
    )


def _place(array: Any, axis: int, number: int) -> Any:
    """Return one place along an axis, without that axis: a view."""
    if isinstance(array, np.ndarray):
        return array[(slice(None),) * axis + (number,)]
    return array.at(axis, number)


KNOWN = "TCZYX"
SPATIAL = "ZYX"


def check_axes(axes: str, ndim: int | None = None) -> str:
    """Return `axes`, one letter an array axis out of ``T C Z Y X`` in the array's order, in upper case.

    Raise `UsageError` if a letter is unknown or repeated, Y or X is missing, or the count differs from `ndim`.
    """
    upper = axes.upper()
    fix = "give one letter for each axis, for example --axes YXC"
    if set(upper) - set(KNOWN) or len(set(upper)) != len(upper) or not {"Y", "X"} <= set(upper):
        raise UsageError(f"axes {axes!r}", expected="distinct letters of TCZYX with Y and X", got=axes, fix=fix)
    if ndim is not None and len(upper) != ndim:
        raise UsageError(f"axes {axes!r}", expected=f"{ndim} letters", got=f"{len(upper)}", fix=fix)
    return upper


def spatial_axes(axes: str) -> str:
    """Return the spatial letters of `axes` in their order, for example ``"YX"`` of ``"TYXC"``."""
    return "".join(letter for letter in axes if letter in SPATIAL)


class AxisView:
    """The place `number` along `axis` of an array-like in a file, without that axis: read and written by regions of the others.

    `array` has shape, dtype and indexing by slices.
    """

    def __init__(self, array: Any, axis: int, number: int) -> None:
        self.array, self.axis, self.number = array, axis, number
        self.shape = tuple(n for i, n in enumerate(array.shape) if i != axis)
        self.dtype, self.ndim = array.dtype, len(self.shape)

    def _place(self, region: Any) -> tuple[slice, ...]:
        here = slice(self.number, self.number + 1)
        return (*region[: self.axis], here, *region[self.axis :])

    def __getitem__(self, region: Any) -> Any:
        return np.squeeze(np.asarray(self.array[self._place(region)]), self.axis)

    def __setitem__(self, region: Any, values: Any) -> None:
        self.array[self._place(region)] = np.expand_dims(values, self.axis)


def time_points(array: Any, axes: str) -> list[Any]:
    """Return the time points of an array-like as views that can be read and written; the array alone where `axes` have no T."""
    if "T" not in axes:
        return [array]
    axis = axes.index("T")
    if isinstance(array, np.ndarray):
        return list(np.moveaxis(array, axis, 0))
    return [AxisView(array, axis, number) for number in range(array.shape[axis])]
