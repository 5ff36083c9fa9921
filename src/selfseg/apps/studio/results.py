"""What a run found in one picture, as files: written by the processes that segment, read by the server, a memory map each."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import InputError
from selfseg.core.files import write_json, writing

if TYPE_CHECKING:
    from selfseg.refine.leaves import Leaves
    from selfseg.results.result import Result

FACTS = "result.json"
ARRAYS = ("superpixels", "parents", "altitudes", "sizes", "classes", "features", "probabilities")


def result_folder(run: Path, name: str, frame: int) -> Path:
    """Return where the result of a frame of a picture lies in a run's folder."""
    return run / "results" / name / f"t{frame:05d}"


def write_result(folder: Path, result: "Result", leaves: "Leaves") -> None:
    """Write the result of one frame; its facts come last, so that no half is taken for a whole."""
    tree = leaves.tree
    arrays: dict[str, NDArray[Any]] = {
        "superpixels": leaves.superpixels,
        "parents": tree.parents,
        "altitudes": tree.altitudes,
        "sizes": tree.sizes,
        "classes": leaves.classes.astype(np.uint16),
        "features": leaves.features,
        "probabilities": _as_bytes(result.probabilities),
    }
    for key, array in arrays.items():
        with writing(folder / f"{key}.npy") as temporary:
            np.save(temporary, array)
    facts = {
        "seconds": round(result.seconds, 3),
        "leaves": tree.n_leaves,
        "classes": len(result.table),
        "shape": list(leaves.superpixels.shape),
    }
    write_json(folder / FACTS, facts)


def _as_bytes(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return probabilities ``[K *S]`` as 0-255, one class after the other: all at once they take five times the room."""
    scaled = np.empty(probabilities.shape, np.uint8)
    for channel, out in zip(probabilities, scaled, strict=True):
        np.add(channel * np.float32(255), 0.5, out=out, casting="unsafe")
    return scaled


@dataclass(frozen=True)
class StoredResult:
    """The result of one frame, on the disk."""

    folder: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Seconds, number of leaves and classes, shape."""
        values: dict[str, Any] = json.loads((self.folder / FACTS).read_text(encoding="utf-8"))
        return values

    def array(self, name: str) -> NDArray[Any]:
        """Return one of `ARRAYS`, mapped: only what is looked at is read."""
        mapped: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return mapped

    def volume(self, name: str) -> NDArray[Any]:
        """Return superpixels ``[Z Y X]``, or probabilities ``[K Z Y X]``, with Z = 1 for a picture."""
        array = self.array(name)
        wanted = 3 if name == "superpixels" else 4
        return array if array.ndim == wanted else np.expand_dims(array, wanted - 3)

    @property
    def classes(self) -> NDArray[np.uint16]:
        """``[R]`` the model's class of each leaf."""
        return self.array("classes")

    @property
    def features(self) -> NDArray[np.float32]:
        """``[R D]`` the look of each leaf."""
        return self.array("features")

    def leaves(self) -> "Leaves":
        """Return everything that editing takes. The first call imports what makes trees, which takes seconds."""
        from selfseg.refine.leaves import Leaves
        from selfseg.regions.merge_tree import MergeTree

        tree = MergeTree(self.array("parents"), self.array("altitudes"), self.array("sizes"))
        return Leaves(self.array("superpixels"), tree, self.array("classes"), self.array("features"))


def find_result(run: Path, name: str, frame: int) -> StoredResult | None:
    """Return the result of a frame of a picture, or None if the run has none yet."""
    folder = result_folder(run, name, frame)
    return StoredResult(folder) if (folder / FACTS).is_file() else None


def need_result(run: Path, name: str, frame: int) -> StoredResult:
    """Return the result of a frame of a picture.

    Raises
    ------
    InputError
        If the run has none yet.
    """
    found = find_result(run, name, frame)
    if found is None:
        fix = "wait until the run has segmented it"
        raise InputError(f"result of {name!r}", expected="one", got="none yet", fix=fix)
    return found


def read_table(model: Path) -> ClassTable:
    """Return the class table of a model folder, as it was learned."""
    return ClassTable.from_json(json.loads((model / "classes.json").read_text(encoding="utf-8")))
