import numpy as np
import pytest
import torch

from conftest import blobs
from selfseg import Segmenter
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.losses.reconstruction import reconstruction
from selfseg.methods.base import build_config
from selfseg.methods.sp_wnet import SPWNet
from selfseg.sample.stream import Batch

SMALL = {
    "prepare": "range",
    "width": 4,
    "depth": 2,
    "n_features": 6,
    "iterations": 4,
    "n_superpixels": 60,
    "patch_sides": (8, 12),
    "patches_of_largest": 1,
}


def made(**changes):
    torch.manual_seed(0)
    return SPWNet(build_config("sp_wnet", **{**SMALL, **changes}), 3)


def batch(n=2, size=24):
    pictures = np.stack([blobs(size, size, seed=seed) for seed in range(n)])
    return Batch(torch.from_numpy(pictures).movedim(-1, 1).float() / 255, indices=tuple(range(n)))


def terms_of(method, some=None):
    ((name, terms),) = list(method.steps(some or batch()))
    assert name == "both"
    return {key: float(value.detach()) for key, value in terms.items()}


@pytest.mark.parametrize(("width", "depth", "millions"), [(64, 4, 19.24), (32, 4, 4.85), (16, 3, 0.33)])
def test_sizes_of_the_published_networks(width, depth, millions):
    config = build_config("sp_wnet", "cheetah", width=width, depth=depth)
    assert sum(p.numel() for p in SPWNet(config, 3).parameters()) == pytest.approx(millions * 1e6, abs=0.005e6)


def test_presets_hold_the_constants_of_the_demos():
    cheetah, hanyu = build_config("sp_wnet", "cheetah"), build_config("sp_wnet", "hanyu")
    assert (cheetah.beta_rc_image, cheetah.beta_rc_patches, cheetah.beta_sim, cheetah.beta_con) == (0.5, 1, 0.1, 0.1)
    assert (hanyu.beta_rc_image, hanyu.beta_rc_patches, hanyu.beta_sim, hanyu.beta_con) == (None, 1, 0.1, 0.1)
    assert (cheetah.tau_con, hanyu.tau_con) == (1, 0)
    assert (cheetah.iterations, hanyu.iterations) == (15 * 8, 10 * 8)
    for config in (cheetah, hanyu):
        assert config.beta_cut is None and config.beta_balance is None and not config.response_norm
        assert (config.n_clusters, config.width, config.depth, config.norm, config.learning_rate) == (
            32,
            64,
            4,
            "batch",
            1e-3,
        )
        assert (config.n_superpixels, config.compactness, config.superpixel_sigma) == (12000, 10, 1)
    assert [s.count for s in SPWNet(build_config("sp_wnet", "cheetah", width=2), 3).shapes] == [9, 6, 6, 4]


def test_every_weight_scales_its_term_and_none_switches_it_off():
    betas = {
        "beta_rc_image": 1.0,
        "beta_rc_patches": 1.0,
        "beta_cut": 1.0,
        "beta_sim": 1.0,
        "beta_con": 1.0,
        "beta_balance": 1.0,
    }
    plain = terms_of(made(**betas))
    assert set(plain) == {name.removeprefix("beta_") for name in betas}
    doubled = terms_of(made(**{name: 2.0 for name in betas}))
    for name, value in plain.items():
        assert 0 < value < 10
        assert doubled[name] == pytest.approx(2 * value, rel=1e-5)
    for name in betas:
        assert set(terms_of(made(**{**betas, name: None}))) == set(plain) - {name.removeprefix("beta_")}
    with pytest.raises(UsageError, match="both empty"):
        made(beta_rc_image=None, beta_rc_patches=None)


@pytest.mark.parametrize("superpixels", ["slic", "watershed", "none"])
def test_terms_are_means_over_images(superpixels):
    """The origin adds a running sum for each image, so that the first of n images counts n times."""
    betas = {"beta_rc_patches": None, "beta_cut": 1.0, "response_norm": False, "contrast_start": False}
    both = terms_of(made(**betas, superpixels=superpixels))
    each = []
    for b in range(2):
        whole = batch()
        each.append(terms_of(made(**betas, superpixels=superpixels), Batch(whole.images[b : b + 1])))
    for name, value in both.items():
        assert value == pytest.approx((each[0][name] + each[1][name]) / 2, rel=1e-4)


