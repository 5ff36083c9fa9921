import json

import numpy as np
import pytest
import torch

from conftest import blobs
from selfseg import Segmenter
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.methods.base import build_config
from selfseg.methods.deep_kmeans import ALONE, GATHERING, TOGETHER, DeepKMeans
from selfseg.sample.device import Precision
from selfseg.sample.stream import Sample, Stream
from selfseg.train.loop import Training

CPU = Precision(torch.device("cpu"), bf16=False, channels_last=True, compiled=False)
SMALL = {
    "prepare": "range",
    "width": 4,
    "depth": 1,
    "n_features": 4,
    "pretrain_iterations": 4,
    "iterations": 4,
    "batch_size": 2,
}


def made(n_channels=3, **changes):
    torch.manual_seed(0)
    return DeepKMeans(build_config("deep_kmeans", **{**SMALL, **changes}), n_channels)


def pictures(n=2, size=24):
    arrays = [np.moveaxis(blobs(size, size + 4 * seed, seed=seed), -1, 0) for seed in range(n)]
    return [Sample(np.ascontiguousarray(array, np.float32) / 255) for array in arrays]


def trained(samples=None, **changes):
    method = made(**changes)
    stream = Stream(samples or pictures(), method.config.batch_size, seed=0)
    done = Training(method, stream, CPU).run()
    method.finish(stream.once)
    return method.eval(), stream, done


def run_steps(method, batch):
    """Step as the loop does; return what was yielded and which parts moved."""
    optimizers, seen = method.optimizers(), []
    for name, terms in method.steps(batch):
        before = {key: value.clone() for key, value in method.state_dict().items()}
        optimizers[name].zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizers[name].step()
        moved = {key.split(".")[0] for key, value in method.named_parameters() if not torch.equal(value, before[key])}
        seen.append((name, set(terms), moved))
    return seen


def test_the_phases_follow_each_other():
    method, batch = made(), Stream(pictures(), 2, seed=0).batch(0)
    for _ in range(4):
        assert method.phases.now == ALONE
        assert run_steps(method, batch) == [("alone", {"reconstruction"}, {"space", "decoder"})]
    assert method.phases.now == GATHERING and method.stop_reason() is None
    assert run_steps(method, batch) == []
    assert method.phases.now == TOGETHER
    for _ in range(4):
        assert method.stop_reason() is None
        before = method.space.centres.clone()
        assert run_steps(method, batch) == [("together", {"reconstruction", "distance"}, {"space", "decoder"})]
        assert not torch.equal(method.space.centres, before)
    assert "joint training is done" in method.stop_reason()


def test_the_autoencoder_stops_alone_when_its_error_is_low_enough_and_not_before():
    counts = {}
    for target in (5.0, 0.0):
        method, _, done = trained(target_error=target, pretrain_iterations=40, iterations=2)
        counts[target] = done
    assert counts == {5.0: 10 + 1 + 2, 0.0: 40 + 1 + 2}
    assert 0 < float(method.explained.unexplained) < 1


def test_centres_rest_while_the_network_steps():
    """The network's step knows the centres as constants; they move after it."""
    method, batch = made(distance=1.0, warm_up=0.0), Stream(pictures(), 2, seed=0).batch(0)
    for _ in range(5):
        run_steps(method, batch)
    generator = method.steps(batch)
    before = method.space.centres.clone()
    next(generator)
    assert torch.equal(method.space.centres, before) and not before.requires_grad
    next(generator, None)
    assert not torch.equal(method.space.centres, before)


def test_the_weight_of_the_distance_grows():
    method = made(warm_up=0.5, iterations=8, distance=1.0)
    batch = Stream(pictures(), 2, seed=0).batch(0)
    for _ in range(5):
        run_steps(method, batch)
    shares = []
    for _ in range(8):
        generator = method.steps(batch)
        terms = next(generator)[1]
        inertia = float(made_distance(method, batch))
        shares.append(float(terms["distance"].detach()) / inertia)
        list(generator)
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 1], abs=0.08)


def made_distance(method, batch):
    with torch.no_grad():
        z = method.space.at_rest(batch.images).movedim(1, -1)[batch.valid]
        nearest = (z[:, None] - method.space.centres).square().mean(-1).min(1).values
        weights = method.space.sample.weights(batch.images.movedim(1, -1)[batch.valid])
        return (nearest * weights).sum() / weights.sum()


