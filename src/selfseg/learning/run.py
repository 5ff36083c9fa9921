"""The public verbs: fit, predict, segment, load."""

from pathlib import Path
from typing import Any

from selfseg.core.errors import Failure
from selfseg.learning.segmenter import Segmenter
from selfseg.read import find_inputs, with_masks
from selfseg.read.sources import is_single
from selfseg.results.result import Result
from selfseg.segmenting.predicting import predict as predict_into


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
        (``scribbles``, ``out``, ``resume``, ``axes``, ``limit``, ``progress``, ...); and ``mask``: only pixels inside it are learned
        from (`selfseg.read.labels.with_masks`).
    """
    model, how = _split_options(method, options)
    return model.fit(_masked(inputs, how), **how)


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


def segment(inputs: Any, method: str = "feature_clustering", **options: Any) -> Result | list[Result]:
    """Learn from the images, then segment them: `fit` and `predict` in one call, with the same arguments.

    All images share one model, so that a class means the same in each of them.

    Returns
    -------
    Result or list of Result
        One result for a single file or array, else a list.
    """
    model, how = _split_options(method, options)
    masked = _masked(inputs, how)
    model.fit(masked, **how)
    results = model.predict(masked, how.get("axes"), how.get("progress"), how.get("slices"), how.get("superpixels"))
    return results[0] if isinstance(results, list) and is_single(inputs) else results


def _split_options(method: str, options: dict[str, Any]) -> tuple[Segmenter, dict[str, Any]]:
    own = {key: options.pop(key) for key in Segmenter().get_params() if key in options and key != "method"}
    return Segmenter(method, **own), options


def _masked(inputs: Any, options: dict[str, Any]) -> Any:
    """Return the inputs with the mask that the options have, and take it out of these."""
    mask = options.pop("mask", None)
    return inputs if mask is None else with_masks(find_inputs(inputs, limit=options.get("limit")), mask)


def predict(model: Segmenter, inputs: Any, out: str | Path, **how: Any) -> list[Failure]:
    """Segment images into a folder; see `selfseg.segmenting.predicting.predict` for the arguments."""
    return predict_into(model.fitted, inputs, out, **how)
