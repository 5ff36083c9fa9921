"""The one image type: an array with its axes, spacing, unit and channel names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.axes import check_axes, spatial_axes


@dataclass(frozen=True)
class Image:
    """An image of any kind, as it was read: integers keep their range, nothing is rescaled.

    Attributes
    ----------
    data
        Array whose axes are named by `axes`.
    axes
        One letter an axis, out of ``T C Z Y X``, in the order of `data`.
    spacing
        Size of a pixel along each spatial axis, in the order in which the spatial axes stand in `axes`.
    unit
        Unit of `spacing`: ``"pixel"`` when the file does not say.
    channels
        Channel names, empty when unknown.
    name
        Stem for outputs, with ``/`` for sub-folders: ``"series1/cell_03"``.
    source
        Where it came from, for messages and for `run.json`.
    valid
        Boolean array over the spatial axes, and T where there is one, in the order of `axes`: False where a pixel must
        be ignored (transparent, no data, NaN); None = all count.
    guessed_axes
        True when nothing said what the axes are and `axes` could be wrong: to be shown to the user.
    meta
        What a file's place in the world needs besides `spacing`, to write labels back onto the same grid (`selfseg.export`).
        ``"affine"`` ``[4 4]``: from the indices (X, Y, Z) of `data` to millimetres to the right, front and top of a patient;
        ``"offset"``: place of the first pixel by the axis' letter, in `unit`; ``"nifti"``, ``"dicom"``, ``"mrc"``: what their
        readers keep for their writers. Empty when the file says nothing.
    """

    data: NDArray[Any]
    axes: str
    spacing: tuple[float, ...] = ()
    unit: str = "pixel"
    channels: tuple[str, ...] = ()
    name: str = "image"
    source: str = "array"
    valid: NDArray[np.bool_] | None = field(default=None, repr=False)
    guessed_axes: bool = False
    meta: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_axes(self.axes, self.data.ndim)
        if not self.spacing:
            object.__setattr__(self, "spacing", (1.0,) * len(spatial_axes(self.axes)))

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Sizes of the spatial axes, in their order: ``(Y, X)`` or ``(Z, Y, X)``."""
        return tuple(n for n, letter in zip(self.data.shape, self.axes, strict=True) if letter in "ZYX")

    @property
    def n_channels(self) -> int:
        """Number of channels; 1 without a channel axis."""
        return int(self.data.shape[self.axes.index("C")]) if "C" in self.axes else 1

    def channels_last(self) -> NDArray[Any]:
        """Return the data with spatial axes in order and the channel axis last, added if missing: ``[*S C]``."""
        data = self.data if "C" in self.axes else self.data[..., None]
        axes = self.axes if "C" in self.axes else self.axes + "C"
        return np.moveaxis(data, axes.index("C"), -1)

    def with_data(self, data: NDArray[Any], axes: str, **changes: Any) -> "Image":
        """Return a copy with other data and axes; name, source and unit stay."""
        return replace(self, data=data, axes=axes, **changes)
