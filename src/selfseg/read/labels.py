"""Label files: segmentations, truth, scribbles and masks, found for their images and read through one gate."""

import hashlib
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.files import Manifest
from selfseg.core.image import Image
from selfseg.read.arrays import Decoded, is_array, make_image, split_address
from selfseg.read.formats import decode_labels, stem_of, suffix_of
from selfseg.read.gate import Role, is_lossy, through_gate
from selfseg.read.ome_zarr import is_zarr
from selfseg.read.search import search
from selfseg.read.sources import SCRIBBLE_ENDING, Source, as_items, as_path, decode_item, list_files, natural_order

SEVERAL = "segmentations"
"""Name of the array in an NPZ file that holds several annotators ``[A *S]``."""

RUN_SUFFIX = ".tif"
"""Suffix of the labels that are read where a run wrote them in several formats."""

NO_SCRIBBLE = -1
MAX_CLASS, NOT_DRAWN = 254, 255

LabelItem = Any
"""A label image that is given: the path of a file, or an array, a tensor or a picture of Pillow."""


def _read(item: LabelItem, role: Role, name: str = "", ignore: int | None = None) -> Decoded:
    """Return the integers of a label image by its role (`read.gate`); a palette counts by its indices."""
    if isinstance(item, Path):
        return through_gate(decode_labels(item), role, str(item), is_lossy(item), ignore)
    if isinstance(item, Image):
        own = Decoded(item.data[...], item.axes, valid=None if item.valid is None else item.valid[...])
        return through_gate(own, role, f"of {name}", ignore=ignore)
    return through_gate(decode_item(item, name, as_labels=True), role, f"of {name}", ignore=ignore)


def read_labels(
    item: LabelItem, role: Role = "labels", name: str = "", ignore: int | None = None
) -> NDArray[np.integer]:
    """Read one label image of integers, of any format that is read. A palette counts by its indices.

    Of an OME-Zarr image its one label image is read, of a DICOM segmentation the number of the segment at each pixel.

    Parameters
    ----------
    item
        The path of a file, or an array.
    role
        What its values are, see `read.gate.through_gate`.
    name
        Name of its image, for messages about an array.
    ignore
        Value that keeps its meaning in a truth.

    Returns
    -------
    NDArray
        ``[*S]`` integers; True and False become 1 and 0.

    Raises
    ------
    InputError
        If the file cannot be read, or holds several annotators, colours, or values that are no labels in that role.
    """
    item = Path(item) if isinstance(item, str) else item
    several = _annotators(item) if isinstance(item, Path) else None
    if several is not None and len(several) > 1:
        raise InputError(
            f"labels {item}", expected="one segmentation", got=f"{len(several)}", fix="give it as the truth"
        )
    return _read(item if several is None else several[0], role, name or str(item), ignore).data


def read_label_image(path: Path | str, name: str | None = None) -> Image:
    """Read one label image with its axes, spacing and unit, as `read_labels` does."""
    path = Path(path)
    return make_image(_read(path, "labels"), None, name or stem_of(path), str(path))


def read_truths(item: LabelItem, name: str = "", ignore: int | None = None) -> list[NDArray[np.integer]]:
    """Read the truth of one image: one array ``[*S]`` an annotator.

    An NPZ file with an array ``segmentations`` ``[A *S]`` holds several annotators; every other file or array holds one. Raise
    `InputError` as for `read_labels`.
    """
    item = Path(item) if isinstance(item, str) else item
    several = _annotators(item) if isinstance(item, Path) else None
    if several is None:
        return [_read(item, "truth", name, ignore).data]
    axes = "TZYX"[-(several.ndim - 1) :]
    return [through_gate(Decoded(part, axes), "truth", str(item), ignore=ignore).data for part in several]


