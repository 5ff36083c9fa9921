"""The user's own superpixels: label images, found by the names of the images, and given to the method."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from selfseg.core.errors import InputError, UsageError
from selfseg.methods.base import Method
from selfseg.read.labels import find_labels, read_labels
from selfseg.sample.prepare import Preparation, Prepared
from selfseg.sample.stream import Memo, Readable, Sample
from selfseg.sample.window_samples import WindowSample


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

    def give(self, method: Method, preparation: Preparation, name: str, prepared: Prepared, memo: Memo) -> None:
        """Put the superpixels of one image into its memo, at the size at which it was prepared.

        Raises
        ------
        UsageError
            If the method has no use for them.
        InputError
            If there are none for this image, or they are not of its size.
        """
        if self.place is None:
            return
        if not method.uses_superpixels:
            expected, got = "a method that takes them", type(method).__name__
            raise UsageError("superpixels", expected=expected, got=got, fix="use --method sp_wnet")
        path = self.files.get(name)
        if path is None and len(self.files) == 1 and Path(self.place).is_file():
            path = next(iter(self.files.values()))
        if path is None:
            got = f"none of {', '.join(list(self.files)[:3])}"
            raise InputError(f"superpixels {self.place}", expected=f"a file {name}", got=got, fix="rename it")
        try:
            labels = preparation.labels(read_labels(path), prepared)
        except InputError as error:
            raise InputError(f"superpixels {path}: {error}") from error
        memo["superpixels"] = labels

    def give_all(
        self,
        method: Method,
        preparation: Preparation,
        images: Iterable[tuple[str, Prepared | WindowSample]],
        samples: Iterable[Readable],
    ) -> None:
        """Put the superpixels of all training images into the memos of their samples, by name.

        Raises
        ------
        UsageError, InputError
            As for `give`, and if an image is learned from in windows.
        """
        if self.place is None:
            return
        for (name, prepared), sample in zip(images, samples, strict=True):
            if isinstance(prepared, WindowSample) or not isinstance(sample, Sample) or sample.memo is None:
                fix = "cut parts out of both, and give those"
                got = f"{name}, which is learned from in windows"
                raise UsageError("superpixels", expected="images that fit in memory", got=got, fix=fix)
            self.give(method, preparation, name, prepared, sample.memo)

    def facts(self) -> dict[str, Any]:
        """Return the hash of each file, which a run that is resumed must find again."""
        if not self.files:
            return {}
        return {
            "superpixels": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.files.items()}
        }
