"""The option `learn` of contours: heads on frozen features, a metric, and how they learn from the contours of other images."""

import numpy as np
import pytest
import torch

import selfseg
from conftest import blobs
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.methods import _contour_learning, build_config, contours
from selfseg.methods._contour_learning import boundary_map
from selfseg.methods.contours import Contours
from selfseg.nets.contour_head import ContourHead, contour_probability
from selfseg.regions.graph import adjacency
from selfseg.regions.merge_tree import merge
from selfseg.sample.device import Precision
from selfseg.sample.stream import Sample, Stream
from selfseg.train.loop import Training

QUICK = {"learn": True, "learn_steps": 3}


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(contours, "LEAST_IMAGES", 3)


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contours, "LEAST_IMAGES", 3)
        return Segmenter("contours", options=QUICK).fit([blobs(48, 64, 3, seed) for seed in range(3)])


def sample(seed, height=40):
    return Sample(np.ascontiguousarray(np.moveaxis(blobs(height, 52, 3, seed), -1, 0) / 255, np.float32), memo={})


def test_few_images_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(contours, "LEAST_IMAGES", 50)
    with pytest.raises(
        UsageError, match="learn: expected at least 50 images to learn contours from, got 1; fit on a folder"
    ):
        Segmenter("contours", preset="learned").fit(blobs())


def test_learning_brings_its_own_defaults_and_an_option_its_own_value():
    config = build_config("contours", learn=True, level=0.4)
    assert (config.level, config.size_power, config.difference_power, config.batch_size) == (0.4, 0.2, 0.6, 2)
    assert build_config("contours", "learned") == build_config("contours", learn=True)
    plain = build_config("contours")
    assert (plain.level, plain.batch_size, plain.learn) == (0.84, 1, False)


def test_prediction_needs_no_contours_of_the_teacher(model, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("local or spectral contours were computed")

    monkeypatch.setattr(_contour_learning, "contour_strength", refuse)
    monkeypatch.setattr(contours, "contour_strength", refuse)
    result = model.predict(blobs(50, 61, 3, 9))
    assert result.labels.shape == (50, 61) and result.labels.min() == 1
    assert len(np.unique(result.hierarchy.cut(n_regions=3))) == 3


def test_saved_and_loaded_is_the_same(model, tmp_path):
    model.save(tmp_path)
    loaded, picture = selfseg.load(tmp_path), blobs(48, 64, 3, 7)
    np.testing.assert_array_equal(loaded.predict(picture).labels, model.predict(picture).labels)
    assert "efficientnet-lite0" in (tmp_path / "README.md").read_text()
    assert not len(loaded.model_.method.learner.scatters[0])


def test_masked_pixels_are_in_no_region(model):
    valid = np.ones((48, 64), bool)
    valid[:, :9] = False
    labels = model.predict(Image(blobs(48, 64, 3, 1), "YXC", valid=valid)).labels
    np.testing.assert_array_equal(labels > 0, valid)


@pytest.mark.parametrize("stop", [2, 3, 4, 7])
def test_resumed_equals_straight_bit_for_bit(stop, tmp_path):
    """Cut in the first pass, between the passes, and in both rounds: what is kept in memos is made again."""

    class Cut(Exception):
        pass

    def cut(step):
        if step == stop:
            raise Cut

    def run(resume=False, **how):
        torch.manual_seed(0 if not resume else 9)
        method = Contours(build_config("contours", **QUICK), 3)
        stream = Stream([sample(seed, 40 + 4 * seed) for seed in range(3)], 2, seed=3)
        training = Training(method, stream, Precision(torch.device("cpu"), False, False, False), seed=5, **how)
        training.run(resume)
        return method

    straight = run()
    where = {"checkpoint": tmp_path / "c.safetensors", "checkpoint_every": 0.0}
    with pytest.raises(Cut):
        run(preview=cut, preview_every=0.0, **where)
    again = run(resume=True, **where)
    for key, value in straight.state().items():
        assert torch.equal(value, again.state()[key]), key


def test_every_head_learns_and_the_third_from_the_other_two():
    torch.manual_seed(0)
    method = Contours(build_config("contours", **QUICK), 3)
    stream = Stream([sample(seed) for seed in range(3)], 2, seed=3)
    before = {name: one.clone() for name, one in method.named_parameters()}
    Training(method, stream, Precision(torch.device("cpu"), False, False, False), seed=5).run()
    assert all(not torch.equal(one, before[name]) for name, one in method.named_parameters())
    memo = stream.samples[0].memo
    assert {"contour map of the teacher", "contour map of the heads"} <= memo.keys()


def test_the_map_of_lasting_boundaries_against_loops():
    """Each block of two by two pixels has the largest cost at which two of its pixels, or of the next ones, come together."""
    rng = np.random.default_rng(0)
    superpixels = rng.integers(0, 9, (4, 5)).repeat(2, 0).repeat(2, 1)[:7, :9].astype(np.int32)
    superpixels = np.unique(superpixels, return_inverse=True)[1].reshape(superpixels.shape).astype(np.int32)
    graph = adjacency(superpixels, rng.random(superpixels.shape))
    tree = merge(graph, rng.normal(size=(graph.n_regions, 2)), strength_power=1.0)
    expected = np.zeros((4, 5))
    for y in range(7):
        for x in range(9):
            for below, right in ((1, 0), (0, 1)):
                if y + below < 7 and x + right < 9 and superpixels[y, x] != superpixels[y + below, x + right]:
                    path, node = [superpixels[y, x]], superpixels[y + below, x + right]
                    while tree.parents[path[-1]] != path[-1]:
                        path.append(tree.parents[path[-1]])
                    while node not in path:
                        node = tree.parents[node]
                    value = 1 / (1 + np.exp(-(np.log(tree.altitudes[node]) - np.log(0.3)) / 0.45))
                    expected[y // 2, x // 2] = max(expected[y // 2, x // 2], value)
    np.testing.assert_allclose(boundary_map(superpixels, graph, tree, 0.3), expected, atol=1e-6)


def test_heads_answer_at_the_finest_stride_and_mirror_images_alike():
    torch.manual_seed(1)
    heads = [ContourHead((3, 5, 4), (2, 8, 8)) for _ in range(2)]
    maps = [torch.randn(1, 3, 20, 24), torch.randn(1, 5, 5, 6), torch.randn(1, 4, 5, 6)]
    found = contour_probability(heads, maps)
    assert found.shape == (20, 24) and float(found.min()) > 0 and float(found.max()) < 1
    torch.testing.assert_close(contour_probability(heads, [one.flip(-1) for one in maps]).flip(-1), found)


def test_a_network_of_one_coarse_stride_gets_colour_and_texture_beside_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, patch_size=14, image_size=56
    )
    transformers.AutoBackbone.from_config(config).save_pretrained(tmp_path)
    pictures = [blobs(48, 64, 3, seed) for seed in range(3)]
    fitted = Segmenter("contours", options={**QUICK, "features": str(tmp_path)}).fit(pictures)
    assert fitted.predict(pictures[0]).labels.shape == (48, 64)
    assert fitted.model_.method.learner.heads["first"].levels == [2, 14]
