"""Objects without labels: nuclei, cells, grains and particles, one by one, from the component tree of the image itself.

1. Bright or dark: the component tree of either polarity is scored; the larger sum of its best disjoint nodes wins.
2. Teacher. Every node of the tree, a connected part at a threshold of its own, has a score: how elliptic it is, times the mean step
   across its border, times a power of its area. The best disjoint set of nodes, cut at necks, without weak and ragged ones, are
   labels of this image that need no person.
3. Pupil. A forest of extremely randomised trees learns, from these labels, which pixels belong to objects. The teacher's errors do not
   follow the grey value, since every node has its own threshold; so the forest averages them out.
4. Scale and guard. Teacher and pupil agree by their Dice; where it is low, the image is also tried at a half and a quarter of its size.
   Where they agree nowhere (bright-field), a strict teacher takes over, sure objects alone, and the pupil only confirms them.
5. Objects: the pupil's mask, cut by a watershed of distance and lightness; what has little contrast is dropped.

Volumes have no pupil. There the tree is that of the local contrast: its small, sure nodes are seeds, which grow by a watershed inside the
local mask: saddles between touching nuclei are nearly as bright as the nuclei.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.ndimage import gaussian_filter, maximum_filter
from skimage.filters import threshold_otsu
from torch import Tensor

from selfseg.core.seed import generator
from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.regions import blobs
from selfseg.regions.component_tree import ComponentTree, component_tree
from selfseg.regions.merge_tree import MergeTree
from selfseg.regions.pixel_forest import REACH, PixelForest, draw, features_at, n_features

LIGHTNESS = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Weights of red, green and blue in the lightness."""

ROUND = (0.6, 0.95)
"""Ellipseness from which a node counts, and from which it counts in full."""

POWERS = (0.5, 0.25)
"""Powers of the area in a node's score: the second where sizes spread less by `LESS_SPREAD` then, and objects at most double."""
LESS_SPREAD = 0.1

FINE, SMALL = 1.0, 300
"""Smoothing of images whose median object has fewer pixels than this; others are smoothed by twice as much."""

NOISE = 0.5
"""Least step of a node, over the median difference between the image and its smoothed self."""

WEAK, SURE = 0.22, 0.4
"""Steps, over the typical one of the image, of nodes that are no ground any more, and of those that are labels."""

ELLIPTIC, ELLIPTIC_AT_EDGE = 0.85, 0.8
"""Least ellipseness of a label; of one that the border of the image cuts."""

N_PIXELS, NEAR = 6000, 12
"""Pixels that the forest learns from; half of its ground lies within so many pixels of an object."""

AGREE, AGREE_WELL, OCTAVE = 0.72, 0.8, 0.05
"""Dice of teacher and pupil that is enough; below which coarser scales are tried; its price for each halving of the size."""

SMALLEST_SIDE = 48
"""Shorter side of an image that is still halved."""

LIGHT, DEPTH = 0.5, 1.0
"""Weight of the lightness beside the distance in the final watershed; how deep a neck must be, in pixels."""

STRICT_SHAPE, STRICT_STEP, STRICT_CONTRAST, LARGEST_RATIO = 0.75, 0.2, 0.5, 5.0
"""The strict teacher: least ellipseness, step and contrast over the typical ones; largest area over the median."""

STRICT_PIXELS, STRICT_SHARE = 24_000, 1 / 3
"""Pixels that the strict teacher's forest learns from, and the share of objects among them."""

HARD = 4
"""So many times as many pixels of the ground are looked at by the first round's forest."""

NOISY = 0.589
"""Median difference between white noise of deviation 1 and itself smoothed by 1 pixel."""

SIGNIFICANT = 5.0
"""Least contrast of an object over the standard error that noise gives it."""

OBJECT_SIDE = {2: 64, 3: 24}
"""Objects up to so many pixels wide are the same in parts as in the whole image."""

WIDE, DIAMETER = 8.0, 10.0
"""In 3D: smoothing of what a voxel is compared with, in voxels, for objects of so many voxels in diameter."""

LEAST_SEED, LARGEST_VOLUME, SURE_VOLUME, LIFT = 10, 0.05, 0.25, 0.1
"""In 3D: least voxels of a seed; largest share of the volume; least step over that of nine in ten seeds; lift over the range."""

LEAST_BRANCH = 8
"""Least pixels of a part of the merge tree."""

SAMPLED, PART = 2**20, 2**8
"""Pixels of a large image on which teacher and pupil are compared, and contrast and spread measured; the side of each part of it."""

MOST_IMAGES = 16
"""Images, evenly spread over the training images, that the model for all of them learns from."""


class ObjectsConfig(MethodConfig):
    """Options of `objects`."""

    diameter: tuple[float, ...] = ()
    """Diameter of the objects in pixels: 20, or smallest and largest as 12,40. Empty = any."""
    polarity: Literal["auto", "bright", "dark"] = "auto"
    """Whether objects are brighter or darker than what is around them."""
    min_size: int = Field(default=30, ge=1)
    """Least size of an object, in pixels (voxels) of the scale at which it was found."""
    contrast: float = Field(default=0.3, ge=0, le=1)
    """Least contrast of an object with what is around it, as a share of the image's typical one."""
    channel: int | None = Field(default=None, ge=0)
    """Channel, from 0, in whose light objects are looked for; empty = lightness of RGB, or the mean of all channels."""
    learn: Literal["each", "once"] = "each"
    """each: every image that is segmented as a whole teaches a classifier of its own. once: one for all, from the training images;
    images in parts, slices and frames always use that."""

    @model_validator(mode="after")
    def _ordered(self) -> "ObjectsConfig":
        if (
            len(self.diameter) > 2
            or any(one <= 0 for one in self.diameter)
            or list(self.diameter) != sorted(self.diameter)
        ):
            raise ValueError("one diameter, or the smallest and the largest")
        return self

    def areas(self, n_dims: int) -> tuple[float, float]:
        """Return the least and the largest size that the diameters allow, in pixels; of one diameter, half and twice of it."""
        if not self.diameter:
            return 1.0, math.inf
        low, high = self.diameter if len(self.diameter) == 2 else (self.diameter[0] / 2, self.diameter[0] * 2)
        unit = math.pi / 4 if n_dims == 2 else math.pi / 6
        return unit * low**n_dims, unit * high**n_dims


