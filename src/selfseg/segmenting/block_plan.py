"""How an image larger than memory is cut, and how a prediction of it that was killed is known again."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from selfseg.core.errors import UsageError
from selfseg.core.files import remove
from selfseg.core.image import Image
from selfseg.export.label_zarr import is_label_zarr
from selfseg.refine.steps import Refinement, parse_refinements
from selfseg.results.model import FittedModel, selfseg_version
from selfseg.sample.prepare import PreparedImage
from selfseg.tiling.blocks import BlockLog, known_work
from selfseg.tiling.tiles import Grid, make_grid
from selfseg.tiling.tilewise import LARGEST_TILE, SMALLEST_TILE, bytes_per_pixel, memory_budget, plan_grid

CHUNK = {2: 256, 3: 32}
"""Sides of a chunk of the labels by number of spatial axes; blocks are made of whole chunks."""

REFINING, LATTICE = 28, 40
"""Bytes of a pixel for each class, and for each dimension of the lattice, that the CRF takes (`refine.crf`, Notes)."""

SAMPLED = 64
"""Side of the windows by whose values an image is known again when a prediction goes on."""


@dataclass(frozen=True)
class Plan:
    """How an image is cut: tiles of the prepared image that the method is given, blocks of the image that are written."""

    tiles: Grid
    blocks: Grid


def refining_halo(refinements: Sequence[Refinement], image: Image) -> int:
    """Return the pixels around a block that its refinement is given.

    Raises
    ------
    UsageError
        If one of the refinements needs the whole image.
    """
    unfit = [str(refinement) for refinement in refinements if refinement.reach is None]
    if unfit:
        fix = "predict with --refine none or crf, or use a smaller image"
        expected = "a refinement that can be done in parts of an image"
        raise UsageError(image.source, expected=expected, got=", ".join(unfit), fix=fix)
    return max((refinement.reach or 0 for refinement in refinements), default=0)


def _plan(model: FittedModel, windowed: PreparedImage, memory: int | None) -> Plan:
    """Return the largest tiles and blocks that the memory allows."""
    method, image = model.method, windowed.image
    device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
    budget = memory_budget(memory, device)
    if method.context is None:
        budget //= 2  # the other half is for tiles that are kept for their neighbours
    shape, shrinking = image.spatial_shape, windowed.shrinking
    reading = max(1.0, shrinking) * image.n_channels * (image.data.dtype.itemsize + 8)
    chunk = CHUNK[len(shape)]
    refinements = parse_refinements(model.refine)
    if not windowed.resized and not refinements:
        tiles = plan_grid(method, shape, budget, chunk, reading)
        return Plan(tiles, Grid(shape, tiles.sides, 0))
    tiles = plan_grid(method, windowed.shape, budget, 1, reading)
    # a block of the image is predicted from its part of the prepared image, and has probabilities of its own
    per_pixel = (bytes_per_pixel(method) + reading) / shrinking + 8 * method.n_classes
    if refinements:
        per_pixel += REFINING * len(model.table) + LATTICE * (len(shape) + image.n_channels + 1)
    most = max(SMALLEST_TILE, min(LARGEST_TILE, int(budget / per_pixel)))
    return Plan(tiles, make_grid(shape, refining_halo(refinements, image), most, chunk))


def begin_blocks(
    model: FittedModel, image: Image, windowed: PreparedImage, path: Path, memory: int | None
) -> tuple[BlockLog, Plan]:
    """Return the log of the blocks, gone on with if it is of the same work, and the plan that it counts in.

    Parameters
    ----------
    model
        A fitted model.
    image
        The image.
    windowed
        It, prepared; the first time point of a series, or the first slice where slices are predicted.
    path
        The zarr folder of the labels; the log is beside it.
    memory
        Most that this process may take, in bytes; None = by what is free.
    """
    work = {
        "selfseg": selfseg_version(),
        "model": _model_digest(model),
        "image": _image_digest(windowed),
        "shape": list(image.data.shape),
    }
    shape = tuple(n for n, letter in zip(image.data.shape, image.axes, strict=True) if letter != "C")
    file = path.with_suffix(".blocks")
    known = known_work(file)
    plan = _plan(model, windowed, memory)
    if known is not None and is_label_zarr(path, shape) and {**known, **_sides(plan)} == {**work, **_sides(plan)}:
        # there may be less memory free now, or more
        tiles, blocks = (
            replace(plan.tiles, sides=tuple(known["tiles"])),
            replace(plan.blocks, sides=tuple(known["blocks"])),
        )
        plan = Plan(tiles, blocks)
        for unfinished in path.rglob("*.partial"):  # chunks that zarr was writing when the process was killed
            remove(unfinished)
    elif known is not None:
        file.unlink(missing_ok=True)
    return BlockLog(file, {**work, **_sides(plan)}), plan


def _sides(plan: Plan) -> dict[str, list[int]]:
    return {"tiles": list(plan.tiles.sides), "blocks": list(plan.blocks.sides)}


def _model_digest(model: FittedModel) -> str:
    facts = [model.name, model.method.config.model_dump(mode="json"), model.preparation.to_json(), model.refine]
    digest = hashlib.sha256(json.dumps([*facts, model.table.to_json()], sort_keys=True).encode())
    for name, tensor in sorted(model.method.state().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().contiguous().numpy()).tobytes())
    return digest.hexdigest()


def _image_digest(windowed: PreparedImage) -> str:
    """Return a digest of a few windows of the image: reading all of it only to know it again would take too long."""
    image = windowed.image
    digest = hashlib.sha256(f"{image.source} {image.data.dtype} {windowed.plan}".encode())
    for share in (0.0, 0.5, 1.0):
        starts = [int(share * max(0, n - SAMPLED)) for n in image.spatial_shape]
        part = windowed.image_window(
            tuple(slice(a, a + min(n, SAMPLED)) for a, n in zip(starts, image.spatial_shape, strict=True))
        )
        digest.update(np.ascontiguousarray(part.data).tobytes())
    return digest.hexdigest()