def test_optional_terms():
    everything = {"sharpen": 0.1, "masked": 0.1, "by_size": True}
    batch = Stream(pictures(), 2, seed=0).batch(0)
    method = made(**everything)
    for _ in range(5):
        run_steps(method, batch)
    ((_, terms, _),) = run_steps(method, batch)
    assert terms == {"reconstruction", "distance", "sharpen", "masked"}
    plain = made(distance=0)
    for _ in range(5):
        run_steps(plain, batch)
    assert run_steps(plain, batch)[0][1] == {"reconstruction"}


def test_the_masked_image_is_a_sum_over_clusters():
    method, stream, _ = trained(masked=1.0)
    images = stream.batch(0).images
    with torch.no_grad():
        features = method.space(images)
        shares = method.assign(images)
        total = sum(method.decoder(features * shares[:, k : k + 1]) for k in range(method.n_classes))
        wanted = method._error(total, images, None)
        method.train()
        method.config = method.config.changed(noise=0.0)
        found = method._terms(images, None, method._weights(images))["masked"]
    assert float(found) == pytest.approx(float(wanted), rel=1e-3)


@pytest.mark.parametrize(("scale", "gain"), [("none", 0.25), ("effect", 1), ("total", 1), ("each", 1)])
def test_nothing_is_gained_by_features_of_half_the_size(scale, gain):
    method, stream, _ = trained(scale=scale)

    def inertia():
        method.space.norm.effect.zero_()
        method.space.sample.clear()
        torch.manual_seed(0)
        for batch in stream.once():
            method.space.weigh(batch.images, batch.valid, method.decoder)
            method.space.gather(batch, 500)
        method.space.begin(1.0, restarts=3, seed=0)
        return float(method.space.moving.inertia)

    before = inertia()
    for parameter in method.space.encoder.head.parameters():
        parameter.data *= 0.5
    for parameter in [method.decoder.enter.weight]:
        parameter.data *= 2  # the decoder undoes it
    assert inertia() == pytest.approx(gain * before, rel=0.02)


def test_a_small_bright_thing_keeps_a_cluster_of_its_own():
    """Nine pixels of 3,600, which a minority rule by share would throw away."""
    rng = np.random.default_rng(0)
    picture = np.where(np.arange(60)[None] < 30, 60.0, 100.0) + rng.normal(0, 3, (60, 60))
    picture[20:23, 40:43] = 250
    options = {"prepare": "range", "n_features": 8, "balance": 1.0, "noise": 0.02}
    model = Segmenter("deep_kmeans", n_classes=3, options=options).fit(picture.astype(np.uint8))
    bright = model.predict(picture.astype(np.uint8)).labels == 3
    assert bright[20:23, 40:43].all() and bright.sum() <= 30


def test_the_background_takes_no_cluster_and_no_label():
    picture = np.zeros((40, 40), np.uint8)
    y, x = np.mgrid[:40, :40]
    inside = (y - 20) ** 2 + (x - 20) ** 2 < 150
    picture[inside] = np.where(x < 20, 100, 180)[inside]
    options = {"prepare": "foreground=0,max"}
    result = Segmenter("deep_kmeans", n_classes=2, options=options).fit(picture).predict(picture)
    assert np.array_equal(result.labels > 0, inside)
    halves = [result.labels[inside & side] for side in (x < 18, x >= 22)]
    assert (halves[0] == 1).mean() > 0.9 and (halves[1] == 2).mean() > 0.9


def test_probabilities_are_student_t_of_distances_in_units_of_the_spread():
    method, stream, _ = trained()
    images = stream.batch(0).images
    q = method.assign(images)
    z, centres = method.space.at_rest(images), method.space.centres
    place = (0, slice(None), 3, 5)
    apart = [float((z[place] - centre).square().mean()) / float(method.space.moving.spread) for centre in centres]
    raw = [1 / (1 + d) for d in apart]
    assert q[place].tolist() == pytest.approx([value / sum(raw) for value in raw], rel=1e-4)


def test_the_sample_is_not_stored_once_it_was_used():
    method, _, _ = trained()
    names = set(method.state())
    assert not any("sample.features" in name or "sample.pixels" in name for name in names)
    other = made()
    other.restore(method.state())
    assert torch.equal(other.space.centres, method.space.centres)
    assert any("sample.features" in name for name in made().state())
    with pytest.raises((RuntimeError, KeyError)):
        made().restore({})


