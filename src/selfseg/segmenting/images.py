"""One image through a fitted model: into memory, or, where it does not fit, from its file into a zarr of labels; restartable."""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.errors import InputError, SelfsegError, UsageError
from selfseg.core.files import remove_folder
from selfseg.core.image import Image, time_points
from selfseg.core.progress import Progress, Silent
from selfseg.export.maps import CONFIDENCE, PROBABILITIES, chosen_probability, map_axes
from selfseg.export.ome_zarr import open_label_zarr, storing
from selfseg.methods.base import Method
from selfseg.read import Source
from selfseg.read.labels import find_labels, label_items, pair_by_name, read_labels
from selfseg.read.sources import as_path
from selfseg.refine.decide import Cleaning, clean_blocks
from selfseg.refine.edits import Edits
from selfseg.refine.hierarchy import Hierarchy, Leaves, find_leaves
from selfseg.refine.hysteresis import Hysteresis, link_blocks
from selfseg.refine.link import Link
from selfseg.refine.steps import parse_refinements
from selfseg.results.model import FittedModel
from selfseg.results.result import Result
from selfseg.sample.chain import PreparedImage
from selfseg.sample.device import OnItsWay, device_note, is_out_of_memory
from selfseg.sample.prepare import prepare
from selfseg.sample.statistics import Region
from selfseg.sample.stream import Memo
from selfseg.segmenting.blocks import (
    LESS_MEMORY,
    BlockWork,
    ImageMaps,
    MemorySink,
    Plan,
    SlicedMaps,
    for_series,
    frames_of,
    plan_whole,
    refining_halo,
    segment_blocks,
)
from selfseg.segmenting.executors import Executor, Serial, run_blocks
from selfseg.segmenting.plan import CHUNK, begin_log, plan_blocks, plan_slabs
from selfseg.segmenting.sinks import ZarrSink
from selfseg.tiling.tiles import COPIED, Grid, memory_budget


class OwnSuperpixels:
    """Label images of superpixels, each value of 0 or more one superpixel, negative values outside.

    Parameters
    ----------
    place
        A file, for a single image whatever its name, a folder with a file for each image, or an array for each of the `sources`;
        None = there are none.
    sources
        The images; None = they are identified by their names when their turn comes.

    Raises
    ------
    InputError
        If nothing is there.
    """

    def __init__(self, place: Any, sources: Sequence[Source] | None = None) -> None:
        self.place = place
        self.given: Mapping[str, Any] | None = None
        self.files: dict[str, Path] = {}
        if isinstance(place, str | bytes | PathLike):
            self.files = find_labels(as_path(place))
        elif place is not None:
            self.given = label_items(place, sources or [], "superpixels")

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
            raise UsageError(
                "superpixels",
                expected="a method that takes them",
                got=type(method).__name__,
                fix="use --method sp_wnet",
            )
        name = prepared.image.name
        item = self._item(name)
        if item is None:
            raise InputError(
                f"superpixels {self.place if self.given is None else ''}".strip(),
                expected=f"some for {name}",
                got=f"none but {', '.join(list(self.files if self.given is None else self.given)[:3])}",
                fix="rename the file, or give an array for each image",
            )
        try:
            labels = prepared.forward_labels(read_labels(item, "superpixels", name), region)
        except InputError as error:
            raise InputError(f"superpixels of {name}: {error}") from error
        memo["superpixels"] = labels

    def _item(self, name: str) -> Any:
        """Return the file or the array of an image; None without one."""
        if self.given is not None:
            return self.given.get(name)
        if len(self.files) == 1 and as_path(self.place).is_file():
            return next(iter(self.files.values()))
        return pair_by_name(self.files, [Source(name)], "superpixels").get(name)

    def facts(self) -> dict[str, Any]:
        """Return the hash of each file, which a run that is resumed must find again."""
        digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.files.items()}
        for name, item in (self.given or {}).items():
            array = np.ascontiguousarray(read_labels(item, "superpixels", name))
            digests[name] = hashlib.sha256(array.data).hexdigest()
        return {"superpixels": digests} if digests else {}


