"""The contract, for every method that is found: a new file in methods/ is tested here without being named."""

import json

import numpy as np
import pytest
import torch

from conftest import blobs
from selfseg.core.image import Image
from selfseg.methods._base import Method, build_config, find_method, method_names
from selfseg.methods._store import load_method, save_method
from selfseg.pipeline import Segmenter
from selfseg.pipeline.fitting import order_classes
from selfseg.predict.whole import predict
from selfseg.sample.stream import Sample, Stream
from selfseg.train.loop import Training
from selfseg.train.precision import Precision

CPU = Precision(torch.device("cpu"), bf16=False, channels_last=True, compiled=False)
SMALL = {
    "iterations": 6,
    "pretrain_iterations": 4,
    "min_epochs": 1,
    "n_features": 12,
    "n_classes": 10,
    "n_superpixels": 40,
    "n_segments": 8,
    "width": 4,
    "depth": 2,
}
"""Options that make any method quick; those that a method does not have are left out."""


def small_config(name: str, **changes):
    fields = find_method(name).Config.model_fields
    return build_config(name, **{key: value for key, value in {**SMALL, **changes}.items() if key in fields})


def samples(n: int = 2, dims: int = 2, channels: int = 3) -> list[Sample]:
    made = []
    for seed in range(n):
        array = blobs(26 + 4 * seed, 34, channels, seed).astype(np.float32) / 255
        array = np.moveaxis(array, -1, 0)
        if dims == 3:
            array = np.repeat(array[:, None], 5, 1)[..., ::2, ::2]
        made.append(Sample(np.ascontiguousarray(array)))
    return made


def make(name: str, dims: int = 2, channels: int = 3, seed: int = 0, **changes) -> Method:
    torch.manual_seed(seed)
    return find_method(name)(small_config(name, **changes), channels, dims)


def train(method: Method, data: list[Sample], **how) -> Stream:
    stream = Stream(data, method.config.batch_size, seed=3)
    Training(method, stream, CPU, seed=5, **how).run(how.get("resume", False))
    return stream


def fitted(name: str, dims: int = 2, **changes) -> tuple[Method, list[Sample]]:
    method, data = make(name, dims, **changes), samples(dims=dims)
    stream = train(method, data)
    method.finish(stream.once)
    return method.eval(), data


every_method = pytest.mark.parametrize("name", method_names())


def test_both_first_methods_are_found():
    assert {"feature_clustering", "region_merging"} <= set(method_names())