def test_reconstruction_is_that_of_the_softmax_alone():
    method = made(beta_rc_image=1.0)
    images = batch().images
    rebuilt = method.decoder(method.features(images).softmax(1))
    expected = float(reconstruction(rebuilt, images).detach())
    assert terms_of(made(beta_rc_image=1.0, contrast_start=False))["rc_image"] == pytest.approx(expected, rel=1e-4)


def test_padding_has_no_say():
    """Images of two sizes in one batch give what each gives alone, but for the border that the network itself sees."""
    options = {"beta_rc_patches": None, "beta_rc_image": 1.0, "depth": 1, "norm": "none"}
    small = batch(1, 24).images
    padded = torch.full((1, 3, 40, 40), 7.0)
    padded[..., :24, :24] = small
    valid = torch.zeros(1, 40, 40, dtype=torch.bool)
    valid[:, :24, :24] = True
    one, other = made(**options), made(**options)
    alone = one.graphs.of(small[0]).regions.labels
    within = other.graphs.of(padded[0], valid[0]).regions.labels
    assert torch.equal(within[:24, :24], alone)
    assert (within[24:] == -1).all() and (within[:, 24:] == -1).all()
    assert torch.isfinite(torch.tensor(list(terms_of(other, Batch(padded, valid)).values()))).all()


@pytest.mark.parametrize("label", ["mean", "majority"])
@pytest.mark.parametrize("superpixels", ["slic", "watershed"])
def test_labels_are_constant_over_superpixels_of_images_never_seen(superpixels, label):
    model = Segmenter("sp_wnet", options={**SMALL, "superpixels": superpixels, "region_label": label}).fit(
        blobs(seed=1)
    )
    new = blobs(31, 47, seed=9)
    result = model.predict(new)
    image = torch.from_numpy(model.preparation_.apply(Image(new, "YXC")).array)
    labels = model.method_.graphs.of(image).regions.labels.numpy()
    for r in range(labels.max() + 1):
        assert len(np.unique(result.labels[labels == r])) == 1
        assert np.ptp(result.probabilities[:, labels == r], axis=1).max() < 1e-6


def test_superpixels_are_made_once_an_image(monkeypatch):
    from selfseg.methods import _sp_wnet_graph as graph

    calls = []
    real = graph.make_superpixels
    monkeypatch.setattr(graph, "make_superpixels", lambda *given: calls.append(1) or real(*given))
    model = Segmenter("sp_wnet", options=SMALL).fit([blobs(seed=1), blobs(seed=2)])
    assert len(calls) == 2
    model.predict(blobs(seed=3))
    assert len(calls) == 3
    assert not any("regions" in name or "labels" in name for name in model.method_.state())


def test_patches_are_redrawn_or_drawn_once():
    inside = [30, 40]
    torch.manual_seed(0)
    fresh = made(redraw=True)
    assert fresh._places(inside, 0, seed=1) != fresh._places(inside, 0, seed=2)
    pooled = made(redraw=False, patch_batches=2)
    assert pooled._places(inside, 0, seed=1) == pooled._places(inside, 0, seed=2) != pooled._places(inside, 1, seed=1)
    again = made(redraw=False, patch_batches=2)
    again.restore(pooled.state())
    seen = []
    for method in (pooled, again):
        for _ in range(3):
            list(method.steps(batch()))
        seen.append(method._places(inside, 0, seed=1))
    assert seen[0] == seen[1]


def test_patches_keep_to_their_window():
    method = made(patch_window=(0.5, 1.0, 0.0, 0.5))
    for places in method._places([40, 60], 0, seed=1):
        assert all(p.start[0] >= 20 and p.start[1] + p.sides[1] <= 30 for p in places)
    for wrong in ((0.5, 0.2, 0, 1), (0, 1), (0, 2, 0, 1)):
        with pytest.raises(UsageError):
            made(patch_window=wrong)


