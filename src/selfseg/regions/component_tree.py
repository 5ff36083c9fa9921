"""The component tree (max-tree): all bright connected parts of an image at all thresholds, their shape, and the best disjoint ones.

A node is a connected part of ``{image >= t}`` for some t; its parent is the part that holds it at a lower t. So each object may have
a threshold of its own. Built by union-find over sorted pixels (Berger, Geraud, Levillain, Widynski, Baillard & Bertin, ICIP 2007);
area, second moments and the mean step across its border are added up from the leaves to the root, in time linear in pixels.

Nodes below a least size are not kept, so that tables are small; the attributes of the others are exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.machine import compiled
from selfseg.regions.merge_tree import MergeTree, merge_in_order

N_LEVELS = 512
"""Grey levels that thresholds are taken from."""

LARGEST_IMAGE = 2**31 - 1
"""Pixels that a 32-bit number can name."""


@dataclass(frozen=True)
class ComponentTree:
    """Nodes 0..N-1, children before their parents; the last is the root, the whole image.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.component_tree import component_tree
    >>> image = np.zeros((12, 12), np.float32)
    >>> image[3:8, 3:8] = 1
    >>> component_tree(image).levels.max().item()
    1.0
    """

    nodes: NDArray[np.int32]
    """``[*S]``, the smallest kept node that holds each pixel."""
    parents: NDArray[np.int32]
    """``[N]``; the root is its own parent."""
    levels: NDArray[np.float32]
    """``[N]``, the threshold of each node, in units of the image."""
    areas: NDArray[np.float64]
    """``[N]``, pixels."""
    ellipseness: NDArray[np.float64]
    """``[N]``, size over that of the ellipse (ellipsoid) with the same second moments: 1 for an ellipse, less for any other shape.
    Stretching an axis does not change it, so that the spacing of pixels does not matter."""
    steps: NDArray[np.float64]
    """``[N]``, mean difference across the pixel faces of the border, in units of the image."""

    def best_disjoint(self, scores: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the nodes ``[n]``, none inside another, whose scores ``[N]`` have the largest sum; those of 0 or less are left out."""
        return np.flatnonzero(_best_disjoint(scores, self.parents)).astype(np.int32)

    def labels(self, chosen: NDArray[np.integer]) -> NDArray[np.int32]:
        """Return ``[*S]``: 1..n = the disjoint node of `chosen` ``[n]`` that holds the pixel, 0 = none does."""
        number = np.zeros(len(self.parents), np.int32)
        number[chosen] = np.arange(1, len(chosen) + 1)
        _inherit(number, self.parents)
        return np.asarray(number[self.nodes])

    def branches(self, scores: NDArray[np.float64]) -> tuple[NDArray[np.int32], MergeTree]:
        """Return superpixels ``[*S]`` and a binary merge tree over them: parts join what is around them, those of low score first.

        On each way from a maximum to the next fork the node of the best score stands for all of them, if it is above 0; none does
        that holds some of the best disjoint nodes. Its superpixel is what of it is in no such node further up; the last superpixel is
        the ground. A node merges with the one around it at its score, or at the largest of those inside it.

        Parameters
        ----------
        scores
            ``[N]``.
        """
        chosen = np.zeros(len(scores), np.bool_)
        chosen[self.best_disjoint(scores)] = True
        scores = np.where(_above(chosen, self.parents), 0.0, scores)
        kept = _best_of_branches(scores, self.parents)
        kept[-1] = True
        number = np.full(len(kept), -1, np.int32)
        number[kept] = np.arange(kept.sum())
        around = np.where(np.arange(len(kept)) == self.parents, -1, self.parents).astype(np.int32)
        own = number.copy()
        _inherit(own, self.parents, none=-1)
        outer = np.where(around[kept] >= 0, own[around[kept]], -1)  # the kept node around each kept node
        superpixels = own[self.nodes]
        sizes = np.bincount(superpixels.ravel(), minlength=int(kept.sum())).astype(np.float64)
        return _without_empty(superpixels, sizes, outer, scores[kept])


