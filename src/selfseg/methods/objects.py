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
from scipy.ndimage import maximum_filter
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.core.seed import generator
from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.regions import blobs
from selfseg.regions.component_tree import component_tree
from selfseg.regions.gaussian import smoothed
from selfseg.regions.merge_tree import MergeTree
from selfseg.regions.pixel_forest import REACH, PixelForest, draw, features_at, n_features
from selfseg.regions.teacher import (
    FINE,
    NOISY,
    POWERS,
    SMALLEST_SIDE,
    Facts,
    Picture,
    contrasts,
    cut,
    enlarge,
    find_polarity,
    mask_of,
    scores,
    strict_facts,
    strict_objects,
    teach,
    typical_contrast,
)
from selfseg.regions.volume_objects import WIDE, volume_facts, volume_objects

N_PIXELS, NEAR = 6000, 12
"""Pixels that the forest learns from; half of its ground lies within this distance of an object."""

AGREE, AGREE_WELL, OCTAVE = 0.72, 0.8, 0.05
"""Dice of teacher and pupil that is enough; below which coarser scales are tried; its price for each halving of the size."""

STRICT_PIXELS, STRICT_SHARE = 24_000, 1 / 3
"""Pixels that the strict teacher's forest learns from, and the share of objects among them."""

HARD = 4
"""Pixels of the ground that the first round's forest looks at, for each one that it learns from."""

SIGNIFICANT = 5.0
"""Least contrast of an object over the standard error that noise gives it."""

DIAMETER = 10.0
"""Diameter of objects in volumes, in voxels of the finest axis, where none is given."""

OBJECT_SIDE = {2: 64, 3: 24}
"""Objects up to this width in pixels are the same in parts as in the whole image."""

LEAST_BRANCH = 8
"""Least pixels of a part of the merge tree."""

MOST_IMAGES = 16
"""Images, evenly spread over the training images, that the model for all of them learns from."""


class ObjectsConfig(MethodConfig):
    """Options of `objects`."""

    diameter: tuple[float, ...] = ()
    """Diameter of the objects in pixels: 20, or smallest and largest as 12,40. Empty = any."""
    polarity: Literal["auto", "bright", "dark"] = "auto"
    """Brighter or darker than their surroundings; auto = found from the image."""
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
class Lesson:
    """Lesson of the tree of one image: `wanted` objects ``[*S]``, `unsure` pixels, and the pupil's agreement with them."""

    wanted: blobs.Labels
    unsure: NDArray[np.bool_]
    values: NDArray[np.float32]
    """``[P F]`` features, and ``[P]`` whether they are objects."""
    answers: NDArray[np.bool_]
    agreement: float = 0.0


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


@dataclass(frozen=True)
class Learned:
    """Finder of objects: fixed facts and a forest; and the probabilities ``[*s]`` of the only image that it was learned from."""

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
    value, factor, lessons, last = max(trials, key=lambda one: one[0])
    facts = Facts(polarity=polarity, grey=grey, factor=factor, agreement=trials[0][0])
    if value < AGREE:
        return _learn_strictly(lambda: turned(1), replace(facts, factor=1), config, seed)
    least, largest = _sizes(next(iter(turned(factor))), config)
    facts = replace(facts, least=least, largest=largest if config.diameter else math.inf)
    values, answers = (np.concatenate([getattr(one, name) for one in lessons]) for name in ("values", "answers"))
    if not answers.any():
        return Learned(facts)
    forest = PixelForest.learn(values, answers, seed)
    return _measured(turned(factor), lessons, facts, forest, last, config.contrast)


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
            pupil = [blobs.without_specks(mask_of(p, part.valid), least).ravel() for part, p in seen]
            teacher = [one.wanted[place].ravel() > 0 for place, _ in parts]
            one = replace(one, agreement=blobs.dice(np.concatenate(teacher), np.concatenate(pupil)))
        lessons.append(one)
    return lessons, seen


