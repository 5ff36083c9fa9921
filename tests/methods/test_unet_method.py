import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from conftest import blobs
from selfseg import Segmenter
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.measure.instances import instance_scores
from selfseg.methods import unet
from selfseg.methods.base import build_config
from selfseg.methods.unet import UNetMethod
from selfseg.regions.graph import separate_objects
from selfseg.sample.device import Precision
from selfseg.sample.stream import Batch, Sample, Stream
from selfseg.tiling.tiles import predict
from selfseg.train.loop import Training

CPU = Precision(torch.device("cpu"), bf16=False, channels_last=True, compiled=False)
SMALL = {"width": 4, "depth": 2, "patch": 24, "iterations": 8, "elastic": 2.0}


def made(seed=0, dims=2, **changes):
    torch.manual_seed(seed)
    return UNetMethod(build_config("unet", **{**SMALL, **changes}), 1, dims)


def sample(seed=0, size=(40, 52)):
    """A bright disc on a dark half and a grey half; class 1 = the disc."""
    picture = blobs(*size, channels=1, seed=seed)[..., 0].astype(np.float32) / 255
    return Sample(picture[None], None, (picture > 0.7).astype(np.int64))


def learn(method, samples, held=(), **how):
    stream = Stream(samples, method.config.batch_size, seed=1)
    if held:
        method.hold_out(lambda: Stream(list(held), 1, 0).once())
    Training(method, stream, CPU, seed=2, **how).run(how.get("resume", False))
    method.finish(stream.once)
    return method.eval()


