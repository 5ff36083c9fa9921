"""Merge trees in a folder of results: superpixels and tree of each image, and their cut at any level, of any size of image."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import Failure, InputError, UsageError
from selfseg.core.files import Manifest, clear_unfinished, writing
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.export.labels import LabelWriter
from selfseg.export.ome_zarr import open_label_zarr, storing
from selfseg.read import open_lazy
from selfseg.regions.merge_tree import MergeTree
from selfseg.results.result import Result
from selfseg.tiling.tiles import make_grid

TREES, CUTS = "tree", "cut"
"""Folders in a folder of results. Label images of superpixels hold their number + 1, those of a cut the region's; 0 = outside."""

BLOCK = 2**22
"""Pixels that are cut at a time."""


def write_tree(path: Path, tree: MergeTree) -> None:
    """Write ``parents``, ``altitudes`` and ``sizes`` as an NPZ file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with writing(path) as temporary:
        np.savez_compressed(temporary, parents=tree.parents, altitudes=tree.altitudes, sizes=tree.sizes)


def read_tree(path: Path) -> MergeTree:
    """Read a tree that `write_tree` wrote, never unpickling.

    Raises
    ------
    InputError
        If the file is missing or damaged, or holds no tree.
    """
    try:
        with np.load(path, allow_pickle=False) as loaded:
            parents, altitudes, sizes = (loaded[name] for name in ("parents", "altitudes", "sizes"))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            path,
            expected="a merge tree",
            got=getattr(error, "strerror", None) or str(error) or type(error).__name__,
            fix="make it again with --tree",
        ) from error
    places = np.arange(len(parents))
    whole = len(parents) % 2 == 1 and parents.ndim == 1 and parents.dtype.kind == "i" and parents.max() < len(parents)
    upwards = whole and bool((parents[:-1] > places[:-1]).all()) and parents[-1] == places[-1]
    if not upwards or altitudes.shape != parents.shape or sizes.shape != parents.shape:
        raise InputError(path, expected="a merge tree", got="arrays that are none", fix="make it again with --tree")
    return MergeTree(parents.astype(np.int32), altitudes.astype(np.float64), sizes.astype(np.float64))


def check_single(image: Image) -> None:
    """Raise `UsageError` if an image is a series: each of its frames has a tree of its own."""
    if "T" in image.axes:
        raise UsageError(
            image.source,
            expected="a single image or volume for a tree",
            got=f"axes {image.axes}",
            fix="give the frames one by one, or leave --tree out",
        )


def save_tree(result: Result, out: Path) -> None:
    """Write the superpixels and the merge tree of an image in memory: ``OUT/tree/NAME.tif`` and ``OUT/tree/NAME.npz``.

    Raises
    ------
    UsageError
        If it is a series: each of its frames has a tree of its own.
    OutputError
        If they cannot be written.
    """
    image = result.image
    check_single(image)
    found = result.hierarchy
    numbers = (found.superpixels.astype(np.int64) + 1).astype(np.uint32)
    (path,) = LabelWriter().write(out / TREES, image.name, numbers, image)
    write_tree(path.with_suffix(".npz"), found.tree)


def cut_folder(
    out: Path | str, n_regions: int | None = None, level: float | None = None, progress: Progress | None = None
) -> list[Failure]:
    """Cut the merge tree of every image of a folder of results into ``OUT/cut``: NAME.tif, or NAME.zarr of a large one.

    Parameters
    ----------
    out
        The folder, made with `--tree`.
    n_regions
        Regions wanted in each image.
    level
        Every merge whose altitude is at most this is done.
    progress
        Who watches, in blocks.

    Returns
    -------
    list of (name, message)
        Images that failed.

    Raises
    ------
    InputError
        If the folder has no trees.
    UsageError
        Unless exactly one of `n_regions` (1 or more) and `level` is given.
    """
    if (n_regions is None) == (level is None) or (n_regions is not None and n_regions < 1):
        raise UsageError(
            "cut",
            expected="either a number of regions or a level",
            got=f"regions {n_regions}, level {level}",
            fix="write for example --regions 12, or --level 0.05",
        )
    out = Path(out)
    if not (out / TREES).is_dir():
        raise InputError(
            out,
            expected="a folder with merge trees",
            got="none",
            fix="make them: selfseg predict MODEL INPUT -o OUT --tree",
        )
    failures: list[Failure] = []
    clear_unfinished(out, (CUTS,))
    with Manifest(out) as manifest:
        for path in sorted((out / TREES).rglob("*.npz")):
            name = path.relative_to(out / TREES).as_posix().removesuffix(".npz")
            if f"{TREES}/{name}.npz" not in manifest.stale:
                try:
                    _cut_one(out, name, n_regions, level, progress or Silent())
                except (InputError, UsageError) as error:
                    failures.append((name, str(error)))
        manifest.settle(within=[CUTS])
    return failures


def _cut_one(out: Path, name: str, n_regions: int | None, level: float | None, progress: Progress) -> None:
    """Cut the tree of one image."""
    stem = out / TREES / name
    zarr = stem.with_name(f"{stem.name}.zarr")
    regions = read_tree(stem.with_name(f"{stem.name}.npz")).cut(n_regions, level)
    with open_lazy(zarr if zarr.is_dir() else stem.with_name(f"{stem.name}.tif"), None, name) as superpixels:
        _cut(superpixels, regions, out, zarr.is_dir(), progress)


def _cut(superpixels: Image, regions: NDArray[np.int32], out: Path, large: bool, progress: Progress) -> None:
    """Write the region of every pixel, 1..K, block by block."""
    data, name = superpixels.data, superpixels.name
    of = np.concatenate([[0], regions.astype(np.int64) + 1]).astype(np.uint32)
    grid = make_grid(data.shape, 0, BLOCK, 256 if data.ndim == 2 else 32)
    path = out / CUTS / f"{name}{'.zarr' if large else '.tif'}"
    where = (path, data.shape, np.uint32, tuple(min(256 if data.ndim == 2 else 32, n) for n in data.shape))
    stored: Any = np.zeros(data.shape, np.uint32)
    if large:
        stored = open_label_zarr(*where, superpixels.axes, superpixels)
    progress.start(f"cutting {name} (blocks)", len(grid))
    try:
        for done, place in enumerate(grid.places(), 1):
            core = grid.tile(place).core
            numbers = data[core]
            if int(numbers.max(initial=0)) >= len(of):
                raise InputError(
                    superpixels.source,
                    expected="the superpixels of its tree",
                    got=f"superpixel {int(numbers.max())} of {len(of) - 1}",
                    fix="make both again with --tree",
                )
            with storing(path):
                stored[core] = of[numbers]
            progress.update(done, {})
    finally:
        progress.finish()
    if not large:
        LabelWriter().write(out / CUTS, name, stored, superpixels)