def component_tree(
    image: NDArray[np.floating], min_area: int = 1, n_levels: int = N_LEVELS, limits: tuple[float, float] | None = None
) -> ComponentTree:
    """Build the component tree of the bright parts of an image; of the dark ones, give its negative.

    Parameters
    ----------
    image
        ``[Y X]`` or ``[Z Y X]``, finite. Parts hang together by faces.
    min_area
        Nodes of fewer pixels are not kept.
    n_levels
        Thresholds, evenly spread over the range of the image.
    limits
        The range of the whole image, where this is a part of it; None = that of this one. Values beyond count as its ends.

    Raises
    ------
    UsageError
        If the image has no pixel, is not 2D or 3D, or is larger than 32-bit numbers can say.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.component_tree import component_tree
    >>> image = np.zeros((12, 12), np.float32)
    >>> image[3:8, 3:8] = 1
    >>> tree = component_tree(image)
    >>> sorted(tree.areas.tolist())
    [25.0, 144.0]
    """
    if image.ndim not in (2, 3) or not 0 < image.size <= LARGEST_IMAGE:
        expected = f"2 or 3 axes and 1 to {LARGEST_IMAGE} pixels"
        raise UsageError("image", expected=expected, got=str(list(image.shape)), fix="cut it into parts")
    values = np.ascontiguousarray(image, np.float32)
    low, high = (float(values.min()), float(values.max())) if limits is None else limits
    width = (high - low) / (n_levels - 1) or 1.0
    scaled = values - np.float32(low)
    scaled *= np.float32(1 / width)
    levels = np.clip(scaled, 0, n_levels - 1, out=scaled).astype(np.int16)
    del scaled
    shape = (1,) * (3 - image.ndim) + image.shape
    order = _descending(levels.ravel(), n_levels)
    parents = _link(levels.ravel(), order, shape)
    nodes, node_parents, node_levels = _number(levels.ravel(), order, parents, min_area)
    del order, parents
    sums = _add_up(values.ravel(), levels.ravel(), nodes, node_parents, shape)
    areas, shares = sums[:, 0], sums[:, 1:4] / sums[:, :1]
    covariance = np.zeros((len(sums), 3, 3))
    for column, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)), start=4):
        covariance[:, i, j] = covariance[:, j, i] = sums[:, column] / areas - shares[:, i] * shares[:, j]
    return ComponentTree(
        nodes.reshape(image.shape),
        node_parents,
        (node_levels * width + low).astype(np.float32),
        areas,
        ellipseness(areas, covariance[:, 3 - image.ndim :, 3 - image.ndim :]),
        sums[:, 11] / np.maximum(sums[:, 10], 1),
    )


