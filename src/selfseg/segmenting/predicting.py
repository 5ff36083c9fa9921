"""Prediction into a folder: sequences frame by frame, images one by one, large images in parts; what fails is named."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfseg.core.errors import Failure, InputError, Interrupted, OutputError, SelfsegError, UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.export.label_files import LabelWriter
from selfseg.read import Source, find_inputs, with_masks
from selfseg.read.frames import Frames, check_slices
from selfseg.results.instances import InstanceFolder, ObjectOptions
from selfseg.results.model import FittedModel
from selfseg.results.trees import check_single, save_tree
from selfseg.segmenting.block_work import BlockWork
from selfseg.segmenting.dask_cluster import DaskCluster
from selfseg.segmenting.edited import Edits, edited
from selfseg.segmenting.large import open_if_large, predict_large
from selfseg.segmenting.large_instances import check_large_objects, large_instances
from selfseg.segmenting.large_tree import large_tree
from selfseg.segmenting.outputs import OutputFolder
from selfseg.segmenting.segmenting import How, iter_segment
from selfseg.segmenting.sequence import find_sequences, segment_sequence
from selfseg.segmenting.superpixels import OwnSuperpixels
from selfseg.tiling.blocks import Executor


@dataclass
class Predicting:
    """The segmentation of inputs into one folder.

    Attributes
    ----------
    model
        A fitted model.
    folder
        Where labels, overlays and the report go.
    objects
        Where objects go; None = they are not looked for.
    how
        How images are segmented, and who watches.
    link
        Link the frames of a sequence over time.
    edits
        What was done to the classes by hand, to be repeated; None = nothing.
    known
        What failed, by the name of the input.
    tree
        Write the merge tree of each image too.
    executor
        Who does the blocks of images that are predicted in parts: all that can be, if one is given. None = this process.
    """

    model: FittedModel
    folder: OutputFolder
    objects: InstanceFolder | None
    how: How
    link: bool = False
    edits: Edits | None = None
    known: dict[str, str] = field(default_factory=dict)
    tree: bool = False
    executor: Executor[BlockWork] | None = None

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
        sequences, stills = find_sequences([item for item in sources if item.name not in self.known], sequence, axes)
        if self.link and not sequences:
            fix = "leave it out, or add --sequence"
            raise UsageError("--link", expected="a video, or frames in sequence", got="single images", fix=fix)
        for one in sequences:
            self._sequence(one)
        large: list[tuple[Source, Image]] = []
        self._images(list(self._small_ones(stills, axes, large)), axes)
        for source, image in large:
            with self._named(source.name), image:
                self._in_parts(source, image)
        if self.objects is not None:
            self.how.progress.say(f"{self.objects.close()} objects of {self.objects.names}")
        self.folder.close(list(self.known.items()))

    def _images(self, sources: list[Source], axes: str | None) -> None:
        if not sources:
            return
        for source, outcome in iter_segment(self.model, sources, axes, self.how):
            with self._named(source.name):
                if isinstance(outcome, SelfsegError):
                    raise outcome
                result = outcome if self.edits is None else edited(self.model, outcome, self.edits)
                self.folder.add(result, source)
                if self.objects is not None:
                    self.objects.add(result.image, result.labels)
                if self.tree:
                    save_tree(result, self.folder.out)

    def _sequence(self, source: Frames | Failure) -> None:
        if not isinstance(source, Frames):
            self._note(*source)
            return
        with self._named(source.name):
            if self.tree:
                fix = "leave --tree out, or give the frames with --no-sequence"
                raise UsageError(source.name, expected="single images for trees", got="a sequence", fix=fix)
            self._say_here(source.name)
            run = segment_sequence(self.model, source, self.folder.out, self.link, self.how.progress, self.edits)
            for note in [*run.notes, f"{source.name}: {run.flicker.describe()}; {run.frames_per_second:.2f} frames/s"]:
                self.how.progress.say(note)
            self.folder.add_sequence(run, self.link)
            self.known.update(run.failures)

    def _in_parts(self, source: Source, image: Image) -> None:
        folder, objects = self.folder, self.objects
        self._check_no_edits(source.name, "an image that fits in memory", "one that is predicted in parts")
        if objects is not None:
            check_large_objects(image, objects.options)
        if self.tree:
            check_single(image)
        if self.model.slices_volume(image):
            self._check_flat(source.name)
        if not {"tiff", "ome-zarr"} >= set(folder.writer.kinds) or folder.writer.ngff != "0.5":
            got, fix = f"{', '.join(folder.writer.kinds)} (NGFF {folder.writer.ngff})", "leave --write and --ngff out"
            expected = "labels of an image that is predicted in parts as OME-Zarr 0.5"
            raise UsageError(source.name, expected=expected, got=got, fix=fix)
        self.how.progress.say(f"{source.name}: predicted in parts, into {folder.out / 'labels' / source.name}.zarr")
        result = predict_large(self.model, image, folder.out, self.how.memory, self.how.progress, self.executor)
        folder.add_large(result, source)
        if objects is not None:
            objects.tables.append(large_instances(result, folder.out, objects.options, self.how.progress))
        if self.tree:
            large_tree(self.model, result, folder.out, self.how.memory, self.how.progress)

    def _check_flat(self, name: str) -> None:
        """Raise unless a volume can be predicted in parts by a 2D model: slice by slice along z, which gives labels and objects."""
        if self.how.slices not in (None, "z") or self.tree:
            fix = "use --slices z without --tree, or fit a 3D model: --windows 16"
            got = "--tree" if self.tree else f"--slices {self.how.slices}"
            raise UsageError(name, expected="slices along z of a volume in parts", got=got, fix=fix)

    def _check_no_edits(self, name: str, expected: str, got: str) -> None:
        if self.edits is not None:
            raise InputError(f"{name}: edits", expected=expected, got=got, fix="leave --edits out")

    def _small_ones(
        self, sources: Sequence[Source], axes: str | None, large: list[tuple[Source, Image]]
    ) -> Iterator[Source]:
        """Yield the inputs that are predicted as a whole, and those that cannot be opened, whose errors come with their turn;
        add the others, opened, to `large`."""
        for source in sources:
            try:
                image = open_if_large(self.model, source, axes, self.how.memory, self.executor is not None)
            except SelfsegError:
                image = None
            if image is None:
                self._say_here(source.name)
                yield source
            else:
                large.append((source, image))

    def _say_here(self, name: str) -> None:
        if self.executor is not None:
            self.how.progress.say(
                f"{name}: not to be had in parts (zarr, TIFF and the like are), so it is predicted here"
            )

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Note what keeps an input from being done, and go on; not where the place for outputs is at fault, or all is to end."""
        try:
            yield
        except (OutputError, Interrupted):
            raise
        except SelfsegError as error:
            self._note(name, str(error))

    def _note(self, name: str, message: str) -> None:
        self.known[name] = message
        self.how.progress.say(message)

    def _check_slices(self) -> None:
        check_slices(self.how.slices)
        if self.how.slices is not None and self.model.method.n_dims != 2:
            fix, got = "leave it out, or fit with --slices", "a 3D one"
            raise UsageError("--slices", expected="a model that learned from 2D images", got=got, fix=fix)


