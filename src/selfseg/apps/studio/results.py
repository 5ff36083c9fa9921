"""Results of a run, as files: written by the processes that segment, read by the server, each as a memory map."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.files import remove, write_json, writing
from selfseg.core.image import Image
from selfseg.read import Source, split_frames
from selfseg.read.video import VideoFrames

if TYPE_CHECKING:  # the server reads results, and must not import torch
    from selfseg import Result, Segmenter
    from selfseg.refine.hierarchy import Leaves

RESULTS = "results"
FACTS = "result.json"
ARRAYS = ("superpixels", "parents", "altitudes", "sizes", "classes", "features", "probabilities")

FIRST_FRAMES = 24
"""Frames of a video that a run segments at once; others are segmented when they are opened."""


def store_results(
    model: "Segmenter",
    source: Source,
    axes: str | None,
    run: Path,
    only: int | None = None,
    stored: Callable[[int], None] = lambda number: None,
    remarked: Callable[[str], None] = lambda remark: None,
) -> int:
    """Segment a picture into a run's folder; return the number of frames that were stored.

    `only` is the number of a single frame, segmented if it has no result yet; None = those of `frames_of`. `stored` is
    called with the number of each frame that is stored, `remarked` with what the user should know of it.
    """
    from selfseg.segmenting.images import leaves_of

    if only is not None and find_result(run, source.name, only):
        return 1
    count = 0
    for number, frame in frames_of(source, axes, only):
        result = model.predict_image(frame)
        own = result.objects if model.method_.finds_objects else None
        write_result(result_folder(run, source.name, number), result, leaves_of(model.fitted, result), own)
        stored(number)
        if remark := model.fitted.remark(result.areas):
            remarked(remark)
        count += 1
    return count


def frames_of(source: Source, axes: str | None, only: int | None = None) -> Iterator[tuple[int, Image]]:
    """Yield number and image of each frame: all of a series, the first `FIRST_FRAMES` of a video, or `only` one.

    InputError if the picture, or that one frame, cannot be read. Other frames of a video that do not decode are left out.
    """
    if not source.is_video(axes) or source.path is None:
        yield from (item for item in enumerate(split_frames(source.read(axes))) if only is None or item[0] == only)
        return
    video = _video(source.path, source.path.stat().st_mtime)
    if only is not None:
        yield only, video.frame(only)
        return
    for number, frame in zip(range(FIRST_FRAMES), video.frames(), strict=False):
        if not isinstance(frame, InputError):
            yield number, frame


@lru_cache(maxsize=4)
def _video(path: Path, stamp: float) -> VideoFrames:
    return VideoFrames(path)


def result_folder(run: Path, name: str, frame: int) -> Path:
    """Return the folder of the result of a frame of a picture."""
    return run / RESULTS / name / f"t{frame:05d}"


def write_result(folder: Path, result: "Result", leaves: "Leaves", own: NDArray[np.integer] | None = None) -> None:
    """Write the result of one frame; its facts come last, so that half a result is never read: one of before goes first.

    `own` are the objects that the method found itself.
    """
    remove(folder / FACTS)
    tree = leaves.tree
    arrays: dict[str, NDArray[Any]] = {
        "superpixels": leaves.superpixels,
        "parents": tree.parents,
        "altitudes": tree.altitudes,
        "sizes": tree.sizes,
        "classes": leaves.classes.astype(np.uint16),
        "features": leaves.features,
        "probabilities": _as_bytes(cast("NDArray[np.float32]", result.probabilities)),  # pictures are in memory
    }
    if own is not None:
        arrays["own"] = own.astype(np.uint32)
    for key, array in arrays.items():
        with writing(folder / f"{key}.npy") as temporary:
            np.save(temporary, array)
    facts: dict[str, Any] = {"seconds": round(result.seconds, 3), "leaves": tree.n_leaves, "classes": len(result.table)}
    facts["own"] = own is not None
    write_json(folder / FACTS, facts | {"shape": list(leaves.superpixels.shape)})


def _as_bytes(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return probabilities ``[K *S]`` as 0-255, class by class: all at once would take five times the memory."""
    scaled = np.empty(probabilities.shape, np.uint8)
    for channel, out in zip(probabilities, scaled, strict=True):
        np.add(channel * np.float32(255), 0.5, out=out, casting="unsafe")
    return scaled


@dataclass(frozen=True)
class StoredResult:
    """The result of one frame, on the disk."""

    folder: Path

    def array(self, name: str) -> NDArray[Any]:
        """Return one of `ARRAYS`, memory-mapped."""
        mapped: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return mapped

    def volume(self, name: str) -> NDArray[Any]:
        """Return superpixels ``[Z Y X]``, or probabilities ``[K Z Y X]``, with Z = 1 for a picture."""
        array = self.array(name)
        wanted = 3 if name == "superpixels" else 4
        return array if array.ndim == wanted else np.expand_dims(array, wanted - 3)

    @property
    def own(self) -> NDArray[np.uint32] | None:
        """The objects that the method found itself, ``[*S]``; None if it found none."""
        return self.array("own") if (self.folder / "own.npy").is_file() else None

    @property
    def classes(self) -> NDArray[np.uint16]:
        """The model's class of each leaf, ``[R]``."""
        return self.array("classes")

    @property
    def features(self) -> NDArray[np.float32]:
        """The mean features of each leaf, ``[R D]``."""
        return self.array("features")

    def leaves(self) -> "Leaves":
        """Return the leaves with their merge tree. The first call imports `refine`, which takes seconds."""
        from selfseg.refine.hierarchy import Leaves
        from selfseg.regions.merge_tree import MergeTree

        tree = MergeTree(self.array("parents"), self.array("altitudes"), self.array("sizes"))
        return Leaves(self.array("superpixels"), tree, self.array("classes"), self.array("features"))


def find_result(run: Path, name: str, frame: int) -> StoredResult | None:
    """Return the result of a frame of a picture, or None if the run has none yet."""
    folder = result_folder(run, name, frame)
    return StoredResult(folder) if (folder / FACTS).is_file() else None


def need_result(run: Path, name: str, frame: int) -> StoredResult:
    """Return the result of a frame of a picture; InputError if the run has none yet."""
    found = find_result(run, name, frame)
    if found is None:
        raise InputError(
            f"result of {name!r}", expected="one", got="none yet", fix="wait until the run has segmented it"
        )
    return found


def result_folders(run: Path) -> list[Path]:
    """Return the folders of all results of a run."""
    return sorted(path.parent for path in (run / RESULTS).glob(f"**/t*/{FACTS}"))


def list_results(run: Path) -> list[str]:
    """Return the pictures that have a result, as ``name``, or ``name#frame`` for later frames."""
    frames = ((path.parent.relative_to(run / RESULTS).as_posix(), int(path.name[1:])) for path in result_folders(run))
    return [name if frame == 0 else f"{name}#{frame}" for name, frame in frames]
