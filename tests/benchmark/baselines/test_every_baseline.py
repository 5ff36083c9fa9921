"""The contract, for every baseline that is found: a new file in baselines/ is tested here without being named."""

import numpy as np
import pytest

from conftest import blobs
from selfseg.benchmark.baselines._base import baseline_names, find_baseline
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image

EXACT = {"k_means", "ncut", "otsu", "random_walker", "slic_merge"}
"""Baselines that give as many classes as they are asked for."""

ONE_SCALE = {
    *("bright_outliers", "hysteresis", "one_region", "otsu_polarity", "otsu_smooth", "otsu_watershed", "tophat_otsu")
}
"""Baselines without a setting that goes from fine to coarse."""

PLANES_ONLY = {"felzenszwalb", "quickshift"}

every_baseline = pytest.mark.parametrize("name", baseline_names())


def run(baseline, array, axes="YXC", n_classes=None, seed=0, **how):
    return find_baseline(baseline).segment(Image(array, axes, **how), n_classes, seed)


def all_labels(outcome):
    return [outcome.labels, *(labels for _, labels in outcome.scales)]


def check(labels, valid):
    """Ids are integers without gaps from 1 on, and 0 just where pixels are not valid."""
    assert labels.dtype.kind in "iu"
    assert labels.shape == valid.shape
    assert np.array_equal(labels > 0, valid)
    assert np.array_equal(np.unique(labels[valid]), np.arange(1, labels.max() + 1))


def test_the_baselines_of_the_table_are_found():
    wanted = {"one_region", "grid", "felzenszwalb", "mean_shift", "quickshift", "otsu_watershed", *EXACT}
    assert wanted <= set(baseline_names())


def test_an_unknown_baseline_is_refused_with_the_names_of_the_known():
    for name in ("nothing", "_pixels", "_base"):
        with pytest.raises(UsageError, match=r"expected one of bright_outliers, felzenszwalb, .*slic_merge") as caught:
            find_baseline(name)
        assert "\n" not in str(caught.value)


@every_baseline
def test_says_in_one_line_what_it_is(name):
    first = (find_baseline(name).__doc__ or "").splitlines()[0]
    assert 20 < len(first) <= 120


@every_baseline
def test_labels_of_a_photo(name):
    array = blobs()
    before = array.copy()
    for labels in all_labels(run(name, array)):
        check(labels, np.ones(array.shape[:2], bool))
    assert np.array_equal(array, before)


@every_baseline
def test_the_same_seed_gives_the_same_labels(name):
    once, again = (run(name, blobs(), seed=3) for _ in range(2))
    for one, other in zip(all_labels(once), all_labels(again), strict=True):
        assert one.tobytes() == other.tobytes()


@every_baseline
def test_scales_are_the_same_for_all_images_and_in_order(name):
    levels = [[level for level, _ in run(name, array).scales] for array in (blobs(), blobs(33, 21, seed=2))]
    assert levels[0] == levels[1]
    steps = np.diff(levels[0])
    assert (steps > 0).all() or (steps < 0).all()


@every_baseline
def test_scales_go_from_fine_to_coarse(name):
    counts = [labels.max() for _, labels in run(name, blobs(80, 120)).scales]
    assert not counts or counts[0] >= counts[-1]
    if name not in ONE_SCALE:
        assert counts[0] > counts[-1]


@every_baseline
def test_every_number_of_classes_that_is_asked_for(name):
    own = run(name, blobs()).labels
    for wanted in (1, 3, 7):
        labels = run(name, blobs(), n_classes=wanted).labels
        if name in EXACT:
            assert np.array_equal(np.unique(labels), np.arange(1, wanted + 1))
        else:
            assert np.array_equal(labels, own)
    with pytest.raises(UsageError, match="n_classes: expected 1 or more"):
        run(name, blobs(), n_classes=0)


@every_baseline
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("array", "axes"),
    [
        (np.full((12, 17, 3), 90, np.uint8), "YXC"),
        (np.full((9, 8), -3e38, np.float32), "YX"),
        (np.full((1, 1), 7.0), "YX"),
        (np.full((1, 1, 3), 7, np.uint8), "YXC"),
        (blobs(1, 40), "YXC"),
        (blobs(40, 1), "YXC"),
        (blobs(2, 2), "YXC"),
        (blobs(3, 5)[..., 0] > 99, "YX"),
        (blobs()[..., 0], "YX"),
        (blobs(channels=2).transpose(2, 0, 1), "CYX"),
        (blobs(channels=5), "YXC"),
        (blobs().astype(np.uint16) * 200, "YXC"),
        (blobs().astype(np.float32) - 300, "YXC"),
        (blobs().astype(np.int64) << 24, "YXC"),
    ],
    ids=[
        "one-colour",
        "far-below-0",
        "pixel-float",
        "pixel",
        "row",
        "column",
        "2x2",
        "bool",
        "grey",
        "2-channels",
        "5-channels",
        "16-bit",
        "float",
        "int64",
    ],
)
def test_poor_images_and_all_types(name, array, axes):
    image = Image(array, axes)
    for wanted in (None, 3):
        for labels in all_labels(find_baseline(name).segment(image, wanted, 0)):
            check(labels, np.ones(image.spatial_shape, bool))


@every_baseline
def test_pixels_that_do_not_count_are_0(name):
    array = blobs().astype(np.float32)
    array[:, 20:26] = np.nan
    array[3, 3, 1] = np.inf
    mask = np.ones(array.shape[:2], bool)
    mask[-5:] = False
    valid = mask & np.isfinite(array).all(-1)
    for wanted in (None, 3):
        for labels in all_labels(run(name, array, n_classes=wanted, valid=mask)):
            check(labels, valid)


@every_baseline
def test_islands_among_pixels_that_do_not_count(name):
    mask = np.zeros((40, 52), bool)
    mask[:, :20] = True
    mask[::6, 25::5] = True
    for wanted in (None, 3):
        labels = run(name, blobs(), n_classes=wanted, valid=mask).labels
        check(labels, mask)
        if wanted and name in EXACT - {"slic_merge"}:
            assert labels.max() == wanted


@every_baseline
def test_what_stands_in_pixels_that_do_not_count_changes_nothing(name):
    mask = np.ones((40, 52), bool)
    mask[10:15, 5:30] = False
    other = blobs()
    other[~mask] = 255 - other[~mask]
    for one, two in zip(*(all_labels(run(name, a, valid=mask)) for a in (blobs(), other)), strict=True):
        assert np.array_equal(one, two)


@every_baseline
def test_volumes(name):
    volume = np.repeat(blobs(20, 26)[None], 4, 0)
    for array, axes in ((volume, "ZYXC"), (volume[..., 0], "ZYX")):
        if name in PLANES_ONLY:
            with pytest.raises(InputError, match="expected a 2D image, got ZYX"):
                run(name, array, axes)
        else:
            for labels in all_labels(run(name, array, axes, spacing=(3.0, 1.0, 1.0))):
                check(labels, np.ones(volume.shape[:3], bool))


@every_baseline
@pytest.mark.parametrize(
    ("array", "axes"),
    [(np.full((4, 5), np.nan), "YX"), (np.zeros((0, 5)), "YX"), (np.zeros((3, 4, 5)), "TYX")],
    ids=["nan", "empty", "time"],
)
def test_what_cannot_be_segmented_is_refused_in_one_line(name, array, axes):
    with pytest.raises(InputError, match="cell_03: expected") as caught:
        run(name, array, axes, name="cell_03")
    assert "\n" not in str(caught.value)
