"""The photograph under the colours of its classes, with thin boundaries and, if wanted, class numbers."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from scipy import ndimage

from selfseg.core.classes import ClassTable
from selfseg.core.errors import UsageError
from selfseg.core.files import writing
from selfseg.core.image import Image
from selfseg.export.labels import colour_table, labels_picture
from selfseg.export.outlines import connected_regions

LINE_STRENGTH = 0.8
"""Opacity of the boundary lines."""

LINE_PER = 1000
"""Pixels of the longer side for each pixel of width of boundary lines: large pictures are seen from afar."""

GREY_RANGE = (56.0, 236.0)
"""Grey levels that black and white of the image become under the colours: in the dark all colours look alike."""

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)

BAND = 128
"""Rows that are mixed at a time, so that a large picture takes little memory."""

NUMBERED_SHARE = 1 / 500
"""Regions smaller than this share of a plane carry no number."""


def overlay(
    image: Image,
    labels: NDArray[Any],
    table: ClassTable | None = None,
    opacity: float = 0.45,
    boundaries: bool = True,
    numbers: bool = False,
    planes: int = 1,
    grey: bool = True,
) -> NDArray[np.uint8]:
    """Return the image under the colours of its classes, ``[H W 3]`` uint8: one plane, or a montage.

    Parameters
    ----------
    image
        Image with any axes; display is stretched as in `export.overlay.displayed`.
    labels
        Ids with the axes of `image` without C; 0 (ignore) stays uncoloured.
    table
        Colours of the ids; None = the palette.
    opacity
        Share of the class colours, 0-1.
    boundaries
        Draw a light line with a dark one beside it, visible on any ground, between regions of different ids.
    numbers
        Write the id into each connected region that is not too small.
    planes
        Slices (or time points) of a volume, evenly spread, side by side; 1 = the middle one.
    grey
        Show the image itself in grey, so that colours mean classes alone.

    Raises
    ------
    UsageError
        If `labels` do not fit `image`, or `opacity` or `planes` are out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg import Image
    >>> from selfseg.export.overlay import overlay
    >>> overlay(Image(np.zeros((8, 9), np.uint8), "YX"), np.ones((8, 9), int)).shape
    (8, 9, 3)
    """
    if not 0 <= opacity <= 1:
        raise UsageError("opacity", expected="0 to 1", got=str(opacity), fix="use for example 0.45")
    if planes < 1:
        raise UsageError("planes", expected="1 or more", got=str(planes), fix="1 shows the middle slice")
    shown = middle_planes(plane_shape(image)[0], planes)
    ground, ids = displayed(image, shown), label_planes(np.asarray(labels), image, shown)
    colours = colour_table(table, int(ids.max(initial=0)))
    tiles = [_painted(plane, plane_ids, colours, opacity, grey) for plane, plane_ids in zip(ground, ids, strict=True)]
    if boundaries:
        for tile, plane_ids in zip(tiles, ids, strict=True):
            _draw_lines(tile, plane_ids)
    if numbers:
        tiles = [_numbered(tile, plane_ids) for tile, plane_ids in zip(tiles, ids, strict=True)]
    return montage(tiles)


def write_overlay(
    path: Path | str, image: Image, labels: NDArray[Any], table: ClassTable | None = None, **options: Any
) -> None:
    """Write `overlay` (which takes the same options) as a PNG.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from selfseg import Image
    >>> from selfseg.export.overlay import write_overlay
    >>> from selfseg.read import read_image
    >>> path = Path(tempfile.mkdtemp(), "overlay.png")
    >>> write_overlay(path, Image(np.zeros((8, 9), np.uint8), "YX"), np.ones((8, 9), int))
    >>> read_image(path).data.shape
    (8, 9, 3)
    """
    write_picture(path, overlay(image, labels, table, **options))


def overlay_png(image: Image, labels: NDArray[Any], table: ClassTable | None = None, **options: Any) -> bytes:
    """Return `overlay` (which takes the same options) as the bytes of a PNG: notebooks show it.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg import Image
    >>> from selfseg.export.overlay import overlay_png
    >>> overlay_png(Image(np.zeros((8, 9), np.uint8), "YX"), np.ones((8, 9), int))[1:4]
    b'PNG'
    """
    png = io.BytesIO()
    Picture.fromarray(overlay(image, labels, table, **options)).save(png, format="PNG")
    return png.getvalue()


def write_labels_picture(
    path: Path | str, image: Image, labels: NDArray[Any], table: ClassTable | None = None, planes: int = 1
) -> None:
    """Write the class colours alone as a PNG in which ignored pixels are transparent."""
    shown = middle_planes(plane_shape(image)[0], planes)
    write_picture(path, montage(list(labels_picture(label_planes(np.asarray(labels), image, shown), table))))


def write_picture(path: Path | str, picture: NDArray[np.uint8]) -> None:
    """Write ``[H W 3]``, ``[H W 4]`` or ``[H W]`` uint8 as a PNG; `OutputError` if that fails."""
    with writing(path) as temporary:
        Picture.fromarray(np.ascontiguousarray(picture)).save(temporary, format="PNG")


def montage(tiles: list[NDArray[np.uint8]], gap: int = 4) -> NDArray[np.uint8]:
    """Return pictures of one size ``[H W C]`` in a nearly square grid, row by row, on white, `gap` pixels apart."""
    if len(tiles) == 1:
        return tiles[0]
    height, width, n_channels = tiles[0].shape
    n_columns = min(len(tiles), max(1, round((len(tiles) * height / width) ** 0.5)))
    n_rows = -(-len(tiles) // n_columns)
    sheet = np.full((n_rows * (height + gap) - gap, n_columns * (width + gap) - gap, n_channels), 255, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // n_columns * (height + gap), place % n_columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _painted(
    ground: NDArray[np.uint8], ids: NDArray[Any], colours: NDArray[np.uint8], opacity: float, grey: bool
) -> NDArray[np.uint8]:
    share = opacity * colours[..., 3:].astype(np.float32) / 255  # ignored ids are transparent
    ink = colours[..., :3] * share + 0.5  # half a level, as the cast below rounds down
    painted = np.empty_like(ground)
    for top in range(0, len(ground), BAND):
        rows = slice(top, top + BAND)
        base = ground[rows].astype(np.float32)
        if grey:
            low, high = GREY_RANGE
            base = (low + base @ LUMINANCE * ((high - low) / 255))[..., None]
        painted[rows] = base * (1 - share)[ids[rows]] + ink[ids[rows]]
    return painted


def _draw_lines(tile: NDArray[np.uint8], ids: NDArray[Any]) -> None:
    """Draw a light line where the next pixel differs, and a dark one on the other side of it, in place."""
    width = max(1, round(max(ids.shape) / LINE_PER))
    light = _wider(boundaries(ids), width // 2)
    dark = _wider(light, width) & ~light
    for mask, value in ((dark, 0.0), (light, 255.0)):
        strength = LINE_STRENGTH if value else LINE_STRENGTH / 2
        tile[mask] = (tile[mask] * (1 - strength) + value * strength + 0.5).astype(np.uint8)


def _wider(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    grown: NDArray[np.bool_] = ndimage.maximum_filter(mask.view(np.uint8), size=2 * by + 1).view(np.bool_)
    return grown


def _numbered(tile: NDArray[np.uint8], ids: NDArray[Any]) -> NDArray[np.uint8]:
    size = max(11, min(28, round(max(ids.shape) / 36)))
    picture = Picture.fromarray(tile)
    draw, font, edge = ImageDraw.Draw(picture), ImageFont.load_default(size), max(1, size // 8)
    for label, y, x in number_places(ids):
        draw.text((x, y), str(label), fill="white", font=font, anchor="mm", stroke_fill="black", stroke_width=edge)
    return np.array(picture)


def number_places(ids: NDArray[Any], least_share: float = NUMBERED_SHARE) -> list[tuple[int, float, float]]:
    """Return where to write the ids of a plane.

    Parameters
    ----------
    ids
        ``[Y X]``, 0 = ignore.
    least_share
        Connected regions (4 neighbours) below this share of the plane are left out.

    Returns
    -------
    list
        Id, row and column: the centroid of each region, or, where that lies outside, the pixel deepest inside.
    """
    places: list[tuple[int, float, float]] = []
    regions = connected_regions(ids)
    areas = np.bincount(regions.ravel())
    for region, box in enumerate(ndimage.find_objects(regions), start=1):
        if areas[region] < least_share * ids.size:
            continue
        inside = regions[box] == region
        y, x = ndimage.center_of_mass(inside)
        if not inside[round(y), round(x)]:
            depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
            y, x = divmod(int(np.argmax(depth)), depth.shape[1])
        label = ids[box][inside][0]
        places.append((int(label), float(y) + box[0].start, float(x) + box[1].start))
    return places


LOW, HIGH = 0.5, 99.5
"""Percentiles that become black and white."""

SAMPLE = 1_000_000
"""Values of a channel from which the percentiles are taken."""


def plane_shape(image: Image) -> tuple[int, int, int]:
    """Return the number of planes (time points times slices), rows and columns."""
    sizes = dict(zip(image.axes, image.data.shape, strict=True))
    return sizes.get("T", 1) * sizes.get("Z", 1), sizes["Y"], sizes["X"]


def middle_planes(n_planes: int, wanted: int) -> list[int]:
    """Return the indices of `wanted` planes, evenly spread; of the middle one for 1."""
    wanted = max(1, min(wanted, n_planes))
    return [(2 * i + 1) * n_planes // (2 * wanted) for i in range(wanted)]


def label_planes(labels: NDArray[Any], image: Image, planes: list[int]) -> NDArray[Any]:
    """Return some planes ``[P Y X]`` of the labels of `image`, which have its axes without C.

    Labels that are not integers of 0 or more, or not of the image's size, raise `UsageError`.
    """
    if labels.dtype.kind not in "biu" or labels.min(initial=0) < 0:
        raise UsageError(
            f"labels of {image.name}",
            expected="ids of 0 or more",
            got=str(labels.dtype),
            fix="0 is ignore, classes are 1..K",
        )
    axes = image.axes.replace("C", "")
    shape = tuple(size for size, letter in zip(image.data.shape, image.axes, strict=True) if letter != "C")
    if labels.shape != shape:
        raise UsageError(
            f"labels of {image.name}",
            expected=f"shape {shape} ({axes})",
            got=str(labels.shape),
            fix="use the labels of this image",
        )
    ordered = labels.transpose([axes.index(letter) for letter in "TZYX" if letter in axes])
    flat: NDArray[Any] = ordered.reshape(-1, *ordered.shape[-2:])[planes]
    return flat.astype(np.uint8) if flat.dtype.kind == "b" else flat


def displayed(image: Image, planes: list[int]) -> NDArray[np.uint8]:
    """Return some planes of an image as 8-bit RGB ``[P Y X 3]``.

    8-bit images of three channels stay as they are. All others are stretched channel by channel, from the 0.5th to the
    99.5th percentile of the valid, finite values of the whole image. One channel is grey; two are magenta and green;
    more than three are cut into three runs of neighbouring channels, whose means are red, green and blue. `planes` are
    indices into the planes of `plane_shape`.
    """
    letters = [letter for letter in "TZYX" if letter in image.axes]
    data = image.data if "C" in image.axes else image.data[..., None]
    axes = image.axes if "C" in image.axes else image.axes + "C"
    ordered = data.transpose([axes.index(letter) for letter in [*letters, "C"]])
    stack = ordered.reshape(-1, *ordered.shape[-3:])  # [P Y X C]
    if stack.dtype == np.uint8 and stack.shape[-1] == 3:
        kept: NDArray[np.uint8] = stack[planes]
        return kept
    valid = _valid_values(image, letters)
    channels = [_stretched(stack[..., i], stack[planes, :, :, i], valid) for i in range(stack.shape[-1])]
    return np.stack(_three(channels), axis=-1)


def _valid_values(image: Image, letters: list[str]) -> NDArray[np.bool_] | None:
    """Return `image.valid` in the order of `letters`, if it has all their axes."""
    if image.valid is None or image.valid.ndim != len(letters):
        return None
    axes = image.axes.replace("C", "")
    return image.valid.transpose([axes.index(letter) for letter in letters]).reshape(-1, *image.valid.shape[-2:])


def _stretched(channel: NDArray[Any], planes: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Return `planes` between 0 and 255 by the percentiles of `channel`; one value alone is mid-grey."""
    step = max(1, round((channel.size / SAMPLE) ** (1 / 3)))
    thin = (slice(None, None, step),) * 3 if len(channel) >= step else (slice(None), *(slice(None, None, step),) * 2)
    values = channel[thin].astype(np.float64)
    usable = np.isfinite(values) if valid is None else np.isfinite(values) & valid[thin]
    values = values[usable]
    low, high = np.percentile(values, (LOW, HIGH)) if values.size else (0.0, 0.0)
    if low == high and values.size:  # a few bright points on a flat ground
        low, high = values.min(), values.max()
    if low == high:
        return np.full(planes.shape, 128, np.uint8)
    stretched = np.empty(planes.shape, np.uint8)
    for top in range(0, planes.shape[1], BAND):
        share = (planes[:, top : top + BAND].astype(np.float64) - low) / (high - low)
        level = np.clip(np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
        stretched[:, top : top + BAND] = level * 255 + 0.5
    return stretched


def _three(channels: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    if len(channels) == 1:
        return channels * 3
    if len(channels) == 2:
        return [channels[0], channels[1], channels[0]]
    runs = np.array_split(np.arange(len(channels)), 3)
    means = (np.mean([channels[i] for i in run], axis=0, dtype=np.float32) for run in runs)
    return [np.asarray(mean.round(), np.uint8) for mean in means]


def boundaries(labels: NDArray[Any], thick: bool = False) -> NDArray[np.bool_]:
    """Return where a pixel differs from the next one along some axis: ``[*S]`` bool.

    Parameters
    ----------
    labels
        Ids ``[*S]``.
    thick
        Mark the pixels on both sides of a change; else only the one before it (the upper, or the left).

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.export.overlay import boundaries
    >>> boundaries(np.array([[1, 1, 2]])).astype(int)
    array([[0, 1, 0]])
    """
    marked = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        before = tuple(slice(None, -1) if i == axis else slice(None) for i in range(labels.ndim))
        after = tuple(slice(1, None) if i == axis else slice(None) for i in range(labels.ndim))
        changes = labels[before] != labels[after]
        marked[before] |= changes
        if thick:
            marked[after] |= changes
    return marked
