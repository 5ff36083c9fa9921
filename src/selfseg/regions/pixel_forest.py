"""A classifier of pixels: extra-trees over smoothed values, slopes and curvatures; kept as plain arrays, and evaluated band by band."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.machine import compiled, run_shared
from selfseg.regions.gaussian import smoothed

SCALES = (0.0, 1.0, 2.0, 4.0)
"""Gaussians of each channel, in pixels."""

SLOPES = (1.0, 2.0, 4.0)
"""Scales at which the slope and the curvatures of the lightness are taken."""

WIDE = (8.0, 20.0)
"""Scales of the means from which the difference of the lightness is taken."""

SPREAD = 3.0
"""Scale of the local standard deviation."""

NEAR, FAR = 4.0, 3.0
"""Where Gaussians end, in standard deviations: the narrow ones, and those of `WIDE`."""

CLOSE = int(max(NEAR * max(*SLOPES, *SCALES) + 2, NEAR * SPREAD) + 0.5)
"""Pixels that a feature looks at on each side, but for the wide means."""

REACH = int(max(FAR * max(WIDE), CLOSE) + 0.5)
"""The same with them."""

BAND, LEAST_ROWS = 2**16, 64
"""Pixels of a band of rows whose features are in memory at a time, and its least rows."""

N_TREES, DEPTH, LEAF = 30, 14, 5
"""Trees, their largest depth, and the least pixels of a leaf."""


def n_features(n_channels: int) -> int:
    """Return the number of features F of an image of C channels."""
    return len(SCALES) * n_channels + 3 * len(SLOPES) + len(WIDE) + 1


def pixel_features(
    channels: NDArray[np.float32],
    lightness: NDArray[np.float32],
    means: NDArray[np.float32] | None = None,
    wanted: slice = slice(None),
) -> NDArray[np.float32]:
    """Return the features ``[F Y X]`` of an image: Gaussians of each channel; slope and both curvatures of the lightness at three
    scales; its difference from wide means; its local standard deviation.

    Parameters
    ----------
    channels
        ``[C Y X]``.
    lightness
        ``[Y X]``.
    means
        ``[W Y X]``, the `wide_means` of the lightness, where they are known.
    wanted
        The rows whose features are returned; the others are only looked at.
    """
    means = wide_means(lightness) if means is None else means
    found = np.empty((n_features(len(channels)), len(lightness[wanted]), lightness.shape[1]), np.float32)
    rows = iter(found)
    for scale in SCALES:
        for channel in channels:
            next(rows)[...] = (smoothed(channel, scale, NEAR) if scale else channel)[wanted]
    for scale in SLOPES:
        down, right = _slopes(smoothed(lightness, scale, NEAR))
        next(rows)[...] = np.hypot(down[wanted], right[wanted])
        (yy, yx), (_, xx) = _slopes(down), _slopes(right)
        yy, yx, xx = yy[wanted], yx[wanted], xx[wanted]
        middle, half = (yy + xx) / 2, np.sqrt((yy - xx) ** 2 / 4 + yx * yx)
        next(rows)[...] = middle + half
        next(rows)[...] = middle - half
    for wide in means:
        next(rows)[...] = lightness[wanted] - wide[wanted]
    mean = smoothed(lightness, SPREAD, NEAR)[wanted]
    squares = smoothed(lightness * lightness, SPREAD, NEAR)[wanted]
    next(rows)[...] = np.sqrt(np.maximum(squares - mean * mean, 0))
    return found


def wide_means(lightness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Gaussians ``[W Y X]`` of an image ``[Y X]`` at the scales of `WIDE`."""
    found = np.empty((len(WIDE), *lightness.shape), np.float32)
    for scale, into in zip(WIDE, found, strict=True):
        into[...] = smoothed(lightness, scale, FAR)
    return found


