"""The public verbs: fit, predict, segment, load."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfseg.core.progress import Progress, Silent
from selfseg.export.label_files import LabelWriter
from selfseg.pipeline.dask_cluster import DaskCluster
from selfseg.pipeline.edited import Edits
from selfseg.pipeline.instances import InstanceFolder, ObjectOptions
from selfseg.pipeline.outputs import OutputFolder
from selfseg.pipeline.predicting import Predicting
from selfseg.pipeline.result import Result
from selfseg.pipeline.segmenter import Segmenter
from selfseg.pipeline.segmenting import How
from selfseg.pipeline.superpixels import OwnSuperpixels
from selfseg.pipeline.training_set import Failure
from selfseg.read import find_inputs, with_masks
from selfseg.read.sources import is_single


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
        from (`selfseg.read.masks.with_masks`).
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
        Find and measure objects too, as `pipeline.instances.instances` does; None = not.
    memory
        Most that this process may take, in bytes; None = by what is free. An image that would take more is predicted in
        parts, from its file into a zarr of labels (`pipeline.large`).
    progress
        Who watches.
    write
        Formats of the labels: names out of `selfseg.export.label_files.FORMATS`.
    ngff
        Version of OME-Zarr, ``"0.5"`` or ``"0.4"``.
    tree
        Write superpixels and merge tree of each image into ``OUT/tree`` too; `pipeline.trees.cut_folder` cuts them.
    dask
        Address of a Dask scheduler, or ``"local:N"`` (`pipeline.dask_cluster`): images that can be read in parts are predicted by
        its workers, which must find images and `out` under the same paths, and may take `memory` each.

    Returns
    -------
    list of (name, message)
        Inputs that failed, empty if all are done.
    """
    writer = LabelWriter((write,) if isinstance(write, str) else tuple(write), ngff)
    table = model.table_ if edits is None else edits.table(model.table_)
    folder = OutputFolder(Path(out), model, table, writer, look)
    objects = InstanceFolder(Path(out), table, instances) if instances is not None else None
    how = How(memory, slices, OwnSuperpixels(superpixels), progress or Silent())
    sources = with_masks(find_inputs(inputs, limit=limit), mask)
    with contextlib.nullcontext() if dask is None else DaskCluster(dask) as executor:
        work = Predicting(model, folder, objects, how, link, edits, dict(failures), tree, executor)
        work.run(sources, sequence, axes)
    return list(work.known.items())