@dataclass(frozen=True)
class Settings:
    """Prediction options that are not part of the model.

    Attributes
    ----------
    memory
        Most that this process may take, in bytes; None = by what is free.
    slices
        Axis across which a 2D model cuts volumes: ``z`` (if None), ``y``, ``x``, or ``all``: the mean over the three.
    superpixels
        The user's own superpixels of the images, where the model learned with such.
    link
        Link the slices of a volume that a 2D model segments; frames of a sequence are linked by `segmenting.frames`.
    progress
        Progress reporter.
    said
        Notes that the user has seen.
    read_ahead
        Read the next image while one is segmented, and copy it to a CUDA GPU.
    maps
        Maps that are stored while an image is segmented in parts: out of `export.maps`.
    """

    memory: int | None = None
    slices: str | None = None
    superpixels: OwnSuperpixels | None = None
    link: bool = False
    progress: Progress = field(default_factory=Silent)
    said: set[str] = field(default_factory=set, repr=False)
    read_ahead: bool = False
    maps: tuple[str, ...] = ()

    def say(self, notes: Iterable[str]) -> None:
        """Pass notes on to the user, each once."""
        for note in notes:
            if note not in self.said:
                self.said.add(note)
                self.progress.say(note)

    @property
    def axes(self) -> str:
        """Letters of the axes across which volumes are cut."""
        return "ZYX" if self.slices == "all" else (self.slices or "z").upper()


def segment_image(
    model: FittedModel, image: Image, settings: Settings | None = None, link: Link | None = None
) -> Result:
    """Segment one image in memory; a series (axis T) frame by frame, a volume slice by slice if the model is 2D.

    Parameters
    ----------
    model
        A fitted model.
    image
        The image.
    settings
        Prediction options.
    link
        Links the image to the frames that were segmented with it before; None = not.

    Raises
    ------
    InputError
        If the model does not take such an image.
    """
    used = model.view(image)
    model.check(used)
    model = for_series(model, frames_of(used)) if "T" in used.axes else model
    begun, settings = time.monotonic(), settings or Settings()
    frames = [_segment_frame(model, frame, settings, link) for frame in frames_of(used.load())]
    sinks, tree = [sink for sink, _, _ in frames], frames[0][1] if "T" not in image.axes else None
    objects = partial(_own_objects, [one for _, _, one in frames], series="T" in image.axes)
    if tree is not None:
        labels, probabilities = sinks[0].labels, sinks[0].probabilities
    else:
        labels = np.stack([sink.labels for sink in sinks])
        probabilities = np.stack([sink.probabilities for sink in sinks], 1)
    return Result(image, labels, probabilities, model.table, time.monotonic() - begun, tree, _objects=objects)


Finder = Callable[[], NDArray[np.integer] | None]
"""Gives the method's own objects of a frame, None = it has none."""


def _own_objects(finders: Sequence[Finder], series: bool) -> NDArray[np.integer] | None:
    """Return the objects of all frames, each with ids above those of the frame before; None where a frame has none."""
    found: list[NDArray[np.integer]] = []
    before = 0
    for finder in finders:
        if (objects := finder()) is None:
            return None
        found.append(np.where(objects > 0, objects + before, 0))
        before = max(before, int(found[-1].max(initial=0)))
    return np.stack(found) if series else found[0]


def _segment_frame(
    model: FittedModel, frame: Image, settings: Settings, link: Link | None
) -> tuple[MemorySink, Callable[[], Hierarchy], Finder]:
    maps: ImageMaps | SlicedMaps
    if model.slices_volume(frame):
        tick = lambda done, total: settings.progress.update(0, {f"slice of {total}": done})  # noqa: E731
        maps = SlicedMaps(model, frame, settings.axes, settings.memory, settings.link or link is not None, tick)
    else:
        prepared = prepare(frame, model.preparation)
        if settings.superpixels is not None:
            settings.superpixels.give(model.method, prepared)
        plan = plan_whole(model, prepared, settings.memory)
        if len(plan.tiles) > 1:
            plan = plan_whole(model := model.fixed(), prepared, settings.memory)
        maps = ImageMaps(model, prepared, plan, link=link)
    shape = frame.spatial_shape
    sink = MemorySink(shape)
    segment_blocks(maps, Grid(shape, shape, 0), sink)
    settings.say(maps.notes)
    sink.labels = Cleaning.parse(model.clean).apply(sink.labels)
    return sink, partial(maps.hierarchy, sink.probabilities), maps.objects