def predict(
    model: FittedModel,
    inputs: Any,
    out: str | Path,
    *,
    axes: str | None = None,
    limit: int | None = None,
    slices: str | None = None,
    sequence: bool | None = None,
    link: bool = False,
    failures: Sequence[Failure] = (),
    look: Mapping[str, Any] | None = None,
    superpixels: str | Path | None = None,
    mask: str | Path | None = None,
    edits: Edits | None = None,
    instances: ObjectOptions | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
    write: str | Sequence[str] = "tiff",
    ngff: str = "0.5",
    tree: bool = False,
    dask: str | None = None,
) -> list[Failure]:
    """Segment images into a folder: labels, overlays, class table, ``run.json`` and ``report.html``.

    One image, or one frame of a video, is in memory at a time. An input that fails is named; the others are done.

    Parameters
    ----------
    model
        A fitted model.
    inputs
        As for `fit`.
    out
        The folder.
    axes, limit
        As for `fit`.
    slices
        With a 2D model: how volumes are cut, ``z`` (if None), ``y``, ``x``, or ``all``, the mean over the three.
    sequence
        Whether several images are the frames of one sequence, and a time series is one: they get an overlay video and a flicker
        score, as videos always do. None = if the model learned from frames.
    link
        Link the frames of a sequence over time (`selfseg.refine.link`).
    failures
        Inputs that failed before (while training), to be named in the report.
    look
        Options of the overlays, as for `selfseg.export.overlay.overlay`: ``{"numbers": True}``.
    superpixels
        Label images of the inputs' superpixels, for a model that learned with such.
    mask
        A label image for a single input, or a folder with one for each: pixels where it is 0 get no class.
    edits
        What was done to the classes by hand, to be repeated here.
    instances
        Find and measure objects too, as `results.instances.instances` does; None = not.
    memory
        Most that this process may take, in bytes; None = by what is free. An image that would take more is predicted in
        parts, from its file into a zarr of labels (`segmenting.large`).
    progress
        Who watches.
    write
        Formats of the labels: names out of `selfseg.export.label_files.FORMATS`.
    ngff
        Version of OME-Zarr, ``"0.5"`` or ``"0.4"``.
    tree
        Write superpixels and merge tree of each image into ``OUT/tree`` too; `results.trees.cut_folder` cuts them.
    dask
        Address of a Dask scheduler, or ``"local:N"`` (`segmenting.dask_cluster`): images that can be read in parts are predicted by
        its workers, which must find images and `out` under the same paths, and may take `memory` each.

    Returns
    -------
    list of (name, message)
        Inputs that failed, empty if all are done.
    """
    writer = LabelWriter((write,) if isinstance(write, str) else tuple(write), ngff)
    table = model.table if edits is None else edits.table(model.table)
    folder = OutputFolder(Path(out), model, table, writer, look)
    objects = InstanceFolder(Path(out), table, instances) if instances is not None else None
    how = How(memory, slices, OwnSuperpixels(superpixels), progress or Silent())
    sources = with_masks(find_inputs(inputs, limit=limit), mask)
    with contextlib.nullcontext() if dask is None else DaskCluster(dask) as executor:
        work = Predicting(model, folder, objects, how, link, edits, dict(failures), tree, executor)
        work.run(sources, sequence, axes)
    return list(work.known.items())
