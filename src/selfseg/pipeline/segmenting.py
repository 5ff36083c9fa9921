"""One image through a fitted model: prepared, predicted, refined, decided; a volume slice by slice if the model is 2D."""

from dataclasses import dataclass, field
from functools import partial

import torch

from selfseg.core.classes import ClassTable
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.methods.base import Method
from selfseg.pipeline.result import Segmented
from selfseg.pipeline.slices import segment_slices
from selfseg.pipeline.superpixels import OwnSuperpixels
from selfseg.predict.whole import predict as predict_probabilities
from selfseg.read.lazy import LazyImage
from selfseg.refine.cleaning import Cleaning
from selfseg.refine.decide import class_probabilities, decide
from selfseg.refine.hierarchy import Hierarchy, hierarchy
from selfseg.refine.link import Link
from selfseg.refine.steps import Refined, parse_refinements, refine
from selfseg.sample.prepare import Preparation, Prepared
from selfseg.sample.stream import Memo


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


@dataclass(frozen=True)
class Segmenting:
    """What it takes to segment: the method, its classes and preparation, refinement and cleaning, and how."""

    method: Method
    table: ClassTable
    preparation: Preparation
    refine: str | None = None
    clean: str | None = None
    how: How = field(default_factory=How)

    def cuts(self, image: Image | LazyImage) -> bool:
        """Whether the method is 2D and the image a volume, so that it is taken slice by slice."""
        return self.method.n_dims == 2 and "Z" in image.axes

    def frame(self, frame: Image, link: Link | None = None) -> Segmented:
        """Segment one image without T; `link` links it to the frames that it was given before."""
        if self.cuts(frame):
            return segment_slices(self.frame, frame, self.how.slices or "z", self.how.progress)
        prepared = self.preparation.apply(frame)
        memo: Memo = {}
        if self.how.superpixels is not None:
            self.how.superpixels.give(self.method, self.preparation, frame.name, prepared, memo)
        clusters = predict_probabilities(self.method, prepared.array, memory=self.how.memory, memo=memo)
        probabilities = class_probabilities(clusters, self.table)
        if link is not None:
            probabilities = link(probabilities, prepared.array)
        probabilities = prepared.restore(probabilities)  # [K *S]
        refined = refine(parse_refinements(self.refine), probabilities, frame, prepared.inside)
        labels = Cleaning.parse(self.clean).apply(decide(refined.probabilities, prepared.inside))
        return Segmented(labels, refined.probabilities, partial(self._hierarchy, prepared, refined, memo))

    def _hierarchy(self, prepared: Prepared, refined: Refined, memo: Memo) -> Hierarchy:
        """The refinement's merge tree, else the method's own, else that of the probabilities, at the image's own size."""
        if refined.tree is not None:
            return refined.tree
        known = {"memo": memo} if self.method.uses_memos else {}
        own = self.method.hierarchy(torch.from_numpy(prepared.array), **known)
        if own is None:
            return hierarchy(refined.probabilities, prepared.restore(prepared.array), mask=prepared.inside)
        superpixels, tree = own
        return Hierarchy(prepared.restore_labels(superpixels, fill=-1), tree)
