"""Axes strings: ``"YX"``, ``"YXC"``, ``"ZYX"``, ``"TYXC"``. Time, channel, depth, row, column, in the array's own order."""

from selfseg.core.errors import UsageError

KNOWN = "TCZYX"
SPATIAL = "ZYX"


def check_axes(axes: str, ndim: int | None = None) -> str:
    """Return `axes` in upper case if it is valid, else raise.

    Parameters
    ----------
    axes
        One letter an array axis, in the array's order, out of ``T C Z Y X``; Y and X must be there.
    ndim
        Number of axes that the array has, if known.

    Raises
    ------
    UsageError
        If a letter is unknown or repeated, Y or X is missing, or the count differs from `ndim`.
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