def ellipseness(areas: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return size over that of the ellipse (ellipsoid) with the same second moments, ``[N]``: A / (4 pi sqrt(det)) in 2D,
    V / (4/3 pi sqrt(125 det)) in 3D.

    Parameters
    ----------
    areas
        ``[N]``, pixels.
    covariance
        ``[N d d]`` of the centres of pixels; each pixel counts as a small box, which adds 1/12.
    """
    n_dims = covariance.shape[-1]
    determinant = np.maximum(np.linalg.det(covariance + np.eye(n_dims) / 12), 1e-9)
    whole = 4 * np.pi * np.sqrt(determinant) if n_dims == 2 else 4 / 3 * np.pi * np.sqrt(125 * determinant)
    return np.asarray(areas / whole)


def _without_empty(
    superpixels: NDArray[np.int32], sizes: NDArray[np.float64], outer: NDArray[np.int32], scores: NDArray[np.float64]
) -> tuple[NDArray[np.int32], MergeTree]:
    """Number the superpixels that have pixels, and merge each node into the one around it, from the leaves on."""
    number = np.full(len(sizes), -1, np.int32)
    number[sizes > 0] = np.arange((sizes > 0).sum())
    top = number.copy()  # of each node the node of the merge tree that it has become; -1 = nothing of it is there yet
    heights = np.zeros(len(sizes))
    pairs: list[tuple[int, int]] = []
    costs: list[float] = []
    n_leaves = int((sizes > 0).sum())
    inside: list[list[int]] = [[] for _ in sizes]
    for node in range(len(sizes)):
        for child in sorted(inside[node], key=lambda one: heights[one]):
            if top[node] >= 0:
                pairs.append((int(top[child]), int(top[node])))
                costs.append(float(heights[child]))
                top[node] = n_leaves + len(pairs) - 1
            else:
                top[node] = top[child]
            heights[node] = max(heights[node], heights[child])
        heights[node] = max(heights[node], scores[node])
        if outer[node] >= 0 and top[node] >= 0:
            inside[outer[node]].append(node)
    merges = np.array(pairs, np.int32).reshape(-1, 2)
    return number[superpixels], merge_in_order(n_leaves, merges, np.array(costs), sizes[sizes > 0])


# The kernels. Pixels are numbered in C order; nodes are numbered from the leaves to the root.


@compiled()
def _descending(levels, n_levels):
    """Return the pixels from the brightest to the darkest level, in their order within a level: a counting sort."""
    start = np.zeros(n_levels + 1, np.int64)
    for level in levels:
        start[n_levels - 1 - level + 1] += 1
    for level in range(n_levels):
        start[level + 1] += start[level]
    order = np.empty(len(levels), np.int32)
    for pixel in range(len(levels)):
        place = n_levels - 1 - levels[pixel]
        order[start[place]] = pixel
        start[place] += 1
    return order


@compiled()
def find_root(root, pixel):
    """Return the root of a pixel's part in a forest of parents; ways to it are halved."""
    while root[pixel] != pixel:
        root[pixel] = root[root[pixel]]
        pixel = root[pixel]
    return pixel


@compiled()
def neighbour_steps(shape):
    """Return how far the six face neighbours of a pixel of ``[Z Y X]`` lie from it, as flat numbers."""
    plane = shape[1] * shape[2]
    return np.array([-plane, plane, -shape[2], shape[2], -1, 1])


@compiled()
def has_neighbours(pixel, shape):
    """Return which of them are inside the image."""
    depth, height, width = shape
    z, y, x = pixel // (height * width), pixel // width % height, pixel % width
    return z > 0, z < depth - 1, y > 0, y < height - 1, x > 0, x < width - 1


@compiled()
def _link(levels, order, shape):
    """Return the parent of each pixel: another of its level's part, or, of the last of these, one of the part around it."""
    parents, root = np.empty(len(levels), np.int32), np.full(len(levels), -1, np.int32)
    steps = neighbour_steps(shape)
    for pixel in order:
        parents[pixel] = root[pixel] = pixel
        inside = has_neighbours(pixel, shape)
        for side in range(6):
            if inside[side] and root[pixel + steps[side]] >= 0:
                other = find_root(root, pixel + steps[side])
                if other != pixel:
                    parents[other] = root[other] = pixel
    for i in range(len(order) - 1, -1, -1):  # from the root on: every pixel of a part points to the last of its level
        pixel = order[i]
        if levels[parents[pixel]] == levels[parents[parents[pixel]]]:
            parents[pixel] = parents[parents[pixel]]
    return parents


@compiled()
def _number(levels, order, parents, min_area):
    """Number the nodes of `min_area` pixels or more; return the node of each pixel, and the parent and level of each node."""
    areas = np.ones(len(levels), np.int32)
    last = order[-1]
    n_nodes = 0
    for pixel in order:
        if pixel != last:
            areas[parents[pixel]] += areas[pixel]
        n_nodes += pixel == last or (levels[pixel] != levels[parents[pixel]] and areas[pixel] >= min_area)
    nodes, node_parents = np.full(len(levels), -1, np.int32), np.zeros(n_nodes, np.int32)
    node_levels = np.zeros(n_nodes, np.int16)
    node = n_nodes
    for i in range(len(order) - 1, -1, -1):
        pixel = order[i]
        if pixel == last or (levels[pixel] != levels[parents[pixel]] and areas[pixel] >= min_area):
            node -= 1
            nodes[pixel], node_levels[node] = node, levels[pixel]
            node_parents[node] = nodes[parents[pixel]]
        else:
            nodes[pixel] = nodes[parents[pixel]]
    return nodes, node_parents, node_levels


@compiled()
def _add_up(values, levels, nodes, parents, shape):
    """Return ``[N 12]``: pixels; sums of z, y, x; of zz, yy, xx, zy, zx, yx; faces of the border; sum of the steps across them."""
    depth, height, width = shape
    plane = height * width
    sums = np.zeros((len(parents), 12))
    for pixel in range(len(values)):
        node = nodes[pixel]
        i, j, k = pixel // plane, pixel // width % height, pixel % width
        z, y, x = float(i), float(j), float(k)
        row = sums[node]
        row[0] += 1
        row[1] += z
        row[2] += y
        row[3] += x
        row[4] += z * z
        row[5] += y * y
        row[6] += x * x
        row[7] += z * y
        row[8] += z * x
        row[9] += y * x
        for axis in range(3):
            if axis == 0:
                inside, other = i < depth - 1, pixel + plane
            elif axis == 1:
                inside, other = j < height - 1, pixel + width
            else:
                inside, other = k < width - 1, pixel + 1
            if not inside or levels[pixel] == levels[other]:
                continue
            high, low = (pixel, other) if levels[pixel] > levels[other] else (other, pixel)
            step = values[high] - values[low]
            sums[nodes[high], 10] += 1
            sums[nodes[low], 10] -= 1
            sums[nodes[high], 11] += step
            sums[nodes[low], 11] -= step
    for node in range(len(parents) - 1):
        sums[parents[node]] += sums[node]
    return sums


@compiled()
def _best_disjoint(scores, parents):
    """Return for each node whether it is one of the disjoint nodes with the largest sum of scores."""
    n_nodes = len(parents)
    best, chosen = np.zeros(n_nodes), np.zeros(n_nodes, np.bool_)
    for node in range(n_nodes):
        if scores[node] > best[node]:
            best[node], chosen[node] = scores[node], True
        if parents[node] != node:
            best[parents[node]] += best[node]
    covered = np.zeros(n_nodes, np.bool_)
    for node in range(n_nodes - 1, -1, -1):
        above = parents[node] != node and covered[parents[node]]
        covered[node] = above or chosen[node]
        chosen[node] = chosen[node] and not above
    return chosen


@compiled()
def _above(chosen, parents):
    """Return for each node whether it holds a chosen one, and is none itself."""
    above = np.zeros(len(parents), np.bool_)
    for node in range(len(parents) - 1):
        if chosen[node] or above[node]:
            above[parents[node]] = True
    return above


@compiled()
def _inherit(values, parents, none=0):
    """Give every node without a value that of the nearest node around it that has one, in place."""
    for node in range(len(parents) - 2, -1, -1):
        if values[node] == none:
            values[node] = values[parents[node]]


@compiled()
def _best_of_branches(scores, parents):
    """Return for each node whether it has the best score, above 0, of its branch: of the nodes between two forks."""
    n_nodes = len(parents)
    forks, carried = np.zeros(n_nodes, np.int32), np.full(n_nodes, -1, np.int32)
    kept = np.zeros(n_nodes, np.bool_)
    for node in range(n_nodes):
        best = carried[node] if forks[node] == 1 else -1
        if scores[node] > 0 and (best < 0 or scores[node] > scores[best]):
            best = node
        carried[node] = best
        above = parents[node]
        if above == node:
            if best >= 0:
                kept[best] = True
        elif best >= 0:
            forks[above] += 1
            if forks[above] == 1:
                carried[above] = best
            else:  # a fork: what came from below is settled
                kept[best] = True
                if carried[above] >= 0:
                    kept[carried[above]] = True
                carried[above] = -1
    return kept