def _slopes(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return central differences along both axes; an axis of one pixel has none."""
    return tuple(  # type: ignore[return-value]
        np.gradient(values, axis=axis) if values.shape[axis] > 1 else np.zeros_like(values) for axis in range(2)
    )


@dataclass(frozen=True)
class PixelForest:
    """A forest of T trees, whose nodes stand one after the other: children after their parents."""

    roots: NDArray[np.int32]
    """``[T]``, the node at which each tree begins."""
    features: NDArray[np.int32]
    """``[n]``, the feature that a node asks for; -1 = a leaf."""
    thresholds: NDArray[np.float64]
    """``[n]``: values up to this go left."""
    children: NDArray[np.int32]
    """``[n 2]``, left and right."""
    shares: NDArray[np.float64]
    """``[n]``, share of objects among the pixels of a node; ``[n K]`` of each class, of a forest of K classes."""

    @classmethod
    def learn(cls, values: NDArray[np.float32], wanted: NDArray[np.bool_], seed: int) -> "PixelForest":
        """Grow extremely randomised trees (Geurts, Ernst & Wehenkel, Machine Learning 2006) by scikit-learn.

        Parameters
        ----------
        values
            ``[P F]``, features of some pixels.
        wanted
            ``[P]``, True = object; both must be there.
        seed
            Of every random choice.
        """
        grown = cls.of_classes(values, wanted, seed)
        return replace(grown, shares=np.ascontiguousarray(grown.shares[:, 1]))

    @classmethod
    def of_classes(
        cls,
        values: NDArray[np.float32],
        classes: NDArray[np.integer] | NDArray[np.bool_],
        seed: int,
        n_trees: int = N_TREES,
        depth: int = DEPTH,
        leaf: int = LEAF,
    ) -> "PixelForest":
        """Grow a forest for any number of classes ``[P]``; its `shares` ``[n K]`` are of those that are there, in their order."""
        from sklearn.ensemble import ExtraTreesClassifier  # here, since it takes a while to import

        options = {"min_samples_leaf": leaf, "max_depth": depth, "bootstrap": True, "n_jobs": 1, "random_state": seed}
        grown = ExtraTreesClassifier(n_trees, **options).fit(values, classes)
        roots, features, thresholds, children, shares, begin = [], [], [], [], [], 0
        for tree in (one.tree_ for one in grown.estimators_):
            ends = tree.children_left < 0
            roots.append(begin)
            features.append(np.where(ends, -1, tree.feature).astype(np.int32))
            thresholds.append(np.where(ends, 0, tree.threshold))
            pair = np.stack([tree.children_left, tree.children_right], -1)
            children.append(np.where(ends[:, None], 0, pair + begin).astype(np.int32))
            counts = tree.value[:, 0]
            shares.append(counts / counts.sum(1, keepdims=True))
            begin += tree.node_count
        joined = (np.concatenate(parts) for parts in (features, thresholds, children, shares))
        return cls(np.array(roots, np.int32), *joined)

    def check(self, width: int) -> None:
        """Raise `ValueError` unless the arrays are a forest over `width` features, so that evaluating them ends inside them."""
        n = len(self.features)
        inner = self.features >= 0
        lower = self.children[inner] > np.flatnonzero(inner)[:, None]
        sound = self.thresholds.shape == self.shares.shape[:1] == (n,) and self.children.shape == (n, 2)
        sound = sound and bool(((self.roots >= 0) & (self.roots < n)).all()) and bool((self.features < width).all())
        if not (sound and bool(lower.all()) and bool((self.children < n).all())):
            raise ValueError(f"expected a forest over {width} features, got arrays that are none")

    def evaluate(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of an object ``[P]`` for features ``[F P]``: the mean share over the trees."""
        return self._means(values, self.shares[:, None])[0]

    def evaluate_classes(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of each class ``[K P]`` for features ``[F P]``, of a forest of K classes."""
        return self._means(values, self.shares).astype(np.float32)

    def _means(self, values: NDArray[np.float32], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean ``[K P]`` of the shares ``[n K]`` over the trees."""
        columns, leaf = values.reshape(len(values), -1), self.features < 0
        total = np.zeros((shares.shape[1], columns.shape[1]))
        # A leaf leads to itself, so that all pixels of a block go down as many steps. Numbers without a sign are no numbers from the end.
        children = np.where(leaf[:, None], np.arange(len(leaf))[:, None], self.children).astype(np.uint32)
        arrays = (np.maximum(self.features, 0).astype(np.uint32), _rounded_down(self.thresholds), children)
        depths = _depths(self.roots, leaf, self.children)
        run_shared(
            _evaluate, columns.shape[1], columns, self.roots, depths, *arrays, np.ascontiguousarray(shares), total
        )
        return total / max(1, len(self.roots))

    def probability(self, channels: NDArray[np.float32], lightness: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of an object ``[Y X]`` of an image (see `pixel_features`)."""
        result = np.empty(lightness.shape, np.float32)

        def keep(rows: slice, values: NDArray[np.float32]) -> None:
            result[rows] = self.evaluate(values).reshape(-1, lightness.shape[1])

        by_bands(channels, lightness, keep)
        return result


def by_bands(
    channels: NDArray[np.float32], lightness: NDArray[np.float32], take: Callable[[slice, NDArray[np.float32]], Any]
) -> None:
    """Call ``take(rows, features [F rows X])`` for one band of rows after the other: features of all of a large image at once would take
    a hundred bytes a pixel."""
    height, width = lightness.shape
    step, means = max(LEAST_ROWS, BAND // max(1, width)), wide_means(lightness)
    for top in range(0, height, step):
        stop = min(height, top + step)
        first, last = max(0, top - CLOSE), min(height, stop + CLOSE)
        rows = slice(top - first, stop - first)
        take(
            slice(top, stop), pixel_features(channels[:, first:last], lightness[first:last], means[:, first:last], rows)
        )


def features_at(
    channels: NDArray[np.float32], lightness: NDArray[np.float32], places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the features ``[P F]`` of some pixels, by their flat numbers ``[P]``."""
    result = np.empty((len(places), n_features(len(channels))), np.float32)
    width = lightness.shape[1]

    def keep(rows: slice, values: NDArray[np.float32]) -> None:
        here = (places >= rows.start * width) & (places < rows.stop * width)
        result[here] = values.reshape(len(values), -1)[:, places[here] - rows.start * width].T

    by_bands(channels, lightness, keep)
    return result


def draw(rng: np.random.Generator, among: NDArray[np.int64], n: int, weights: Sequence[float] | None = None) -> Any:
    """Return at most `n` of some numbers, drawn without putting back."""
    return rng.choice(among, min(n, len(among)), replace=False, p=weights)


BLOCK = 256
"""Pixels that go through one tree after the other: their features, copied side by side, and a tree stay in the cache."""


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 up to each threshold: a float32 is above the one just where it is above the other."""
    found = thresholds.astype(np.float32)
    return np.where(found > thresholds, np.nextafter(found, np.float32(-np.inf)), found)


@compiled()
def _depths(roots, leaf, children):
    """Return the length of the longest way from each root to a leaf; children stand after their parents."""
    depth = np.zeros(len(leaf), np.int64)
    for node in range(len(leaf) - 1, -1, -1):
        if not leaf[node]:
            depth[node] = 1 + max(depth[children[node, 0]], depth[children[node, 1]])
    return depth[roots]


@compiled()
def _evaluate(start, stop, values, roots, depths, features, thresholds, children, shares, total):
    """Add up the shares of all trees for the pixels [start, stop); all pixels of a block go down a tree level by level."""
    nodes, pixels = np.empty(BLOCK, np.uint32), np.empty((BLOCK, len(values)), np.float32)
    for begin in range(start, stop, BLOCK):
        n = min(begin + BLOCK, stop) - begin
        for feature in range(len(values)):
            for pixel in range(n):
                pixels[pixel, feature] = values[feature, begin + pixel]
        for tree in range(len(roots)):
            nodes[:n] = roots[tree]
            for _ in range(depths[tree]):
                for pixel in range(n):
                    node = nodes[pixel]
                    right = pixels[pixel, features[node]] > thresholds[node]
                    nodes[pixel] = children[node, np.uint32(right)]
            for kind in range(shares.shape[1]):
                for pixel in range(n):
                    total[kind, begin + pixel] += shares[nodes[pixel], kind]