def leaves_of(model: FittedModel, result: Result) -> Leaves:
    """Return the leaves of one image in memory: superpixels of one class each, their merge tree and their look.

    Parameters
    ----------
    model
        The model that gave `result`.
    result
        The result of one image or volume, not of a series.
    """
    prepared = prepare(model.view(result.image), model.preparation)
    return find_leaves(result.labels, result.hierarchy, prepared.restore_all(prepared.array))


def edited(model: FittedModel, result: Result, edits: Edits) -> Result:
    """Return the result with its labels and class table as edited; the probabilities stay the model's.

    The frames of a series are segmented once more, as each is cut along a tree of its own.
    """
    if "T" in result.image.axes:
        frames = [segment_image(model, frame) for frame in frames_of(result.image)]
        found = (edits.labels(leaves_of(model, frame)) for frame in frames)
        labels = np.stack([edits.correct(one, result.image.name, number) for number, one in enumerate(found)])
    else:
        labels = edits.correct(edits.labels(leaves_of(model, result)), result.image.name)
    return replace(result, labels=labels, table=edits.table(result.table))


def iter_segment(
    model: FittedModel, sources: Sequence[Source], axes: str | None = None, settings: Settings | None = None
) -> Iterator[tuple[Source, Result | SelfsegError]]:
    """Yield each input with its result, or with the error that kept it from one.

    One image is in memory at a time, or two where the next one is read ahead.
    """
    settings = settings or Settings()
    settings.say([note] if (note := device_note(model.device)) else [])
    settings.progress.start("segmenting", len(sources))
    try:
        look = partial(_copy_ahead, model, settings.memory) if settings.read_ahead else None
        for done, (source, read) in enumerate(_readers(sources, axes, look), 1):
            outcome: Result | SelfsegError
            try:
                image = read()
                if settings.slices is None and model.slices_volume(image):
                    settings.progress.say(
                        f"{source.name}: a volume and a 2D model, so slice by slice along z (--slices)"
                    )
                outcome = segment_image(model, image, settings)
            except SelfsegError as error:
                outcome = error
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                outcome = InputError(source.name, expected="memory enough", got="too little", fix=LESS_MEMORY)
            yield source, outcome
            settings.progress.update(done, {})
    finally:
        settings.progress.finish()


def _readers(
    sources: Sequence[Source], axes: str | None, ahead: Callable[[Image], None] | None
) -> Iterator[tuple[Source, Callable[[], Image]]]:
    """Yield each input with what gives its image; a thread reads the next one while this one is used, and does `ahead`, if it is given."""
    if ahead is None:
        yield from ((source, partial(source.read, axes)) for source in sources)
        return

    def read(source: Source) -> Image:
        image = source.read(axes)
        ahead(image)
        return image

    pool = ThreadPoolExecutor(1, "reading")
    try:
        coming = [pool.submit(read, source) for source in sources[:1]]
        for number, source in enumerate(sources, 1):
            now = coming.pop()
            coming += [pool.submit(read, later) for later in sources[number : number + 1]]
            yield source, now.result
            del now  # its image may go
    finally:
        pool.shutdown(cancel_futures=True)


def _copy_ahead(model: FittedModel, memory: int | None, image: Image) -> None:
    """Prepare an image and begin to copy it to a CUDA GPU, where it is one tile there; what is wrong with it is said in its turn."""
    device = model.method.device
    if device.type != "cuda" or "T" in image.axes or model.slices_volume(image) or model.view(image) is not image:
        return
    try:
        model.check(image)
        prepared = prepare(image, model.preparation)
        if len(plan_whole(model, prepared, memory).tiles) == 1:
            values = np.ascontiguousarray(prepared.read(prepared.everything))
            prepared.memo[COPIED] = OnItsWay(torch.from_numpy(values)[None], device)
    except SelfsegError:
        return
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise


