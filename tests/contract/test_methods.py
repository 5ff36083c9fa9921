"""The contract, for every method that is found: a new file in methods/ is tested here without being named."""

import contextlib
import json
from functools import cache

import numpy as np
import pytest
import torch

from conftest import blobs
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.learning.fitting import order_classes
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import Method, build_config, find_method, method_names
from selfseg.results.model import load_method, save_method
from selfseg.results.result import Result
from selfseg.sample.device import Precision
from selfseg.sample.stream import Sample, Stream
from selfseg.tiling.tiles import predict
from selfseg.train.loop import OptionChange, Order, Training

CPU = Precision(torch.device("cpu"), bf16=False, channels_last=True, compiled=False)
SMALL = {
    "iterations": 6,
    "pretrain_iterations": 4,
    "min_epochs": 1,
    "n_features": 12,
    "n_clusters": 10,
    "n_superpixels": 40,
    "width": 4,
    "depth": 2,
    "patch": None,
}
"""Options that make any method quick; those that a method does not have are left out."""


def small_config(name: str, **changes):
    fields = find_method(name).Config.model_fields
    return build_config(name, **{key: value for key, value in {**SMALL, **changes}.items() if key in fields})


def tones(array: np.ndarray, k: int = 2) -> np.ndarray:
    """Labels 1..k of a channels-last picture: its pixels from dark to bright, in k equal parts."""
    shade = array.reshape(*array.shape[:2], -1).astype(float).mean(-1)
    rank = shade.ravel().argsort().argsort().reshape(shade.shape)
    return rank * k // rank.size + 1


def labels_of(name: str, pictures, k: int = 2) -> dict:
    """Labels for `fit`, where the method needs them."""
    arrays = [picture.data if isinstance(picture, Image) else picture for picture in pictures]
    return {"labels": [tones(array, k) for array in arrays]} if find_method(name).needs_annotations else {}


def samples(name: str, n: int = 2, dims: int = 2, channels: int = 3) -> list[Sample]:
    made = []
    for seed in range(n):
        array = blobs(26 + 4 * seed, 34, channels, seed).astype(np.float32) / 255
        annotations = tones(array) - 1
        array = np.moveaxis(array, -1, 0)
        if dims == 3:
            array = np.repeat(array[:, None], 5, 1)[..., ::2, ::2]
            annotations = np.repeat(annotations[None], 5, 0)[..., ::2, ::2]
        hinted = np.ascontiguousarray(annotations) if find_method(name).needs_annotations else None
        made.append(Sample(np.ascontiguousarray(array), None, hinted))
    return made


def make(name: str, dims: int = 2, channels: int = 3, seed: int = 0, **changes) -> Method:
    torch.manual_seed(seed)
    return find_method(name)(small_config(name, **changes), channels, dims)


def train(method: Method, data: list[Sample], **how) -> Stream:
    stream = Stream(data, method.config.batch_size, seed=3)
    Training(method, stream, CPU, seed=5, **how).run(how.get("resume", False))
    return stream


@cache
def fitted(name: str, dims: int = 2) -> tuple[Method, list[Sample]]:
    """A fitted method, made once, and its images; no test may change it."""
    method, data = make(name, dims), samples(name, dims=dims)
    stream = train(method, data)
    method.finish(stream.once)
    return method.eval(), data


@cache
def segmented(name: str, k: int) -> Result:
    """The result of `blobs(seed=3)` in k classes, made once."""
    picture = blobs(seed=3)
    return (
        Segmenter(name, n_classes=k, options=quick(name)).fit(picture, **labels_of(name, [picture], k)).predict(picture)
    )


every_method = pytest.mark.parametrize("name", method_names())


