"""How an image is cut into blocks and tiles, and how a prediction that was killed is recognised."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.errors import OutputError
from selfseg.core.files import remove, write_text
from selfseg.core.image import Image
from selfseg.export.ome_zarr import LEVEL, is_label_zarr
from selfseg.refine.steps import parse_refinements
from selfseg.results.model import FittedModel, selfseg_version
from selfseg.sample.chain import PreparedImage
from selfseg.segmenting.blocks import Plan, refining_halo
from selfseg.tiling.tiles import LARGEST_TILE, SMALLEST_TILE, Grid, bytes_per_pixel, make_grid, memory_budget, plan_grid

CHUNK = {2: 256, 3: 32}
"""Sides of a chunk of the labels by number of spatial axes; blocks are made of whole chunks."""

REFINING, LATTICE = 28, 40
"""Bytes of a pixel for each class, and for each dimension of the lattice, that the CRF takes (`refine.crf`, Notes)."""

SAMPLED = 64
"""Side of the windows by whose values an image is recognised when a prediction is resumed."""


def plan_blocks(model: FittedModel, prepared: PreparedImage, memory: int | None) -> Plan:
    """Return the largest tiles and blocks of an image in its file that the memory allows."""
    method, image = model.method, prepared.image
    budget = memory_budget(memory, method.device)
    if method.context is None:
        budget //= 2  # the other half is for tiles that are kept for their neighbours
    shape, shrinking = image.spatial_shape, prepared.shrinking
    reading = max(1.0, shrinking) * image.n_channels * (image.data.dtype.itemsize + 8)
    chunk = CHUNK[len(shape)]
    refinements = parse_refinements(model.refine)
    if prepared.shape == shape and not refinements:
        tiles = plan_grid(method, shape, budget, chunk, reading)
        return Plan(tiles, Grid(shape, tiles.sides, 0))
    tiles = plan_grid(method, prepared.shape, budget, 1, reading)
    # a block of the image is predicted from its part of the prepared image, and has probabilities of its own
    per_pixel = (bytes_per_pixel(method) + reading) / shrinking + 8 * method.n_classes
    if refinements:
        per_pixel += REFINING * len(model.table) + LATTICE * (len(shape) + image.n_channels + 1)
    most = max(SMALLEST_TILE, min(LARGEST_TILE, int(budget / per_pixel)))
    halo = max(refining_halo(refinements, image, whole=False))
    return Plan(tiles, make_grid(shape, halo, most, chunk))


def plan_slabs(model: FittedModel, volume: Image, axes: str, memory: int | None) -> Grid:
    """Return the blocks of a volume that a 2D model segments slice by slice: slabs of whole slices, as thick as memory allows.

    Across several axes they are slabs of the first one; slices across the others are then computed anew for each slab.
    """
    shape, across = volume.spatial_shape, "ZYX".index(axes[0])
    per_voxel = 4.0 * (len(model.table) + volume.n_channels) + volume.n_channels * volume.data.dtype.itemsize
    slice_bytes = per_voxel * math.prod(shape) / shape[across]
    chunk = CHUNK[3]
    thick = int(memory_budget(memory, model.method.device) / max(1.0, slice_bytes))
    thick = max(1, thick if thick < chunk else thick // chunk * chunk)
    return Grid(shape, tuple(min(thick, n) if i == across else n for i, n in enumerate(shape)), 0)


class BlockLog:
    """Which blocks of a long work are done: a file with a line for each, flushed to the disk, that a killed process leaves.

    Parameters
    ----------
    path
        The file.
    work
        What the work is, as plain values. A log of other work is begun anew.

    Attributes
    ----------
    done : set of int
        Numbers of the blocks that are done.
    """

    def __init__(self, path: Path, work: Mapping[str, Any]) -> None:
        self.path = path
        header = json.dumps(work, sort_keys=True)
        known = self._read(header)
        if known is None:
            write_text(path, header + "\n")
        self.done: set[int] = known or set()

    def _read(self, header: str) -> set[int] | None:
        """Return the entries of a log of the same work; None without one. A last line that was cut short does not count."""
        try:
            first, *lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError):
            return None
        if first != header or not lines:
            return None
        return {int(line) for line in lines[:-1] if line.isdigit()}

    def add(self, block: int) -> None:
        """Note that a block is done and on the disk.

        Raises
        ------
        OutputError
            If that cannot be written.
        """
        try:
            with self.path.open("r+b") as file:
                file.seek(0, os.SEEK_END)
                end = file.tell()
                file.seek(max(0, end - 1))
                # behind what a killed process has left of a line, that line ends
                file.write((b"" if file.read(1) == b"\n" else b"x\n") + f"{block}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                self.path,
                expected="a file to be written",
                got=error.strerror or str(error),
                fix="free some space, then run the same command again: it continues",
            ) from error
        self.done.add(block)

    def close(self) -> None:
        """Remove the log: all is done."""
        remove(self.path)


def known_work(path: Path) -> dict[str, Any] | None:
    """Return what the work of a log was, as `BlockLog` was given it; None if there is no log."""
    try:
        known = json.loads(path.read_text(encoding="utf-8").partition("\n")[0])
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def begin_log(
    model: FittedModel,
    prepared: PreparedImage,
    image: Image,
    path: Path,
    plan: Plan,
    slices: str | None = None,
    maps: Mapping[str, Path] | None = None,
) -> tuple[BlockLog, Plan]:
    """Return the log of the blocks, resumed if it is of the same work, and the plan that it counts in.

    Parameters
    ----------
    model
        A fitted model.
    prepared
        The image, prepared: the first time point of a series, the first slice of a volume that is cut.
    image
        The whole image.
    path
        The zarr folder of the labels; the log is beside it.
    plan
        The plan for the memory that is free now.
    slices
        Axes across which a volume is cut; None = it is not.
    maps
        Zarr folders of the maps that are stored with the labels.
    """
    work = {
        "selfseg": selfseg_version(),
        "model": _model_digest(model),
        "image": _image_digest(prepared),
        "shape": list(image.data.shape),
        "slices": slices,
        "maps": sorted(maps or {}),
    }
    shape = tuple(n for n, letter in zip(image.data.shape, image.axes, strict=True) if letter != "C")
    file = path.with_suffix(".blocks")
    known = known_work(file)
    whole = is_label_zarr(path, shape) and all((folder / LEVEL).is_dir() for folder in (maps or {}).values())
    if known is not None and whole and {**known, **_sides(plan)} == {**work, **_sides(plan)}:
        # there may be less memory free now, or more
        tiles = replace(plan.tiles, sides=tuple(known["tiles"]))
        plan = Plan(tiles, replace(plan.blocks, sides=tuple(known["blocks"])))
        for folder in (path, *(maps or {}).values()):  # chunks that zarr was writing when the process was killed
            for unfinished in folder.rglob("*.partial"):
                remove(unfinished)
    elif known is not None:
        file.unlink(missing_ok=True)
    return BlockLog(file, {**work, **_sides(plan)}), plan


def _sides(plan: Plan) -> dict[str, list[int]]:
    return {"tiles": list(plan.tiles.sides), "blocks": list(plan.blocks.sides)}


def _model_digest(model: FittedModel) -> str:
    facts: list[Any] = [model.name, model.method.config.model_dump(mode="json"), model.preparation.to_json()]
    facts += [model.refine, model.clean, model.table.to_json()]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(model.method.state().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().contiguous().numpy()).tobytes())
    return digest.hexdigest()


def _image_digest(prepared: PreparedImage) -> str:
    """Return a digest of a few windows of the image: reading all of it only to recognise it would take too long."""
    image = prepared.image
    digest = hashlib.sha256(f"{image.source} {image.data.dtype} {prepared.plan}".encode())
    for share in (0.0, 0.5, 1.0):
        starts = [int(share * max(0, n - SAMPLED)) for n in image.spatial_shape]
        ends = zip(starts, image.spatial_shape, strict=True)
        part = prepared.image_window(tuple(slice(a, a + min(n, SAMPLED)) for a, n in ends))
        digest.update(np.ascontiguousarray(part.data).tobytes())
    return digest.hexdigest()
