import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.refine.hierarchy import hierarchy


def blobs(shape=(48, 64), classes=4, seed=0):
    """Smooth random fields through a softmax: probabilities [K *S] with curved boundaries."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    logits = np.stack([gaussian_filter(rng.normal(size=shape), 5) for _ in range(classes)]) * 150
    e = np.exp(logits - logits.max(0))
    return (e / e.sum(0)).astype(np.float32)


def nested(fine, coarse):
    return len(np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1).T) == len(np.unique(fine))


@pytest.mark.parametrize("shape", [(48, 64), (10, 24, 30)])
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_the_finest_cut_has_every_boundary_of_the_class_map(shape, channels):
    p = blobs(shape)
    image = np.random.default_rng(1).random((channels, *shape)).astype(np.float32) if channels else None
    tree = hierarchy(p, image, superpixel_size=60)
    assert nested(tree.superpixels, p.argmax(0))
    assert len(np.unique(tree.cut(n_regions=1))) == 1
    assert len(np.unique(tree.cut(n_regions=7))) == 7
    assert nested(tree.cut(n_regions=7), tree.cut(n_regions=3))
    assert tree.n_superpixels == tree.cut(level=-1.0).max() + 1


def test_certain_classes_come_back_at_low_levels():
    truth = np.zeros((40, 40), int)
    truth[:, 20:], truth[25:, :20] = 1, 2
    p = np.eye(3)[truth].transpose(2, 0, 1)
    tree = hierarchy(p, superpixel_size=50)
    assert tree.n_superpixels > 20
    cut = tree.cut(n_regions=3)
    assert nested(cut, truth) and nested(truth, cut)
    np.testing.assert_array_equal(tree.cut(level=0.0), cut)


def test_within_a_class_the_image_decides():
    p = np.zeros((2, 40, 60))
    p[0, :, :40] = p[1, :, 40:] = 1
    image = np.zeros((1, 40, 60))
    image[:, :, 20:40] = 0.4
    cut = hierarchy(p, image, superpixel_size=50).cut(n_regions=3)
    assert len(np.unique(cut[:, :19])) == len(np.unique(cut[:, 21:39])) == len(np.unique(cut[:, 41:])) == 1
    assert len({cut[5, 5], cut[5, 30], cut[5, 50]}) == 3
    two = hierarchy(p, image, superpixel_size=50).cut(n_regions=2)
    np.testing.assert_array_equal(two, np.broadcast_to(np.arange(60) >= 40, (40, 60)))


def test_mask_and_own_superpixels():
    p, mask = blobs(), np.ones((48, 64), bool)
    mask[:10] = False
    tree = hierarchy(p, mask=mask, superpixel_size=60)
    np.testing.assert_array_equal(tree.superpixels < 0, ~mask)
    np.testing.assert_array_equal(tree.cut(n_regions=2) < 0, ~mask)
    own = (np.arange(48)[:, None] // 12) * 4 + np.arange(64) // 16
    np.testing.assert_array_equal(hierarchy(p, superpixels=own).superpixels, own)


def test_renaming_classes_changes_nothing():
    p = blobs()
    np.testing.assert_array_equal(hierarchy(p).cut(n_regions=6), hierarchy(p[[2, 0, 3, 1]]).cut(n_regions=6))


def test_one_pixel_one_class_and_nan():
    assert hierarchy(np.ones((1, 1, 1))).cut(n_regions=5).tolist() == [[0]]
    p = np.full((2, 8, 8), np.nan)
    assert np.isfinite(hierarchy(p, np.full((3, 8, 8), np.nan)).tree.altitudes).all()


def test_wrong_input_is_named():
    p = blobs()
    for bad in (
        {"image": np.zeros((3, 4, 4))},
        {"superpixels": np.zeros((4, 4), int)},
        {"mask": np.zeros((48, 64), bool)},
    ):
        with pytest.raises(UsageError, match="expected"):
            hierarchy(p, **bad)
    with pytest.raises(UsageError, match="classes first"):
        hierarchy(np.zeros((4, 4)))


def upright(shape, column):
    """Contours of one upright line, at 8 angles."""
    planes = np.zeros((8, *shape))
    planes[4, :, column - 1 : column + 1] = 1.0
    return planes


def test_contours_and_the_gradient_of_the_classes_are_both_cues():
    shape = (30, 40)
    p = np.zeros((2, *shape))
    p[0, :14], p[1, 14:] = 1, 1  # the classes meet in row 14, the image's contour is in column 25
    tree = hierarchy(p, np.zeros((1, *shape)), contours=upright(shape, 25))
    quarters = tree.cut(n_regions=4)
    truth = (np.arange(30)[:, None] >= 14) * 2 + (np.arange(40) >= 25)
    assert nested(quarters, truth) and nested(truth, quarters)
    alone = hierarchy(p, np.zeros((1, *shape)), contours=upright(shape, 25), learned_weight=0.0)
    assert alone.n_superpixels == 2


def test_contours_over_given_superpixels_and_within_a_mask():
    shape = (12, 20)
    superpixels = np.arange(12)[:, None] // 6 * 4 + np.arange(20) // 5
    mask = np.ones(shape, bool)
    mask[:, 15:] = False
    p = np.random.default_rng(0).random((3, *shape))
    tree = hierarchy(p / p.sum(0), superpixels=superpixels, mask=mask, contours=upright(shape, 10))
    np.testing.assert_array_equal(tree.superpixels, np.where(mask, superpixels, -1))


def test_contours_of_another_image_are_named():
    with pytest.raises(UsageError, match="contours: expected"):
        hierarchy(blobs(), contours=np.zeros((8, 5, 5)))
