"""The named refinements of a model's probabilities, and their spelling: ``crf=weight:10,colour:0.05,contours``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.refine.by_contours import contour_tree, region_probabilities
from selfseg.refine.crf import SHARE, colour_range, dense_crf
from selfseg.refine.hierarchy import LEARNED_WEIGHT, Hierarchy
from selfseg.sample.steps import Bounds

NONE = "none"
"""What is written to ask for no refinement."""

WEIGHT, SIGMA = Bounds(0, 1000), Bounds(0, 10000, closed=False)


@dataclass(frozen=True)
class Option:
    """A number that a refinement takes: its default, what it may be, what it means."""

    default: float
    bounds: Bounds
    meaning: str


CRF: dict[str, Option] = {
    "weight": Option(20, WEIGHT, "how much pixels of like colour count"),
    "space": Option(60, SIGMA, "how far they may be, in pixels"),
    "colour": Option(SHARE, SIGMA, "how like they must be, as a share of each channel's range"),
    "smooth": Option(15, WEIGHT, "how much neighbours of any colour count"),
    "near": Option(3, SIGMA, "how far those may be, in pixels"),
    "iterations": Option(10, Bounds(1, 1000, whole=True), "rounds"),
}
CONTOURS: dict[str, Option] = {
    "learned": Option(
        LEARNED_WEIGHT, WEIGHT, "how much the probabilities' own gradient counts beside the image's contours"
    ),
    "level": Option(0.2, Bounds(0, 1000), "how strong a contour must be to part two regions"),
}
KINDS = {"crf": CRF, "contours": CONTOURS}
MEANINGS = {"crf": "a fully connected CRF", "contours": "one class for each region between contours of a 2D image"}


@dataclass(frozen=True)
class Refined:
    """Refined class probabilities ``[K *S]``, and the merge tree that the refinement made on its way, if it makes one."""

    probabilities: NDArray[np.float32]
    tree: Hierarchy | None = None


@dataclass(frozen=True)
class Refinement:
    """One refinement: its name, and the values that differ from the defaults."""

    name: str
    values: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        values = ",".join(f"{key}:{value!r}".removesuffix(".0") for key, value in self.values)
        return f"{self.name}={values}" if values else self.name

    @property
    def reach(self) -> int | None:
        """Pixels of the finest axis around a part of an image that its refinement is given; None = it needs the whole image.

        Three standard deviations of the CRF's wide kernel: what lies beyond adds less than 2 % to a round.
        """
        return None if self.name == "contours" else math.ceil(3 * max(self._given("space"), self._given("near")))

    def _given(self, key: str) -> float:
        return dict(self.values).get(key, KINDS[self.name][key].default)

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
        given = {key: option.default for key, option in KINDS[self.name].items()} | dict(self.values)
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
        )
        return Refined(refined)


def refine(
    refinements: Sequence[Refinement],
    probabilities: NDArray[np.float32],
    image: Image,
    valid: NDArray[np.bool_] | None = None,
    width: NDArray[np.float32] | None = None,
) -> Refined:
    """Apply refinements one after the other; the tree is that of the last one that makes any. See `Refinement.apply`."""
    tree = None
    for refinement in refinements:
        refined = refinement.apply(probabilities, image, valid, width)
        probabilities, tree = refined.probabilities, refined.tree or tree
    return Refined(probabilities, tree)


def list_refinements() -> str:
    """Return every refinement with its options, in one line."""
    kinds = []
    for name, meaning in MEANINGS.items():
        options = ", ".join(f"{key}:{option.default:g} ({option.meaning})" for key, option in KINDS[name].items())
        kinds.append(f"{name} ({meaning}), with {options}")
    return f"refinements: none; {'; '.join(kinds)}"


def parse_refinements(text: str | None) -> tuple[Refinement, ...]:
    """Parse ``"name=key:value,key:value"``; nothing, an empty text and ``none`` give no refinement.

    Raises
    ------
    UsageError
        If a name, a key or a value is wrong; the message lists what there is.
    """
    refinements: list[Refinement] = []
    for part in (text or "").split(","):
        name, sign, first = part.strip().partition("=")
        name = name.strip().lower()
        if not name or (name == NONE and not sign):
            continue
        continues = ":" in name and not sign
        if continues and refinements:
            refinements[-1] = _with_value(refinements[-1], part)
            continue
        if name not in KINDS:
            raise UsageError(f"refinement {name!r}", expected="a known one", got=str(text), fix=list_refinements())
        refinements.append(Refinement(name))
        if first.strip():
            refinements[-1] = _with_value(refinements[-1], first)
    return tuple(refinements)


def _with_value(refinement: Refinement, text: str) -> Refinement:
    key, _, word = (part.strip() for part in text.strip().partition(":"))
    option = KINDS[refinement.name].get(key.lower())
    what, fix = f"refinement {refinement.name}, {text.strip()!r}", list_refinements()
    if option is None:
        raise UsageError(what, expected="key:value with a known key", got=repr(key), fix=fix)
    try:
        value = float(word)
    except ValueError:
        raise UsageError(what, expected=str(option.bounds), got=repr(word), fix=fix) from None
    if not option.bounds.allow(value):
        raise UsageError(what, expected=str(option.bounds), got=word, fix=fix)
    return Refinement(refinement.name, (*refinement.values, (key.lower(), value)))
