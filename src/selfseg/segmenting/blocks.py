"""The one loop: prepare, assign, classes, refine, decide, for an image of any size; a photo is a volume of one block.

`ImageMaps` and `SlicedMaps` give class probabilities of any region of an image. `segment_blocks` asks them for one block after the
other, decides the labels and hands them to a sink. In memory the image is one block, and the sink an array; tiles, blocks on disk,
Dask workers, slices of a volume and frames of a sequence are other blocks and other sinks.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image, spatial_axes
from selfseg.refine.crf import colour_range
from selfseg.refine.decide import class_probabilities, decide
from selfseg.refine.hierarchy import Hierarchy, hierarchy
from selfseg.refine.link import Link
from selfseg.refine.steps import Refinement, parse_refinements, refine
from selfseg.results.model import FittedModel
from selfseg.sample.chain import PreparedImage
from selfseg.sample.device import naming_lack_of_memory
from selfseg.sample.prepare import prepare
from selfseg.sample.statistics import LOOKED_AT, WINDOW_SIDE, spread_windows, within
from selfseg.sample.stream import Memo
from selfseg.tiling.tiles import Grid, Region, Tiles, grown, memory_budget, plan_grid

LESS_MEMORY = "close other programs, name less with --memory, use a preparation with size=N, or --device cpu"
"""Advice where memory runs out although tiles have become smaller."""

PLANES_KEPT = 4
"""Slices of a volume whose preparation and tiles are kept for the next block."""


@dataclass(frozen=True)
class Plan:
    """Tiles of the prepared image that the method is given, and blocks of the image that are written."""

    tiles: Grid
    blocks: Grid


def refining_halo(refinements: Sequence[Refinement], image: Image, whole: bool) -> tuple[int, ...]:
    """Return the pixels along each axis around a block that its refinement is given.

    Parameters
    ----------
    refinements
        One after the other.
    image
        The image.
    whole
        The image is one block, so that a refinement may look at all of it.

    Raises
    ------
    UsageError
        If one of the refinements needs the whole image, and it is cut.
    """
    unfit = [str(refinement) for refinement in refinements if refinement.reach is None]
    if unfit and whole:
        return image.spatial_shape
    if unfit:
        raise UsageError(
            image.source,
            expected="a refinement that can be done in parts of an image",
            got=", ".join(unfit),
            fix="predict with --refine none, crf or hysteresis, or use a smaller image",
        )
    reach = max((refinement.reach or 0 for refinement in refinements), default=0)
    return tuple(math.ceil(reach * min(image.spacing) / step) for step in image.spacing)


def plan_whole(model: FittedModel, prepared: PreparedImage, memory: int | None) -> Plan:
    """Return the plan of an image that is one block; its tiles are as large as the memory allows."""
    shape = prepared.image.spatial_shape
    tiles = plan_grid(model.method, prepared.shape, memory_budget(memory, model.method.device))
    return Plan(tiles, Grid(shape, shape, 0))


class Sink(Protocol):
    """Where labels go."""

    def write(self, region: Region, labels: NDArray[np.integer], probabilities: NDArray[np.float32]) -> None:
        """Store the labels ``[*region]``, and the probabilities ``[K *region]`` where they are wanted."""


@dataclass
class MemorySink:
    """Labels ``[*S]`` and probabilities ``[K *S]`` of one image in memory."""

    shape: tuple[int, ...]
    labels: NDArray[np.integer] = field(init=False)
    probabilities: NDArray[np.float32] = field(init=False)

    def write(self, region: Region, labels: NDArray[np.integer], probabilities: NDArray[np.float32]) -> None:
        """Store a block; one that is the whole image is taken as it is."""
        if labels.shape == self.shape:
            self.labels, self.probabilities = labels, probabilities
            return
        if not hasattr(self, "labels"):
            self.labels = np.zeros(self.shape, labels.dtype)
            self.probabilities = np.zeros((len(probabilities), *self.shape), np.float32)
        self.labels[region] = labels
        self.probabilities[(slice(None), *region)] = probabilities


@dataclass
class BlockWork:
    """The blocks of one image, with all that they need at hand; `path` is where their labels are stored, if they are."""

    maps: "ImageMaps | SlicedMaps"
    grid: Grid
    sink: Sink
    first: int = 0
    path: Path = Path()

    @cached_property
    def _places(self) -> list[tuple[int, ...]]:
        return list(self.grid.places())

    def do(self, block: int) -> None:
        """Segment a block by its number, counted from `first`, and store its labels."""
        region = self.grid.tile(self._places[block - self.first]).core
        probabilities, inside = self.maps.region(region)
        self.sink.write(region, self.maps.decide(probabilities, inside), probabilities)


def segment_blocks(maps: "ImageMaps | SlicedMaps", grid: Grid, sink: Sink) -> None:
    """Segment an image block by block, in this process and without a log; `segmenting.executors.run_blocks` has both."""
    work = BlockWork(maps, grid, sink)
    for block in range(len(grid)):
        work.do(block)


@dataclass
class ImageMaps:
    """Class probabilities of an image of the model's own dimensions.

    Parameters
    ----------
    model
        A fitted model.
    prepared
        The image, prepared.
    plan
        Its tiles.
    kept_bytes
        Memory for tiles that blending needs again.
    link
        Links the image to the frames before it (the whole image is computed then); None = not.
    colours
        Range of each channel over the whole image ``[C]`` for the CRF, where it is known; None = it is measured.
    """

    model: FittedModel
    prepared: PreparedImage
    plan: Plan
    kept_bytes: int = 0
    link: Link | None = None
    colours: NDArray[np.float32] | None = None
    tree: Hierarchy | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.shape = self.prepared.image.spatial_shape
        self.refinements: tuple[Refinement, ...] = parse_refinements(self.model.refine) if self.model.refine else ()
        whole = len(self.plan.blocks) == 1
        self.halo = refining_halo(self.refinements, self.prepared.image, whole)
        self._linked_later = None if whole or not self.refinements else self.refinements[-1].hysteresis
        if self._linked_later is not None:
            self.refinements = self.refinements[:-1]
        given = partial(memo_of, self.prepared)  # no method of this object: a circle would keep the image in memory
        self._tiles = Tiles(self.model.method, self.prepared.read, self.plan.tiles, self.kept_bytes, given)

    @property
    def notes(self) -> list[str]:
        """Notes for the user on how it was computed."""
        return self._tiles.notes

    def region(self, region: Region) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Return class probabilities ``[K *region]`` after refinement, and where the image counts ``[*region]``, None = everywhere.

        `InputError` if memory runs out with smaller tiles too.
        """
        with naming_lack_of_memory(self.prepared.image.name, self.model.method.device, LESS_MEMORY, InputError):
            return self._region(region)

    def _region(self, region: Region) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        outer = grown(region, self.halo, self.shape)
        probabilities = self._restored(outer)
        inside = self.prepared.inside(outer)
        if self.refinements:
            window = self.prepared.image.window(**dict(zip(spatial_axes(self.prepared.image.axes), outer, strict=True)))
            refined = refine(self.refinements, probabilities, window, inside, self.colour_range())
            probabilities, self.tree = refined.probabilities, refined.tree
        inner = within(region, outer)
        return probabilities[(slice(None), *inner)], None if inside is None else inside[inner]

    def decide(self, probabilities: NDArray[np.float32], inside: NDArray[np.bool_] | None) -> NDArray[np.integer]:
        """Return the labels ``[*region]`` of what `region` gave; those of a hysteresis in parts are for `refine.hysteresis.link_blocks`."""
        return (
            decide(probabilities, inside)
            if self._linked_later is None
            else self._linked_later.mark(probabilities, inside)
        )

    def _restored(self, region: Region) -> NDArray[np.float32]:
        """Return class probabilities of a region of the image, not refined."""
        if self.link is None:
            return self.prepared.restore(region, self._classes)
        linked = self.link(self._classes(tuple(slice(0, n) for n in self.prepared.shape)), self.prepared.array)
        return self.prepared.restore(region, lambda part: linked[(slice(None), *part)])

    def _classes(self, region: Region) -> NDArray[np.float32]:
        return class_probabilities(self._tiles.probabilities(region), self.model.table)

    def colour_range(self) -> NDArray[np.float32]:
        """Return the range of each channel over the whole image."""
        if self.colours is None:
            self.colours = image_colour_range(self.prepared.image, self.prepared.inside)
        return self.colours

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of pixels along each axis, in units of the finest: so distances count in a merge tree."""
        return relative_spacing(self.prepared.image)

    def picture(self, region: Region) -> NDArray[np.float32]:
        """Return the image as a merge tree sees it ``[C *region]``: prepared, at its own size."""
        return self.prepared.restore(region, self.prepared.read)

    def objects(self) -> NDArray[np.integer] | None:
        """Return the method's own objects of the image in memory ``[*S]``, 0 = none and outside; None = it finds none."""
        method, prepared = self.model.method, self.prepared
        if not method.finds_objects:
            return None
        memo = {"memo": memo_of(prepared, prepared.everything)} if method.uses_memos else {}
        own = method.objects(torch.from_numpy(prepared.array), **memo)
        return None if own is None else prepared.restore_labels(own)

    def hierarchy(self, probabilities: NDArray[np.float32]) -> Hierarchy:
        """Return the merge tree of the image in memory: the refinement's, else the method's own, else that of the probabilities."""
        if self.tree is not None:
            return self.tree
        method, prepared = self.model.method, self.prepared
        known = {"memo": memo_of(prepared, prepared.everything)} if method.uses_memos else {}
        own = method.hierarchy(torch.from_numpy(prepared.array), **known)
        if own is None:
            image = prepared.restore_all(prepared.array)
            return hierarchy(probabilities, image, spacing=self.spacing, mask=prepared.inside())
        superpixels, tree = own
        return Hierarchy(prepared.restore_labels(superpixels, fill=-1), tree)


