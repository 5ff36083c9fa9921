"""Objects that the component tree of an image is sure of: labels that need no person.

Every node of the tree, a connected part at a threshold of its own, has a score: how elliptic it is, times the mean step across its border,
times a power of its area. The best disjoint set of nodes, cut at necks, without weak and ragged ones, are the sure objects. Where the
image is hard (bright-field), a strict choice keeps those alone that stand out from a ring around them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.regions import blobs
from selfseg.regions.component_tree import ComponentTree, component_tree
from selfseg.regions.gaussian import smoothed

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

SMALLEST_SIDE = 48
"""Shorter side of an image that is still halved."""

STRICT_SHAPE, STRICT_STEP, STRICT_CONTRAST, LARGEST_RATIO = 0.75, 0.2, 0.5, 5.0
"""The strict teacher: least ellipseness, step and contrast over the typical ones; largest area over the median."""

STRICT_TEXTURE = 7.5
"""Least contrast of a strict teacher's object, over the median difference of the image smoothed by 2 and by 8 pixels: objects of
bright-field images have 25 times it and more, grains of smoothed noise 5 times at most."""

NOISY = 0.589
"""Median difference between white noise of deviation 1 and itself smoothed by 1 pixel."""

SAMPLED, PART = 2**20, 2**8
"""Pixels of a large image on which teacher and pupil are compared, and contrast and spread measured; the side of each part of it."""


@dataclass(frozen=True)
class Facts:
    """Facts that are fixed before objects are found, so that parts of an image give what the whole gives."""

    polarity: float = 1
    factor: float = 1
    grey: float = 0
    """True if three channels are alike."""
    strict: float = 0
    """True if the strict teacher finds the objects, and the forest confirms them."""
    low: float = 0
    high: float = 0
    """Range of the image that the tree is built of."""
    step: float = 0
    """Least step of a node."""
    least: float = 1
    largest: float = math.inf
    """Least and largest size of an object, in pixels of its scale."""
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
    wide: float = 8
    """In 3D: value that counts as black, what is added before the logarithm, and the voxels that a voxel is compared with."""
    sure: float = 0
    """Contrast of a strict teacher's object that is sure."""
    agreement: float = 0
    """Dice of teacher and pupil at full size; 0 in 3D, where there is no pupil."""


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
    def of(
        cls, image: NDArray[np.float32], valid: NDArray[np.bool_] | None = None, channel: int | None = None
    ) -> "Picture":
        """Make one of an image ``[C *S]``; pixels that do not count take the median of the others.

        Its light is that of a channel; without one, the lightness of three channels as RGB, or the mean of any other number.
        """
        image = image if np.isfinite(image).all() else np.nan_to_num(image, posinf=0, neginf=0)
        if valid is not None and valid.any() and not valid.all():
            medians = np.median(image[:, valid], axis=1).reshape(-1, *(1,) * valid.ndim)
            image = np.where(valid, image, medians).astype(np.float32)
        if channel is not None:
            light = image[channel]
        elif len(image) == 3:
            light = np.tensordot(LIGHTNESS, image, 1)
        else:
            light = image[0] if len(image) == 1 else image.mean(0)
        return cls(image, np.ascontiguousarray(light, np.float32), valid)

    def is_grey(self) -> bool:
        """Return whether three channels are one."""
        width = float(self.light.max() - self.light.min())
        return len(self.channels) == 3 and float(np.abs(self.channels[0] - self.channels[2]).mean()) <= 0.002 * width

    def turned(self, polarity: int, grey: bool) -> "Picture":
        """Return it with bright objects, and one channel if it is grey."""
        light = self.light if polarity == 1 else -self.light
        return replace(self, channels=self.channels[:1] if grey else self.channels, light=light)

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
        return float(np.median(np.abs(self.light - smoothed(self.light, 1.0))))


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
        tree = component_tree(smoothed(sign * small.light, 1.0), 8)
        found = scores(tree, 0.5, 8, small.light.size / 4, 0)
        totals.append(float(found[tree.best_disjoint(found)].sum()))
    return (totals[0] - totals[1]) / max(sum(totals), 1e-12)


