"""The public verbs: fit, predict, segment, load."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from selfseg.core.errors import Failure
from selfseg.core.options import (
    FitOptions,
    ModelOptions,
    PredictOptions,
    ReadOptions,
    RunOptions,
    option_names,
    share_out,
)
from selfseg.core.progress import Progress
from selfseg.learning.segmenter import Segmenter, find_sources
from selfseg.read.sources import is_single
from selfseg.results.result import Result
from selfseg.segmenting.predicting import check_outputs
from selfseg.segmenting.predicting import predict as predict_into


def fit(inputs: Any, method: str = ModelOptions.method, **options: Any) -> Segmenter:
    """Learn a model from unlabelled images.

    Parameters
    ----------
    inputs
        A path, a folder, a glob, an array, an `Image`, or a list of any of these.
    method
        Name of the method.
    **options
        Fields of `selfseg.core.options.ModelOptions` (``n_classes``, ``preset``, ``seed``, ``prepare``, ``channels``, ``device``,
        ``options``, ...), `FitOptions` (``labels``, ``scribbles``, ``mask``, ``axes``, ``limit``, ``resume``, ...) and `RunOptions`
        (``out``, ``progress``, ...).

    Raises
    ------
    UsageError
        If an option is unknown or wrong, before any work.
    """
    model, how = _split(method, options)
    return model.fit(inputs, **how)


def load(folder: str | Path, device: str = "auto", networks: str | None = None) -> Segmenter:
    """Read a model folder that `Segmenter.save` or `selfseg fit` wrote. Nothing in it is executed.

    Parameters
    ----------
    folder
        The folder.
    device
        Where to compute.
    networks
        Where the model was made with networks of your own (an option of deep k-means): the name of their module once more.
        A name that stands in the folder alone is not imported.

    Raises
    ------
    ModelError
        If it is no model folder, damaged, or written by a newer version.
    """
    return Segmenter.load(folder, device, networks)


def segment(inputs: Any, method: str = ModelOptions.method, **options: Any) -> Result | list[Result]:
    """Learn from the images, then segment them: `fit` and `predict` in one call, with the arguments of `fit`.

    All images share one model, so that a class means the same in each of them.

    Returns
    -------
    Result or list of Result
        One result for a single file or array, else a list.

    Raises
    ------
    UsageError
        If an option is unknown or wrong, before any work.
    """
    model, how = _split(method, options)
    reading = ReadOptions(**{name: how[name] for name in option_names(ReadOptions) if name in how})
    sources, found = find_sources(inputs, reading), {"mask": None, "limit": None}
    results = model.fit(sources, **how | found).predict(sources, progress=how.get("progress"), **vars(reading) | found)
    return results[0] if isinstance(results, list) and is_single(inputs) else results


def predict(
    model: Segmenter, inputs: Any, out: str | Path, *, progress: Progress | None = None, **options: Any
) -> list[Failure]:
    """Segment images into a folder: labels, overlays, class table, ``run.json`` and ``report.html``.

    One image, or one frame of a video, is in memory at a time.

    Parameters
    ----------
    model
        A fitted model.
    inputs
        As for `fit`.
    out
        The folder.
    progress
        Progress reporter.
    **options
        Fields of `selfseg.core.options.PredictOptions`: ``axes``, ``sequence``, ``link``, ``instances``, ``tree``, ``write``, ...

    Returns
    -------
    list of (name, message)
        Inputs that failed, empty if all are done.

    Raises
    ------
    UsageError
        If an option is unknown or wrong, before any work.
    """
    (writing,) = share_out(options, PredictOptions)
    return predict_into(model.fitted, inputs, out, writing, progress=progress)


def segment_into(
    model: Segmenter,
    inputs: Any,
    out: str | Path,
    learning: FitOptions,
    writing: PredictOptions,
    reference: Any = None,
    progress: Progress | None = None,
) -> list[Failure]:
    """Learn from images, or from `reference`, then segment them into a folder; the model is stored in ``OUT/model``.

    Each input is found once, and what is opened of it serves both.

    Returns
    -------
    list of (name, message)
        Inputs that failed in learning or in prediction.
    """
    check_outputs(writing)
    sources = find_sources(inputs, writing)
    shown = sources if reference is None else find_sources(reference, replace(learning, limit=None))
    learning, writing = replace(learning, mask=None, limit=None), replace(writing, mask=None, limit=None)
    model.fit(shown, **vars(learning), out=Path(out) / "model", progress=progress)
    return predict_into(model.fitted, sources, out, writing, failures=model.failures_, progress=progress)


def _split(method: str, options: dict[str, Any]) -> tuple[Segmenter, dict[str, Any]]:
    """Return the unfitted model, and the options of learning; all of them are checked."""
    share_out(options, ModelOptions, FitOptions, RunOptions)
    own = {name: options.pop(name) for name in option_names(ModelOptions) if name in options}
    return Segmenter(method, **own), options
