"""Objects: discs of many brightnesses on uneven ground, found whatever the polarity, depth, noise, mask, and cut of the image."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from selfseg.core.errors import ModelError, UsageError
from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.measure.instances import instance_scores
from selfseg.methods.objects import Objects, ObjectsConfig
from selfseg.results.instances import ObjectOptions
from selfseg.results.model import load_method
from selfseg.sample.prepare import Preparation, prepare
from selfseg.segmenting.objects import number_own


def discs(side=160, n=14, seed=0, radius=(7, 11), noise=4.0):
    """Round objects of many brightnesses on an uneven ground: uint8 [Y X], and their numbers."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    image, truth, places = 30 + 20 * x / side, np.zeros((side, side), np.int32), []
    while len(places) < n:
        r = rng.uniform(*radius)
        cy, cx = rng.uniform(r, side - r, 2)
        if all((cy - a) ** 2 + (cx - b) ** 2 > (r + c + 3) ** 2 for a, b, c in places):
            places.append((cy, cx, r))
            inside = (y - cy) ** 2 + (x - cx) ** 2 < r * r
            image, truth[inside] = image + inside * rng.uniform(60, 150), len(places)
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8), truth


def precision(found, truth):
    """AP at an overlap of one half."""
    return float(instance_scores(np.asarray(found, np.int64), truth.astype(np.int64)).average_precision[0])


def objects_of(image, axes="YX", **options):
    picture = image if isinstance(image, Image) else Image(image, axes)
    return Segmenter("objects", options=options).fit(picture).predict(picture).instances().labels


PICTURE, TRUTH = discs()


