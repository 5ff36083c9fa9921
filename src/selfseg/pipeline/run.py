"""The public verbs: fit, predict, segment, load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfseg.core.errors import InputError, SelfsegError, UsageError, explain
from selfseg.core.progress import Progress, Silent
from selfseg.pipeline.frame_choice import check_slices
from selfseg.pipeline.outputs import OutputFolder
from selfseg.pipeline.result import Result
from selfseg.pipeline.segmenter import Segmenter
from selfseg.pipeline.sequence import find_sequences, segment_sequence
from selfseg.pipeline.training_set import Failure
from selfseg.read import Source, find_inputs
from selfseg.read.frames import FrameSource


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
    return model.predict(inputs, how.get("axes"), how.get("progress"), how.get("slices"))


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
    slices: str | None = None,
    sequence: bool | None = None,
    link: bool = False,
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
    progress
        Who watches.

    Returns
    -------
    list of (name, message)
        Inputs that failed, empty if all are done.
    """
    progress = progress or Silent()
    _check_slices(model, slices)
    folder = OutputFolder(Path(out), model)
    known = dict(failures)
    if sequence is None:
        sequence = model.facts_.get("sequence", {}).get("kind") == "frames"
    sequences, stills = find_sequences(_to_do(inputs, limit, known), sequence, axes)
    if link and not sequences:
        fix = "leave it out, or add --sequence"
        raise UsageError(explain("--link", expected="a video, or frames in sequence", got="single images", fix=fix))
    for one in sequences:
        known.update(_segment_sequence(model, one, folder, link, progress))
    for source, outcome in model.iter_predict(stills, axes, progress, slices) if stills else ():
        if isinstance(outcome, SelfsegError):
            known[source.name] = str(outcome)
            progress.say(str(outcome))
        else:
            folder.add(outcome, source)
    folder.close(list(known.items()))
    return list(known.items())


def _segment_sequence(
    model: Segmenter, source: FrameSource | Failure, folder: OutputFolder, link: bool, progress: Progress
) -> list[Failure]:
    if not isinstance(source, FrameSource):
        progress.say(source[1])
        return [source]
    try:
        run = segment_sequence(model, source, folder.out, link, progress)
    except InputError as error:
        progress.say(str(error))
        return [(source.name, str(error))]
    for note in [*run.notes, f"{source.name}: {run.flicker.describe()}; {run.frames_per_second:.2f} frames/s"]:
        progress.say(note)
    folder.add_sequence(run, link)
    return run.failures


def _check_slices(model: Segmenter, slices: str | None) -> None:
    check_slices(slices)
    if slices is not None and model.check().method_.n_dims != 2:
        fix = "leave it out, or fit with --slices"
        raise UsageError(explain("--slices", expected="a model that learned from 2D images", got="a 3D one", fix=fix))


def _to_do(inputs: Any, limit: int | None, known: dict[str, str]) -> list[Source]:
    return [source for source in find_inputs(inputs, limit=limit) if source.name not in known]