@every_method
def test_each_parameter_gets_a_gradient(name):
    method = make(name).train()
    stream = Stream(samples(name), 2, seed=0)
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
    train(straight, samples(name))

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
        train(first, samples(name), preview=cut, preview_every=0.0, checkpoint_every=0.0, **how)
    second = make(name, seed=99)
    stream = Stream(samples(name), second.config.batch_size, seed=3)
    Training(second, stream, CPU, seed=5, **how).run(resume=True)
    for key, value in straight.state().items():
        assert torch.equal(value, second.state()[key]), key
    steps = [json.loads(line)["step"] for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def others(config, names) -> dict:
    """Another value for each option: the other of a switch, one more of a count, half of a number, something for nothing."""

    def other(name):
        value = getattr(config, name)
        if isinstance(value, str):
            return {"cosine": "constant"}[value]
        if value is None:
            with contextlib.suppress(UsageError):
                config.changed(**{name: 0.1})
                return 0.1
            return 2
        return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value / 2 or 0.1

    return {name: other(name) for name in names}


@every_method
def test_options_changed_on_the_way_are_those_of_a_run_begun_from_there(name, tmp_path):
    """An option that the constructor reads is not live: the run that is made with it would go another way."""
    first = make(name)
    if not first.live or first.n_steps(2) < 4:
        pytest.skip("no live options, or too short a schedule to change them on the way")
    change = others(first.config, first.live)
    orders = iter([Order.GO, Order.GO, OptionChange(change), *[Order.GO] * 99])
    train(first, samples(name), control=lambda: next(orders), checkpoint=tmp_path / "c.safetensors", keep=tmp_path)
    begun = make(name, seed=99, **change)
    train(begun, samples(name), begin=tmp_path / "step-000003.safetensors")
    for key, value in begun.state().items():
        assert torch.equal(value, first.state()[key]), key
    with pytest.raises(UsageError, match="n_classes"):
        first.change({"n_classes": 3})


@every_method
def test_a_look_while_learning_changes_nothing(name):
    """Previews and scores call `assign` between steps; what is learned, and the mode, stay as they were."""
    method = make(name)
    train(method, samples(name))
    method.train()
    before = {key: value.clone() for key, value in method.state().items()}
    with torch.no_grad():
        shown = method.assign(torch.from_numpy(samples(name, 1)[0].array)[None])
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


@pytest.mark.parametrize(
    ("name", "dims"), [(name, dims) for name in method_names() for dims in find_method(name).dimensions]
)
def test_probabilities_in_two_and_three_dimensions(name, dims):
    method, data = fitted(name, dims)
    out = predict(method, data[0].array)
    assert out.shape == (method.n_classes, *data[0].array.shape[1:])
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out.sum(0), 1, atol=1e-4)


@every_method
@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_channels(name, channels):
    picture = Image(blobs(channels=channels), "YXC")
    result = Segmenter(name, options=quick(name)).fit(picture, **labels_of(name, [picture])).predict(picture)
    assert result.labels.shape == picture.spatial_shape


@every_method
def test_same_seed_same_labels(name):
    pictures = [blobs(seed=1), blobs(seed=2)]
    told = labels_of(name, pictures)
    runs = [
        [r.labels for r in Segmenter(name, seed=4, options=quick(name)).fit(pictures, **told).predict(pictures)]
        for _ in range(2)
    ]
    for one, other in zip(*runs, strict=True):
        assert one.tobytes() == other.tobytes()


@every_method
def test_any_number_of_threads_gives_the_same_labels(name, monkeypatch):
    """Learning and prediction, in the fixed order that `deterministic` asks for."""
    pictures = [blobs(60, 84, seed=1), blobs(60, 84, seed=2)]
    runs = [
        in_threads(n, monkeypatch, lambda: run_of(name, pictures, quick(name), deterministic=True)[1]) for n in (1, 2)
    ]
    assert all(np.array_equal(one, other) for one, other in zip(*runs, strict=True))


