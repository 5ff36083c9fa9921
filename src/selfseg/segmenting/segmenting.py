"""One image through a fitted model: prepared, predicted, refined, decided; a volume slice by slice if the model is 2D."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from selfseg.core.errors import InputError, SelfsegError
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.methods.base import Method
from selfseg.read import Source, split_frames
from selfseg.refine.cleaning import Cleaning
from selfseg.refine.decide import class_probabilities, decide
from selfseg.refine.hierarchy import Hierarchy, hierarchy
from selfseg.refine.link import Link
from selfseg.refine.steps import Refined, parse_refinements, refine
from selfseg.results.model import FittedModel
from selfseg.results.result import Result, Segmented
from selfseg.sample.prepare import PreparedImage
from selfseg.segmenting.slices import segment_slices
from selfseg.segmenting.superpixels import OwnSuperpixels
from selfseg.tiling.whole import predict as predict_probabilities


@dataclass(frozen=True)
class How:
    """What may be said about a prediction, beside the model.

    Attributes
    ----------
    memory
        Most that this process may take while tiles are predicted, in bytes; None = by what is free.
    slices
        Axis across which a 2D model cuts volumes: ``z`` (if None), ``y``, ``x``, or ``all``: the mean over the three.
    superpixels
        The user's own superpixels of the images, where the model learned with such.
    progress
        Who watches the slices.
    """

    memory: int | None = None
    slices: str | None = None
    superpixels: OwnSuperpixels | None = None
    progress: Progress = field(default_factory=Silent)


def segment_image(model: FittedModel, image: Image, how: How | None = None) -> Result:
    """Segment one image; a series (axis T) frame by frame, a volume slice by slice if the model is 2D."""
    used = model.view(image)
    model.check(used)
    begun = time.monotonic()
    parts = [segment_frame(model, frame, how or How()) for frame in split_frames(used)]
    if "T" not in image.axes:
        labels, probabilities, tree = parts[0]
    else:
        labels, probabilities, tree = np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts], 1), None
    return Result(image, labels, probabilities, model.table, time.monotonic() - begun, tree)


def iter_segment(
    model: FittedModel, sources: Sequence[Source], axes: str | None = None, how: How | None = None
) -> Iterator[tuple[Source, Result | SelfsegError]]:
    """Yield each input with its result, or with the error that kept it from one; one image is in memory at a time."""
    how = how or How()
    how.progress.start("segmenting", len(sources))
    try:
        for done, source in enumerate(sources, 1):
            outcome: Result | SelfsegError
            try:
                image = source.read(axes)
                if how.slices is None and model.slices_volume(image):
                    how.progress.say(f"{source.name}: a volume and a 2D model, so slice by slice along z (--slices)")
                outcome = segment_image(model, image, how)
            except SelfsegError as error:
                outcome = error
            except MemoryError:
                fix = "use a smaller image, or a preparation with size=N"
                outcome = InputError(source.name, expected="an image that fits in memory", got="out of memory", fix=fix)
            yield source, outcome
            how.progress.update(done, {})
    finally:
        how.progress.finish()


def segment_frame(model: FittedModel, frame: Image, how: How, link: Link | None = None) -> Segmented:
    """Segment one image without T; `link` links it to the frames that it was given before."""
    if model.slices_volume(frame):
        return segment_slices(lambda plane: segment_frame(model, plane, how), frame, how.slices or "z", how.progress)
    prepared = model.preparation.apply(frame)
    if how.superpixels is not None:
        how.superpixels.give(model.method, prepared)
    clusters = predict_probabilities(model.method, prepared.array, memory=how.memory, memo=prepared.memo)
    probabilities = class_probabilities(clusters, model.table)
    if link is not None:
        probabilities = link(probabilities, prepared.array)
    probabilities = prepared.restore_all(probabilities)  # [K *S]
    refined = refine(parse_refinements(model.refine), probabilities, frame, prepared.inside())
    labels = Cleaning.parse(model.clean).apply(decide(refined.probabilities, prepared.inside()))
    return Segmented(labels, refined.probabilities, partial(_hierarchy, model.method, prepared, refined))


def _hierarchy(method: Method, prepared: PreparedImage, refined: Refined) -> Hierarchy:
    """The refinement's merge tree, else the method's own, else that of the probabilities, at the image's own size."""
    if refined.tree is not None:
        return refined.tree
    known = {"memo": prepared.memo} if method.uses_memos else {}
    own = method.hierarchy(torch.from_numpy(prepared.array), **known)
    if own is None:
        return hierarchy(refined.probabilities, prepared.restore_all(prepared.array), mask=prepared.inside())
    superpixels, tree = own
    return Hierarchy(prepared.restore_labels(superpixels, fill=-1), tree)
