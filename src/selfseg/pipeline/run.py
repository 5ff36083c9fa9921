"""The public verbs: fit, predict, segment, load."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from selfseg.core.errors import InputError, OutputError, SelfsegError, explain
from selfseg.core.progress import Progress, Silent
from selfseg.export.label_files import LabelWriter
from selfseg.pipeline.edited import Edits, edited
from selfseg.pipeline.instances import InstanceFolder, ObjectOptions
from selfseg.pipeline.large import open_if_large, predict_large
from selfseg.pipeline.large_instances import check_large_objects, large_instances
from selfseg.pipeline.outputs import OutputFolder
from selfseg.pipeline.result import Result
from selfseg.pipeline.segmenter import Segmenter
from selfseg.pipeline.training_set import Failure
from selfseg.read import Source, find_inputs
from selfseg.read.lazy import LazyImage


def fit(inputs: Any, method: str = "feature_clustering", **options: Any) -> Segmenter:
    """Learn a model from unlabelled images.

    Parameters
    ----------
    inputs
        A path, a folder, a glob, an array, an `Image`, or a list of any of these.
    method
        Name of the method.
    **options
        Arguments of `Segmenter` (``n_classes``, ``preset``, ``seed``, ``prepare``, ``device``, ``options``) and of its `fit`
        (``scribbles``, ``out``, ``resume``, ``axes``, ``limit``, ``progress``, ...).
    """
    model, how = _split_options(method, options)
    return model.fit(inputs, **how)


def load(folder: str | Path, device: str = "auto") -> Segmenter:
    """Read a model folder that `Segmenter.save` or `selfseg fit` wrote. Nothing in it is executed.

    Raises
    ------
    ModelError
        If it is no model folder, damaged, or written by a newer version.
    """
    return Segmenter.load(folder, device)


def segment(inputs: Any, method: str = "feature_clustering", **options: Any) -> Result | list[Result]:
    """Learn from the images, then segment them: `fit` and `predict` in one call.

    All images share one model, so that a class means the same in each of them.

    Returns
    -------
    Result or list of Result
        One result for a single file or array, else a list.
    """
    model, how = _split_options(method, options)
    model.fit(inputs, **how)
    return model.predict(inputs, how.get("axes"), how.get("progress"))


def _split_options(method: str, options: dict[str, Any]) -> tuple[Segmenter, dict[str, Any]]:
    own = {key: options.pop(key) for key in Segmenter().get_params() if key in options and key != "method"}
    return Segmenter(method, **own), options


def predict(
    model: Segmenter,
    inputs: Any,
    out: str | Path,
    *,
    axes: str | None = None,
    limit: int | None = None,
    failures: Sequence[Failure] = (),
    edits: Edits | None = None,
    instances: ObjectOptions | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
    write: str | Sequence[str] = "tiff",
    ngff: str = "0.5",
) -> list[Failure]:
    """Segment images into a folder: labels, overlays, class table, ``run.json`` and ``report.html``.

    One image is in memory at a time, or a part of one. An input that fails is named; the others are done.

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
    failures
        Inputs that failed before (while training), to be named in the report.
    edits
        What was done to the classes by hand, to be repeated here.
    instances
        Find and measure objects too, as `pipeline.instances.instances` does; None = not.
    memory
        Most that this process may take, in bytes; None = half of what is free. An image that would take more is predicted in
        parts, from its file into a zarr of labels (`pipeline.large`).
    progress
        Who watches.
    write
        Formats of the labels: names out of `selfseg.export.label_files.FORMATS`.
    ngff
        Version of OME-Zarr, ``"0.5"`` or ``"0.4"``.

    Returns
    -------
    list of (name, message)
        Inputs that failed, empty if all are done.
    """
    progress = progress or Silent()
    writer = LabelWriter((write,) if isinstance(write, str) else tuple(write), ngff)
    table = model.table_ if edits is None else edits.table(model.table_)
    folder = OutputFolder(Path(out), model, table, writer)
    objects = InstanceFolder(Path(out), table, instances) if instances is not None else None
    known = dict(failures)
    large: list[tuple[Source, LazyImage]] = []
    sources = list(_small_ones(model, _to_do(inputs, limit, known), axes, memory, large))
    for source, outcome in model.iter_predict(sources, axes, progress, memory):
        with _named(source, known, progress):
            if isinstance(outcome, SelfsegError):
                raise outcome
            result = outcome if edits is None else edited(model, outcome, edits)
            folder.add(result, source)
            if objects is not None:
                objects.add(result.image, result.labels)
    for source, image in large:
        with _named(source, known, progress), image:
            if edits is not None:
                fix = "give more with --memory, or leave --edits out"
                got = "one that is predicted in parts"
                raise InputError(explain(source.name, expected="an image that fits in memory", got=got, fix=fix))
            _predict_in_parts(model, source, image, folder, objects, memory, progress)
    if objects is not None:
        progress.say(f"{objects.close()} objects of {objects.names}")
    folder.close(list(known.items()))
    return list(known.items())


@contextlib.contextmanager
def _named(source: Source, known: dict[str, str], progress: Progress) -> Iterator[None]:
    """Note what keeps an input from being done, and go on; not where the place for outputs is at fault: it would be again."""
    try:
        yield
    except OutputError:
        raise
    except SelfsegError as error:
        known[source.name] = str(error)
        progress.say(str(error))


def _small_ones(
    model: Segmenter, sources: list[Source], axes: str | None, memory: int | None, large: list[tuple[Source, LazyImage]]
) -> Iterator[Source]:
    """Yield the inputs that are predicted as a whole, and those that cannot be opened, whose errors come with their turn;
    add the others, opened, to `large`."""
    for source in sources:
        try:
            image = open_if_large(model, source, axes, memory)
        except SelfsegError:
            image = None
        if image is None:
            yield source
        else:
            large.append((source, image))


def _predict_in_parts(
    model: Segmenter,
    source: Source,
    image: LazyImage,
    folder: OutputFolder,
    objects: InstanceFolder | None,
    memory: int | None,
    progress: Progress,
) -> None:
    if objects is not None:
        check_large_objects(image, objects.options)
    progress.say(f"{source.name}: predicted in parts, into {folder.out / 'labels' / source.name}.zarr")
    result = predict_large(model, image, folder.out, memory, progress)
    folder.add_large(result, source)
    if objects is not None:
        objects.tables.append(large_instances(result, folder.out, objects.options, progress))


def _to_do(inputs: Any, limit: int | None, known: dict[str, str]) -> list[Source]:
    return [source for source in find_inputs(inputs, limit=limit) if source.name not in known]
