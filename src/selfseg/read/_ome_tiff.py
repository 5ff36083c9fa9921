"""OME-TIFF images that are spread over several files: which ones, metadata in a companion file, and planes that are not there.

The metadata of each file describe the whole. They name files of the same folder, or of a folder below it.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.read._tiff_pages import ChosenPages, Series
from selfseg.read.arrays import DAMAGE

MOST_NAMED = 4

PLANES = {"T": "time points", "Z": "planes along Z", "C": "channels"}


def open_tiff(file: Path) -> tuple[tifffile.TiffFile, tuple[str, ...]]:
    """Open a TIFF with the OME metadata that hold for it, and return it with what is odd about them.

    They may lie in another file (``BinaryOnly``). Planes that they place at a path of the computer that wrote them are looked for in
    the folder of the file, as Bio-Formats does; nothing outside of it is opened.
    """
    tif = tifffile.TiffFile(file, _multifile=False)
    try:
        root = _metadata(tif)
        if root is None:
            return tifffile.TiffFile(file), ()
        whole, note = _followed(file, root)
        if whole is None:  # plain pages
            return tifffile.TiffFile(file, is_ome=False), note
        changed = whole is not root
        if changed:  # the metadata are those of another file, the pages of this one
            whole.attrib.pop("UUID", None)
            whole.attrib.update({"UUID": own} if (own := root.get("UUID")) else {})
        for one in whole.iterfind(".//{*}UUID[@FileName]"):
            inside = _inside(one.get("FileName", ""))
            changed |= inside != one.get("FileName")
            one.set("FileName", inside)
        xml = ElementTree.tostring(whole, "unicode") if changed else None
        return tifffile.TiffFile(file, omexml=xml), (*note, *_missing(file, whole))
    finally:
        tif.close()


def series_files(file: Path) -> frozenset[Path]:
    """Return the files, with this one, over which an image of an OME-TIFF is spread; empty for any other file."""
    try:
        with tifffile.TiffFile(file, _multifile=False) as tif:
            root = _metadata(tif)
        whole = None if root is None else _followed(file, root)[0]
    except DAMAGE:
        return frozenset()  # what is wrong with it is said when it is read
    found = set[Path]()
    for pixels in () if whole is None else whole.iterfind(".//{*}Pixels"):
        names = {file.parent / _inside(one.get("FileName", "")) for one in pixels.iterfind(".//{*}UUID[@FileName]")}
        found |= names if len(names) > 1 and file in names else set()
    return frozenset(one for one in found if one.is_file())


def _metadata(tif: tifffile.TiffFile) -> ElementTree.Element | None:
    """Return the OME metadata of a file; None if it has none that can be parsed."""
    with contextlib.suppress(ElementTree.ParseError):
        return ElementTree.fromstring(tif.ome_metadata) if tif.is_ome and tif.ome_metadata else None
    return None


def _followed(file: Path, root: ElementTree.Element) -> tuple[ElementTree.Element | None, tuple[str, ...]]:
    """Return the metadata themselves where a file only names the other file that has them; None if they are not there."""
    told = root.find("{*}BinaryOnly")
    if told is None:
        return root, ()
    name = _inside(told.get("MetadataFile", ""))
    companion = file.parent / name
    with contextlib.suppress(ElementTree.ParseError, OSError, UnicodeDecodeError, tifffile.TiffFileError):
        if companion.suffix.lower() not in (".tif", ".tiff"):
            return ElementTree.fromstring(companion.read_text(encoding="utf-8")), ()
        with tifffile.TiffFile(companion, _multifile=False) as tif:
            whole = _metadata(tif)
        if whole is not None and whole.find("{*}BinaryOnly") is None:
            return whole, ()
    return None, (f"its OME metadata are in {name}, which is not there or cannot be read: it is read without them",)


def _inside(name: str) -> str:
    """Return a file name that metadata give, relative to the folder of the file and not leading out of it."""
    place = PurePosixPath(name.replace("\\", "/"))
    outside = place.is_absolute() or ".." in place.parts or ":" in name
    return place.name if outside else place.as_posix()


def _missing(file: Path, whole: ElementTree.Element) -> Iterator[str]:
    names = dict.fromkeys(one.get("FileName", "") for one in whole.iterfind(".//{*}UUID[@FileName]"))
    gone = [name for name in names if name and name != file.name and not (file.parent / name).is_file()]
    if gone and len(names) > 1:
        shown = ", ".join(gone[:MOST_NAMED]) + (", ..." if len(gone) > MOST_NAMED else "")
        yield f"{len(gone)} of the {len(names)} files of its series are not there: {shown}"


def own_images(tif: tifffile.TiffFile, images: Sequence[Series]) -> list[Series]:
    """Return the images of which a plane is in the file itself: metadata of a set describe those of the other files too."""
    own = [one for one in images if any(page is not None and page.parent is tif for page in one.pages)]
    return own or list(images)


def existing_planes(series: Series) -> tuple[Series, tuple[str, ...]]:
    """Return what there is of a series that was stopped, or whose other files are not there, and a line about that.

    Whole time points, planes and channels are kept, as many pixels of them as there are.
    """
    lead = series.ndim - series.keyframe.ndim
    sizes = series.shape[: max(lead, 0)]
    there = np.array([page is not None for page in series.pages])
    if there.all() or lead < 1 or len(there) != np.prod(sizes, dtype=int):
        return series, ()
    kept = _complete(there.reshape(sizes))
    numbers = np.ravel_multi_index(np.ix_(*kept), sizes).ravel()
    part = ChosenPages([series.pages[int(i)] for i in numbers], [len(places) for places in kept], series.axes[:lead])
    part.whole = series if isinstance(series, tifffile.TiffPageSeries) else None
    axes = series.axes[:lead]
    stated = " x ".join(f"{size} {PLANES.get(letter, letter)}" for letter, size in zip(axes, sizes, strict=True))
    left = " x ".join(_shown(places, letter) for letter, places in zip(axes, kept, strict=True))
    n = there.size - int(there.sum())
    return part, (f"{n} of the {there.size} pages that it lists are missing ({stated}): read are {left}",)


def _shown(places: NDArray[np.intp], letter: str) -> str:
    whole = places[-1] - places[0] == len(places) - 1
    text = f"{places[0]} to {places[-1]}" if whole and len(places) > 1 else ", ".join(map(str, places))
    return f"{letter} {text}"


def _complete(there: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Return the places along each axis at all of whose combinations there is something: the emptiest is left out, again and again."""
    kept = [np.arange(n) for n in there.shape]
    while not (part := there[np.ix_(*kept)]).all():
        shares = [(part.mean(axis=tuple(i for i in range(part.ndim) if i != axis)), axis) for axis in range(part.ndim)]
        share, axis = min(shares, key=lambda one: (one[0].min(), one[1]))
        last = len(share) - 1 - int(np.argmin(share[::-1]))
        kept[axis] = np.delete(kept[axis], last)
    return kept
