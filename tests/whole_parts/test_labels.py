"""Whole == parts, from the file to labels and objects: every method with finite context, chains of preparation, refinement, cleaning.

Parts are blocks of 16 pixels of an image in a zarr; the whole is the same image in memory, which is one block.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.filters import apply_hysteresis_threshold

from conftest import blobs
from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.read import open_lazy
from selfseg.refine.decide import Cleaning, clean_blocks, decide
from selfseg.refine.instances import number_objects
from selfseg.sample.prepare import Preparation, prepare
from selfseg.segmenting.blocks import ImageMaps, Plan, SlicedMaps
from selfseg.segmenting.images import Settings, segment_image, segment_stored
from selfseg.tiling.tiles import Grid, exact_grid

FINITE = {
    "feature_clustering": {"iterations": 4, "n_features": 6, "n_clusters": 6},
    "unet": {"width": 4, "depth": 1, "iterations": 2, "norm": "batch"},
}
CHAINS = [
    "range",
    "rescale=0.6,range",
    "size=30,minmax",
    "border=2,zscore",
    "multiple=4,max,range",
    "unsharp=2:1,percentile=2:98",
]
CHAINS += [
    "clahe=0.02:4,range",
    "foreground=0,robust",
    "rescale=1.3,multiple=8,range",
    "range,border=1,rescale=0.7,unsharp=1:1",
    "flatten=12,smooth=1,tophat=7:dark,max,range",
]
BLOCK = 16


@cache
def model(name, n_dims, n_channels):
    """A model that has hardly learned: its network is what counts here."""
    data = picture((26, 30) if n_dims == 2 else (10, 14, 16), n_channels, 0)
    labels = (data[..., 0] > data[..., 0].mean()).astype(np.uint8) + 1 if name == "unet" else None
    image = Image(data, "ZYXC"[3 - n_dims :])
    fitted = Segmenter(name, prepare="range", options=FINITE[name]).fit(image, labels).fitted
    assert fitted.method.context is not None
    return fitted


def picture(shape, n_channels, seed):
    rng = np.random.default_rng(seed)
    flat = blobs(shape[-2], shape[-1], seed=seed % 7)[..., :1].astype(np.float32)
    tones = np.linspace(0.4, 1, n_channels)
    data = np.broadcast_to(flat, (*shape[-2:], 1)) * tones
    data = np.broadcast_to(data, (*shape, n_channels)) + rng.normal(0, 12, (*shape, n_channels))
    return np.clip(data, 0, 255).astype(np.uint8)


@st.composite
def cases(draw):
    n_dims = draw(st.sampled_from([2, 2, 3]))
    low, high = (18, 44) if n_dims == 2 else (8, 20)
    shape = tuple(draw(st.integers(low, high)) for _ in range(n_dims))
    name = draw(st.sampled_from(sorted(FINITE)))
    data = picture(shape, n_channels := draw(st.sampled_from([1, 3])), draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["u1", "f4", "nan", "mask"]))
    valid = None
    if kind in ("f4", "nan"):
        data = data.astype(np.float32) / draw(st.sampled_from([1.0, 255.0, 77.0]))
    if kind in ("nan", "mask"):
        hole = tuple(slice(n // 3, n // 3 + draw(st.integers(1, 4))) for n in shape)
        if kind == "nan":
            data[hole] = np.nan
        else:
            valid = np.ones(shape, bool)
            valid[hole] = False
    image = Image(
        data, "ZYXC"[3 - n_dims :], valid=valid, spacing=draw(st.sampled_from([(), (2.0,) + (1.0,) * (n_dims - 1)]))
    )
    return model(name, n_dims, n_channels), image, draw(st.sampled_from(CHAINS))


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    cases(),
    st.sampled_from(["none", "objects:9", "holes:6", "objects:12,holes:8"]),
    st.sampled_from(["components", "watershed"]),
)
def test_a_block_has_the_probabilities_labels_and_objects_of_the_whole(case, clean, kind):
    fitted, image, chain = case
    fitted = replace(fitted, preparation=Preparation.parse(chain))
    whole = segment_image(fitted, image)
    prepared = prepare(image, fitted.preparation)
    blocks = Grid(image.spatial_shape, (BLOCK,) * len(image.spatial_shape), 0)
    maps = ImageMaps(fitted, prepared, Plan(exact_grid(fitted.method, prepared.shape, 700), blocks))
    labels = np.zeros(image.spatial_shape, whole.labels.dtype)
    for place in blocks.places():
        core = blocks.tile(place).core
        probabilities, inside = maps.region(core)
        np.testing.assert_allclose(probabilities, whole.probabilities[(slice(None), *core)], atol=1e-5)
        labels[core] = decide(probabilities, inside)
    first, second = np.sort(whole.probabilities, 0)[[-1, -2]]
    clear = first - second > 1e-4  # elsewhere either of two classes may win by rounding
    np.testing.assert_array_equal(labels[clear], whole.labels[clear])
    np.testing.assert_array_equal(labels == 0, whole.labels == 0)

    expected = Cleaning.parse(clean).apply(whole.labels)
    parts = whole.labels.copy()
    clean_blocks(parts, blocks.sides, Cleaning.parse(clean))
    np.testing.assert_array_equal(parts, expected)
    numbers = np.zeros(parts.shape, np.uint32)
    number_objects(parts, numbers, kind, sides=blocks.sides)
    at_once = np.zeros(parts.shape, np.uint32)
    number_objects(parts, at_once, kind)
    np.testing.assert_array_equal(numbers, at_once)


@pytest.mark.parametrize("clean", [None, "objects:20,holes:10"])
@pytest.mark.parametrize("chain", ["range", "rescale=0.6,range", "border=3,unsharp=2:1,percentile=2:98"])
def test_an_image_in_its_file_is_segmented_as_in_memory(chain, clean, tmp_path, small_blocks):
    data = picture((110, 90), 3, 3)
    array = zarr.create_array(tmp_path / "photo.zarr", shape=data.shape, chunks=(32, 32, 3), dtype="u1")
    array[...] = data
    fitted = replace(model("feature_clustering", 2, 3), preparation=Preparation.parse(chain), clean=clean)
    whole = segment_image(fitted, Image(data, "YXC"))
    parts = segment_stored(fitted, open_lazy(tmp_path / "photo.zarr", "YXC"), tmp_path / "out", Settings(memory=1))
    assert (parts.labels[:] == whole.labels).mean() > 0.999  # sums in another order: a tie may fall otherwise
    assert [path.name for path in (tmp_path / "out" / "labels").iterdir()] == ["photo.zarr"]


@pytest.mark.parametrize(("n_dims", "clean"), [(2, None), (2, "objects:20"), (3, None)])
def test_parts_of_a_hysteresis_are_linked_over_blocks(n_dims, clean, tmp_path, small_blocks):
    data = np.full((110, 90, 1) if n_dims == 2 else (20, 44, 40, 1), 60, np.uint8)
    dim, bright = (np.index_exp[..., 4:36, rows, :] for rows in (slice(4, 14), slice(20, 36)))
    data[dim], data[bright] = 150, 250  # both lie in several blocks
    data = data + np.random.default_rng(0).integers(0, 5, data.shape, np.uint8)
    axes, chunks = "ZYXC"[3 - n_dims :], (32,) * n_dims + (1,)
    array = zarr.create_array(tmp_path / "image.zarr", shape=data.shape, chunks=chunks, dtype="u1")
    array[...] = data
    plain = model("feature_clustering", n_dims, 1)
    k = len(plain.table)
    probabilities = segment_image(plain, Image(data, axes)).probabilities[k - 1]
    peaks = [float(probabilities[part[:-1]].max()) for part in (dim, bright)]
    low = round((float(np.median(probabilities)) + peaks[0]) / 2, 3)
    high = round(sum(peaks) / 2, 3)
    fitted = replace(plain, refine=f"hysteresis({low}, {high})", clean=clean)
    whole = segment_image(fitted, Image(data, axes))
    parts = segment_stored(fitted, open_lazy(tmp_path / "image.zarr", axes), tmp_path / "out", Settings(memory=1))
    assert (parts.labels[:] == whole.labels).mean() > 0.999 and parts.labels.dtype == whole.labels.dtype
    own = apply_hysteresis_threshold(probabilities, low, high)
    assert clean or np.array_equal(whole.labels == k, own)
    assert 0 < own.sum() < (probabilities > low).sum()
    assert [path.name for path in (tmp_path / "out" / "labels").iterdir()] == ["image.zarr"]


@pytest.mark.parametrize("slices", ["z", "y", "x", "all"])
def test_a_volume_is_cleaned_and_linked_when_it_is_cut_into_slices(slices, tmp_path, small_blocks):
    """Cleaning and linking were skipped in silence where a 2D model segments a volume."""
    volume = picture((7, 30, 34), 1, 5)
    plain = model("feature_clustering", 2, 1)
    cleaned = replace(plain, clean="objects:40,holes:20")
    image = Image(volume, "ZYXC")
    raw = segment_image(plain, image, Settings(slices=slices))
    found = segment_image(cleaned, image, Settings(slices=slices))
    np.testing.assert_array_equal(found.labels, Cleaning.parse(cleaned.clean).apply(raw.labels))
    assert (found.labels != raw.labels).any()
    linked = segment_image(plain, image, Settings(slices=slices, link=True))
    assert not np.array_equal(linked.probabilities, raw.probabilities)
    array = zarr.create_array(tmp_path / "v.zarr", shape=volume.shape, chunks=(8, 32, 32, 1), dtype="u1")
    array[...] = volume
    stored = open_lazy(tmp_path / "v.zarr", "ZYXC")
    parts = segment_stored(cleaned, stored, tmp_path / "out", Settings(memory=1, slices=slices))
    np.testing.assert_array_equal(parts.labels[:], found.labels)


def test_slices_of_a_region_are_those_of_the_volume():
    image = Image(picture((9, 26, 28), 3, 2), "ZYXC")
    maps = SlicedMaps(model("feature_clustering", 2, 3), image, "ZYX")
    whole, _ = maps.region(tuple(slice(0, n) for n in image.spatial_shape))
    region = (slice(2, 6), slice(5, 20), slice(0, 11))
    part, _ = SlicedMaps(model("feature_clustering", 2, 3), image, "ZYX").region(region)
    np.testing.assert_allclose(part, whole[(slice(None), *region)], atol=1e-5)


def test_parts_that_touch_at_a_corner_are_cut_alike_in_parts():
    labels = np.genfromtxt(Path(__file__).with_name("corners.txt"), np.uint8, delimiter=1)
    numbers, at_once = np.zeros(labels.shape, np.uint32), np.zeros(labels.shape, np.uint32)
    number_objects(labels, numbers, "watershed", sides=(16, 16))
    number_objects(labels, at_once, "watershed")
    np.testing.assert_array_equal(numbers, at_once)


@pytest.mark.parametrize("seed", range(40, 70))
def test_seeds_of_one_height_are_flooded_alike_in_blocks_and_at_once(seed):
    """Of noise, whose parts have many: at seeds 45, 55 and 59 pixels on a ridge went to either side."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(18, 45)), int(rng.integers(18, 45)))
    noise = gaussian_filter(rng.normal(size=shape), rng.choice([0.6, 0.8, 1.2, 2]))
    labels = (noise > np.quantile(noise, rng.choice([0.3, 0.5, 0.7]))).astype(np.uint8) + 1
    if rng.random() < 0.5:
        labels = Cleaning.parse("objects:9").apply(labels)
    blocks, whole = np.zeros((2, *shape), np.uint32)
    number_objects(labels, blocks, "watershed", sides=(BLOCK, BLOCK))
    number_objects(labels, whole, "watershed")
    np.testing.assert_array_equal(blocks, whole)
