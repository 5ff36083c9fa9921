"""Prediction into a folder: sequences frame by frame, images one by one, large images in parts; what fails is named."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfseg.core.errors import Failure, Interrupted, OutputError, SelfsegError, UsageError
from selfseg.core.image import Image
from selfseg.core.options import PredictOptions, ReadOptions
from selfseg.core.progress import Progress, Silent
from selfseg.export.labels import LabelWriter
from selfseg.read import Source, find_inputs, with_masks
from selfseg.read.frames import Frames
from selfseg.refine.edits import Edits, read_edits
from selfseg.results.folder import OutputFolder, check_place
from selfseg.results.instances import OWN, Counted, InstanceFolder, ObjectOptions
from selfseg.results.merge_trees import check_single, save_tree
from selfseg.results.model import FittedModel
from selfseg.results.result import Result
from selfseg.results.tracks import SequenceObjects
from selfseg.segmenting.executors import DaskCluster, Executor
from selfseg.segmenting.frames import find_sequences, segment_sequence
from selfseg.segmenting.images import OwnSuperpixels, Settings, edited, fits_in_memory, iter_segment, segment_stored
from selfseg.segmenting.objects import own_numbering
from selfseg.segmenting.trees import edit_stored, store_tree

NONE = "none"
"""Value of `PredictOptions.instances` where a method's own objects are not wanted."""