def _measured(
    pictures: Iterable[Picture],
    lessons: list[Lesson],
    facts: Facts,
    forest: PixelForest,
    known: Seen | None,
    contrast: float,
) -> Learned:
    """Add to the facts what is typical of the objects that the forest finds: spread of lightness, contrast, noise."""
    spreads, typical, noises = [], [], []
    for picture, one in zip(pictures, lessons, strict=True):
        seen = known or [(part, forest.probability(part.channels, part.light)) for _, part in picture.parts(one.wanted)]
        masks = [(part, mask_of(probability, part.valid)) for part, probability in seen]
        values = np.concatenate([smoothed(part.light, 1.5)[mask] for part, mask in masks])
        if not len(values):
            continue
        noises.append(picture.noise() / NOISY)
        spreads.append(float(values.std()))
        cuts = [(part, cut(mask, part, spreads[-1], facts.least)) for part, mask in masks]
        found = np.concatenate([contrasts(labels, part.light) for part, labels in cuts])
        typical.append(typical_contrast(found, np.concatenate([blobs.areas(labels) for _, labels in cuts])))
    whole = known[0][1] if known is not None and len(known) == 1 else None
    if not spreads:
        return Learned(facts, forest, whole)
    spread, common, noise = (float(np.median(values)) for values in (spreads, typical, noises))
    facts = replace(facts, spread=spread, contrast=contrast * common, noise=noise)
    return Learned(facts, forest, whole)


def _learn_volumes(pictures: Pictures, config: ObjectsConfig) -> Learned:
    """Fix, from volumes, polarity, brightness, and what is typical of their seeds."""
    facts = Facts(polarity=_polarity(config, [find_polarity(one) for one in pictures()]), wide=_wide(config))
    each = []
    for picture in pictures():
        least, largest = _sizes(picture, config)
        one = replace(facts, least=least, largest=largest)
        each.append(volume_facts(picture.turned(int(facts.polarity), False), one, config.distances(3), config.contrast))
    middle = {one.name: float(np.median([getattr(facts, one.name) for facts in each])) for one in fields(Facts)}
    return Learned(replace(each[0], **middle))


def _wide(config: ObjectsConfig) -> float:
    return WIDE * float(np.mean(config.diameter or DIAMETER))


def _learn_strictly(pictures: Pictures, facts: Facts, config: ObjectsConfig, seed: int) -> Learned:
    """Fix the strict teacher, and let a forest learn from its objects, twice: a third of the second round's ground looked like objects."""
    each = []
    for picture in pictures():
        least, largest = _sizes(picture, config)
        each.append(strict_facts(picture, replace(facts, least=least, largest=largest)))
    names = ("low", "high", "step", "least", "largest", "contrast", "noise", "sure")
    middle = {name: float(np.median([getattr(one, name) for one in each])) for name in names}
    facts = replace(
        facts, strict=1, **middle | {"low": min(one.low for one in each), "high": max(one.high for one in each)}
    )
    drawn = []
    for place, picture in enumerate(pictures()):
        wanted = strict_objects(picture, facts) > 0
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


def find(picture: Picture, learned: Learned, config: ObjectsConfig) -> tuple[blobs.Labels, NDArray[np.float32]]:
    """Return the objects of an image ``[*S]``, and the probability that a pixel belongs to one: above one half inside them alone."""
    facts, shape = learned.facts, picture.light.shape
    if picture.light.ndim == 3:
        volume = picture.turned(int(facts.polarity), False)
        labels, probability = volume_objects(volume, facts, config.distances(3))
        labels = _worth(labels, volume, facts)
        return labels, _agreeing(labels, probability)
    if learned.forest is None:
        return np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    small = picture.turned(int(facts.polarity), bool(facts.grey)).shrunk(int(facts.factor))
    known = learned.probability
    probability = learned.forest.probability(small.channels, small.light) if known is None else known
    if facts.strict:
        labels = strict_objects(small, facts)
        inside = labels > 0
        areas = blobs.areas(labels)
        mean = np.bincount(labels[inside] - 1, probability[inside], len(areas)) / np.maximum(areas, 1)
        labels = blobs.select(labels, mean >= 0.5)
    else:
        labels = cut(mask_of(probability, small.valid), small, facts.spread, facts.least)
    labels = _worth(labels, small, facts)
    labels, probability = (enlarge(one, int(facts.factor), shape) for one in (labels, probability))
    return labels, _agreeing(labels, probability)