@dataclass
class SlicedMaps:
    """Class probabilities of a volume by a 2D model: the mean over its slices across the axes, of those that saw a voxel.

    Parameters
    ----------
    model
        A fitted 2D model.
    image
        A volume.
    axes
        Letters out of Z Y X across which it is cut.
    memory
        Most that this process may take, in bytes; None = by what is free.
    linked
        Link each slice to those before it along its axis; the slices are then taken whole, and in their order.
    tick
        Called with the number of slices that are begun, and of all.
    """

    model: FittedModel
    image: Image
    axes: str
    memory: int | None = None
    linked: bool = False
    tick: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        self.model = self.model.fixed()
        self.shape = self.image.spatial_shape
        self.letters = spatial_axes(self.image.axes)
        across = self.axes[0]
        self.model = for_series(self.model, (self.image.at(across, n) for n in range(self.image.size(across))))
        self._planes: OrderedDict[tuple[str, int], ImageMaps] = OrderedDict()
        self._links = {axis: Link() for axis in self.axes} if self.linked else {}
        self._begun = 0
        self.notes: list[str] = []
        self._width: NDArray[np.float32] | None = None

    def region(self, region: Region) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """See `ImageMaps.region`."""
        sides = tuple(part.stop - part.start for part in region)
        total = np.zeros((len(self.model.table), *sides), np.float32)
        seen = np.zeros(sides, np.uint8)
        for axis in self.axes:
            across = self.letters.index(axis)
            rest = tuple(part for i, part in enumerate(region) if i != across)
            for number in range(region[across].start, region[across].stop):
                plane = self._plane(axis, number)
                values, inside = plane.region(rest)
                self.notes += [note for note in plane.notes if note not in self.notes]
                where = tuple(number - region[i].start if i == across else slice(None) for i in range(len(region)))
                total[(slice(None), *where)] += values if inside is None else values * inside
                seen[where] += np.uint8(1) if inside is None else inside.view(np.uint8)
        if len(self.axes) > 1 or not seen.all():
            total[:, seen == 0] = 1 / len(total)
            total /= np.maximum(seen, 1)
        return total, None if seen.all() else seen > 0

    def decide(self, probabilities: NDArray[np.float32], inside: NDArray[np.bool_] | None) -> NDArray[np.integer]:
        """Return the labels ``[*region]`` of what `region` gave."""
        return decide(probabilities, inside)

    def _plane(self, axis: str, number: int) -> ImageMaps:
        found = self._planes.pop((axis, number), None)
        if found is None:
            found = self._open(axis, number)
        self._planes[axis, number] = found
        while len(self._planes) > PLANES_KEPT:
            self._planes.popitem(last=False)
        return found

    def _open(self, axis: str, number: int) -> ImageMaps:
        self._begun += 1
        if self.tick is not None:
            self.tick(self._begun, sum(self.image.size(letter) for letter in self.axes))
        prepared = prepare(self.image.at(axis, number), self.model.preparation)
        return ImageMaps(self.model, prepared, plan_whole(self.model, prepared, self.memory), 0, self._links.get(axis))

    @property
    def spacing(self) -> tuple[float, ...]:
        """See `ImageMaps.spacing`."""
        return relative_spacing(self.image)

    def picture(self, region: Region) -> NDArray[np.float32]:
        """Return the volume ``[C *region]``, each channel brought to a range of 1."""
        if self._width is None:
            self._width = image_colour_range(self.image, lambda region: self._window(region).valid)
        channels: NDArray[np.float32] = np.moveaxis(self._window(region).channels_last(), -1, 0).astype(np.float32)
        return channels / self._width.reshape(-1, *(1,) * len(region))

    def _window(self, region: Region) -> Image:
        return self.image.window(**dict(zip(self.letters, region, strict=True)))

    def objects(self) -> NDArray[np.integer] | None:
        """Return None: objects of slices are none of the volume."""
        return None

    def hierarchy(self, probabilities: NDArray[np.float32]) -> Hierarchy:
        """Return the merge tree of the volume in memory."""
        picture = self.picture(tuple(slice(0, n) for n in self.shape))
        return hierarchy(probabilities, picture, spacing=self.spacing, mask=self.image.valid)