def _annotators(path: Path) -> NDArray[Any] | None:
    """Return the array of several annotators if an NPZ file has one, never unpickling."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as loaded:
            return np.asarray(loaded[SEVERAL]) if SEVERAL in loaded.files else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        got = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise InputError(
        f"labels {path}",
        expected=f"a NumPy file of one array, or with an array {SEVERAL!r}",
        got=got,
        fix="check the file",
    )


def find_labels(where: Path | str, prefer: str | None = None) -> dict[str, Path]:
    """Return the label files that a file or a folder stands for, by their name below the folder without its suffix.

    Parameters
    ----------
    where
        A file or a folder.
    prefer
        Suffix of the file to take where several formats of one name are known to hold the same; None = they may not.

    Raises
    ------
    InputError
        If nothing is there, or two files have the same name.
    """
    where = Path(where)
    if split_address(where)[1] or where.is_file() or is_zarr(where):
        return {stem_of(where): where}
    if not where.is_dir():
        raise InputError(f"labels {where}", expected="a file or a folder", got="nothing", fix="check the name")
    run = Manifest(where.parent)  # where it is the folder of a run's labels, those of earlier runs do not count
    stale, found = run.stale, dict[str, Path]()
    for path in sorted((p for p in search(where) if suffix_of(p) is not None), key=lambda p: natural_order(p, where)):
        below = path.relative_to(where.parent).as_posix()
        if below in stale:
            continue
        name = (path.relative_to(where).parent / stem_of(path)).as_posix()
        if name in found and below in run.files:  # the same labels in another format
            prefer = prefer or RUN_SUFFIX
        if name in found and prefer is None:
            raise InputError(
                f"labels {where}",
                expected="one file a name",
                got=f"{found[name].name} and {path.name}",
                fix="remove one of them",
            )
        if name not in found or suffix_of(path) == prefer:
            found[name] = path
    if not found:
        raise InputError(f"labels {where}", expected="label images", got="none", fix="check the folder")
    return found


def read_annotations(path: LabelItem, spatial_shape: Sequence[int]) -> NDArray[np.int64]:
    """Read a label image of scribbles: some pixels of some classes, marked by a user.

    The values are class numbers from 0. 255, 65535 in a 16-bit file, any value below 0 and any transparent pixel mean "no scribble", as
    in the scribbles that Kim, Kanezaki & Tanaka (2020) publish. A palette image counts by its indices, not its colours.

    Parameters
    ----------
    path
        A PNG, TIFF or other image file of one channel of integers, or an array.
    spatial_shape
        Size of the image that it belongs to, ``(Y, X)`` or ``(Z, Y, X)``.

    Returns
    -------
    NDArray
        ``[*S]`` int64, -1 where there is no scribble.

    Raises
    ------
    InputError
        If the file cannot be read, has another size, is no label image, or has class numbers above 254.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.read import read_annotations
    >>> strokes = np.full((2, 3), 255)
    >>> strokes[0, 0], strokes[1, 2] = 0, 1
    >>> read_annotations(strokes, (2, 3))
    array([[ 0, -1, -1],
           [-1, -1,  1]])
    """
    item = Path(path) if isinstance(path, str) else path
    what = f"scribbles {item}" if isinstance(item, Path) else "scribbles"
    data = _read(item, "scribbles", "an image").data
    if data.shape != tuple(spatial_shape):
        expected, got = (" x ".join(str(n) for n in shape) for shape in (spatial_shape, data.shape))
        raise InputError(
            what,
            expected=f"the size of the image, {expected}",
            got=got,
            fix="draw the scribbles on the image at its full size",
        )
    annotations = data.astype(np.int64)
    nothing = (annotations < 0) | (annotations == NOT_DRAWN)
    if data.dtype == np.uint16:
        nothing |= annotations == np.iinfo(np.uint16).max
    annotations[nothing] = NO_SCRIBBLE
    if annotations.max() > MAX_CLASS:
        raise InputError(
            what,
            expected=f"class numbers up to {MAX_CLASS}",
            got=str(annotations.max()),
            fix="number the classes from 0, and mark no scribble by 255 (8-bit) or -1",
        )
    return annotations


def find_annotations(annotations: Any, sources: Sequence[Source]) -> dict[str, LabelItem]:
    """Find the scribbles of each input by name.

    A scribble file belongs to the input of the same stem, or of the stem before ``_scribble``. A single file belongs
    to a single input whatever its name.

    Parameters
    ----------
    annotations
        A file, a folder (with its sub-folders), a glob, or a list of these; or an array, or None, for each input.
    sources
        The inputs.

    Returns
    -------
    dict
        Scribbles by the name of its input; inputs without scribbles are left out.

    Raises
    ------
    InputError
        If there is no such file, a file that was named belongs to no input, no file of a folder belongs to any, or two
        belong to one.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.read import find_annotations, find_inputs
    >>> sources = find_inputs(np.zeros((2, 3), np.uint8))
    >>> strokes = np.full((2, 3), 255)
    >>> strokes[0, 0], strokes[1, 2] = 0, 1
    >>> list(find_annotations(strokes, sources))
    ['image']
    """
    items = as_items(annotations)
    if any(item is None or isinstance(item, Image) or is_array(item) for item in items):
        return label_items(annotations, sources, "scribbles")
    inputs = {source.path.resolve() for source in sources if source.path is not None}
    pairs: dict[str, LabelItem] = {}
    for item in map(as_path, items):
        files = list_files(item, as_inputs=False)
        named = len(files) == 1 and files[0][0] == Path(item).expanduser()
        if named and not files[0][0].is_file():
            raise InputError(f"scribbles {item}", expected="a file", got="nothing of that name", fix="check the name")
        if named and len(items) == 1 and len(sources) == 1:
            return {sources[0].name: files[0][0]}
        before = len(pairs)
        for path, name in files:
            if named or path.resolve() not in inputs:
                _pair(path, name, sources, pairs)
        if len(pairs) == before:
            expected = "a file named like an input, or that and _scribble"
            shown = ", ".join(source.name for source in sources[:5])
            raise InputError(
                f"scribbles {item}",
                expected=expected,
                got=f"none that fits {shown}" + (", ..." if len(sources) > 5 else ""),
                fix="rename the files",
            )
    return pairs


def _pair(path: Path, name: str, sources: Sequence[Source], pairs: dict[str, LabelItem]) -> None:
    """Enter a scribble file at every input of its name: by the whole name below the folder, else by the last part."""
    whole = name.removesuffix(SCRIBBLE_ENDING)
    stem = whole.rsplit("/", 1)[-1]
    fitting = [source for source in sources if form(source.name) == form(whole)] or [
        source for source in sources if form(_stem(source)) == form(stem)
    ]
    if len(fitting) > 1:
        raise InputError(
            f"scribbles {path}",
            expected="one input",
            got=f"{len(fitting)} of that name",
            fix="name the scribbles folder/stem like the inputs, or give the inputs different names",
        )
    if not fitting:
        return
    known = pairs.setdefault(fitting[0].name, path)
    if known.resolve() != path.resolve():
        raise InputError(
            f"scribbles {path}", expected="one file for an input", got=f"{known.name} as well", fix="remove one of them"
        )


def _stem(source: Source) -> str:
    return source.name.rsplit("/", 1)[-1] if source.path is None else stem_of(source.path)


@dataclass(frozen=True, eq=False)
class MaskedSource(Source):
    """An input of which only the pixels inside a mask count."""

    mask: LabelItem = field(default_factory=lambda: np.ones(()))
    """A file of integers, or an array: of the size of the image, 0 = outside. One without time goes for every time
    point."""

    def _opened(self, axes: str | None, max_bytes: int | None) -> Image:
        """Return the image in memory, with `valid` False outside of the mask.

        Raise `InputError` if the image or the mask cannot be read, the mask is of another size, or nothing is inside.
        """
        with super()._opened(axes, max_bytes) as opened:
            image = opened.load(max_bytes)
        inside, what = self._inside(), f"mask of {self.name}"
        counted = tuple(n for n, letter in zip(image.data.shape, image.axes, strict=True) if letter != "C")
        if inside.shape == image.spatial_shape != counted:
            inside = np.broadcast_to(np.expand_dims(inside, image.axes.replace("C", "").index("T")), counted)
        if inside.shape != counted:
            expected, got = (" x ".join(map(str, shape)) for shape in (counted, inside.shape))
            raise InputError(
                what,
                expected=f"the size of the image, {expected}",
                got=got,
                fix="give a mask of every pixel of the image",
            )
        if not inside.any():
            raise InputError(
                what, expected="some pixels that count", got="zeros alone", fix="mark what counts by values above 0"
            )
        return replace(image, valid=inside if image.valid is None else image.valid & inside)

    def _inside(self) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = read_labels(self.mask, "mask", self.name) != 0
        self._digests["mask"] = hashlib.sha256(np.packbits(inside).tobytes()).hexdigest()
        return inside

    def mask_fingerprint(self) -> str | None:
        """Return the SHA-256 of the pixels that count; computed when the mask is first read."""
        if "mask" not in self._digests:
            self._inside()
        return self._digests["mask"]


def with_masks(sources: Sequence[Source], masks: Any, say: Callable[[str], None] | None = None) -> list[Source]:
    """Lay masks upon inputs.

    Parameters
    ----------
    sources
        The inputs.
    masks
        A label image or an array for a single input, a list of arrays, or a folder with a file of the name of each; None = there are none.
    say
        Called with a line where a mask is understood in another way than by its values.

    Raises
    ------
    InputError
        If nothing is there, an input has no mask, or an input is a video.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.read import find_inputs, with_masks
    >>> sources = find_inputs(np.zeros((2, 3), np.uint8))
    >>> mask = np.array([[1, 1, 0], [1, 1, 0]])
    >>> with_masks(sources, mask)[0].read().valid
    array([[ True,  True, False],
           [ True,  True, False]])
    """
    if masks is None:
        return list(sources)
    for video in (source for source in sources if source.is_video()):
        raise InputError(
            f"mask of {video.name}",
            expected="an image",
            got="a video",
            fix="use a TIFF of its frames, or leave the mask out",
        )
    found = label_items(masks, sources, "mask", say)
    without = [source.name for source in sources if source.name not in found]
    if without:
        raise InputError(
            "masks",
            expected="one for every input",
            got=f"none for {', '.join(without[:3])}" + (", ..." if len(without) > 3 else ""),
            fix="name the masks like the images, in a folder like theirs",
        )
    return [
        MaskedSource(item.name, item.path, item.content, item.settled, item.images, mask=found[item.name])
        for item in sources
    ]


def label_items(
    given: Any, sources: Sequence[Source], what: str, say: Callable[[str], None] | None = None
) -> dict[str, LabelItem]:
    """Return the label image of each input that has one, by the name of the input; they are not read yet.

    Parameters
    ----------
    given
        A file for a single input whatever its name, a folder with files of the inputs' names (`pair_by_name`), an array for a single
        input, or a list with an array, or None, for each input.
    sources
        The inputs.
    what
        Name of the label images in messages: ``"labels"``, ``"mask"``.
    say
        Called with a line on files that belong to no input, and on files of a format that changes values.

    Raises
    ------
    InputError
        If nothing is there, or nothing fits an input.
    UsageError
        If the number of arrays is not that of the inputs.
    """
    if not isinstance(given, str | bytes | PathLike):
        return _given_arrays(given, sources, what)
    place = as_path(given).expanduser()
    files = find_labels(place)
    if len(sources) == 1 and [*files.values()] == [place]:
        found: dict[str, LabelItem] = {sources[0].name: place}
    else:
        found = dict(pair_by_name(files, sources, what))
    if not found:
        raise InputError(
            f"{what} {place}",
            expected="a file named like an input",
            got=f"none of {', '.join(list(files)[:3])}",
            fix="rename the files",
        )
    if say is not None:
        _tell(found, files, place, what, say)
    return found


def _tell(
    found: Mapping[str, LabelItem], files: Mapping[str, Path], place: Path, what: str, say: Callable[[str], None]
) -> None:
    used = {*map(id, found.values())}
    others = [path.name for path in files.values() if id(path) not in used and path != place]
    if others and found:
        say(f"{what} {place}: {len(others)} belong to no input ({', '.join(others[:3])}{', ...' * (len(others) > 3)})")
    lossy = [path.name for path in found.values() if is_lossy(path)]
    if lossy:
        shown = ", ".join(lossy[:3]) + ", ..." * (len(lossy) > 3)
        say(f"{what} {place}: JPEG changes values, so only masks of two values are read, cut at their middle: {shown}")


def _given_arrays(given: Any, sources: Sequence[Source], what: str) -> dict[str, LabelItem]:
    items = [given] if isinstance(given, Image) or is_array(given) else as_items(given)
    if len(items) != len(sources):
        raise UsageError(
            what,
            expected=f"{len(sources)}, one for each input",
            got=str(len(items)),
            fix="give None for an input without",
        )
    found = {source.name: item for source, item in zip(sources, items, strict=True) if item is not None}
    found = {name: as_path(item) if isinstance(item, str | bytes | PathLike) else item for name, item in found.items()}
    if not found:
        raise InputError(what, expected="some", got="none for any input", fix="give those of some inputs")
    for name, item in found.items():
        if not isinstance(item, Path | Image) and not is_array(item):
            raise UsageError(
                f"{what} of {name}", expected="a file or an array", got=type(item).__name__, fix="convert it"
            )
    return found


def pair_by_name(files: Mapping[str, Path], sources: Sequence[Source], what: str = "labels") -> dict[str, Path]:
    """Return the file of each input that has one of its name, by the name of the input.

    The whole name below the folder counts, all forms of an accent being equal; else the last part, where no other file and no other
    input has it. Raise `InputError` if a file could belong to several inputs.
    """
    whole = _by(files, form)
    last = _by(files, lambda name: form(name).rpartition("/")[2])
    pairs: dict[str, Path] = {}
    wanting: dict[str, list[Source]] = {}
    for source in sources:
        if source.name in files or len(whole.get(form(source.name), ())) == 1:
            pairs[source.name] = files.get(source.name) or files[whole[form(source.name)][0]]
        else:
            wanting.setdefault(form(_stem(source)), []).append(source)
    for stem, alike in wanting.items():
        fitting = [files[name] for name in last.get(stem, ()) if files[name] not in pairs.values()]
        if len(fitting) == 1 and len(alike) > 1:
            raise InputError(
                f"{what} {fitting[0]}",
                expected="one input",
                got=f"{len(alike)} of that name: {', '.join(one.name for one in alike[:3])}",
                fix="put it into a folder like that of its input",
            )
        if len(fitting) == 1:
            pairs[alike[0].name] = fitting[0]
    return pairs


def form(name: str) -> str:
    """Return a name in the one form (NFC) in which names are compared: disks and programs differ in how they write an accent."""
    return unicodedata.normalize("NFC", name)


def _by(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(key(name), []).append(name)
    return found