@every_method
def test_each_parameter_gets_a_gradient(name):
    method = make(name).train()
    stream = Stream(samples(), 2, seed=0)
    reached = set()
    for _, terms in method.steps(stream.batch(0)):
        method.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        reached |= {key for key, p in method.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    exempt = {key for key, _ in method.named_parameters() if key in getattr(method, "without_gradient", ())}
    assert {key for key, _ in method.named_parameters()} - reached == exempt


@every_method
def test_resumed_equals_straight_bit_for_bit(name, tmp_path):
    straight = make(name)
    train(straight, samples())

    class Cut(Exception):
        pass

    def cut(step):
        if step == 2:
            raise Cut

    first = make(name)
    total = first.n_steps(2)
    if total < 3:
        pytest.skip("the schedule is too short to be cut")
    how = {"checkpoint": tmp_path / "c.safetensors", "journal": tmp_path / "j.jsonl"}
    with pytest.raises(Cut):
        train(first, samples(), preview=cut, preview_every=0.0, checkpoint_every=0.0, **how)
    second = make(name, seed=99)
    stream = Stream(samples(), second.config.batch_size, seed=3)
    Training(second, stream, CPU, seed=5, **how).run(resume=True)
    for key, value in straight.state().items():
        assert torch.equal(value, second.state()[key]), key
    steps = [json.loads(line)["step"] for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


@every_method
def test_a_look_while_learning_changes_nothing(name):
    """Previews and scores call `assign` between steps; what is learned, and the mode, stay as they were."""
    method = make(name)
    train(method, samples())
    method.train()
    before = {key: value.clone() for key, value in method.state().items()}
    with torch.no_grad():
        shown = method.assign(torch.from_numpy(samples(1)[0].array)[None])
    assert method.training
    assert torch.isfinite(shown).all()
    for key, value in method.state().items():
        assert torch.equal(value, before[key]), key


@every_method
def test_saved_and_loaded_gives_identical_output(name, tmp_path):
    method, data = fitted(name)
    stream = Stream(data, 1, seed=0)
    save_method(tmp_path, method, name, order_classes(method, stream.once()), {}, "card")
    loaded = load_method(tmp_path)
    assert loaded.method.config == method.config
    for sample in data:
        assert np.array_equal(predict(loaded.method, sample.array), predict(method, sample.array))


@every_method
def test_tiled_equals_whole(name):
    method, data = fitted(name)
    if method.context is None:
        pytest.skip("the method's context is the whole image")
    whole, tiled = predict(method, data[0].array), predict(method, data[0].array, tile_pixels=150)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@every_method
@pytest.mark.parametrize("dims", [2, 3])
def test_probabilities_in_two_and_three_dimensions(name, dims):
    method, data = fitted(name, dims)
    out = predict(method, data[0].array)
    assert out.shape == (method.n_classes, *data[0].array.shape[1:])
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out.sum(0), 1, atol=1e-4)


@every_method
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels(name, channels):
    picture = Image(blobs(channels=channels), "YXC")
    result = Segmenter(name, options=quick(name)).fit(picture).predict(picture)
    assert result.labels.shape == picture.spatial_shape


@every_method
def test_same_seed_same_labels(name):
    pictures = [blobs(seed=1), blobs(seed=2)]
    runs = [
        [r.labels for r in Segmenter(name, seed=4, options=quick(name)).fit(pictures).predict(pictures)]
        for _ in range(2)
    ]
    for one, other in zip(*runs, strict=True):
        assert one.tobytes() == other.tobytes()


@every_method
def test_config_round_trip(name):
    config = small_config(name)
    again = type(config).build(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert again == config


@every_method
def test_every_option_is_described(name):
    for field, info in find_method(name).Config.model_fields.items():
        assert info.description, f"{name}.{field} has no docstring"


@every_method
def test_every_preset_is_valid(name):
    for preset in ["default", *find_method(name).presets]:
        build_config(name, preset)


@every_method
@pytest.mark.parametrize("kind", ["one colour", "one pixel", "nan", "one row"])
def test_poor_images_do_not_crash(name, kind):
    data = {
        "one colour": np.full((20, 24, 3), 90, np.uint8),
        "one pixel": np.full((1, 1, 3), 90, np.uint8),
        "nan": blobs(20, 24).astype(np.float32),
        "one row": blobs(20, 24)[:1],
    }[kind]
    picture = Image(data, "YXC")
    if kind == "nan":
        data[3:6, 4:9] = np.nan
        picture = Image(data, "YXC", valid=np.isfinite(data).all(-1))
    result = Segmenter(name, options=quick(name)).fit(picture).predict(picture)
    assert np.isfinite(result.probabilities).all()
    assert result.labels.max() <= len(result.table)
    if kind == "nan":
        assert (result.labels[3:6, 4:9] == 0).all()
        assert (result.labels > 0).sum() == 20 * 24 - 15


@every_method
@pytest.mark.parametrize("k", [1, 2, 5])
def test_exactly_k_classes_when_asked(name, k):
    picture = blobs(seed=3)
    result = Segmenter(name, n_classes=k, options=quick(name)).fit(picture).predict(picture)
    assert len(result.table) == k
    assert result.probabilities.shape[0] == k
    assert set(np.unique(result.labels)) == set(range(1, k + 1))


@every_method
def test_classes_are_ordered_dark_to_bright(name):
    picture = blobs(seed=3)
    table = Segmenter(name, n_classes=3, options=quick(name)).fit(picture).predict(picture).table
    shades = [item.intensity for item in table.classes if item.area_share > 0]
    assert shades == sorted(shades)
    assert sum(item.area_share for item in table.classes) == pytest.approx(1)


@every_method
def test_every_method_has_a_merge_tree(name):
    picture = blobs(seed=3)
    tree = Segmenter(name, options=quick(name)).fit(picture).predict(picture).hierarchy
    for wanted in (1, 2, 3):
        assert len(np.unique(tree.cut(n_regions=wanted))) == wanted


def quick(name: str) -> dict:
    fields = find_method(name).Config.model_fields
    return {key: value for key, value in SMALL.items() if key in fields}