def relative_spacing(image: Image) -> tuple[float, ...]:
    """Return the distance of pixels along each axis, in units of the finest."""
    return tuple(step / min(image.spacing) for step in image.spacing)


def image_colour_range(image: Image, inside: Callable[[Region], NDArray[np.bool_] | None]) -> NDArray[np.float32]:
    """Return the range of each channel ``[C]`` where the image counts: of one in its file, over windows that are always the same."""
    shape = image.spatial_shape
    regions = [tuple(slice(0, n) for n in shape)]
    if not image.in_memory:
        regions = list(spread_windows(shape, (WINDOW_SIDE[len(shape)],) * len(shape), LOOKED_AT, seed=0))
    values = []
    for region in regions:
        window = image.window(**dict(zip(spatial_axes(image.axes), region, strict=True)))
        pixels, counts = window.channels_last().astype(np.float32), inside(region)
        values.append(pixels.reshape(-1, image.n_channels) if counts is None else pixels[counts])
    return colour_range(np.concatenate(values).T)


def memo_of(prepared: PreparedImage, region: Region) -> Memo | None:
    """Return what a method keeps of a whole prepared image, or, of a part, what is given: superpixels of the user's, and what is valid."""
    if all(part == slice(0, n) for part, n in zip(region, prepared.shape, strict=True)):
        if prepared.may_be_invalid:
            prepared.memo.setdefault("valid", prepared.valid())
        return prepared.memo
    own, valid = prepared.memo.get("superpixels"), prepared.valid(region)
    given = {} if own is None else {"superpixels": own[region]}
    return given | ({} if valid is None else {"valid": valid}) or None


def frames_of(image: Image) -> Iterator[Image]:
    """Yield the time points of an image, or the image itself where it has no T."""
    return (image.at("T", t) for t in range(image.size("T"))) if "T" in image.axes else iter((image,))


def for_series(model: FittedModel, images: Iterable[Image]) -> FittedModel:
    """Return the model for the frames of one sequence, or the slices of one volume: see `Preparation.for_series`."""
    preparation = model.preparation.for_series(images)
    return model if preparation is model.preparation else replace(model, preparation=preparation)