def test_the_nearest_neighbour_alone_can_be_asked_for():
    values = {tau: terms_of(made(tau_con=tau, beta_con=1.0))["con"] for tau in ("nearest", -1e7, 0.0, 1e7, "farthest")}
    assert values["nearest"] == pytest.approx(values[-1e7], rel=1e-3)
    assert values["farthest"] == pytest.approx(values[1e7], rel=1e-3)
    assert len({round(v, 6) for v in values.values()}) == 3


def three_tones():
    y, x = np.mgrid[:48, :64]
    truth = np.where(x < 32, 0, 1)
    truth[(y - 24) ** 2 + (x - 32) ** 2 < 144] = 2
    rng = np.random.default_rng(0)
    picture = np.array([[60, 60, 60], [120, 130, 110], [220, 200, 190]])[truth] + rng.normal(0, 5, (48, 64, 3))
    return np.clip(picture, 0, 255).astype(np.uint8), truth


@pytest.mark.parametrize("superpixels", ["slic", "none"])
def test_a_picture_of_three_tones_falls_into_them(superpixels):
    picture, truth = three_tones()
    options = {
        **SMALL,
        "width": 8,
        "iterations": 40,
        "superpixels": superpixels,
        "superpixel_size": 16.0,
        "n_superpixels": None,
    }
    labels = Segmenter("sp_wnet", n_classes=3, options=options).fit(picture).predict(picture).labels
    right = sum(max(int(((labels == k) & (truth == t)).sum()) for t in range(3)) for k in (1, 2, 3))
    assert right / truth.size > 0.9


def test_volumes_with_thick_slices():
    volume = np.repeat(blobs(24, 28)[None], 5, 0)
    options = {**SMALL, "spacing": (4.0, 1.0, 1.0), "patch_sides": (4, 8)}
    result = (
        Segmenter("sp_wnet", n_classes=3, options=options).fit(Image(volume, "ZYXC")).predict(Image(volume, "ZYXC"))
    )
    assert result.labels.shape == (5, 24, 28) and set(np.unique(result.labels)) == {1, 2, 3}
    with pytest.raises(UsageError, match="spacing"):
        Segmenter("sp_wnet", options=options).fit(blobs())


def test_dead_labels_are_dropped_and_the_merge_tree_is_over_superpixels():
    picture, _ = three_tones()
    model = Segmenter("sp_wnet", options={**SMALL, "iterations": 20}).fit(picture)
    result = model.predict(picture)
    assert all(item.area_share > 0 for item in result.table.classes)
    tree = result.hierarchy
    prepared = torch.from_numpy(model.preparation_.apply(Image(picture, "YXC")).array)
    assert np.array_equal(tree.superpixels, model.method_.graphs.of(prepared).regions.labels.numpy())
    assert len(np.unique(tree.cut(n_regions=5))) == 5


def test_what_lies_beyond_the_border_is_mirrored_or_nothing():
    """A picture continued by its mirror image gives the same features in its middle as the picture alone with a mirrored border."""
    image = batch(1, 16).images
    frame = 2 ** (SMALL["depth"] + 1)
    turn = torch.arange(-frame, 16 + frame) % 32
    turn = torch.where(turn < 16, turn, 31 - turn)
    wider = image[:, :, turn][..., turn]
    options = {"norm": "none", "response_norm": False}
    mirrored, zeros = made(border="mirror", **options).eval(), made(border="zeros", **options).eval()
    middle = (..., slice(frame, -frame), slice(frame, -frame))
    torch.testing.assert_close(mirrored.features(image), zeros.features(wider)[middle])
    torch.testing.assert_close(mirrored.features(image, framed=False), zeros.features(image))
    assert not torch.allclose(mirrored.features(image), zeros.features(image), atol=1e-4)


def test_warm_up_raises_the_terms_of_the_segments_alone():
    method, plain = made(warm_up=4), made()
    for step in range(6):
        # The networks are not trained here: only the weights change.
        rising, whole = terms_of(method), terms_of(plain)
        for name in ("sim", "con"):
            assert rising[name] == pytest.approx(min(1, step / 4) * whole[name], rel=1e-4, abs=1e-7)
        assert rising["rc_image"] == pytest.approx(whole["rc_image"], rel=1e-4)