def _worth(labels: blobs.Labels, picture: Picture, facts: Facts) -> blobs.Labels:
    """Return the objects that are neither too small nor too large, and stand out from what is around them and from the noise."""
    areas = blobs.areas(labels)
    wanted = np.maximum(facts.contrast, SIGNIFICANT * facts.noise / np.sqrt(np.maximum(areas, 1)))
    fits = (areas >= facts.least) & (areas <= facts.largest)
    return blobs.select(labels, fits & (contrasts(labels, picture.light) >= wanted))


def _agreeing(labels: blobs.Labels, probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities that are above one half in objects, and below it elsewhere."""
    low, high = np.float32(0.499), np.float32(0.501)
    return np.where(labels > 0, np.maximum(probability, high), np.minimum(probability, low))


class Objects(Method):
    """Objects one by one, bright or dark, from the component tree. See the module's text."""

    Config = ObjectsConfig
    config: ObjectsConfig
    uses_memos = True
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
        if config.channel is not None and config.channel >= n_channels:
            raise UsageError(
                "channel", expected=f"0 to {n_channels - 1}", got=str(config.channel), fix="channels are counted from 0"
            )
        self.register_buffer("facts", torch.tensor(astuple(Facts()), dtype=torch.float64))
        self.register_buffer("seed", torch.randint(2**31 - 1, (1,)))
        # Lightness between the classes of objects, where more than two are asked for.
        self.register_buffer("edges", torch.zeros(max(0, self.n_classes - 2), dtype=torch.float64))
        for one in fields(PixelForest):
            self.register_buffer(f"forest_{one.name}", torch.zeros(0))

    @property
    def finds_objects(self) -> bool:
        return True

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

    def status(self) -> dict[str, float]:
        """Return the agreement of teacher and pupil at full size, a Dice: high where the image consists of objects; nothing before."""
        agreement = round(self._facts().agreement, 3)
        return {"agreement": agreement} if agreement else {}

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
        only = next(iter(batches())) if n_images == 1 else None
        if only is not None and only.memos is not None:  # what was learned from it is what it would teach again
            only.memos[0][self._key("learned", only.images[0])] = learned
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
        tree = component_tree(smoothed(picture.light, FINE), LEAST_BRANCH)
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
        return Picture.of(image.detach().float().cpu().numpy(), counts, self.config.channel)

    def _facts(self) -> Facts:
        return Facts(*self.facts.tolist())

    def _learn(self, pictures: Pictures) -> Learned:
        if self.n_dims == 3:
            return _learn_volumes(pictures, self.config)
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

    def _key(self, what: str, image: Tensor) -> str:
        return f"objects, {what} {self.config} {int(self.seed)} {tuple(image.shape)}"

    def _learned_of(self, image: Tensor, memo: Memo | None) -> Learned:
        memo = {} if memo is None else memo
        if self.config.learn == "once":
            return self._learned()
        key = self._key("learned", image)
        if key not in memo:
            memo[key] = self._learn(lambda: [self._picture(image, _valid(memo))])
        learned: Learned = memo[key]
        return learned

    def _found(self, image: Tensor, memo: Memo | None) -> tuple[blobs.Labels, NDArray[np.float32]]:
        memo = {} if memo is None else memo
        key = self._key("found", image) + f" {id(self.facts) if self.config.learn == 'once' else ''}"
        if key not in memo:
            learned = self._learned_of(image, memo)
            memo[key] = find(self._picture(image, _valid(memo)), learned, self.config)
        found: tuple[blobs.Labels, NDArray[np.float32]] = memo[key]
        return found

    def _assign_one(self, image: Tensor, memo: Memo) -> Tensor:
        _, probability = self._found(image, memo)
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