VARIANTS = {
    "padded, batch norm": {"norm": "batch"},
    "padded, no norm": {"norm": "none"},
    "tiles of the training size, group norm": {"tiled": True},
    "tiles of the training size, as published": {"tiled": True, "norm": "none", "padded": False},
    "as published": {"norm": "none", "padded": False},
    "as published, 8 symmetries": {"norm": "none", "padded": False, "symmetries": True},
    "padded, 8 symmetries": {"norm": "none", "symmetries": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_overlap_tiles_give_what_the_whole_image_gives(name):
    method = learn(made(**VARIANTS[name]), [sample()])
    image = np.random.default_rng(0).random((1, 150, 119), np.float32)
    whole, tiled = predict(method, image), predict(method, image, tile_pixels=8000)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert float(np.abs(whole - whole.mean((1, 2), keepdims=True)).max()) > 1e-3


def test_overlap_tiles_of_a_volume():
    method = learn(
        made(dims=3, norm="none", depth=1),
        [Sample(np.zeros((1, 4, 6, 6), np.float32), None, np.ones((4, 6, 6), np.int64))],
    )
    image = np.random.default_rng(0).random((1, 16, 13, 14), np.float32)
    np.testing.assert_allclose(predict(method, image, tile_pixels=2000), predict(method, image), atol=1e-5)


def test_a_group_norm_is_not_tiled():
    assert made(norm="group").context is None and made(norm="batch").context == 9 * 4


LEARNS = {
    "batch norm": {"norm": "batch"},
    "group norm": {"norm": "group"},
    "as published": {"norm": "none", "padded": False},
}


@pytest.mark.parametrize("name", LEARNS)
def test_the_disc_is_learned_and_symmetries_do_not_hurt(name):
    options = {**LEARNS[name], "iterations": 80, "width": 8, "patch": None, "learning_rate": 0.005}
    method = learn(made(**options), [sample(seed) for seed in range(3)])
    unseen = sample(9)
    for symmetries in (False, True):
        method.config = method.config.changed(symmetries=symmetries)
        found, truth = predict(method, unseen.array).argmax(0) == 1, unseen.annotations == 1
        assert (found & truth).sum() / (found | truth).sum() > 0.7


def test_the_paper_preset_holds_the_published_constants():
    config = build_config("unet", "paper")
    assert (config.width, config.depth, config.padded, config.norm) == (64, 4, False, "none")
    assert (config.momentum, config.batch_size, config.border, config.border_sigma, config.elastic) == (
        0.99,
        1,
        10,
        5,
        10,
    )
    assert config.patch == 388 and config.class_balance == 1
    with torch.device("meta"):
        assert sum(p.numel() for p in UNetMethod(config, 1).net.parameters()) == 31_030_658


def test_resumed_equals_straight_with_held_out_images(tmp_path):
    """The best weights so far are part of the state: a run that was cut between two looks ends as the straight one."""

    class Cut(Exception):
        pass

    def cut(step):
        if step == 5:
            raise Cut

    samples, held = [sample(1), sample(2, (30, 33))], [sample(3)]
    options = {"border": 10.0, "batch_size": 2, "accumulate": 2}
    straight = learn(made(**options), samples, held)
    how = {"checkpoint": tmp_path / "c.safetensors"}
    with pytest.raises(Cut):
        learn(made(**options), samples, held, preview=cut, preview_every=0.0, checkpoint_every=0.0, **how)
    resumed = made(seed=7, **options)
    stream = Stream(samples, 2, seed=1)
    resumed.hold_out(lambda: Stream(held, 1, 0).once())
    Training(resumed, stream, CPU, seed=2, **how).run(resume=True)
    resumed.finish(stream.once)
    assert float(straight.best) >= 0
    for name, value in straight.state().items():
        assert torch.equal(value, resumed.state()[name]), name


def test_the_weights_that_did_best_on_the_held_out_images_are_kept():
    method, held = made(iterations=40, learning_rate=0.02), [sample(3)]
    scores = {}
    watched = method._validate

    def noted():
        watched()
        scores[float(method.best)] = {name: value.clone() for name, value in method._kept.items()}

    method._validate = noted
    learn(method, [sample(1), sample(2)], held)
    best = max(scores)
    assert float(method.best) == best and len(scores) > 1
    for name, value in method.net.state_dict().items():
        assert torch.equal(value, scores[best][name])
    assert not any(name.startswith("kept.") for name in method.state())
    assert method.status() == {"best IoU": best}


def test_nothing_is_learned_from_held_out_images():
    """Their labels change what is kept, but no step: with one look, at the end, the weights are the same."""
    samples, right = [sample(1)], sample(3)
    wrong = Sample(right.array, None, 1 - right.annotations)
    ends = []
    for held in (right, wrong):
        method = made(iterations=8)
        method.hold_out(lambda held=held: Stream([held], 1, 0).once())
        method._validate = lambda: None
        Training(method, Stream(samples, 1, seed=1), CPU, seed=2).run()
        ends.append(method.state())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_the_step_size_follows_half_a_cosine():
    method, sizes = made(iterations=10, learning_rate=0.1), []
    optimizer = method.optimizers()["net"]
    batch = Stream([sample()], 1, 0).batch(0)
    for _ in range(10):
        list(method.steps(batch))
        sizes.append(optimizer.param_groups[0]["lr"])
    assert sizes == pytest.approx([0.1 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)])
    plain = made(iterations=10, schedule="constant", optimizer="sgd", momentum=0.99)
    group = plain.optimizers()["net"].param_groups[0]
    list(plain.steps(batch))
    assert group["lr"] == plain.config.learning_rate and group["momentum"] == 0.99


def test_every_term_can_be_switched_on_and_off():
    batch = Stream([sample()], 1, 0).batch(0)
    ((_, terms),) = made(binary=0.5, dice=2.0).steps(batch)
    assert set(terms) == {"cross_entropy", "binary", "dice"}
    ((_, only),) = made(cross_entropy=0, dice=1.0).steps(batch)
    assert set(only) == {"dice"}
    with pytest.raises(UsageError, match="nothing would be learned"):
        made(cross_entropy=0)


def test_pixels_without_a_label_teach_nothing():
    """Another image value there, and other annotations on pixels that are not valid, leave every gradient of the head as it was."""
    base = sample()
    annotations = np.where(np.arange(52) < 26, base.annotations, -1)
    valid = np.ones((40, 52), bool)
    valid[:, 20:] = False
    other = np.where(valid, annotations, 1 - base.annotations)
    gradients = []
    for labels in (np.where(valid, annotations, -1), other):
        method = made(elastic=0, rotation=0, mirror=False, patch=None)
        torch.manual_seed(3)
        ((_, terms),) = method.steps(Stream([Sample(base.array, valid, labels)], 1, 0).batch(0))
        terms["cross_entropy"].backward()
        gradients.append(method.net.head.weight.grad)
    assert torch.equal(*gradients) and bool(gradients[0].any())


def test_rare_classes_weigh_more_where_balanced():
    batch = Stream([sample()], 1, 0).batch(0)
    plain, balanced = made(), made(class_balance=1.0)
    assert plain._weights(plain._views(batch)) is None
    views = balanced._views(batch)
    weights = balanced._weights(views)
    share = float((batch.annotations == 1).float().mean())
    rare, common = (float(weights[views.annotations == c].mean()) for c in (1, 0))
    assert rare == pytest.approx(0.5 / share, rel=1e-4) and common == pytest.approx(0.5 / (1 - share), rel=1e-4)


def test_the_gap_between_two_objects_weighs_more():
    annotations = np.zeros((40, 40), np.int64)
    annotations[10:30, 5:19], annotations[10:30, 21:35] = 1, 1
    batch = Stream([Sample(np.zeros((1, 40, 40), np.float32), None, annotations)], 1, 0).batch(0)
    method = made(border=10.0, elastic=0, rotation=0, mirror=False, patch=None)
    weights = method._weights(method._views(batch))[0]
    assert float(weights[20, 19]) == pytest.approx(1 + 10 * math.exp(-9 / 50), rel=0.01)
    assert float(weights[20, 10]) == 1.0 and float(weights[0, 0]) < 1.1


def discs(seed=0, side=64):
    """Bright discs of radius 5, some of which touch, and their numbers."""
    rng, numbers = np.random.default_rng(seed), np.zeros((side, side), np.int64)
    y, x = np.mgrid[:side, :side]
    for number, (cy, cx) in enumerate([(12, 12), (12, 21), (40, 14), (30, 45), (39, 49), (54, 30)], 1):
        numbers[((y - cy) ** 2 + (x - cx) ** 2 <= 25) & (numbers == 0)] = number
    return (numbers > 0) * 0.6 + rng.normal(0.2, 0.03, numbers.shape), numbers


@pytest.fixture(scope="module")
def finder():
    """A U-Net that has learned the distance inside discs."""
    options = {"tiled": True, "distance": 1.0, "width": 8, "patch": 48, "iterations": 150, "elastic": 0.0}
    picture, numbers = discs()
    sample = Sample(picture[None].astype(np.float32), None, (separate_objects(numbers) > 0).astype(np.int64))
    return learn(made(**options, learning_rate=0.005, min_size=10), [sample])


def test_objects_that_touch_are_kept_apart_by_their_distance(finder):
    picture, numbers = discs(seed=1)
    turned = torch.from_numpy(np.rot90(picture).astype(np.float32).copy())[None]
    found, truth = finder.objects(turned), np.rot90(numbers)
    mask = predict(finder, turned.numpy()).argmax(0) > 0
    assert ndimage.label(mask)[1] == 4, "the mask alone joins them"
    assert found.max() == 6 and np.array_equal(found > 0, ndimage.binary_fill_holes(mask))
    scores = instance_scores(found.astype(np.int64), truth.astype(np.int64))
    assert scores.average_precision[0] == 1


def test_distances_change_neither_classes_nor_methods_without_them(finder):
    assert finder.finds_objects and finder.assign(torch.rand(1, 1, 20, 24)).shape == (1, 2, 20, 24)
    assert finder.context == 48 + unet.OBJECT_SIDE and finder.multiple == 36
    plain = made()
    assert not plain.finds_objects and plain.objects(torch.rand(1, 20, 24)) is None


def test_without_labels_a_step_is_refused():
    with pytest.raises(UsageError, match="labels"):
        next(made().steps(Batch(torch.rand(1, 1, 30, 30))))


def test_images_of_different_sizes_in_one_batch():
    pictures = [blobs(30, 50, seed=1), blobs(41, 22, seed=2), blobs(64, 64, seed=3)]
    labels = [(picture.mean(-1) > 100).astype(np.uint8) + 1 for picture in pictures]
    model = Segmenter("unet", options={**SMALL, "batch_size": 3}).fit(pictures, labels)
    assert [result.labels.shape for result in model.predict(pictures)] == [(30, 50), (41, 22), (64, 64)]


def test_a_volume_is_learned_from_its_labels():
    z, y, x = np.mgrid[:12, :16, :16]
    truth = ((z - 6) ** 2 + (y - 8) ** 2 + (x - 8) ** 2 < 25).astype(np.uint8)
    rng = np.random.default_rng(0)
    volume = (100 * truth + 50 + rng.normal(0, 8, truth.shape)).astype(np.uint8)
    options = {**SMALL, "width": 6, "depth": 1, "iterations": 30, "patch": None, "learning_rate": 0.005}
    model = Segmenter("unet", options=options).fit(Image(volume, "ZYX"), truth, labels_as="full")
    found = model.predict(Image(volume, "ZYX")).labels == 2
    assert (found & (truth == 1)).sum() / (found | (truth == 1)).sum() > 0.7


def test_held_out_pixels_count_by_class_as_in_the_loss():
    """Two answers on an image with one pixel in ten of class 1: the one that finds all of class 1, and too much, is better if balanced."""
    truth = torch.zeros(10, 10, dtype=torch.int64)
    truth[:, 0] = 1
    shown = torch.rand(1, 10, 10)
    batch = Stream([Sample(shown.numpy(), None, truth.numpy())], 1, 0)
    answers = {"all of it, thick": truth.clone(), "thin": truth.clone()}
    answers["all of it, thick"][:, 1:3] = 1
    answers["thin"][3:, 0] = 0
    for balance, better in ((0.0, "thin"), (1.0, "all of it, thick")):
        scores = {}
        for name, answer in answers.items():
            method = made(class_balance=balance)
            method.class_pixels.copy_(torch.bincount(truth.flatten(), minlength=2))
            method.hold_out(lambda: batch.once())
            method.assign = lambda images, answer=answer: (
                torch.nn.functional.one_hot(answer, 2).movedim(-1, 0)[None].float()
            )
            method._validate()
            scores[name] = float(method.best)
        assert max(scores, key=scores.get) == better, (balance, scores)