@pytest.mark.parametrize("kind", ["bright", "inverted", "16 bit", "colour", "saturated", "five channels"])
def test_each_disc_is_found_in_any_kind_of_image(kind):
    made = {
        "bright": PICTURE,
        "inverted": 255 - PICTURE,
        "16 bit": PICTURE.astype(np.uint16) * 257,
        "colour": np.stack([PICTURE, PICTURE // 2, 255 - PICTURE // 3], -1),
        "saturated": np.minimum(PICTURE, 110).astype(np.uint8),
        "five channels": np.stack([PICTURE] * 5, -1),
    }[kind]
    assert precision(objects_of(made, "YX" if made.ndim == 2 else "YXC"), TRUTH) > 0.9


def test_classes_are_ground_and_objects_and_agree_with_the_objects():
    result = Segmenter("objects").fit(PICTURE).predict(PICTURE)
    assert [one.name for one in result.table.classes] == ["ground", "object"]
    found = result.instances()
    assert ((found.labels > 0) == (result.labels == 2)).all()
    assert ((result.probabilities[1] > 0.5) == (found.labels > 0)).all()
    assert set(found.columns["class"]) == {"object"}
    inverted = Segmenter("objects").fit(255 - PICTURE).predict(255 - PICTURE)
    assert [one.name for one in inverted.table.classes] == ["object", "ground"]  # ids go from dark to bright


@pytest.mark.parametrize("seed", [0, 3])
def test_noise_has_few_objects_or_none(seed):
    noise = np.random.default_rng(seed).normal(120, 20, (120, 120)).clip(0, 255).astype(np.uint8)
    assert len(np.unique(objects_of(noise))) - 1 <= 5


def test_pixels_outside_a_mask_are_neither_learned_from_nor_objects():
    frame = np.where(np.pad(np.ones((100, 100), bool), 30), PICTURE, 255)
    valid = np.pad(np.ones((100, 100), bool), 30)
    found = objects_of(Image(frame, "YX", valid=valid))
    assert (found[~valid] == 0).all()
    whole = [k for k in range(1, TRUTH.max() + 1) if valid[k == TRUTH].all()]
    assert precision(np.where(np.isin(TRUTH, whole), found, 0), np.where(np.isin(TRUTH, whole), TRUTH, 0)) > 0.8


def test_options_a_biologist_knows():
    small, truth = discs(seed=1, n=6, radius=(4, 5))
    both, told = np.concatenate([PICTURE, small], 1), np.concatenate([TRUTH, np.where(truth > 0, truth + 100, 0)], 1)
    large = objects_of(both, diameter=(12.0, 30.0))
    assert precision(large, np.where(told < 100, told, 0)) > 0.8
    assert (np.bincount(large.ravel())[1:] >= np.pi * 36).all()
    assert (
        objects_of(PICTURE, polarity="dark").max() < TRUTH.max() / 2
        or precision(objects_of(PICTURE, polarity="dark"), TRUTH) < 0.5
    )
    two = np.stack([np.full_like(PICTURE, 9), PICTURE], -1)
    assert precision(objects_of(two, "YXC", channel=1), TRUTH) > 0.9
    with pytest.raises(UsageError, match="channel"):
        objects_of(two, "YXC", channel=2)
    with pytest.raises(UsageError, match="diameter"):
        Segmenter("objects", options={"diameter": (9.0, 3.0)}).config()


@pytest.mark.parametrize("how", ["each", "once"])
def test_one_model_for_many_images(how):
    learned, other = [discs(seed=s)[0] for s in (1, 2, 3)], discs(seed=9)
    model = Segmenter("objects", options={"learn": how}).fit(learned)
    assert precision(model.predict(other[0]).instances().labels, other[1]) > 0.9
    if how == "once":  # polarity, scale and forest are those of the training images
        assert model.predict(np.full((80, 80), 40, np.uint8)).instances().labels.max() == 0
        assert precision(model.predict(255 - other[0]).instances().labels, other[1]) < 0.2


def test_a_stored_model_is_arrays_and_a_damaged_forest_is_refused(tmp_path):
    model = Segmenter("objects", options={"learn": "once"}).fit(PICTURE)
    model.save(tmp_path / "model")
    arrays = load_file(tmp_path / "model" / "model.safetensors")
    assert {"facts", "forest_features", "forest_children"} <= set(arrays)
    again = Segmenter.load(tmp_path / "model").predict(PICTURE)
    assert again.labels.tobytes() == model.predict(PICTURE).labels.tobytes()
    state = model.method_.state()
    state["forest_children"] = torch.zeros_like(state["forest_children"])
    with pytest.raises(ValueError, match="forest"):
        model.method_.restore(state)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"no forest")
    with pytest.raises(ModelError):
        load_method(tmp_path / "model")


def test_the_same_bytes_with_any_number_of_threads(monkeypatch):
    found = []
    for n in ("1", "3"):
        monkeypatch.setenv("SELFSEG_THREADS", n)
        result = Segmenter("objects", seed=5).fit(PICTURE).predict(PICTURE)
        found.append(result.probabilities.tobytes() + result.instances().labels.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("factor", [1, 2])
def test_objects_in_parts_are_those_of_the_whole_image(factor, monkeypatch):
    image, _ = discs(side=420, n=70, seed=4)
    model = Segmenter("objects", options={"learn": "once"}).fit(image).fitted
    model.method.facts[1] = factor
    prepared = prepare(Image(image, "YX"), Preparation.parse("range"))
    whole = model.method.objects(torch.from_numpy(prepared.array))
    context = model.method.context
    monkeypatch.setattr("selfseg.segmenting.objects.plan_grid", lambda *_: _grid(prepared.shape, 140, context))
    labels, numbers = np.where(whole > 0, 2, 1).astype(np.uint8), np.zeros(whole.shape, np.uint32)
    n = number_own(model, prepared, labels, numbers)
    assert n == whole.max() > 30
    pairs = np.unique(np.stack([whole.ravel(), numbers.ravel()], 1), axis=0)
    assert len(pairs) == n + 1  # equal up to ids


@pytest.mark.slow
def test_a_large_image_in_blocks_has_the_objects_of_the_whole():
    """4096 x 4096, in the blocks that are planned for it: equal up to ids, as every object is narrower than the halo."""
    rng = np.random.default_rng(0)
    plain, _ = discs(side=512, n=170, seed=8)
    image = np.tile(plain, (8, 8)).astype(np.float32)
    for top in range(0, 4096, 512):  # no two parts alike
        for left in range(0, 4096, 512):
            image[top : top + 512, left : left + 512] = np.rot90(
                image[top : top + 512, left : left + 512], rng.integers(4)
            )
    image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    fitted = Segmenter("objects").fit(image[:1024, :1024]).fitted
    model = fitted.fixed()
    prepared = prepare(Image(image, "YX"), model.preparation)
    whole = model.method.objects(torch.from_numpy(prepared.array))
    numbers = np.zeros(whole.shape, np.uint32)
    n = number_own(model, prepared, np.where(whole > 0, 2, 1).astype(np.uint8), numbers, memory=2 * 10**9)
    assert n == whole.max() > 8000
    assert len(np.unique(whole.ravel().astype(np.int64) * (n + 1) + numbers.ravel())) == n + 1


def _grid(shape, side, halo):
    from selfseg.tiling.tiles import Grid

    return Grid(shape, (side, side), halo)


def test_tiles_of_a_fixed_model_give_the_whole_image():
    from selfseg.tiling.tiles import predict

    image, _ = discs(side=400, n=60, seed=6)
    method = Segmenter("objects").fit(image).method_.fixed()
    array = image[None].astype(np.float32) / 255
    assert method.context is not None and len(predict(method, array)) == 2
    np.testing.assert_array_equal(
        predict(method, array, tile_pixels=(2 * method.context + 120) ** 2), predict(method, array)
    )


def test_the_slider_shows_the_strongest_objects_first():
    result = Segmenter("objects").fit(PICTURE).predict(PICTURE)
    cut = result.hierarchy.cut(n_regions=6)
    sizes = np.bincount(cut.ravel())
    ground = sizes.argmax()
    shown = [k for k in range(6) if k != ground]
    assert all((TRUTH[cut == k] > 0).mean() > 0.7 for k in shown)


def balls(shape=(24, 60, 60), n=14, seed=0, squeeze=2):
    rng = np.random.default_rng(seed)
    grid, truth, places = np.mgrid[tuple(slice(0, n) for n in shape)].astype(float), np.zeros(shape, np.int32), []
    image = np.full(shape, 20.0)
    while len(places) < n:
        place = np.array([rng.uniform(5, m - 5) for m in shape])
        place[0] *= squeeze
        if all(((place - other) ** 2).sum() > 13**2 for other in places):
            places.append(place)
            inside = (grid[0] * squeeze - place[0]) ** 2 + (grid[1] - place[1]) ** 2 + (grid[2] - place[2]) ** 2 < 36
            image[inside], truth[inside] = rng.uniform(90, 200), len(places)
    return np.clip(image + rng.normal(0, 4, shape), 0, 255).astype(np.uint8), truth


def test_balls_in_a_volume_of_flat_voxels():
    volume, truth = balls()
    picture = Image(volume, "ZYX", spacing=(2.0, 1.0, 1.0))
    model = Segmenter("objects").fit(picture)
    assert model.config().spacing == () and model.method_.config.spacing == (2.0, 1.0, 1.0)
    result = model.predict(picture)
    assert precision(result.instances().labels, truth) > 0.8
    inverted = Image(255 - volume, "ZYX", spacing=(2.0, 1.0, 1.0))
    assert precision(Segmenter("objects").fit(inverted).predict(inverted).instances().labels, truth) > 0.8


def test_a_time_series_has_ids_of_its_own_in_each_frame():
    series = Image(np.stack([PICTURE, discs(seed=3)[0]]), "TYX")
    found = Segmenter("objects").fit(series).predict(series).instances()
    first, second = (set(np.unique(frame)) - {0} for frame in found.labels)
    assert first and second and not first & second
    assert set(found.columns["frame"]) == {0, 1}


def test_fixed_facts_survive_a_round_trip():
    method = Objects(ObjectsConfig(), 1)
    facts = replace(method._facts(), factor=2, noise=0.5)
    method.facts = torch.tensor(list(vars(facts).values()), dtype=torch.float64)
    assert method._facts() == facts and method.multiple == 2
    assert json.loads(ObjectsConfig(diameter=(8.0, 30.0)).model_dump_json())["diameter"] == [8.0, 30.0]
    assert ObjectOptions("own").kind == "own"
