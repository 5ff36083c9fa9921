import numpy as np
import pytest
import torch

from conftest import blobs
from selfseg import Segmenter
from selfseg.core.errors import UsageError
from selfseg.methods.base import build_config
from selfseg.methods.wnet import WNet
from selfseg.sample.stream import Batch

SMALL = {"prepare": "range", "width": 4, "depth": 2, "n_clusters": 5, "iterations": 4, "radius": 3, "patch": None}


def made(**changes):
    torch.manual_seed(0)
    return WNet(build_config("wnet", **{**SMALL, **changes}), 3)


def batch(n=2, size=24):
    pictures = np.stack([blobs(size, size, seed=seed) for seed in range(n)])
    return Batch(torch.from_numpy(pictures).movedim(-1, 1).float() / 255)


def run_steps(method, some):
    """Step as the loop does; return what each yield was called and which halves it moved."""
    optimizers, seen = method.optimizers(), []
    for name, terms in method.steps(some):
        before = {key: value.clone() for key, value in method.named_parameters()}
        optimizers[name].zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizers[name].step()
        moved = {key.split(".")[0] for key, value in method.named_parameters() if not torch.equal(value, before[key])}
        seen.append((name, set(terms), moved))
    return seen


def test_the_cut_moves_the_encoder_and_the_reconstruction_moves_both():
    seen = run_steps(made(balance=0), batch())
    assert seen == [("encoder", {"cut"}, {"encoder"}), ("both", {"reconstruction"}, {"encoder", "decoder"})]


def test_the_joint_sum_is_one_step():
    ((name, terms, moved),) = run_steps(made(alternate=False), batch())
    assert name == "both" and moved == {"encoder", "decoder"} and terms == {"cut", "balance", "reconstruction"}


def test_every_term_can_be_switched_off():
    (only,) = run_steps(made(cut=0, balance=0), batch())
    assert only[1] == {"reconstruction"}
    (only,) = run_steps(made(reconstruction=0, balance=0), batch())
    assert only[1] == {"cut"} and only[2] == {"encoder"}
    with pytest.raises(UsageError, match="nothing would be learned"):
        made(cut=0, reconstruction=0)


def test_losses_are_per_element():
    """Neither grows with the size of the image or the number of segments: each lies between 0 and about 1."""
    for changes, size in (({}, 16), ({"n_clusters": 20}, 40)):
        generator = made(balance=0, **changes).steps(batch(size=size))
        for _, terms in generator:
            for value in terms.values():
                assert 0 <= float(value.detach()) < 2


def test_the_first_response_has_unit_variance_and_no_constant():
    method = made()
    next(method.steps(batch()))
    response = method.encoder(batch().images)
    torch.testing.assert_close(response.std((0, 2, 3), correction=0), torch.ones(5), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(response.mean((0, 2, 3)), torch.zeros(5), rtol=0, atol=1e-3)
    plain = made(contrast_start=False)
    before = plain.encoder.head.weight.clone()
    next(plain.steps(batch()))
    assert torch.equal(plain.encoder.head.weight, before)


def test_the_step_size_falls_as_in_the_paper():
    method = made(decay_every=2, decay=0.1, learning_rate=0.003)
    optimizers, sizes = method.optimizers(), []
    for _ in range(5):
        list(method.steps(batch()))
        sizes.append(optimizers["both"].param_groups[0]["lr"])
    assert sizes == pytest.approx([0.003, 0.003, 0.0003, 0.0003, 0.00003])
    assert optimizers["encoder"].param_groups[0]["lr"] == sizes[-1]


def test_the_paper_preset_holds_the_published_constants():
    config = build_config("wnet", "paper")
    assert (config.width, config.depth, config.dropout, config.norm) == (64, 4, 0.65, "batch")
    assert (config.batch_size, config.learning_rate, config.decay_every, config.iterations) == (10, 0.003, 1000, 50000)
    assert (config.radius, config.sigma_space, round(config.sigma_intensity * 255, 6)) == (5, 4, 10)
    assert config.alternate and config.optimizer == "sgd" and not config.balance and not config.contrast_start
    count = sum(p.numel() for p in WNet(config, 3).parameters())
    assert count == pytest.approx(12.27e6, abs=0.005e6)


def test_a_picture_of_three_tones_falls_into_them():
    y, x = np.mgrid[:48, :64]
    truth = np.where(x < 32, 0, 1)
    truth[(y - 24) ** 2 + (x - 32) ** 2 < 144] = 2
    rng = np.random.default_rng(0)
    picture = np.array([[60, 60, 60], [120, 130, 110], [220, 200, 190]])[truth] + rng.normal(0, 5, (48, 64, 3))
    options = {**SMALL, "width": 8, "iterations": 60, "up": "linear"}
    model = Segmenter("wnet", n_classes=3, options=options).fit(np.clip(picture, 0, 255).astype(np.uint8))
    labels = model.predict(np.clip(picture, 0, 255).astype(np.uint8)).labels
    right = sum(max(int(((labels == k) & (truth == t)).sum()) for t in range(3)) for k in (1, 2, 3))
    assert right / truth.size > 0.95


def test_windows_make_batches_of_images_of_different_sizes():
    pictures = [blobs(30, 50, seed=1), blobs(41, 22, seed=2)]
    model = Segmenter("wnet", options={**SMALL, "patch": 16, "batch_size": 2}).fit(pictures)
    assert [result.labels.shape for result in model.predict(pictures)] == [(30, 50), (41, 22)]


def test_windows_of_a_volume_have_as_many_voxels_as_the_square():
    volume = Batch(torch.rand(2, 1, 6, 30, 40))
    method = WNet(build_config("wnet", **{**SMALL, "patch": 27}), 1, n_dims=3)
    assert method._side(27) == 8  # 27 x 27 = 729 = 9 ^ 3, and two poolings want a multiple of 4
    assert WNet(build_config("wnet", **{**SMALL, "patch": 27}), 1)._side(27) == 28
    torch.manual_seed(0)
    for name, terms in method.steps(volume):
        assert all(torch.isfinite(term) for term in terms.values()), name


def test_classes_decide_the_segments_where_these_are_not_given():
    assert build_config("wnet").k == 8
    assert build_config("wnet", n_classes=3).k == 3 and build_config("wnet", n_classes=1).k == 2
    assert build_config("wnet", n_classes=3, n_clusters=5).k == 5
    assert build_config("wnet", "nuclei").k == 2 and build_config("wnet", "paper").k == 20
    with pytest.raises(UsageError, match="at most n_clusters=2 classes"):
        build_config("wnet", n_classes=3, n_clusters=2)
