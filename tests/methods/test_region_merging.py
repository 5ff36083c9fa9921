import numpy as np
import pytest
import torch

from selfseg.core.errors import UsageError
from selfseg.methods.base import Batch, build_config, find_method
from selfseg.methods.region_merging import RegionMerging


def make(n_channels=3, n_dims=2, **values):
    return RegionMerging(build_config("region_merging", **values), n_channels, n_dims)


def fit(method, images, valid=None):
    for image in images:
        assert list(method.steps(Batch(image[None], None if valid is None else valid[None]))) == []
    method.finish(lambda: [])
    return method


def patches(seed=0, shape=(64, 96), channels=3):
    """Three flat tones with a little noise: left, middle, right thirds along the last axis."""
    rng = np.random.default_rng(seed)
    tone = np.array([0.15, 0.5, 0.85])[np.minimum(np.arange(shape[-1]) * 3 // shape[-1], 2)]
    image = np.broadcast_to(tone, (channels, *shape)) + rng.normal(0, 0.01, (channels, *shape))
    return torch.from_numpy(image.astype(np.float32))


@pytest.mark.parametrize(
    ("channels", "shape"), [(3, (64, 96)), (1, (64, 96)), (5, (64, 96)), (1, (12, 32, 48)), (3, (12, 32, 48))]
)
def test_three_tones_become_three_classes_dark_to_bright(channels, shape):
    image = patches(shape=shape, channels=channels)
    # Without texture: along a hard edge the texture window sees the edge itself.
    method = fit(make(channels, len(shape), superpixel_size=64.0, texture=0.0), [image])
    p = method.assign(image[None])
    assert p.shape == (1, 3, *shape) and p.dtype == torch.float32
    torch.testing.assert_close(p.sum(1), torch.ones(1, *shape))
    labels = p.argmax(1)[0]
    middle = [labels[..., i].unique().tolist() for i in (shape[-1] // 6, shape[-1] // 2, 5 * shape[-1] // 6)]
    assert middle == [[0], [1], [2]]


def test_classes_hold_in_images_that_were_not_seen():
    method = fit(make(), [patches(0), patches(1)])
    flipped = patches(2).flip(-1)
    labels = method.assign(flipped[None]).argmax(1)[0]
    assert [int(labels[5, x]) for x in (10, 48, 90)] == [2, 1, 0]


@pytest.mark.parametrize("classes", [1, 2, 5, 40])
def test_the_number_of_classes_asked_for_is_kept_exactly(classes):
    image = torch.rand(3, 60, 90, generator=torch.Generator().manual_seed(0))
    method = make(n_classes=classes)
    assert method.n_classes == classes
    fit(method, [image])
    p = method.assign(image[None])
    assert method.n_classes == classes == p.shape[1]
    torch.testing.assert_close(p.sum(1), torch.ones(1, 60, 90))


@pytest.mark.parametrize("classes", [None, 4])
@pytest.mark.parametrize("shape", [(1, 1), (40, 50), (1, 37), (1, 1, 1)])
def test_one_colour_is_one_class(classes, shape):
    image = torch.full((3, *shape), 0.4)
    method = fit(make(3, len(shape), n_classes=classes), [image])
    p = method.assign(image[None])
    assert p.shape[1] == (classes or 1)
    assert torch.isfinite(p).all() and len(p.argmax(1).unique()) == 1


def test_nan_and_infinity_do_not_spread():
    image = patches()
    image[:, 3, 4], image[0, 10, 10], image[1, 11, 11] = torch.nan, torch.inf, -torch.inf
    assert torch.isfinite(fit(make(), [image]).assign(image[None])).all()


def test_padding_changes_nothing():
    image = patches()
    padded, valid = torch.full((3, 80, 120), 0.7), torch.zeros(80, 120, dtype=torch.bool)
    padded[:, :64, :96], valid[:64, :96] = image, True
    torch.testing.assert_close(fit(make(), [padded], valid).centres, fit(make(), [image]).centres)


def test_masked_pixels_do_not_count():
    image, valid = patches(), torch.ones(64, 96, dtype=torch.bool)
    valid[20:40, 10:80] = False
    other = image.clone()
    other[:, 24:36, 14:76] = torch.nan
    assert len(fit(make(), [other], valid).centres) == 3


def test_state_survives_in_the_middle_and_at_the_end():
    images = [patches(0), patches(1).flip(-1)]
    straight = fit(make(), images)
    first = make()
    list(first.steps(Batch(images[0][None])))
    resumed = make()
    resumed.restore(first.state())
    fit(resumed, images[1:])
    assert torch.equal(straight.centres, resumed.centres)
    loaded = make()
    loaded.restore(straight.state())
    assert loaded.n_classes == straight.n_classes
    assert torch.equal(loaded.assign(images[0][None]), straight.assign(images[0][None]))
    with pytest.raises(RuntimeError, match="centres: expected"):
        make(n_channels=1).restore(straight.state())
    with pytest.raises(KeyError):
        make().restore({"centres": straight.centres})


def test_finish_gathers_by_itself_when_no_step_was_taken():
    method = make()
    method.finish(lambda: [Batch(patches()[None])])
    assert method.n_classes == 3


def test_its_own_tree_goes_to_the_level_of_the_classes():
    method = make()
    superpixels, tree = method.hierarchy(patches())
    assert tree.n_leaves == superpixels.max() + 1
    assert tree.labels(superpixels, level=method.config.level).max() + 1 == 3


def test_spacing_changes_the_superpixels_of_a_volume():
    image = torch.full((1, 24, 40, 40), 0.5)
    same, *_ = make(1, 3).segments(image)
    thick, *_ = make(1, 3, spacing=(5.0, 1.0, 1.0)).segments(image)
    extent = [np.mean([np.ptp(np.nonzero(s == r)[0]) + 1 for r in range(s.max() + 1)]) for s in (same, thick)]
    assert extent[1] < extent[0] / 2


def test_every_preset_works_and_is_found_by_name():
    assert find_method("region_merging") is RegionMerging
    counts = {}
    image = torch.rand(3, 12, 18, generator=torch.Generator().manual_seed(1))
    image = torch.nn.functional.interpolate(image[None], (96, 144), mode="bilinear")[0]
    for preset in ("default", *RegionMerging.presets):
        method = RegionMerging(build_config("region_merging", preset), 3)
        _, tree, _ = method.segments(image)
        counts[preset] = tree.cut(level=method.config.level).max() + 1
        assert torch.isfinite(fit(method, [image]).assign(image[None])).all()
    assert counts["coarse"] < counts["default"] < counts["fine"]


def test_spacing_of_the_wrong_length_is_refused():
    with pytest.raises(UsageError, match="spacing"):
        make(1, 3, spacing=(1.0, 1.0))


def test_segments_stay_in_the_memo_of_their_image_by_mask_and_options(monkeypatch):
    counted, merged = [], RegionMerging._merged
    monkeypatch.setattr(RegionMerging, "_merged", lambda self, *args: counted.append(1) or merged(self, *args))
    method, image, memo = make(), patches(0), {}
    mask = torch.ones(image.shape[1:], dtype=torch.bool)
    list(method.steps(Batch(image[None], mask[None], memos=(memo,))))
    method.finish(lambda: [])
    labels = method.assign(image[None], (memo,))
    found = method.hierarchy(image, memo)[0]
    assert len(counted) == 1
    assert torch.equal(labels, method.assign(image[None])) and np.array_equal(found, method.hierarchy(image)[0])
    counted.clear()
    mask[:, :40] = False
    assert (method.segments(image, mask, memo)[0] >= 0).sum() == int(mask.sum()) and len(counted) == 1
    assert np.array_equal(method.segments(image, memo=memo)[0], found) and len(counted) == 1
    finer = make(superpixel_size=50.0)
    assert not np.array_equal(finer.segments(image, memo=memo)[0], found) and len(counted) == 2


def test_a_mask_that_is_a_rectangle_is_not_taken_for_the_whole_image():
    method, image, memo = make(), patches(0), {}
    valid = torch.zeros(1, *image.shape[1:], dtype=torch.bool)
    valid[:, 10:50, 20:70] = True
    list(method.steps(Batch(image[None], valid, memos=(memo,))))
    assert method.hierarchy(image, memo)[0].shape == image.shape[1:]