@dataclass(frozen=True)
class Picture:
    """An image as objects are looked for in it: objects bright.

    Attributes
    ----------
    channels
        ``[C *S]`` float32.
    light
        ``[*S]`` float32, times the polarity.
    valid
        ``[*S]`` bool; None = every pixel counts.
    factor
        How many times its sides were shrunk.
    """

    channels: NDArray[np.float32]
    light: NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    factor: int = 1

    @classmethod
    def of(cls, image: NDArray[np.float32], valid: NDArray[np.bool_] | None, config: ObjectsConfig) -> "Picture":
        """Make one of a prepared image ``[C *S]``; pixels that do not count take the median of the others."""
        image = np.nan_to_num(image, posinf=0, neginf=0)
        if valid is not None and valid.any() and not valid.all():
            medians = np.median(image[:, valid], axis=1).reshape(-1, *(1,) * valid.ndim)
            image = np.where(valid, image, medians).astype(np.float32)
        if config.channel is not None:
            light = image[min(config.channel, len(image) - 1)]
        elif len(image) == 3:
            light = np.tensordot(LIGHTNESS, image, 1)
        else:
            light = image.mean(0)
        return cls(image, np.ascontiguousarray(light, np.float32), valid)

    def is_grey(self) -> bool:
        """Return whether three channels are one."""
        width = float(self.light.max() - self.light.min())
        return len(self.channels) == 3 and float(np.abs(self.channels[0] - self.channels[2]).mean()) <= 0.002 * width

    def turned(self, polarity: int, grey: bool) -> "Picture":
        """Return it with bright objects, and one channel if it is grey."""
        return replace(
            self, channels=self.channels[:1] if grey else self.channels, light=self.light * np.float32(polarity)
        )

    def shrunk(self, factor: int) -> "Picture":
        """Return means over blocks of `factor` pixels a side; the last ones repeat the image's border."""
        if factor == 1:
            return self
        valid = None if self.valid is None else shrink(self.valid[None].astype(np.float32), factor)[0] > 0.5
        channels, light = shrink(self.channels, factor), shrink(self.light[None], factor)[0]
        return Picture(channels, light, valid, self.factor * factor)

    def parts(self, wanted: blobs.Labels) -> list[tuple[tuple[slice, ...], "Picture"]]:
        """Return parts of a large image, `SAMPLED` pixels in all, and where they lie; what is measured on an image is measured there.

        Half of them are those with the most pixels of `wanted` objects, so that a few objects in a large field are seen; the others lie
        evenly between the rest.
        """
        if self.light.size <= SAMPLED:
            return [(tuple(slice(0, n) for n in self.light.shape), self)]
        places = [
            (slice(top, top + PART), slice(left, left + PART))
            for top in range(0, self.light.shape[0], PART)
            for left in range(0, self.light.shape[1], PART)
        ]
        half = SAMPLED // PART**2 // 2
        fullest_first = sorted(places, key=lambda place: -int(np.count_nonzero(wanted[place])))
        rest = sorted(fullest_first[half:], key=lambda place: (place[0].start, place[1].start))
        chosen = fullest_first[:half] + rest[:: -(-len(rest) // half)]
        return [(place, self._part(place)) for place in chosen]

    def _part(self, place: tuple[slice, ...]) -> "Picture":
        valid = None if self.valid is None else self.valid[place]
        return replace(self, channels=self.channels[(slice(None), *place)], light=self.light[place], valid=valid)

    def noise(self) -> float:
        """Return the median difference from the image smoothed by one pixel."""
        return float(np.median(np.abs(self.light - gaussian_filter(self.light, 1.0))))


def shrink(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return ``[C *s]``, the means of ``[C *S]`` over blocks of `factor` pixels a side."""
    pads = [(0, 0), *((0, -n % factor) for n in image.shape[1:])]
    padded = np.pad(image, pads, mode="edge")
    sides = [part for n in padded.shape[1:] for part in (n // factor, factor)]
    blocks = padded.reshape(len(image), *sides)
    return np.asarray(blocks.mean(tuple(range(2, blocks.ndim, 2))), np.float32)


def enlarge(array: NDArray[Any], factor: int, shape: Sequence[int]) -> NDArray[Any]:
    """Return an array ``[*s]`` at `factor` times its size, cut to `shape`."""
    if factor == 1:
        return array
    return array[np.ix_(*(np.minimum(np.arange(n) // factor, m - 1) for n, m in zip(shape, array.shape, strict=True)))]


@dataclass(frozen=True)
class Facts:
    """What is fixed before objects are found, so that parts of an image give what the whole gives."""

    polarity: float = 1
    factor: float = 1
    grey: float = 0
    """Whether three channels are one."""
    strict: float = 0
    """Whether the strict teacher finds the objects, and the forest confirms them."""
    low: float = 0
    high: float = 0
    """Range of the image that the tree is built of."""
    step: float = 0
    """Least step of a node."""
    largest: float = math.inf
    """Largest size of an object, in pixels."""
    contrast: float = 0
    """Least contrast of an object."""
    noise: float = 0
    """Standard deviation of the noise."""
    spread: float = 1
    """Standard deviation of the lightness inside objects; in 3D, of the local contrast."""
    level: float = 0
    """In 3D: local contrast above which a voxel belongs to an object."""
    floor: float = 0
    lift: float = 1
    """In 3D: value that counts as black, and what is added before the logarithm."""
    sure: float = 0
    """Contrast of a strict teacher's object that is sure."""


@dataclass(frozen=True)
class Lesson:
    """What the tree of one image teaches: `wanted` objects ``[*S]``, `unsure` pixels, and the pupil's agreement with them."""

    wanted: blobs.Labels
    unsure: NDArray[np.bool_]
    values: NDArray[np.float32]
    """``[P F]`` features, and ``[P]`` whether they are objects."""
    answers: NDArray[np.bool_]
    agreement: float = 0.0


def scores(tree: ComponentTree, power: float, least: float, largest: float, step: float) -> NDArray[np.float64]:
    """Return the score of each node ``[N]``: clip((e - .6) / .35, 0, 1) x step x area ^ power; 0 where it cannot be an object."""
    low, high = ROUND
    shape = np.clip((tree.ellipseness - low) / (high - low), 0, 1)
    fits = (tree.areas >= least) & (tree.areas <= largest) & (tree.steps >= step)
    fits[-1] = False
    return np.where(fits, shape * np.maximum(tree.steps, 0) * tree.areas**power, 0.0)


def typical_step(tree: ComponentTree, chosen: NDArray[np.integer]) -> float:
    """Return the median step of the chosen nodes, weighed by area times step."""
    return blobs.weighted_median(tree.steps[chosen], tree.areas[chosen] * tree.steps[chosen])


def find_polarity(picture: Picture) -> float:
    """Return how much better objects are bright than dark, -1 to 1: by the sums of scores at half the size."""
    small = picture.shrunk(2) if min(picture.light.shape) >= 2 * SMALLEST_SIDE else picture
    totals = []
    for sign in (1, -1):
        tree = component_tree(gaussian_filter(sign * small.light, 1.0), 8)
        found = scores(tree, 0.5, 8, small.light.size / 4, 0)
        totals.append(float(found[tree.best_disjoint(found)].sum()))
    return (totals[0] - totals[1]) / max(sum(totals), 1e-12)


def teach(picture: Picture, least: float, largest: float) -> tuple[blobs.Labels, NDArray[np.bool_]]:
    """Return the sure objects of an image ``[*S]``, and the pixels of unsure ones, which are neither objects nor ground."""
    noise, trees = picture.noise(), {}

    def nodes(power: float, sigma: float) -> tuple[ComponentTree, NDArray[np.int32]]:
        if sigma not in trees:
            trees[sigma] = component_tree(gaussian_filter(picture.light, sigma), int(least))
        tree = trees[sigma]
        return tree, tree.best_disjoint(scores(tree, power, least, largest, NOISE * noise / sigma**2))

    found = []
    for power in POWERS:
        tree, chosen = nodes(power, 2 * FINE)
        strong = tree.areas[chosen][tree.steps[chosen] >= 0.3 * typical_step(tree, chosen)]
        if not len(strong) or np.median(strong) < SMALL:
            tree, chosen = nodes(power, FINE)
        share = tree.steps[chosen] / max(typical_step(tree, chosen), 1e-12)
        labels, origin = blobs.split_at_necks(blobs.filled(tree.labels(chosen[share >= WEAK])), 30)
        found.append((labels, share[share >= WEAK][origin - 1]))
    (coarse, _), (fine, _) = found
    fewer = int(fine.max()) <= 2 * max(int(coarse.max()), 1)
    labels, share = found[1 if fewer and size_spread(fine) < size_spread(coarse) - LESS_SPREAD else 0]
    n = len(share)
    ends = np.where(blobs.on_edge(labels, n), ELLIPTIC_AT_EDGE, ELLIPTIC)
    kept = (share >= SURE) & (blobs.areas(labels, n) >= least) & (blobs.shapes(labels, n) >= ends)
    sure = blobs.select(labels, kept)
    return sure, (labels > 0) & (sure == 0)


def size_spread(labels: blobs.Labels) -> float:
    """Return the standard deviation of the logarithm of the objects' areas; 9 for fewer than three."""
    areas = blobs.areas(labels)
    areas = areas[areas >= 30]
    return float(np.std(np.log(areas))) if len(areas) >= 3 else 9.0


def lesson(picture: Picture, wanted: blobs.Labels, unsure: NDArray[np.bool_], rng: np.random.Generator) -> Lesson:
    """Draw pixels of objects and of the ground, half of the latter near objects, and take their features."""
    inside = wanted > 0
    counts = inside if picture.valid is None else inside & picture.valid
    ground = ~inside & ~unsure if picture.valid is None else ~inside & ~unsure & picture.valid
    near = ground & (maximum_filter((inside | unsure).view(np.uint8), 2 * NEAR - 1) > 0)
    yes = draw(rng, np.flatnonzero(counts), N_PIXELS // 2)
    no = [draw(rng, np.flatnonzero(one), N_PIXELS // 4) for one in (ground, near)]
    places = np.concatenate([yes, *no])
    if len(yes) < 50 or not len(no[0]):
        places = places[:0]
    answers = np.arange(len(places)) < len(yes)
    return Lesson(wanted, unsure, features_at(picture.channels, picture.light, places), answers)


def mask_of(probability: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Return where the probability, smoothed by a pixel, is above one half, without holes."""
    probability = probability if valid is None else np.where(valid, probability, 0)
    mask = gaussian_filter(probability, 1.0) > 0.5
    return np.asarray(blobs.filled(mask.astype(np.int32)) > 0)


def cut(mask: NDArray[np.bool_], picture: Picture, spread: float, least: float) -> blobs.Labels:
    """Cut a mask into objects: the watershed of the distance to its border and of the lightness over its spread."""
    height = blobs.border_distance(mask.astype(np.int32))
    height += np.float32(LIGHT / max(spread, 1e-6)) * gaussian_filter(picture.light, 1.5)
    labels = blobs.basins(height, mask.astype(np.int32), DEPTH)
    return blobs.select(labels, blobs.areas(labels) >= least)


def agreement(teacher: NDArray[np.bool_], pupil: NDArray[np.bool_]) -> float:
    """Return the Dice of two masks; 1 where both are empty."""
    both = int(teacher.sum()) + int(pupil.sum())
    return 2 * int((teacher & pupil).sum()) / both if both else 1.0


@dataclass(frozen=True)
class Learned:
    """What finds objects: fixed facts and a forest; and the probabilities ``[*s]`` of the only image that it was learned from."""

    facts: Facts
    forest: PixelForest | None = None
    probability: NDArray[np.float32] | None = field(default=None, repr=False)


Pictures = Callable[[], Iterable[Picture]]
"""Gives the training images, each time it is called."""

Seen = list[tuple[Picture, NDArray[np.float32]]]
"""Parts of an image, and the probabilities of a pupil there."""


def learn(pictures: Pictures, config: ObjectsConfig, seed: int) -> Learned:
    """Learn from images ``[Y X]``, one or many: polarity, scale, forest and what else is fixed before objects are found."""
    looks = [(find_polarity(one), one.is_grey()) for one in pictures()]
    polarity = _polarity(config, [look for look, _ in looks])
    grey, n_images = all(one for _, one in looks), len(looks)

    def turned(factor: int) -> Iterator[Picture]:
        return (one.turned(polarity, grey).shrunk(factor) for one in pictures())

    trials: list[tuple[float, int, list[Lesson], Seen | None]] = []
    for factor in (1, 2, 4):
        sides = min(min(one.light.shape) for one in turned(1)) // factor if factor > 1 else SMALLEST_SIDE
        if sides < SMALLEST_SIDE or (trials and trials[0][0] >= AGREE_WELL):
            break
        lessons, seen = _lessons(turned(factor), factor, config, seed)
        value = float(np.mean([one.agreement for one in lessons])) - OCTAVE * math.log2(factor)
        trials.append((value, factor, lessons, seen if n_images == 1 else None))
    value, factor, lessons, seen = max(trials, key=lambda one: one[0])
    facts = Facts(polarity=polarity, grey=grey, factor=factor)
    if value < AGREE:
        return _learn_strictly(lambda: turned(1), replace(facts, factor=1), config, seed)
    values, answers = (np.concatenate([getattr(one, name) for one in lessons]) for name in ("values", "answers"))
    if not answers.any():
        return Learned(facts)
    forest = PixelForest.learn(values, answers, seed)
    return _measured(turned(factor), lessons, facts, forest, seen, config)


def _polarity(config: ObjectsConfig, looks: list[float]) -> int:
    if config.polarity != "auto":
        return 1 if config.polarity == "bright" else -1
    return 1 if np.mean(looks) >= 0 else -1


def _sizes(picture: Picture, config: ObjectsConfig) -> tuple[float, float]:
    """Return the least and largest size of an object in pixels of a picture, a quarter of it at most."""
    low, high = (size / picture.factor**picture.light.ndim for size in config.areas(picture.light.ndim))
    return max(config.min_size, low), min(picture.light.size / 4, high)


def _lessons(pictures: Iterable[Picture], factor: int, config: ObjectsConfig, seed: int) -> tuple[list[Lesson], Seen]:
    """Return the lesson of each image, with the agreement of a pupil of its own, and what the last pupil sees."""
    lessons: list[Lesson] = []
    seen: Seen = []
    for place, picture in enumerate(pictures):
        least, largest = _sizes(picture, config)
        one = lesson(picture, *teach(picture, least, largest), generator(seed, "pixels", factor, place))
        seen = []
        if one.answers.any():
            forest = PixelForest.learn(one.values, one.answers, seed)
            parts = picture.parts(one.wanted)
            seen = [(part, forest.probability(part.channels, part.light)) for _, part in parts]
            pupil = [_without_specks(mask_of(p, part.valid), least).ravel() for part, p in seen]
            teacher = [one.wanted[place].ravel() > 0 for place, _ in parts]
            one = replace(one, agreement=agreement(np.concatenate(teacher), np.concatenate(pupil)))
        lessons.append(one)
    return lessons, seen


def _without_specks(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    parts = blobs.components(mask)
    return np.asarray(np.append(False, blobs.areas(parts) >= least)[parts])


def _measured(
    pictures: Iterable[Picture],
    lessons: list[Lesson],
    facts: Facts,
    forest: PixelForest,
    known: Seen | None,
    config: ObjectsConfig,
) -> Learned:
    """Add to the facts what is typical of the objects that the forest finds: spread of lightness, contrast, noise."""
    spreads, typical, noises = [], [], []
    for picture, one in zip(pictures, lessons, strict=True):
        seen = known or [
            (part, forest.probability(part.channels, part.light)) for _, part in picture.parts(one.wanted)
        ]
        masks = [(part, mask_of(probability, part.valid)) for part, probability in seen]
        values = np.concatenate([gaussian_filter(part.light, 1.5)[mask] for part, mask in masks])
        if not len(values):
            continue
        noises.append(picture.noise() / NOISY)
        spreads.append(float(values.std()))
        cuts = [(part, cut(mask, part, spreads[-1], _sizes(part, config)[0])) for part, mask in masks]
        found = np.concatenate([contrasts(labels, part.light) for part, labels in cuts])
        typical.append(typical_contrast(found, np.concatenate([blobs.areas(labels) for _, labels in cuts])))
    whole = known[0][1] if known is not None and len(known) == 1 else None
    if not spreads:
        return Learned(facts, forest, whole)
    spread, contrast, noise = (float(np.median(values)) for values in (spreads, typical, noises))
    facts = replace(facts, spread=spread, contrast=config.contrast * contrast, noise=noise)
    return Learned(facts, forest, whole)


def contrasts(labels: blobs.Labels, light: NDArray[np.float32], quantile: float = 0.5) -> NDArray[np.float64]:
    """Return the contrast of each object ``[N]`` in the image smoothed by one pixel (`blobs.contrasts`)."""
    return blobs.contrasts(labels, gaussian_filter(light, 1.0), quantile)


def typical_contrast(found: NDArray[np.float64], areas: NDArray[np.integer]) -> float:
    """Return the median contrast ``[N]`` of objects, weighed by area times contrast; dark ones and those without a ring do not count."""
    usable = np.isfinite(found) & (found > 0)
    return blobs.weighted_median(found[usable], (areas * found)[usable])


def _learn_strictly(pictures: Pictures, facts: Facts, config: ObjectsConfig, seed: int) -> Learned:
    """Fix the strict teacher, and let a forest learn from its objects, twice: a third of the second round's ground looked like objects."""
    each = [_strict_facts(picture, facts, config) for picture in pictures()]
    names = ("low", "high", "step", "largest", "contrast", "noise", "sure")
    middle = {name: float(np.median([getattr(one, name) for one in each])) for name in names}
    facts = replace(
        facts, strict=1, **middle | {"low": min(one.low for one in each), "high": max(one.high for one in each)}
    )
    drawn = []
    for place, picture in enumerate(pictures()):
        wanted = strict_objects(picture, facts, config) > 0
        kinds = _strict_places(wanted, picture.valid, STRICT_PIXELS // len(each), generator(seed, "strict", place))
        values = features_at(picture.channels, picture.light, np.concatenate(kinds))
        drawn.append(np.split(values, np.cumsum([len(kind) for kind in kinds])[:-1]))
    yes, ground, near, others = (np.concatenate(kinds) for kinds in zip(*drawn, strict=True))
    if len(yes) < 50 or len(ground) < 50:
        return Learned(facts)

    def taught(*no: NDArray[np.float32]) -> PixelForest:
        values = np.concatenate([yes, *no])
        return PixelForest.learn(values, np.arange(len(values)) < len(yes), seed)

    weights = taught(ground, near).evaluate(others.T)
    n_hard = min(2 * len(ground) // 3, int((weights > 0.05).sum()))
    if n_hard <= 10:
        return Learned(facts, taught(ground, near))
    hard = draw(generator(seed, "hard"), np.arange(len(others)), n_hard, weights / weights.sum())
    kept = (2 * len(ground) - n_hard) // 2
    return Learned(facts, taught(ground[:kept], near[:kept], others[hard]))


def _strict_places(
    wanted: NDArray[np.bool_], valid: NDArray[np.bool_] | None, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], ...]:
    """Draw pixels of objects, of the ground anywhere and near objects, and many more of the ground, to choose hard ones from."""
    ground = ~wanted if valid is None else ~wanted & valid
    near = ground & (maximum_filter(wanted.view(np.uint8), 2 * NEAR - 1) > 0)
    half = int(n * (1 - STRICT_SHARE)) // 2
    sizes = (int(n * STRICT_SHARE), half, half, HARD * n)
    kinds = (wanted if valid is None else wanted & valid, ground, near, ground)
    return tuple(draw(rng, np.flatnonzero(kind), size) for kind, size in zip(kinds, sizes, strict=True))


def _strict_facts(picture: Picture, facts: Facts, config: ObjectsConfig) -> Facts:
    """Return what the strict teacher takes for sure in one image; objects are at most five times the median of these."""
    smooth = gaussian_filter(picture.light, FINE)
    least, largest = _sizes(picture, config)
    noise = picture.noise() / NOISY
    facts = replace(facts, low=float(smooth.min()), high=float(smooth.max()), noise=noise)
    tree = component_tree(smooth, int(least), limits=(facts.low, facts.high))
    for _ in range(2):
        chosen = tree.best_disjoint(scores(tree, POWERS[1], least, largest, NOISE * NOISY * noise))
        if len(chosen) < 2:
            break
        step = STRICT_STEP * typical_step(tree, chosen)
        firm = (tree.ellipseness[chosen] >= STRICT_SHAPE) & (tree.steps[chosen] >= step)
        found = contrasts(tree.labels(chosen), picture.light, 0.1)
        sure = STRICT_CONTRAST * typical_contrast(np.where(firm, found, 0), tree.areas[chosen])
        areas = tree.areas[chosen][firm & (found >= sure)]
        if not len(areas):
            break
        facts = replace(facts, step=step, sure=sure, largest=largest)
        if (smaller := LARGEST_RATIO * float(np.median(areas))) >= largest:
            break
        largest = smaller
    return replace(facts, largest=min(facts.largest, largest))


def strict_objects(picture: Picture, facts: Facts, config: ObjectsConfig) -> blobs.Labels:
    """Return the sure objects of an image ``[*S]``: elliptic, steep and contrasty nodes of one tree, cut at necks."""
    least, _ = _sizes(picture, config)
    tree = component_tree(gaussian_filter(picture.light, FINE), int(least), limits=(facts.low, facts.high))
    chosen = tree.best_disjoint(scores(tree, POWERS[1], least, facts.largest, NOISE * NOISY * facts.noise))
    labels = tree.labels(chosen)
    found = contrasts(labels, picture.light, 0.1)
    sure = (tree.ellipseness[chosen] >= STRICT_SHAPE) & (tree.steps[chosen] >= facts.step) & (found >= facts.sure)
    pieces, _ = blobs.split_at_necks(blobs.filled(blobs.select(labels, sure)), 30)
    n = int(pieces.max(initial=0))
    ends = np.where(blobs.on_edge(pieces, n), ELLIPTIC_AT_EDGE, ELLIPTIC)
    return blobs.select(pieces, (blobs.areas(pieces, n) >= least) & (blobs.shapes(pieces, n) >= ends))


def find(picture: Picture, learned: Learned, config: ObjectsConfig) -> tuple[blobs.Labels, NDArray[np.float32]]:
    """Return the objects of an image ``[*S]``, and the probability that a pixel belongs to one: above one half inside them alone."""
    facts, shape = learned.facts, picture.light.shape
    if picture.light.ndim == 3:
        labels, probability = find_in_volume(picture.turned(int(facts.polarity), False), facts, config)
        return labels, _agreeing(labels, probability)
    if learned.forest is None:
        return np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    small = picture.turned(int(facts.polarity), bool(facts.grey)).shrunk(int(facts.factor))
    probability = learned.probability
    if probability is None:
        probability = learned.forest.probability(small.channels, small.light)
    least, largest = _sizes(small, config)
    if facts.strict:
        labels = strict_objects(small, facts, config)
        inside = labels > 0
        mean = np.bincount(labels[inside], probability[inside], int(labels.max(initial=0)) + 1)[1:] / blobs.areas(
            labels
        )
        kept = mean >= 0.5
    else:
        labels = cut(mask_of(probability, small.valid), small, facts.spread, least)
        kept = np.ones(int(labels.max(initial=0)), bool)
    areas = blobs.areas(labels, len(kept))
    found = contrasts(labels, small.light)
    wanted = np.maximum(facts.contrast, SIGNIFICANT * facts.noise / np.sqrt(np.maximum(areas, 1)))
    if not config.diameter:
        largest = math.inf
    labels = blobs.select(labels, kept & (found >= wanted) & (areas <= largest))
    labels, probability = (enlarge(one, int(facts.factor), shape) for one in (labels, probability))
    return labels, _agreeing(labels, probability)


def _agreeing(labels: blobs.Labels, probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities that are above one half in objects, and below it elsewhere."""
    low, high = np.float32(0.499), np.float32(0.501)
    return np.where(labels > 0, np.maximum(probability, high), np.minimum(probability, low))


def local_contrast(
    light: NDArray[np.float32], facts: Facts, reach: Sequence[float], wide: float
) -> NDArray[np.float32]:
    """Return the logarithm of a volume smoothed by a voxel, over that of one smoothed by `wide` voxels ``[Z Y X]``.

    `reach` is the size of a voxel along each axis, 1 = the finest.
    """

    def level(sigma: float) -> NDArray[np.float32]:
        smooth = gaussian_filter(light, [sigma / one for one in reach], truncate=3.0)
        return np.asarray(np.log(np.maximum(smooth - np.float32(facts.floor), 0) + np.float32(facts.lift)))

    return level(1.0) - level(wide)


def learn_volumes(pictures: Pictures, config: ObjectsConfig) -> Learned:
    """Fix, from volumes, polarity, brightness, and what is typical of their seeds."""
    polarity = _polarity(config, [find_polarity(one) for one in pictures()])
    each = [_volume_facts(one.turned(polarity, False), Facts(polarity=polarity), config) for one in pictures()]
    names = ("low", "high", "step", "largest", "contrast", "noise", "spread", "level", "floor", "lift")
    return Learned(replace(each[0], **{name: float(np.median([getattr(one, name) for one in each])) for name in names}))


def _volume_facts(picture: Picture, facts: Facts, config: ObjectsConfig) -> Facts:
    floor, top = np.percentile(picture.light, (0.5, 99.8))
    facts = replace(facts, floor=float(floor), lift=max(LIFT * float(top - floor), 1e-6))
    contrast = local_contrast(picture.light, facts, config.distances(3), _wide(config))
    least, largest = _sizes(picture, config)
    largest = min(largest, LARGEST_VOLUME * picture.light.size)
    facts = replace(facts, low=float(contrast.min()), high=float(contrast.max()), largest=largest)
    seeds, steps = _seeds(contrast, facts, config)
    if not len(steps):
        return facts
    facts = replace(
        facts,
        step=SURE_VOLUME * float(np.percentile(steps, 90)),
        level=max(0.0, float(threshold_otsu(contrast))),
        spread=max(float(contrast.std()), 1e-6),
        noise=picture.noise() / NOISY,
    )
    labels, _ = _grown(picture, contrast, facts, config)
    typical = typical_contrast(contrasts(labels, picture.light), blobs.areas(labels))
    return replace(facts, contrast=config.contrast * typical)


def _wide(config: ObjectsConfig) -> float:
    return WIDE * float(np.mean(config.diameter)) / DIAMETER if config.diameter else WIDE


def _seeds(
    contrast: NDArray[np.float32], facts: Facts, config: ObjectsConfig
) -> tuple[blobs.Labels, NDArray[np.float64]]:
    """Return the small, sure nodes of a volume ``[*S]``, steep enough, and their steps: size counts nothing."""
    tree = component_tree(contrast, LEAST_SEED, limits=(facts.low, facts.high))
    chosen = tree.best_disjoint(scores(tree, 0.0, LEAST_SEED, facts.largest, 0.0))
    chosen = chosen[tree.steps[chosen] >= facts.step]
    return tree.labels(chosen), tree.steps[chosen]


def _grown(
    picture: Picture, contrast: NDArray[np.float32], facts: Facts, config: ObjectsConfig
) -> tuple[blobs.Labels, NDArray[np.float32]]:
    """Return seeds grown inside the local mask by the watershed of the smoothed volume, and how sure each voxel is, 0-1."""
    from skimage.segmentation import watershed

    seeds, _ = _seeds(contrast, facts, config)
    mask = (contrast > facts.level) | (seeds > 0)
    if picture.valid is not None:
        mask &= picture.valid
    smooth = gaussian_filter(picture.light, [1.5 / one for one in config.distances(3)])
    labels = blobs.number(watershed(-smooth, seeds, mask=mask).astype(np.int32))
    sure = 1 / (1 + np.exp(np.clip((np.float32(facts.level) - contrast) / np.float32(facts.spread), -30, 30)))
    return labels, sure.astype(np.float32)


def find_in_volume(picture: Picture, facts: Facts, config: ObjectsConfig) -> tuple[blobs.Labels, NDArray[np.float32]]:
    """Return the objects of a volume ``[Z Y X]`` with bright objects, and how sure each voxel is."""
    contrast = local_contrast(picture.light, facts, config.distances(3), _wide(config))
    labels, sure = _grown(picture, contrast, facts, config)
    least, largest = _sizes(picture, config)
    areas = blobs.areas(labels)
    found = contrasts(labels, picture.light)
    wanted = np.maximum(facts.contrast, SIGNIFICANT * facts.noise / np.sqrt(np.maximum(areas, 1)))
    return blobs.select(labels, (areas >= least) & (areas <= largest) & (found >= wanted)), sure


class Objects(Method):
    """Objects one by one, bright or dark, from the component tree. See the module's text."""

    Config = ObjectsConfig
    config: ObjectsConfig
    uses_memos, finds_objects = True, True
    distributed_unsupported = "it has nothing to learn by gradients; it takes a second or two an image"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "nuclei": {},
        "cells": {"min_size": 100, "contrast": 0.2},
        "particles": {"min_size": 9, "contrast": 0.2},
    }
    facts: Tensor
    seed: Tensor
    edges: Tensor

    def __init__(self, config: ObjectsConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        config.distances(n_dims)
        self.register_buffer("facts", torch.tensor(astuple(Facts()), dtype=torch.float64))
        self.register_buffer("seed", torch.randint(2**31 - 1, (1,)))
        # Lightness between the classes of objects, where more than two are asked for.
        self.register_buffer("edges", torch.zeros(max(0, self.n_classes - 2), dtype=torch.float64))
        for one in fields(PixelForest):
            self.register_buffer(f"forest_{one.name}", torch.zeros(0))

    @property
    def n_classes(self) -> int:
        """Ground and objects; with more, objects' pixels from dark to bright."""
        return self.config.n_classes or 2

    @property
    def class_names(self) -> tuple[str, ...]:
        """Ground and object; of more than two classes the objects' have none."""
        return ("ground", "object")[: 2 if self.n_classes == 2 else 1]

    @property
    def context(self) -> int | None:
        """The whole image where each teaches its own classifier; else what its features and the width of an object reach."""
        if self.config.learn == "each":
            return None
        if self.n_dims == 3:
            return math.ceil(3 * _wide(self.config)) + OBJECT_SIDE[3]
        return int(self._facts().factor) * (REACH + OBJECT_SIDE[2] + 12)

    @property
    def multiple(self) -> int:
        """The factor by which images are shrunk."""
        return int(self._facts().factor)

    def fixed(self) -> "Objects":
        """Return the method as it learned from the training images, for every image."""
        if self.config.learn == "once":
            return self
        made = Objects(self.config.changed(learn="once"), self.n_channels, self.n_dims)
        made.restore(self.state())
        return made.eval()

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Do nothing: `finish` learns, as polarity and scale must be known first."""
        yield from ()

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Learn from at most `MOST_IMAGES` images, evenly spread."""
        n_images = sum(1 for _ in batches())
        every = -(-n_images // MOST_IMAGES)

        def pictures() -> Iterator[Picture]:
            for place, batch in enumerate(batches()):
                if place % every == 0:
                    yield self._picture(batch.images[0], None if batch.valid is None else batch.valid[0])

        learned = self._learn(pictures)
        self._keep(learned)
        if self.n_classes > 2:
            light = [_light_of(self._picture(batch.images[0], None), learned, self.config) for batch in batches()]
            shares = np.linspace(0, 1, self.n_classes)[1:-1]
            values = np.concatenate(light)
            if len(values):
                self.edges = torch.from_numpy(np.quantile(values, shares)).to(self.edges)

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        memos = memos or [{} for _ in images]
        return torch.stack([self._assign_one(image, memo) for image, memo in zip(images, memos, strict=True)])

    def objects(self, image: Tensor, memo: Memo | None = None) -> NDArray[np.int32]:
        return self._found(image, memo)[0]

    def hierarchy(self, image: Tensor, memo: Memo | None = None) -> tuple[NDArray[np.int32], MergeTree]:
        """Return the branches of the component tree and how they merge: parts join what is around them, weak and small ones first."""
        learned = self._learned_of(image, memo)
        facts = learned.facts
        picture = self._picture(image, _valid(memo)).turned(int(facts.polarity), False).shrunk(int(facts.factor))
        tree = component_tree(gaussian_filter(picture.light, FINE), LEAST_BRANCH)
        superpixels, merges = tree.branches(scores(tree, POWERS[0], LEAST_BRANCH, picture.light.size / 2, 0.0))
        return enlarge(superpixels, int(facts.factor), image.shape[1:]), merges

    def prediction_bytes(self, n_pixels: int) -> int:
        """Return what was measured (benchmarks/speed/objects.py)."""
        return n_pixels * (60 + 12 * self.n_channels)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state. A forest has as many nodes as it grew; what is no forest is refused."""
        for name, own in self.state().items():
            taken = state[name]
            if not name.startswith("forest_") and taken.shape != own.shape:
                raise RuntimeError(f"{name}: expected {list(own.shape)}, got {list(taken.shape)}")
            setattr(self, name, taken.detach().clone().to(own.device))
        self._learned()

    def _picture(self, image: Tensor, valid: Tensor | NDArray[np.bool_] | None) -> Picture:
        counts = valid.cpu().numpy().astype(bool) if isinstance(valid, Tensor) else valid
        return Picture.of(image.detach().float().cpu().numpy(), counts, self.config)

    def _facts(self) -> Facts:
        return Facts(*self.facts.tolist())

    def _learn(self, pictures: Pictures) -> Learned:
        if self.n_dims == 3:
            return learn_volumes(pictures, self.config)
        return learn(pictures, self.config, int(self.seed))

    def _keep(self, learned: Learned) -> None:
        self.facts = torch.tensor(astuple(learned.facts), dtype=torch.float64).to(self.facts)
        for one in fields(PixelForest):
            value = torch.zeros(0) if learned.forest is None else torch.from_numpy(getattr(learned.forest, one.name))
            setattr(self, f"forest_{one.name}", value.to(self.facts.device))

    def _learned(self) -> Learned:
        """Return what was learned from the training images; `RuntimeError` if the state is none."""
        facts = self._facts()
        arrays = [getattr(self, f"forest_{one.name}").cpu().numpy() for one in fields(PixelForest)]
        if not all(len(one) for one in arrays):
            return Learned(facts)
        forest = PixelForest(*arrays)
        n_channels = 1 if facts.grey else self.n_channels
        forest.check(n_features(n_channels))
        return Learned(facts, forest)

    def _learned_of(self, image: Tensor, memo: Memo | None) -> Learned:
        memo = {} if memo is None else memo
        if self.config.learn == "once":
            return self._learned()
        key = f"objects, learned {self.config} {int(self.seed)} {tuple(image.shape)}"
        if key not in memo:
            memo[key] = self._learn(lambda: [self._picture(image, _valid(memo))])
        learned: Learned = memo[key]
        return learned

    def _found(self, image: Tensor, memo: Memo | None) -> tuple[blobs.Labels, NDArray[np.float32]]:
        memo = {} if memo is None else memo
        key = f"objects, found {id(self.facts)} {self.config} {tuple(image.shape)}"
        if key not in memo:
            learned = self._learned_of(image, memo)
            memo[key] = find(self._picture(image, _valid(memo)), learned, self.config)
        found: tuple[blobs.Labels, NDArray[np.float32]] = memo[key]
        return found

    def _assign_one(self, image: Tensor, memo: Memo) -> Tensor:
        labels, probability = self._found(image, memo)
        found = torch.from_numpy(probability).to(image.device)
        if self.n_classes == 1:
            return torch.ones_like(found)[None]
        if self.n_classes == 2:
            return torch.stack([1 - found, found])
        light = torch.from_numpy(self._picture(image, _valid(memo)).light).to(image.device)
        kind = torch.bucketize(light.double(), self.edges.to(image.device))
        shares = torch.nn.functional.one_hot(kind, self.n_classes - 1).movedim(-1, 0)
        return torch.cat([1 - found[None], shares * found])


def _valid(memo: Memo | None) -> NDArray[np.bool_] | None:
    return None if memo is None else memo.get("valid")


def _light_of(picture: Picture, learned: Learned, config: ObjectsConfig) -> NDArray[np.float32]:
    """Return the lightness of the pixels of all objects of an image."""
    labels, _ = find(picture, replace(learned, probability=None), config)
    return picture.light[labels > 0]
