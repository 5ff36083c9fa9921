"""The named refinements of a model's probabilities: ``crf(weight=10, colour=0.05), hysteresis(low=0.2, high=0.8)``.

``contours`` decides classes region by region: W-Net's last step, with contours of the image and of the probabilities. Xia & Kulis 2017,
section 4: the boundaries of the class map are weighed by contour strength, and weak ones are merged away. Here the gradient of the
probabilities is one of the contour cues, so that a boundary that the model sees counts although the picture is faint.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.core.steps import Bounds, Parameter, StepKind, parse_calls, spell_number
from selfseg.refine.crf import SHARE, colour_range, dense_crf
from selfseg.refine.hierarchy import LEARNED_WEIGHT, Hierarchy, hierarchy
from selfseg.refine.hysteresis import Hysteresis
from selfseg.regions.contours import contour_strength
from selfseg.regions.graph import region_means
from selfseg.sample.device import choose_device
from selfseg.sample.prepare import Preparation

WEIGHT, SIGMA = Bounds(0, 1000), Bounds(0, 10000, closed=False)

KINDS = {
    kind.name: kind
    for kind in (
        StepKind(
            "crf",
            "connect every pixel with all pixels of similar colour",
            (
                Parameter("weight", WEIGHT, 20, "how much pixels of similar colour count"),
                Parameter("space", SIGMA, 60, "how far they may be, in pixels"),
                Parameter("colour", SIGMA, SHARE, "how similar they must be, as a share of each channel's range"),
                Parameter("smooth", WEIGHT, 15, "how much neighbours of any colour count"),
                Parameter("near", SIGMA, 3, "how far those may be, in pixels"),
                Parameter("iterations", Bounds(1, 1000, whole=True), 10, "rounds"),
                Parameter("gpu", Bounds(0, 1, whole=True), 0, "1 = compute them on a CUDA GPU, where one works"),
            ),
        ),
        StepKind(
            "contours",
            "give one class to each region between contours of a 2D image",
            (
                Parameter(
                    "learned",
                    WEIGHT,
                    LEARNED_WEIGHT,
                    "weight of the probabilities' gradient against the image's contours",
                ),
                Parameter("level", Bounds(0, 1000), 0.2, "how strong a contour must be to part two regions"),
            ),
        ),
        StepKind(
            "hysteresis",
            "give a class the parts of its probability above low that hold a pixel above high, and no others; the last step",
            (
                Parameter("low", Bounds(0, 1), 0.2, "probability"),
                Parameter("high", Bounds(0, 1), 0.8, "probability, not below low"),
                Parameter("label", Bounds(0, 255, whole=True), 0, "the class; 0 = the last, which is the brightest"),
            ),
        ),
    )
}


@dataclass(frozen=True)
class Refined:
    """Refined class probabilities ``[K *S]``, and the merge tree that the refinement made on its way, if it makes one."""

    probabilities: NDArray[np.float32]
    tree: Hierarchy | None = None


@dataclass(frozen=True)
class Refinement:
    """One refinement: its name, and the values that differ from the defaults.

    Examples
    --------
    >>> from selfseg.refine.steps import parse_refinements
    >>> parse_refinements("crf(weight=10)")[0].name
    'crf'
    """

    name: str
    values: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        values = ",".join(f"{key}:{spell_number(value)}" for key, value in self.values)
        return f"{self.name}={values}" if values else self.name

    @property
    def reach(self) -> int | None:
        """Pixels of the finest axis around a part of an image that its refinement is given; None = it needs the whole image.

        Three standard deviations of the CRF's wide kernel: what lies beyond adds less than 2 % to a round. Parts of a hysteresis are
        linked once all blocks are done.
        """
        if self.name == "hysteresis":
            return 0
        return None if self.name == "contours" else math.ceil(3 * max(self._settings["space"], self._settings["near"]))

    @property
    def hysteresis(self) -> Hysteresis | None:
        """Its thresholds, if it is a hysteresis."""
        if self.name != "hysteresis":
            return None
        given = self._settings
        return Hysteresis(given["low"], given["high"], int(given["label"]))

    @property
    def _settings(self) -> dict[str, float]:
        return {p.name: float(p.default or 0) for p in KINDS[self.name].parameters} | dict(self.values)

    def apply(
        self,
        probabilities: NDArray[np.float32],
        image: Image,
        valid: NDArray[np.bool_] | None,
        width: NDArray[np.float32] | None = None,
    ) -> Refined:
        """Refine class probabilities ``[K *S]`` of an image (not of a series) at its own size.

        Parameters
        ----------
        probabilities
            ``[K *S]``.
        image
            The image as it was read. Distances are counted in pixels along its axis of finest spacing.
        valid
            ``[*S]``, False where a pixel takes no part; None = all do.
        width
            ``[C]`` range of each channel in the whole image (`refine.crf.colour_range`), where `image` is a part of it; None = its own.

        Raises
        ------
        InputError
            If the refinement is for 2D images and this is a volume.
        """
        given = self._settings
        if self.hysteresis is not None:
            return Refined(self.hysteresis.apply(probabilities, valid))
        if self.name == "contours":
            tree = contour_tree(probabilities, image, valid, given["learned"])
            return Refined(region_probabilities(probabilities, tree.cut(level=given["level"])), tree)
        colours = np.moveaxis(image.channels_last(), -1, 0).astype(np.float32)
        width = colour_range(colours, valid) if width is None else width
        refined = dense_crf(
            probabilities,
            colours / width.reshape(-1, *(1,) * (colours.ndim - 1)),
            iterations=int(given["iterations"]),
            bilateral_weight=given["weight"],
            bilateral_sigma_space=given["space"],
            bilateral_sigma_colour=given["colour"],
            spatial_weight=given["smooth"],
            spatial_sigma=given["near"],
            spacing=tuple(size / min(image.spacing) for size in image.spacing),
            valid=valid,
            device=choose_device("auto") if given["gpu"] else "cpu",
        )
        return Refined(refined)


def refine(
    refinements: Sequence[Refinement],
    probabilities: NDArray[np.float32],
    image: Image,
    valid: NDArray[np.bool_] | None = None,
    width: NDArray[np.float32] | None = None,
) -> Refined:
    """Apply refinements one after the other; the tree is that of the last one that makes any. See `Refinement.apply`.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg import Image
    >>> from selfseg.refine.steps import parse_refinements, refine
    >>> classes = np.zeros((2, 8, 8), np.float32)
    >>> classes[0, :, :4] = classes[1, :, 4:] = 0.8
    >>> classes[1, :, :4] = classes[0, :, 4:] = 0.2
    >>> image = Image(np.full((8, 8), 100, np.uint8), "YX")
    >>> refine(parse_refinements("crf"), classes, image).probabilities.shape
    (2, 8, 8)
    """
    tree = None
    for refinement in refinements:
        refined = refinement.apply(probabilities, image, valid, width)
        probabilities, tree = refined.probabilities, refined.tree or tree
    return Refined(probabilities, tree)


def parse_refinements(text: str | None) -> tuple[Refinement, ...]:
    """Parse ``"name(key=value, key=value)"`` (`core.steps`); None, an empty text and ``none`` give no refinement.

    A wrong name, key or value raises `UsageError`.

    Examples
    --------
    >>> from selfseg.refine.steps import parse_refinements
    >>> [one.name for one in parse_refinements("crf(weight=10),contours")]
    ['crf', 'contours']
    """
    calls = parse_calls(text, KINDS, "refinement")
    found = tuple(Refinement(call.name, tuple((key, call.number(key)) for key in call.given)) for call in calls)
    for place, one in enumerate(found, 1):
        thresholds = one.hysteresis
        if thresholds is not None and (thresholds.low > thresholds.high or place < len(found)):
            raise UsageError(
                f"refinement {text!r}",
                expected="hysteresis as the last step, with low up to high",
                got=str(one),
                fix=f"write for example crf,{KINDS['hysteresis'].usage}",
            )
    return found


def contour_tree(
    probabilities: NDArray[np.float32], image: Image, valid: NDArray[np.bool_] | None, learned: float
) -> Hierarchy:
    """Build the merge tree of a 2D image's contours and the gradient of its class probabilities ``[K Y X]``.

    Values of 8 bits are used as they are, others between their percentiles 1 and 99.8. `learned` is the weight of the gradient of the
    probabilities against the contours (`refine.hierarchy`). A volume raises `InputError`.
    """
    if probabilities.ndim != 3:
        raise InputError(
            f"{image.name}: contours",
            expected="an image with axes YX",
            got=f"axes {image.axes}",
            fix="refine volumes with crf",
        )
    steps = "range" if image.data.dtype == np.uint8 else "percentile=1:99.8"
    picture = Preparation.parse(steps).fit([image]).apply(image).array
    contours = contour_strength(np.moveaxis(picture, 0, -1), mask=valid)
    return hierarchy(probabilities, picture, mask=valid, contours=contours, learned_weight=learned)


def region_probabilities(probabilities: NDArray[np.float32], regions: NDArray[np.integer]) -> NDArray[np.float32]:
    """Give every pixel of regions ``[*S]`` 0..R-1 the mean probabilities ``[K *S]`` of its region; pixels of -1 keep their own.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.refine.steps import region_probabilities
    >>> classes = np.zeros((2, 8, 8), np.float32)
    >>> classes[0, :, :4] = classes[1, :, 4:] = 0.8
    >>> classes[1, :, :4] = classes[0, :, 4:] = 0.2
    >>> region_probabilities(classes, np.zeros((8, 8), int))[:, 0, 0].round(2).tolist()
    [0.5, 0.5]
    """
    means = region_means(regions, np.moveaxis(probabilities, 0, -1)).astype(np.float32)  # [R K]
    inside = regions >= 0
    return np.where(inside, np.moveaxis(means[np.where(inside, regions, 0)], -1, 0), probabilities)