@pytest.mark.slow
def test_any_number_of_threads_at_the_size_of_a_photo(monkeypatch):
    """Feature clustering at its defaults, bit for bit: its sums are in an order that no number of threads changes."""
    rng = np.random.default_rng(0)
    scales = [np.kron(rng.normal(size=(240 // s, 320 // s, 3)), np.ones((s, s, 1))) * s**0.5 for s in (1, 2, 4, 8, 16)]
    photo = np.clip(128 + 12 * sum(scales), 0, 255).astype(np.uint8)
    one, two = (in_threads(n, monkeypatch, lambda: run_of("feature_clustering", [photo], {})) for n in (1, 2))
    assert all(torch.equal(tensor, two[0][key]) for key, tensor in one[0].items())
    assert np.array_equal(one[1][0], two[1][0])


def in_threads(n, monkeypatch, work):
    before = torch.get_num_threads()
    monkeypatch.setenv("SELFSEG_THREADS", str(n))
    torch.set_num_threads(n)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


def run_of(name, pictures, options, **how):
    """Return the whole state of a model and its labels."""
    model = Segmenter(name, seed=4, options=options).fit(pictures, **labels_of(name, pictures), **how)
    return model.method_.state(), [result.labels for result in model.predict(pictures)]


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
    if kind == "one pixel" and find_method(name).needs_annotations:
        with pytest.raises(InputError, match="expected two classes or more"):
            Segmenter(name, options=quick(name)).fit(picture, **labels_of(name, [picture]))
        return
    result = Segmenter(name, options=quick(name)).fit(picture, **labels_of(name, [picture])).predict(picture)
    assert np.isfinite(result.probabilities).all()
    assert result.labels.max() <= len(result.table)
    if kind == "nan":
        assert (result.labels[3:6, 4:9] == 0).all()
        assert (result.labels > 0).sum() == 20 * 24 - 15


@every_method
@pytest.mark.parametrize("k", [1, 3, 5])
def test_exactly_k_classes_when_asked(name, k):
    if k == 1 and find_method(name).needs_annotations:
        with pytest.raises(InputError, match="expected two classes or more"):
            segmented(name, k)
        return
    result = segmented(name, k)
    assert len(result.table) == k
    assert result.probabilities.shape[0] == k
    if not find_method(name).needs_annotations:  # six steps do not teach a supervised method five classes
        assert set(np.unique(result.labels)) == set(range(1, k + 1))


@every_method
def test_classes_are_ordered_dark_to_bright_or_as_the_labels_number_them(name):
    table, told = segmented(name, 3).table, find_method(name).needs_annotations
    shades = [item.intensity for item in table.classes if item.area_share > 0]
    assert shades == sorted(shades) or told
    assert [item.sources for item in table.classes] == [(0,), (1,), (2,)] or not told
    assert sum(item.area_share for item in table.classes) == pytest.approx(1)


@every_method
def test_every_method_has_a_merge_tree(name):
    tree = segmented(name, 3).hierarchy
    for wanted in (1, 2, 3):
        assert len(np.unique(tree.cut(n_regions=wanted))) == wanted


@every_method
def test_a_memo_changes_nothing_and_is_used_again(name):
    method, data = fitted(name)
    if not method.uses_memos:
        pytest.skip("the method keeps nothing of an image")
    image, memo = torch.from_numpy(data[0].array), {}
    with torch.no_grad():
        plain, first, again = method.assign(image[None]), *(method.assign(image[None], (memo,)) for _ in range(2))
    assert torch.equal(plain, first) and torch.equal(plain, again)
    kept = dict(memo)
    for one, other in zip(method.hierarchy(image) or (), method.hierarchy(image, memo) or (), strict=True):
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else np.array_equal(one.parents, other.parents)
    assert kept and memo.keys() == kept.keys() and all(memo[key] is kept[key] for key in kept)


def quick(name: str) -> dict:
    fields = find_method(name).Config.model_fields
    return {key: value for key, value in SMALL.items() if key in fields}