def teach(picture: Picture, least: float, largest: float) -> tuple[blobs.Labels, NDArray[np.bool_]]:
    """Return the sure objects of an image ``[*S]``, and the pixels of unsure ones, which are neither objects nor ground."""
    noise, trees = picture.noise(), {}

    def nodes(power: float, sigma: float) -> tuple[ComponentTree, NDArray[np.int32]]:
        if sigma not in trees:
            trees[sigma] = component_tree(smoothed(picture.light, sigma), int(least))
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


def contrasts(labels: blobs.Labels, light: NDArray[np.float32], quantile: float = 0.5) -> NDArray[np.float64]:
    """Return the contrast of each object ``[N]`` in the image smoothed by one pixel (`blobs.contrasts`)."""
    return blobs.contrasts(labels, smoothed(light, 1.0), quantile)


def typical_contrast(found: NDArray[np.float64], areas: NDArray[Any]) -> float:
    """Return the median contrast ``[N]`` of objects, weighed by area times contrast; dark ones and those without a ring do not count."""
    usable = np.isfinite(found) & (found > 0)
    return blobs.weighted_median(found[usable], (areas * found)[usable])


def strict_facts(picture: Picture, facts: Facts) -> Facts:
    """Return what `strict_objects` takes for sure in one image; objects are at most five times the median of these."""
    smooth = smoothed(picture.light, FINE)
    least, largest = facts.least, facts.largest
    noise = picture.noise() / NOISY
    texture = np.abs(smoothed(picture.light, 2.0) - smoothed(picture.light, 8.0))
    facts = replace(
        facts,
        low=float(smooth.min()),
        high=float(smooth.max()),
        noise=noise,
        contrast=STRICT_TEXTURE * float(np.median(texture)),
    )
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


def strict_objects(picture: Picture, facts: Facts) -> blobs.Labels:
    """Return the sure objects of an image ``[*S]``: elliptic, steep and contrasty nodes of one tree, cut at necks."""
    least = facts.least
    tree = component_tree(smoothed(picture.light, FINE), int(least), limits=(facts.low, facts.high))
    chosen = tree.best_disjoint(scores(tree, POWERS[1], least, facts.largest, NOISE * NOISY * facts.noise))
    labels = tree.labels(chosen)
    found = contrasts(labels, picture.light, 0.1)
    sure = (tree.ellipseness[chosen] >= STRICT_SHAPE) & (tree.steps[chosen] >= facts.step) & (found >= facts.sure)
    pieces, _ = blobs.split_at_necks(blobs.filled(blobs.select(labels, sure)), 30)
    n = int(pieces.max(initial=0))
    ends = np.where(blobs.on_edge(pieces, n), ELLIPTIC_AT_EDGE, ELLIPTIC)
    return blobs.select(pieces, (blobs.areas(pieces, n) >= least) & (blobs.shapes(pieces, n) >= ends))


LIGHT, DEPTH = 0.5, 1.0
"""Weight of the lightness beside the distance in the final watershed; how deep a neck must be, in pixels."""


def mask_of(probability: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Return where the probability, smoothed by a pixel, is above one half, without holes."""
    probability = probability if valid is None else np.where(valid, probability, 0)
    mask = smoothed(probability, 1.0) > 0.5
    return np.asarray(blobs.filled(mask.astype(np.int32)) > 0)


def cut(mask: NDArray[np.bool_], picture: Picture, spread: float, least: float) -> blobs.Labels:
    """Cut a mask into objects: the watershed of the distance to its border and of the lightness over its spread."""
    height = blobs.border_distance(mask.astype(np.int32))
    height += np.float32(LIGHT / max(spread, 1e-6)) * smoothed(picture.light, 1.5)
    labels = blobs.basins(height, mask.astype(np.int32), DEPTH)
    return blobs.select(labels, blobs.areas(labels) >= least)
