"""Scribbles: label images in which a user has marked some pixels of some classes, found for their images and read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.read.formats import decode_labels, stem_of
from selfseg.read.sources import SCRIBBLE_ENDING, Source, list_files

NO_SCRIBBLE = -1
MAX_CLASS = 254


def read_annotations(path: Path | str, spatial_shape: Sequence[int]) -> NDArray[np.int64]:
    """Read a label image of scribbles.

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
    path = Path(path)
    decoded = decode_labels(path)
    data = decoded.data
    if "C" in decoded.axes or data.dtype.kind not in "bui":
        got = f"{data.shape[-1]} channels" if "C" in decoded.axes else f"values of type {data.dtype}"
        fix = "save class numbers as grey values or palette indices, not as colours"
        raise InputError(f"scribbles {path}", expected="one channel of integers", got=got, fix=fix)
    if data.shape != tuple(spatial_shape):
        expected, got = (" x ".join(str(n) for n in shape) for shape in (spatial_shape, data.shape))
        fix = "draw the scribbles on the image at its full size"
        raise InputError(f"scribbles {path}", expected=f"the size of the image, {expected}", got=got, fix=fix)
    annotations = data.astype(np.int64)
    nothing = annotations < 0
    if data.dtype in (np.uint8, np.uint16):
        nothing |= annotations == np.iinfo(data.dtype).max
    if decoded.valid is not None:
        nothing |= ~decoded.valid
    annotations[nothing] = NO_SCRIBBLE
    if annotations.max() > MAX_CLASS:
        fix = "number the classes from 0, and mark no scribble by 255 (8-bit) or -1"
        raise InputError(
            f"scribbles {path}", expected=f"class numbers up to {MAX_CLASS}", got=str(annotations.max()), fix=fix
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
        files = list_files(item, keep_scribbles=True)
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
            got = f"none that fits {shown}" + (", ..." if len(sources) > 5 else "")
            raise InputError(f"scribbles {item}", expected=expected, got=got, fix="rename the files")
    return pairs


def _pair(path: Path, name: str, sources: Sequence[Source], pairs: dict[str, Path]) -> None:
    """Enter a scribble file at every input of its name: by the whole name below the folder, else by the last part."""
    whole = name.removesuffix(SCRIBBLE_ENDING)
    stem = whole.rsplit("/", 1)[-1]
    fitting = [source for source in sources if source.name == whole] or [
        source for source in sources if _stem(source) == stem
    ]
    if len(fitting) > 1:
        fix = "name the scribbles folder/stem like the inputs, or give the inputs different names"
        raise InputError(f"scribbles {path}", expected="one input", got=f"{len(fitting)} of that name", fix=fix)
    if not fitting:
        return
    known = pairs.setdefault(fitting[0].name, path)
    if known.resolve() != path.resolve():
        got = f"{known.name} as well"
        raise InputError(f"scribbles {path}", expected="one file for an input", got=got, fix="remove one of them")


def _stem(source: Source) -> str:
    return source.name.rsplit("/", 1)[-1] if source.path is None else stem_of(source.path)
