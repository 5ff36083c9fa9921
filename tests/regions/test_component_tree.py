import numpy as np
import pytest
from scipy.ndimage import label as connected

from selfseg.core.errors import UsageError
from selfseg.regions.component_tree import component_tree, ellipseness


def members(tree):
    """The pixels of each node, from the pixels' own nodes and the parents."""
    own = [set(np.flatnonzero(tree.nodes.ravel() == node).tolist()) for node in range(len(tree.parents))]
    for node, parent in enumerate(tree.parents.tolist()):
        if parent != node:
            assert parent > node
            own[parent] |= own[node]
    return own


def parts_at_all_thresholds(image, min_area=1):
    """Every connected part of {image >= t}, for every t: pixels, mean step over the faces of its border."""
    found = {}
    for threshold in np.unique(image):
        parts, count = connected(image >= threshold)
        for part in range(1, count + 1):
            pixels = np.argwhere(parts == part)
            if len(pixels) < min_area:
                continue
            inside, steps = {tuple(p) for p in pixels.tolist()}, []
            for pixel in inside:
                for axis in range(image.ndim):
                    for side in (-1, 1):
                        other = tuple(p + side * (i == axis) for i, p in enumerate(pixel))
                        within = all(0 <= p < n for p, n in zip(other, image.shape, strict=True))
                        if within and other not in inside:
                            steps.append(float(image[pixel] - image[other]))
            flat = frozenset(int(np.ravel_multi_index(p, image.shape)) for p in inside)
            found[flat] = np.mean(steps) if steps else 0.0
    return found


@pytest.mark.parametrize("shape", [(9, 11), (4, 5, 6), (1, 17)])
@pytest.mark.parametrize("min_area", [1, 4])
def test_nodes_are_the_connected_parts_at_all_thresholds(shape, min_area):
    image = np.random.default_rng(0).integers(0, 7, shape).astype(np.float32)
    tree, wanted = component_tree(image, min_area, 7), parts_at_all_thresholds(image, min_area)
    sets = [frozenset(one) for one in members(tree)]
    assert set(sets) == set(wanted) and len(sets) == len(set(sets))
    for pixels, area, step, level in zip(sets, tree.areas, tree.steps, tree.levels, strict=True):
        assert area == len(pixels)
        assert step == pytest.approx(wanted[pixels])
        assert level == pytest.approx(min(image.ravel()[list(pixels)]))


def test_ellipseness_is_area_over_that_of_the_ellipse_with_the_same_moments():
    y, x = np.mgrid[:60, :80]
    for shape, least, most in (
        (((y - 30) / 25) ** 2 + ((x - 40) / 30) ** 2 < 1, 0.99, 1.01),
        (abs(y - x) < 3, 0.0, 0.96),
    ):
        tree = component_tree(shape.astype(np.float32), 10)
        chosen = tree.best_disjoint(np.where(tree.areas == shape.sum(), 1.0, 0.0))
        place = np.argwhere(shape)
        away = place - place.mean(0)
        covariance = sum(np.outer(one, one) for one in away) / len(place) + np.eye(2) / 12
        equation = len(place) / (4 * np.pi * np.sqrt(np.linalg.det(covariance)))
        assert tree.ellipseness[chosen[0]] == pytest.approx(equation)
        assert least < equation < most
    ball = sum((axis - 12) ** 2 for axis in np.mgrid[:25, :25, :25]) < 100
    tree = component_tree(np.repeat(ball, 3, 0).astype(np.float32), 10)  # stretched: an ellipsoid all the same
    assert tree.ellipseness[tree.areas == 3 * ball.sum()] == pytest.approx(1, abs=0.01)
    assert len(ellipseness(np.zeros(0), np.zeros((0, 2, 2)))) == 0


def best_sum(node, children, scores):
    below = sum(best_sum(child, children, scores) for child in children[node])
    return max(scores[node], below, 0.0)


def test_the_best_disjoint_nodes_have_the_largest_sum_of_scores():
    rng = np.random.default_rng(1)
    tree = component_tree(rng.random((20, 20)).astype(np.float32), 3)
    scores = rng.normal(0, 1, len(tree.parents))
    children = [[c for c in range(node) if tree.parents[c] == node] for node in range(len(scores))]
    chosen = tree.best_disjoint(scores)
    assert scores[chosen].sum() == pytest.approx(best_sum(len(scores) - 1, children, scores))
    sets = members(tree)
    for i, one in enumerate(chosen):
        assert all(not sets[one] & sets[other] for other in chosen[:i])
    labels = tree.labels(chosen)
    for number, node in enumerate(chosen, 1):
        assert set(np.flatnonzero(labels.ravel() == number).tolist()) == sets[node]


def test_branches_join_what_is_around_them_those_of_low_score_first():
    y, x = np.mgrid[:40, :60]
    image = sum(h * ((y - 20) ** 2 + (x - c) ** 2 < 36) for h, c in ((1.0, 10), (3.0, 30), (2.0, 50))).astype(
        np.float32
    )
    tree = component_tree(image, 5)
    superpixels, merges = tree.branches(np.where(tree.areas < 200, tree.steps * np.sqrt(tree.areas), 0.0))
    assert merges.n_leaves == 4
    for n_regions, seen in ((4, [1, 2, 3]), (3, [2, 3]), (2, [3])):
        cut = merges.cut(n_regions=n_regions)[superpixels]
        ground = cut[0, 0]
        assert [value for value in (1, 2, 3) if cut[image == value][0] != ground] == seen
    assert merges.cut(n_regions=1).max() == 0


def test_a_tree_within_limits_is_that_of_the_whole_image():
    image = np.random.default_rng(2).random((30, 30)).astype(np.float32)
    whole, part = (
        component_tree(image, n_levels=16),
        component_tree(image[:20], n_levels=16, limits=(image.min(), image.max())),
    )
    assert set(part.levels.tolist()) <= set(whole.levels.tolist())


def test_what_is_no_image_is_refused():
    for image in (np.zeros(5), np.zeros((0, 4)), np.zeros((2, 2, 2, 2))):
        with pytest.raises(UsageError, match="2 or 3 axes"):
            component_tree(image)
