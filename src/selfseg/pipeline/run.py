"""The public verbs: fit, predict, segment, load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfseg.core.errors import SelfsegError
from selfseg.core.progress import Progress, Silent
from selfseg.pipeline.edited import Edits, edited
from selfseg.pipeline.outputs import OutputFolder
from selfseg.pipeline.result import Result
from selfseg.pipeline.segmenter import Segmenter
from selfseg.pipeline.training_set import Failure
from selfseg.read import Source, find_inputs


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
    progress: Progress | None = None,
) -> list[Failure]:
    """Segment images into a folder: labels, overlays, class table, ``run.json`` and ``report.html``.

    One image is in memory at a time. An input that fails is named; the others are done.

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
    progress
        Who watches.

    Returns
    -------
    list of (name, message)
        Inputs that failed, empty if all are done.
    """
    progress = progress or Silent()
    folder = OutputFolder(Path(out), model, None if edits is None else edits.table(model.table_))
    known = dict(failures)
    for source, outcome in model.iter_predict(_to_do(inputs, limit, known), axes, progress):
        if isinstance(outcome, SelfsegError):
            known[source.name] = str(outcome)
            progress.say(str(outcome))
        else:
            folder.add(outcome if edits is None else edited(model, outcome, edits), source)
    folder.close(list(known.items()))
    return list(known.items())


def _to_do(inputs: Any, limit: int | None, known: dict[str, str]) -> list[Source]:
    return [source for source in find_inputs(inputs, limit=limit) if source.name not in known]
