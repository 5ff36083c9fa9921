"""The user's own superpixels: label images, found by the names of the images, and put into the memos of the prepared images."""

import hashlib
from pathlib import Path
from typing import Any

from selfseg.core.errors import InputError, UsageError
from selfseg.methods.base import Method
from selfseg.read.labels import find_labels, read_labels
from selfseg.sample.prepare import PreparedImage
from selfseg.sample.statistics import Region
from selfseg.sample.stream import Memo


class OwnSuperpixels:
    """Label images of superpixels, each value of 0 or more one superpixel, negative values outside.

    Parameters
    ----------
    place
        A file, for a single image whatever its name, or a folder with a file for each image; None = there are none.

    Raises
    ------
    InputError
        If nothing is there.
    """

    def __init__(self, place: str | Path | None) -> None:
        self.place = place
        self.files = {} if place is None else find_labels(place)

    def give(
        self, method: Method, prepared: PreparedImage, region: Region | None = None, memo: Memo | None = None
    ) -> None:
        """Put the superpixels of an image into its memo, at the size at which it was prepared.

        Parameters
        ----------
        method
            The method that will use them.
        prepared
            The image; its superpixels have its name.
        region
            Part of the prepared image; None = all of it.
        memo
            Where to put them; None = into the memo of the prepared image.

        Raises
        ------
        UsageError
            If the method has no use for them.
        InputError
            If there are none for this image, or they are not of its size.
        """
        memo = prepared.memo if memo is None else memo
        if self.place is None:
            memo.pop("superpixels", None)  # those of another run with this image
            return
        if not method.uses_superpixels:
            expected, got = "a method that takes them", type(method).__name__
            raise UsageError("superpixels", expected=expected, got=got, fix="use --method sp_wnet")
        name = prepared.image.name
        path = self.files.get(name)
        if path is None and len(self.files) == 1 and Path(self.place).is_file():
            path = next(iter(self.files.values()))
        if path is None:
            got = f"none of {', '.join(list(self.files)[:3])}"
            raise InputError(f"superpixels {self.place}", expected=f"a file {name}", got=got, fix="rename it")
        try:
            labels = prepared.forward_labels(read_labels(path), region)
        except InputError as error:
            raise InputError(f"superpixels {path}: {error}") from error
        memo["superpixels"] = labels

    def facts(self) -> dict[str, Any]:
        """Return the hash of each file, which a run that is resumed must find again."""
        if not self.files:
            return {}
        return {
            "superpixels": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.files.items()}
        }
