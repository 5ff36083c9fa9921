"""The user's own superpixels: label images, found by the names of the images, and handed to the method."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.methods.base import Method
from selfseg.read.labels import find_labels, read_labels
from selfseg.sample.prepare import PreparedImage
from selfseg.tiling.tiles import Region

MEMO = "superpixels"
"""Key in the memo of a prepared image under which a method finds them."""

LabelsOf = Callable[[Region], NDArray[Any]]
"""From a region of the prepared image to superpixels ``[*region]``, negative = outside."""


class OwnSuperpixels:
    """Label images of superpixels, each value of 0 or more one superpixel, negative values outside.

    Parameters
    ----------
    place
        A file, for a single image whatever its name, or a folder with a file for each image.

    Raises
    ------
    InputError
        If nothing is there.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = place
        self.files = find_labels(place)

    def of(self, method: Method, name: str, prepared: PreparedImage) -> LabelsOf:
        """Return the superpixels of one image, at the size at which it was prepared; all of them are in its memo.

        Raises
        ------
        UsageError
            If the method has no use for them.
        InputError
            If there are none for this image, or they are not of its size.
        """
        if not method.uses_superpixels:
            expected, got = "a method that takes them", type(method).__name__
            raise UsageError("superpixels", expected=expected, got=got, fix="use --method sp_wnet")
        path = self.files.get(name)
        if path is None and len(self.files) == 1 and Path(self.place).is_file():
            path = next(iter(self.files.values()))
        if path is None:
            got = f"none of {', '.join(list(self.files)[:3])}"
            raise InputError(f"superpixels {self.place}", expected=f"a file {name}", got=got, fix="rename it")
        labels = read_labels(path)
        try:
            whole = prepared.forward_labels(labels)
        except InputError as error:
            raise InputError(f"superpixels {path}: {error}") from error
        prepared.memo[MEMO] = whole
        return lambda region: whole[region]

    def facts(self) -> dict[str, Any]:
        """Return the hash of each file, which a resumed run must find again."""
        digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.files.items()}
        return {"superpixels": digests} if digests else {}