@dataclass
class FolderRun:
    """The segmentation of inputs into one folder.

    Attributes
    ----------
    model
        A fitted model.
    folder
        Where labels, overlays and the report go.
    objects
        Where objects go; None = they are not looked for.
    settings
        Prediction options of single images.
    link
        Link the frames of a sequence over time, or the slices of a volume.
    edits
        Edits to be repeated; None = none.
    failures
        What failed, by the name of the input.
    tree
        Write the merge tree of each image too.
    executor
        Runs the blocks of images that are predicted in parts: of all that can be, if one is given. None = this process.
    asked
        Objects are asked for, and not just found by the method.
    """

    model: FittedModel
    folder: OutputFolder
    objects: InstanceFolder | None
    settings: Settings
    link: bool = False
    edits: Edits | None = None
    failures: dict[str, str] = field(default_factory=dict)
    tree: bool = False
    executor: Executor | None = None
    asked: bool = False

    def run(self, sources: Sequence[Source], sequence: bool | None, axes: str | None) -> None:
        """Segment all inputs that have not failed before.

        Parameters
        ----------
        sources
            The inputs.
        sequence
            Whether several images are the frames of one sequence; None = if the model learned from frames.
        axes
            Axes of the inputs, None = as the files say.

        Raises
        ------
        UsageError
            If `slices` or `link` do not go with the model and the inputs.
        OutputError
            If the folder cannot be written: the next input could not be either.
        """
        self._check_slices()
        if sequence is None:
            sequence = self.model.facts.get("sequence", {}).get("kind") == "frames"
        left = [item for item in sources if item.name not in self.failures]
        sequences: list[Frames | Failure] = []
        stills = left
        if sequence or any(source.is_video(axes) for source in left):
            sequences, stills = find_sequences(left, sequence, axes, self.settings.progress)
        if self.link and not sequences and not any(self._is_sliced(source, axes) for source in stills):
            raise UsageError(
                "--link",
                expected="a video, frames in sequence, or a volume for a 2D model",
                got="single images",
                fix="leave it out, or add --sequence",
            )
        for one in sequences:
            self._sequence(one)
        self.do_images(stills, axes)
        self.close()

    def do_images(self, stills: Sequence[Source], axes: str | None) -> None:
        """Segment single images: those that fit into memory first, then the others in parts."""
        self._check_slices()
        large: list[tuple[Source, Image]] = []
        self._images(list(self._small_ones(stills, axes, large)), axes)
        for source, image in large:
            with self._named(source.name), image:
                self._in_parts(source, image)

    def close(self) -> None:
        """Write what sums up all that is done so far."""
        if self.objects is not None and (self.objects.tables or self.asked):
            self.settings.progress.say(f"objects in all images: {self.objects.close()} (classes: {self.objects.names})")
        for name in self.folder.close(list(self.failures.items())):
            place = self.folder.out / name
            self.settings.progress.say(
                f"{place} was changed since an earlier run wrote it: it stays, as no result of this one"
            )

    def _images(self, sources: list[Source], axes: str | None) -> None:
        if not sources:
            return
        for source, outcome in iter_segment(self.model, sources, axes, self.settings):
            with self._named(source.name):
                if isinstance(outcome, SelfsegError):
                    raise outcome
                self._finish(outcome, source)
                outcome.image.memo.clear()  # the source may keep the image, not what was computed of it

    def _finish(self, result: Result, source: Source) -> None:
        """Write the files of a result: its labels as edited, its objects, its tree."""
        if self.edits is not None:
            result = edited(self.model, result, self.edits)
        counted = None
        if self.objects is not None:
            own = result.objects if self.objects.options.kind == OWN else None
            counted = self.objects.add(result.image, result.labels, self.settings.progress, own)
        self._add(result, source, counted=counted)
        if self.tree:
            save_tree(result, self.folder.out)

    def _sequence(self, source: Frames | Failure) -> None:
        if not isinstance(source, Frames):
            self._note(*source)
            return
        with self._named(source.name):
            if self.tree:
                raise UsageError(
                    source.name,
                    expected="single images for trees",
                    got="a sequence",
                    fix="leave --tree out, or give the frames with --no-sequence",
                )
            self._say_here(source.name)
            progress = self.settings.progress
            objects = None if self.objects is None else SequenceObjects(self.objects, source.name, self.link)
            maps = self.settings.maps
            result = segment_sequence(
                self.model, source, self.folder.out, self.link, progress, self.edits, objects, maps
            )
            if objects is not None:
                objects.close(progress)
            facts = result.sequence
            if facts is None:
                return
            speed = f"{facts.n_labelled / max(1e-9, result.seconds):.2f} frames/s"
            for note in [*facts.notes, f"{source.name}: {facts.flicker.describe()}; {speed}"]:
                progress.say(note)
            self._add(result, source, linked=self.link)
            self.failures.update(facts.failures)

    def _in_parts(self, source: Source, image: Image) -> None:
        folder, progress = self.folder, self.settings.progress
        if self.tree or self.edits is not None:
            check_single(image)
        if not {"tiff", "ome-zarr"} >= set(folder.writer.kinds) or folder.writer.ngff != "0.5":
            raise UsageError(
                source.name,
                expected="labels of an image that is predicted in parts as OME-Zarr 0.5",
                got=f"{', '.join(folder.writer.kinds)} (NGFF {folder.writer.ngff})",
                fix="leave --write and --ngff out",
            )
        progress.say(f"{source.name}: predicted in parts, into {folder.out / 'labels' / source.name}.zarr")
        result = segment_stored(self.model, image, folder.out, self.settings, self.executor)
        if self.tree or self.edits is not None:
            store_tree(self.model, result, folder.out, self.settings)
        if self.edits is not None:
            result = edit_stored(self.model, result, folder.out, self.edits, progress)
        counted = None
        if self.objects is not None:
            own = own_numbering(self.model, result, self.settings) if self.objects.options.kind == OWN else None
            counted = self.objects.add(result.image, result.labels, progress, numbering=own)
        self._add(result, source, counted=counted)

    def _add(
        self, result: Result, source: Source | Frames, linked: bool = False, counted: Counted | None = None
    ) -> None:
        """Write the files of a result, and pass on the remark upon it."""
        if remark := self.folder.add(result, source.fingerprint(), linked, counted):
            self.settings.progress.say(remark)

    def _small_ones(
        self, sources: Sequence[Source], axes: str | None, large: list[tuple[Source, Image]]
    ) -> Iterator[Source]:
        """Yield the inputs that are predicted as a whole, and those that cannot be opened, whose errors come with their turn;
        add the others, opened, to `large`."""
        for source in sources:
            try:
                image = source.open(axes)
                source.tell(image.remarks, self.settings.progress)
                fits = fits_in_memory(self.model, image, self.settings.memory)
                whole = image.in_memory or (self.executor is None and fits)
            except SelfsegError:
                whole = True
            if whole:
                self._say_here(source.name)
                yield source
            else:
                large.append((source, image))

    def _say_here(self, name: str) -> None:
        if self.executor is not None:
            note = f"{name}: not to be had in parts (zarr, TIFF and the like are), so it is predicted here"
            self.settings.progress.say(note)

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Note what keeps an input from being done, and continue; not where the place for outputs is at fault, or all is to end."""
        try:
            yield
        except (OutputError, Interrupted):
            raise
        except SelfsegError as error:
            self._note(name, str(error))

    def _note(self, name: str, message: str) -> None:
        self.failures[name] = message
        self.settings.progress.say(message)

    def _check_slices(self) -> None:
        if self.settings.slices is not None and self.model.method.n_dims != 2:
            raise UsageError(
                "--slices",
                expected="a model that learned from 2D images",
                got="a 3D one",
                fix="leave it out, or fit with --slices",
            )

    def _is_sliced(self, source: Source, axes: str | None) -> bool:
        with contextlib.suppress(SelfsegError):
            return self.model.slices_volume(source.open(axes))
        return False


def check_outputs(
    options: PredictOptions, out: Path | None = None
) -> tuple[LabelWriter, ObjectOptions | None, Edits | None]:
    """Return the writer of labels, how objects are found if they are asked for, and the edits to repeat.

    Raises
    ------
    SelfsegError
        If a format or a kind of object is unknown, the edits cannot be read, or files in the folder `out` are in the way.
    """
    if out is not None:
        check_place(out)
    kinds = (options.write,) if isinstance(options.write, str) else tuple(options.write)
    objects, edits = options.instances, options.edits
    objects = None if objects == NONE else ObjectOptions(objects) if isinstance(objects, str) else objects
    edits = read_edits(edits) if isinstance(edits, str | Path) else edits
    return LabelWriter(kinds, options.ngff), objects, edits


def find_sources(inputs: Any, options: ReadOptions, progress: Progress | None = None) -> list[Source]:
    """Find the inputs, at most `limit` of them, and lay their masks upon them; sources found before stay the same objects.

    `progress` gets a line about what a search passes over.
    """
    say = (progress or Silent()).say
    found = find_inputs(inputs, options.limit, say)
    return found if options.mask is None else with_masks(found, options.mask, say)


def predict(
    model: FittedModel,
    inputs: Any,
    out: str | Path,
    options: PredictOptions | None = None,
    *,
    failures: Sequence[Failure] = (),
    progress: Progress | None = None,
) -> list[Failure]:
    """Segment images into a folder: labels, overlays, class table, ``run.json`` and ``report.html``.

    One image, or one frame of a video, is in memory at a time. An input that fails is named; the others are done.

    Parameters
    ----------
    model
        A fitted model.
    inputs
        As for `fit`; sources found before stay the same objects.
    out
        The folder.
    options
        Prediction options; None = the defaults.
    failures
        Inputs that failed before (while training), to be named in the report.
    progress
        Progress reporter.

    Returns
    -------
    list of (name, message)
        Inputs that failed, empty if all are done.
    """
    options = options or PredictOptions()
    check_outputs(options)  # mistakes are found before the search
    sources = find_sources(inputs, options, progress)
    with folder_run(model, sources, out, options, failures, progress) as work:
        work.run(sources, options.sequence, options.axes)
    return list(work.failures.items())


@contextlib.contextmanager
def folder_run(
    model: FittedModel,
    sources: Sequence[Source],
    out: str | Path,
    options: PredictOptions,
    failures: Sequence[Failure] = (),
    progress: Progress | None = None,
) -> Iterator[FolderRun]:
    """Begin a run into a folder, and yield it; see `predict`. What is written meanwhile is noted as the run's."""
    writer, instances, edits = check_outputs(options)
    table = model.table if edits is None else edits.table(model.table)
    look = {"numbers": options.numbers, "opacity": options.opacity}
    folder = OutputFolder(Path(out), model, table, writer, look, options.maps)
    if instances is None and edits is not None and edits.counting is not None and options.instances != NONE:
        counting = edits.counting
        instances = ObjectOptions(counting.kind, counting.of or None, counting.min_size)
    if instances is None and model.method.finds_objects and options.instances != NONE:
        instances = ObjectOptions(OWN)
    if instances is not None and instances.kind == OWN and not model.method.finds_objects:
        fix = f"{model.name} gives classes: cut objects out of them"
        raise UsageError("--instances", expected="components or watershed", got=OWN, fix=fix)
    objects = InstanceFolder(Path(out), table, instances, edits) if instances is not None else None
    own = OwnSuperpixels(options.superpixels, sources)
    say, ahead = progress or Silent(), options.read_ahead
    settings = Settings(
        options.memory_bytes, options.slices, own, options.link, say, read_ahead=ahead, maps=options.maps
    )
    with contextlib.nullcontext() if options.dask is None else DaskCluster(options.dask) as executor:
        asked = options.instances is not None
        work = FolderRun(
            model, folder, objects, settings, options.link, edits, dict(failures), options.tree, executor, asked
        )
        folder.manifest.begin()
        with folder.manifest:
            yield work