def fits_in_memory(model: FittedModel, image: Image, memory: int | None) -> bool:
    """Return whether an image can be segmented as a whole with the memory that there is."""
    n_pixels = math.prod(image.data.shape) // image.n_channels
    itemsize = image.data.dtype.itemsize
    # probabilities of clusters and of classes; the image, on its way through the preparation, and prepared
    per_pixel = 4 * (model.method.n_classes + len(model.table)) + image.n_channels * (itemsize + 8 + 4)
    return bool(n_pixels * per_pixel <= memory_budget(memory))


def segment_stored(
    model: FittedModel,
    image: Image,
    out: Path | str,
    settings: Settings | None = None,
    executor: Executor | None = None,
) -> Result:
    """Segment an image in its file block by block into ``OUT/labels/NAME.zarr``.

    Where the method's context is finite the labels are those of the whole image at once. A prediction that was killed goes
    on when it is called again with the same model, image and folder, and ends with the same bytes.

    A CRF is done on each block and as many pixels around it as given by `refine.steps.Refinement.reach`, with the colours measured on
    the whole image: near to that of the whole image, not equal to it (figures: `docs/formats.md`).

    Parameters
    ----------
    model
        A fitted model.
    image
        The image, opened by `read.open_lazy`; a series is segmented frame by frame, a volume with a 2D model slice by slice.
    out
        The folder.
    settings
        Prediction options; `memory` is for each process that does blocks.
    executor
        Runs the blocks; None = this process.

    Raises
    ------
    UsageError
        If a refinement of the model needs the whole image, or slices are to be linked.
    InputError
        If the image does not fit the model.
    OutputError
        If zarr is not installed, or the labels cannot be written.
    """
    model = model.fixed()
    used = model.view(image)
    model.check(used)
    model = for_series(model, frames_of(used)) if "T" in used.axes else model
    begun, settings, executor = time.monotonic(), settings or Settings(), executor or Serial()
    memory = executor.memory(settings.memory)
    slices = settings.axes if model.slices_volume(used) else None
    refinements = (
        () if slices is not None else parse_refinements(model.refine)
    )  # those of slices are done slice by slice
    refining_halo(refinements, used, whole=False)  # refused before anything is written
    if settings.link:
        raise UsageError(
            f"--link of {image.source}",
            expected="a volume that fits in memory",
            got="a large one",
            fix="leave --link out, or use a smaller volume",
        )
    path = Path(out) / "labels" / f"{image.name}.zarr"
    hysteresis = refinements[-1].hysteresis if refinements else None
    finished = hysteresis is None and str(Cleaning.parse(model.clean)) == "none"
    raw = path if finished else path.with_name(f".{path.name}.uncleaned.zarr")
    frame = next(frames_of(used))
    first = prepare(frame if slices is None else frame.at(slices[0], 0), model.preparation)
    if slices is None:
        plan = plan_blocks(model, first, memory)
    else:
        plan = Plan(plan_whole(model, first, memory).tiles, plan_slabs(model, frame, slices, memory))
    wanted = {kind: Path(out) / kind / f"{image.name}.zarr" for kind in settings.maps}
    stored = wanted if finished else _maps_for_later(wanted, path)
    log, plan = begin_log(model, first, used, raw, plan, slices, stored)
    labels = _open_labels(model, image, raw, slices, fresh=not log.done)
    maps = {kind: _open_map(model, image, stored[kind], kind, labels, fresh=not log.done) for kind in stored}
    grid = plan.blocks
    for number, one in enumerate(frames_of(used)):
        begin = number * len(grid)
        if log.done.issuperset(range(begin, begin + len(grid))):
            continue
        sink = ZarrSink(raw, image.axes, number if "T" in image.axes else None, labels, stored, maps)
        one_image: ImageMaps | SlicedMaps
        if slices is not None:
            one_image = SlicedMaps(model, one, slices, memory)
        else:
            prepared = first if number == 0 else prepare(one, model.preparation)
            if settings.superpixels is not None:
                settings.superpixels.give(model.method, prepared)
            one_image = ImageMaps(model, prepared, plan, memory_budget(memory) // 2)
        run_blocks(BlockWork(one_image, grid, sink, begin, raw), executor, log, settings.progress, memory)
        settings.say(one_image.notes)
    if raw != path:
        labels = _finish(model, image, labels, path, slices, grid, hysteresis, settings.progress)
        if CONFIDENCE in wanted:
            _store_confidence(model, image, labels, maps[PROBABILITIES], wanted[CONFIDENCE], grid)
    log.close()
    for folder in {raw, *stored.values()} - {path, *wanted.values()}:
        remove_folder(folder)
    seconds = time.monotonic() - begun
    return Result(image, labels, None, model.table, seconds, path=path, maps=tuple(wanted.values()))


def _maps_for_later(wanted: Mapping[str, Path], labels: Path) -> dict[str, Path]:
    """Return what is stored while labels are not final: the probabilities, out of which the confidence is made in the end."""
    kept = labels.with_name(f".{labels.name}.probabilities.zarr")
    return {PROBABILITIES: wanted.get(PROBABILITIES, kept)} if wanted else {}


def _open_map(model: FittedModel, image: Image, path: Path, kind: str, labels: Any, fresh: bool) -> Any:
    """Open the zarr of a map that goes with labels; chunks are those of the labels, one class thick."""
    axes = map_axes(kind, image.axes.replace("C", ""))
    shape, chunks = list(labels.shape), list(labels.chunks)
    if "C" in axes:
        shape.insert(axes.index("C"), len(model.table))
        chunks.insert(axes.index("C"), 1)
    return open_label_zarr(path, shape, np.float16, chunks, axes, image, None, fresh)


def _store_confidence(
    model: FittedModel, image: Image, labels: Any, probabilities: Any, path: Path, grid: Grid
) -> None:
    """Write the probability of each pixel's label, once labels are final."""
    axes = image.axes.replace("C", "")
    confidence = _open_map(model, image, path, CONFIDENCE, labels, fresh=True)
    frames = zip(
        time_points(labels, axes),
        time_points(probabilities, map_axes(PROBABILITIES, axes)),
        time_points(confidence, axes),
        strict=True,
    )
    with storing(path):
        for chosen, known, stored in frames:
            for place in grid.places():
                part = grid.tile(place).core
                stored[part] = chosen_probability(known[(slice(None), *part)], chosen[part]).astype(np.float16)


def _open_labels(model: FittedModel, image: Image, path: Path, slices: str | None, fresh: bool) -> Any:
    """Open the zarr of labels; chunks are one slice thick along the axis that a volume is cut across, and along T."""
    axes = image.axes.replace("C", "")
    thin = "T" if slices is None else f"T{slices[0]}"
    chunk = CHUNK[len(image.spatial_shape) - (slices is not None)]
    shape = tuple(image.size(letter) for letter in axes)
    chunks = tuple(1 if letter in thin else min(chunk, n) for letter, n in zip(axes, shape, strict=True))
    marks = any(
        one.hysteresis is not None for one in parse_refinements(model.refine)
    )  # twice as many labels for a while
    kind = np.min_scalar_type((1 + marks) * max(item.id for item in model.table.classes))
    return open_label_zarr(path, shape, kind, chunks, axes, image, model.table, fresh)


def _finish(
    model: FittedModel,
    image: Image,
    raw: Any,
    path: Path,
    slices: str | None,
    grid: Grid,
    hysteresis: Hysteresis | None,
    progress: Progress,
) -> Any:
    """Write the linked and cleaned labels of every time point into a zarr of their own: killed, it begins anew from `raw`."""
    labels = _open_labels(model, image, path, slices, fresh=True)
    axes, n_classes = image.axes.replace("C", ""), len(model.table)
    for before, after in zip(time_points(raw, axes), time_points(labels, axes), strict=True):
        with storing(path):
            for place in grid.places():
                part = grid.tile(place).core
                after[part] = before[part]
            if hysteresis is not None and len(grid) > 1:
                link_blocks(after, grid.sides, n_classes, hysteresis.of(n_classes))
            clean_blocks(after, grid.sides, Cleaning.parse(model.clean), progress)
    return labels