def test_the_journal_tells_of_centres_and_inertia(tmp_path):
    options = {**SMALL, "iterations": 40}
    model = Segmenter("deep_kmeans", options=options).fit(blobs(), out=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    joint = [row for row in rows if row["phase"] == 3]
    assert len(joint) == 41 and all({"inertia", "shift", "smallest"} <= set(row) for row in joint)
    assert float(model.method_.space.moving.inertia) == pytest.approx(joint[-1]["inertia"])
    assert joint[0]["inertia"] != joint[-1]["inertia"]


def test_pictures_of_before_and_of_the_rebuilt_image():
    method, stream, _ = trained(pretrain_iterations=80, n_clusters=3)
    shown = {name: picture.numpy() for name, picture in method.pictures(stream.batch(0).images[0]).items()}
    assert set(shown) == {"k-means on pixels", "before joint training", "reconstruction"}
    size = stream.batch(0).images.shape[2:]
    for name in ("k-means on pixels", "before joint training"):
        assert shown[name].shape == size and set(np.unique(shown[name])) <= {1, 2, 3}
    image = stream.batch(0).images[0].numpy()
    assert np.mean((shown["reconstruction"] - image) ** 2) < 0.5 * image.var()


def test_random_windows_and_images_of_several_sizes():
    images = [Image(blobs(30, 50, seed=1), "YXC"), Image(blobs(41, 22, seed=2), "YXC")]
    options = {**SMALL, "patch": 16, "batch_size": 2}
    model = Segmenter("deep_kmeans", options=options).fit(images)
    assert [result.labels.shape for result in model.predict(images)] == [(30, 50), (41, 22)]


def test_a_volume_is_learned_in_windows_of_its_foreground():
    rng = np.random.default_rng(0)
    volume = np.zeros((12, 20, 20), np.float32)
    volume[3:9, 5:15, 5:15] = rng.normal(100, 5, (6, 10, 10))
    volume[3:9, 5:15, 10:15] += 60
    image = Image(volume, "ZYX")
    options = {"prepare": "foreground=0,percentile=1:99.9", "patch": 8, "batch_size": 2, "balance": 1.0}
    result = Segmenter("deep_kmeans", n_classes=2, options=options).fit(image).predict(image)
    assert np.array_equal(result.labels > 0, volume > 0)
    assert (result.labels[3:9, 5:15, 11:15] == 2).mean() > 0.9 and (result.labels[3:9, 5:15, 5:9] == 1).mean() > 0.9


def test_the_flair_preset_has_a_hysteresis_unless_another_refinement_is_asked_for():
    volume = np.random.default_rng(0).normal(60, 5, (12, 12, 12)).clip(1)
    volume[4:7, 4:7, 4:7] = 120
    quick = {"pretrain_iterations": 1, "iterations": 1, "n_features": 2, "patch": 4, "n_classes": 2}
    model = Segmenter("deep_kmeans", preset="flair", options=quick).fit(Image(volume.astype(np.float32), "ZYX"))
    assert model.refine == model.fitted.refine == "hysteresis(low=0.2, high=0.8)"
    other = Segmenter("deep_kmeans", preset="flair", options=quick, refine="none")
    assert other.fit(Image(volume.astype(np.float32), "ZYX")).refine == "none"


def test_the_paper_preset_holds_the_published_constants():
    config = build_config("deep_kmeans", "paper")
    assert (config.n_clusters, config.n_features, config.batch_size, config.min_epochs) == (10, 10, 128, 50)
    assert (config.optimizer, config.pretrain_rate, config.learning_rate) == ("sgd", 0.01, 0.05)
    assert config.scale == "none" and config.memory is None and not config.balance and not config.noise
    with pytest.raises(UsageError, match="greater than 0"):
        build_config("deep_kmeans", reconstruction=0)


@pytest.mark.slow
def test_joint_training_improves_the_clusters_of_digits(monkeypatch):
    """As the paper claims on MNIST: better than k-means on the same autoencoder's features, mean of 10 seeds."""
    from conftest import ROOT

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "quality"))
    import digits

    rows = [digits.run(seed) for seed in range(10)]
    for name in ("ARI", "NMI"):
        joint, alone = (np.mean([row[side][name] for row in rows]) for side in ("joint", "autoencoder"))
        assert joint > alone
