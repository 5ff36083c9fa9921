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
from selfseg.learning.segmenter import Segmenter
from selfseg.read.sources import is_single
from selfseg.results.result import Result
from selfseg.segmenting.predicting import find_sources
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

    Examples
    --------
    >>> import numpy as np
    >>> import selfseg
    >>> photo = np.zeros((32, 32, 3), np.uint8)
    >>> photo[:, 16:] = 200
    >>> model = selfseg.fit([photo, photo[::-1]], "kmeans", n_classes=2, seed=0)
    >>> len(model.table_)
    2
    """
    model, how = _split(method, options)
    return model.fit(inputs, **how)


load = Segmenter.load
"""Read a model folder: see `Segmenter.load`."""


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

    Examples
    --------
    >>> import numpy as np
    >>> import selfseg
    >>> photo = np.zeros((32, 32, 3), np.uint8)
    >>> photo[:, 16:] = 200
    >>> result = selfseg.segment(photo, "kmeans", n_classes=2, seed=0)
    >>> result.labels[0, [0, 31]]
    array([1, 2], dtype=uint8)
    """
    model, how = _split(method, options)
    reading = ReadOptions(**{name: how.pop(name) for name in option_names(ReadOptions) if name in how})
    sources, reading = find_sources(inputs, reading, how.get("progress")), replace(reading, mask=None, limit=None)
    model.fit(sources, **vars(reading), **how)
    results = model.predict(sources, **vars(reading), progress=how.get("progress"))
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

    Examples
    --------
    >>> import numpy as np
    >>> import selfseg
    >>> import tempfile
    >>> from pathlib import Path
    >>> photo = np.zeros((32, 32, 3), np.uint8)
    >>> photo[:, 16:] = 200
    >>> model = selfseg.fit(photo, "kmeans", n_classes=2, seed=0)
    >>> out = Path(tempfile.mkdtemp())
    >>> selfseg.predict(model, photo, out)
    []
    >>> (out / "labels" / "image.tif").is_file(), (out / "report.html").is_file()
    (True, True)
    """
    (writing,) = share_out(options, PredictOptions)
    return predict_into(model.fitted, inputs, out, writing, progress=progress)


def _split(method: str, options: dict[str, Any]) -> tuple[Segmenter, dict[str, Any]]:
    """Return the unfitted model, and the options of learning; all of them are checked."""
    share_out(options, ModelOptions, FitOptions, RunOptions)
    own = {name: options.pop(name) for name in option_names(ModelOptions) if name in options}
    return Segmenter(method, **own), options
