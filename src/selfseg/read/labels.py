"""Label files: segmentations, truth, scribbles and masks, found for their images and read through one gate."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.files import Manifest
from selfseg.core.image import Image
from selfseg.read.arrays import Decoded, make_image, split_address
from selfseg.read.formats import decode_labels, stem_of, suffix_of
from selfseg.read.ome_zarr import is_zarr
from selfseg.read.sources import SCRIBBLE_ENDING, Source, list_files, natural_order, walk

SEVERAL = "segmentations"
"""Name of the array in an NPZ file that holds several annotators ``[A *S]``."""

NO_SCRIBBLE = -1
MAX_CLASS = 254

Mask = Path | NDArray[Any]


def _read(path: Path, role: str) -> Decoded:
    """Return the integers of a label file, whatever their role; True and False are 1 and 0, a palette counts by its indices."""
    decoded = decode_labels(path)
    kind = decoded.data.dtype
    if "C" in decoded.axes or kind.kind not in "bui":
        raise InputError(
            f"{role} {path}",
            expected="one channel of integers",
            got=f"{decoded.data.shape[-1]} channels" if "C" in decoded.axes else f"values of type {kind}",
            fix="save whole numbers as grey values or palette indices (uint8, uint16 or int32), not as colours",
        )
    return replace(decoded, data=decoded.data.astype(np.uint8)) if kind.kind == "b" else decoded


def read_labels(path: Path | str) -> NDArray[np.integer]:
    """Read one label image of integers, of any format that is read. A palette counts by its indices.

    Of an OME-Zarr image its one label image is read, of a DICOM segmentation the number of the segment at each pixel.

    Returns
    -------
    NDArray
        ``[*S]`` integers, as they are in the file; True and False become 1 and 0.

    Raises
    ------
    InputError
        If the file cannot be read, or holds several annotators, colours, or values that are no integers.
    """
    several = read_truths(path)
    if len(several) > 1:
        raise InputError(
            f"labels {path}", expected="one segmentation", got=f"{len(several)}", fix="give it as the truth"
        )
    return several[0]


def read_label_image(path: Path | str, name: str | None = None) -> Image:
    """Read one label image with its axes, spacing and unit, as `read_labels` does."""
    path = Path(path)
    return make_image(_read(path, "labels"), None, name or stem_of(path), str(path))


def read_truths(path: Path | str) -> list[NDArray[np.integer]]:
    """Read the truth of one image: one array ``[*S]`` an annotator.

    An NPZ file with an array ``segmentations`` ``[A *S]`` holds several annotators; every other file holds one. Raise
    `InputError` as for `read_labels`.
    """
    path = Path(path)
    several = _annotators(path)
    if several is None:
        return [_read(path, "labels").data]
    if several.dtype.kind not in "bui":
        raise InputError(
            f"labels {path}",
            expected="integers",
            got=f"values of type {several.dtype}",
            fix="round the values and save them as uint8, uint16 or int32",
        )
    return [part.astype(np.uint8) if part.dtype == bool else part for part in several]


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
    stale = Manifest(where.parent).stale  # where it is the folder of a run's labels, those of earlier runs do not count
    shown = [path for path in walk(where) if not any(part[0] == "." for part in path.relative_to(where).parts)]
    shown = [path for path in shown if path.relative_to(where.parent).as_posix() not in stale]
    found: dict[str, Path] = {}
    for path in sorted((p for p in shown if suffix_of(p) is not None), key=lambda p: natural_order(p, where)):
        name = (path.relative_to(where).parent / stem_of(path)).as_posix()
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


def read_annotations(path: Path | str, spatial_shape: Sequence[int]) -> NDArray[np.int64]:
    """Read a label image of scribbles: some pixels of some classes, marked by a user.

    The values are class numbers from 0. 255 in an 8-bit file, 65535 in a 16-bit one, any value below 0 and any
    transparent pixel mean "no scribble", as in the scribbles that Kim, Kanezaki & Tanaka (2020) publish. A palette
    image counts by its indices, not its colours.

    Parameters
    ----------
    path
        A PNG, TIFF or other image file of one channel of integers.
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
    """
    decoded = _read(Path(path), "scribbles")
    data = decoded.data
    if data.shape != tuple(spatial_shape):
        expected, got = (" x ".join(str(n) for n in shape) for shape in (spatial_shape, data.shape))
        raise InputError(
            f"scribbles {path}",
            expected=f"the size of the image, {expected}",
            got=got,
            fix="draw the scribbles on the image at its full size",
        )
    annotations = data.astype(np.int64)
    nothing = annotations < 0
    if data.dtype in (np.uint8, np.uint16):
        nothing |= annotations == np.iinfo(data.dtype).max
    if decoded.valid is not None:
        nothing |= ~decoded.valid
    annotations[nothing] = NO_SCRIBBLE
    if annotations.max() > MAX_CLASS:
        raise InputError(
            f"scribbles {path}",
            expected=f"class numbers up to {MAX_CLASS}",
            got=str(annotations.max()),
            fix="number the classes from 0, and mark no scribble by 255 (8-bit) or -1",
        )
    return annotations


def find_annotations(annotations: str | Path | Sequence[str | Path], sources: Sequence[Source]) -> dict[str, Path]:
    """Find the scribbles of each input by name.

    A scribble file belongs to the input of the same stem, or of the stem before ``_scribble``. A single file belongs
    to a single input whatever its name.

    Parameters
    ----------
    annotations
        A file, a folder (with its sub-folders), a glob, or a list of these.
    sources
        The inputs.

    Returns
    -------
    dict
        Scribble file by the name of its input; inputs without scribbles are left out.

    Raises
    ------
    InputError
        If there is no such file, a file that was named belongs to no input, no file of a folder belongs to any, or two
        belong to one.
    """
    items = [annotations] if isinstance(annotations, str | Path) else list(annotations)
    inputs = {source.path.resolve() for source in sources if source.path is not None}
    pairs: dict[str, Path] = {}
    for item in items:
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


def _pair(path: Path, name: str, sources: Sequence[Source], pairs: dict[str, Path]) -> None:
    """Enter a scribble file at every input of its name: by the whole name below the folder, else by the last part."""
    whole = name.removesuffix(SCRIBBLE_ENDING)
    stem = whole.rsplit("/", 1)[-1]
    fitting = [source for source in sources if source.name == whole] or [
        source for source in sources if _stem(source) == stem
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

    mask: Mask = field(default_factory=lambda: np.ones(()))
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
        inside: NDArray[np.bool_] = (
            read_labels(self.mask) if isinstance(self.mask, Path) else np.asarray(self.mask)
        ) != 0
        self._digests["mask"] = hashlib.sha256(np.packbits(inside).tobytes()).hexdigest()
        return inside

    def mask_fingerprint(self) -> str | None:
        """Return the SHA-256 of the pixels that count; computed when the mask is first read."""
        if "mask" not in self._digests:
            self._inside()
        return self._digests["mask"]


def with_masks(sources: Sequence[Source], masks: str | Path | NDArray[Any] | None) -> list[Source]:
    """Lay masks upon inputs.

    Parameters
    ----------
    sources
        The inputs.
    masks
        A label image or an array for a single input, or a folder with a file of the name of each; None = there are none.

    Raises
    ------
    InputError
        If nothing is there, an input has no mask, or an input is a video.
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
    if isinstance(masks, np.ndarray):
        found: dict[str, Mask] = {source.name: masks for source in sources if len(sources) == 1}
    else:
        found = dict(find_labels(masks))
        if len(sources) == 1 and Path(masks).is_file():
            found = {sources[0].name: Path(masks)}
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
