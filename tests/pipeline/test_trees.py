"""Merge trees beside the results: of images in memory and in parts, cut at any level, damaged ones named."""

import numpy as np
import pytest
import zarr
from PIL import Image as Picture

from conftest import blobs
from in_parts import large_tree, predict_large, stored
from selfseg.apps.cli import main
from selfseg.core.errors import InputError, UsageError
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.read import open_lazy
from selfseg.read.labels import read_labels
from selfseg.results.merge_trees import cut_folder, read_tree, write_tree
from selfseg.segmenting import trees

QUICK = {"iterations": 12, "n_features": 12, "n_clusters": 12, "continuity": 1.0}


pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture(scope="module")
def model():
    return Segmenter("feature_clustering", prepare="range", n_classes=3, options=QUICK).fit(blobs(90, 80))


def _numbers(path):
    return zarr.open_array(path / "0", mode="r")[...]


def _agreement(a, b):
    """Share of pixels that lie in regions which overlap most with each other, over all pixels."""
    table = np.zeros((a.max() + 1, b.max() + 1), np.int64)
    np.add.at(table, (a.ravel(), b.ravel()), 1)
    return table.max(0).sum() / a.size, table.max(1).sum() / a.size


def test_superpixels_lie_in_blocks_and_classes_and_cuts_follow_the_picture(model, tmp_path):
    data = blobs(200, 170, seed=5)
    result = predict_large(model, stored(tmp_path / "photo.zarr", data, "YXC"), tmp_path, memory=1)
    tree = large_tree(model, result, tmp_path, memory=1)
    numbers = _numbers(tmp_path / "tree" / "photo.zarr")
    assert numbers.min() == 1
    assert numbers.max() == tree.n_leaves
    np.testing.assert_array_equal(np.bincount(numbers.ravel())[1:], tree.sizes[: tree.n_leaves])
    labels = result.labels[:]
    for number in range(1, tree.n_leaves + 1):
        assert len(np.unique(labels[numbers == number])) == 1
    kept = read_tree(tmp_path / "tree" / "photo.npz")
    np.testing.assert_array_equal(kept.parents, tree.parents)
    assert cut_folder(tmp_path, n_regions=3) == []
    found = _numbers(tmp_path / "cut" / "photo.zarr")
    assert set(np.unique(found)) == {1, 2, 3}
    # the picture's own three parts: left ground, right ground, disc. The faces of blocks are nowhere to be seen
    y, x = np.mgrid[:200, :170]
    truth = np.where((y - 100) ** 2 + (x - 85) ** 2 < 42.5**2, 2, x >= 85)
    assert min(_agreement(found, truth)) > 0.97


def test_of_one_block_the_tree_is_that_of_the_whole(model, tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "SMALLEST_TILE", 10**6)
    data = blobs(90, 80, seed=1)
    result = predict_large(model, stored(tmp_path / "photo.zarr", data, "YXC"), tmp_path, memory=1)
    large_tree(model, result, tmp_path, memory=1)
    whole = model.predict(data).hierarchy
    assert cut_folder(tmp_path, n_regions=9) == []
    found = _numbers(tmp_path / "cut" / "photo.zarr").astype(int)
    assert min(_agreement(found, whole.cut(n_regions=9))) > 0.999


def test_volumes_with_holes(tmp_path):
    volume = np.repeat(blobs(40, 36)[None, :, :, 0], 24, axis=0).astype(np.float32)
    model = Segmenter("feature_clustering", prepare="minmax", options=QUICK).fit(volume)
    volume[:9, :9, :9] = np.nan
    result = predict_large(model, stored(tmp_path / "v.zarr", volume, "ZYX"), tmp_path, memory=1)
    tree = large_tree(model, result, tmp_path, memory=1)
    numbers = _numbers(tmp_path / "tree" / "v.zarr")
    np.testing.assert_array_equal(numbers == 0, np.isnan(volume))
    assert numbers.max() == tree.n_leaves > 20
    assert cut_folder(tmp_path, level=float(tree.levels[-1])) == []
    assert set(np.unique(_numbers(tmp_path / "cut" / "v.zarr"))) == {0, 1}


def test_the_commands(model, tmp_path, capsys):
    stored(tmp_path / "big.zarr", blobs(120, 100), "YXC")
    Picture.fromarray(blobs(60, 50)).save(tmp_path / "small.png")
    model.save(tmp_path / "model")
    words = ["predict", tmp_path / "model", tmp_path / "big.zarr", tmp_path / "small.png", "--axes", "YXC", "-q"]
    assert main([*map(str, words), "-o", str(tmp_path / "out"), "--tree", "--memory", "1MB"]) == 0
    assert main(["cut", str(tmp_path / "out"), "--regions", "4", "-q"]) == 0
    assert len(np.unique(_numbers(tmp_path / "out" / "cut" / "big.zarr"))) == 4
    small = read_labels(tmp_path / "out" / "cut" / "small.tif")
    whole = model.predict(blobs(60, 50)).hierarchy.cut(n_regions=4)
    np.testing.assert_array_equal(small, whole + 1)
    assert main(["cut", str(tmp_path / "out"), "-q"]) == 2
    assert main(["cut", str(tmp_path / "out"), "--regions", "0", "-q"]) == 2
    assert main(["cut", str(tmp_path), "--regions", "2", "-q"]) == 1
    assert "--tree" in capsys.readouterr().err


def test_what_is_no_tree_is_named(tmp_path):
    (tmp_path / "tree").mkdir()
    np.savez(tmp_path / "tree" / "a.npz", parents=np.zeros(4, int), altitudes=np.zeros(4), sizes=np.zeros(4))
    (tmp_path / "tree" / "b.npz").write_bytes(b"PK\3\4 and no more")
    np.savez(tmp_path / "tree" / "c.npz", parents=np.array([2, 2, 1]), altitudes=np.zeros(3), sizes=np.zeros(3))
    failures = dict(cut_folder(tmp_path, n_regions=2))
    assert set(failures) == {"a", "b", "c"}
    assert all("expected a merge tree" in message for message in failures.values())
    with pytest.raises(InputError, match="--tree"):
        cut_folder(tmp_path / "nothing", n_regions=2)


def test_a_tree_of_other_superpixels_is_refused(model, tmp_path):
    result = predict_large(model, stored(tmp_path / "p.zarr", blobs(70, 60), "YXC"), tmp_path, memory=1)
    tree = large_tree(model, result, tmp_path, memory=1)
    write_tree(tmp_path / "tree" / "p.npz", type(tree)(np.array([0], np.int32), np.zeros(1), np.ones(1)))
    ((name, message),) = cut_folder(tmp_path, n_regions=1)
    assert name == "p"
    assert "superpixel" in message


def test_a_series_has_no_tree(model, tmp_path):
    series = np.stack([blobs(50, 40, seed=i) for i in range(2)])
    stored(tmp_path / "t.zarr", series, "TYXC")
    ((_, message),) = predict(model, tmp_path / "t.zarr", tmp_path / "o", axes="TYXC", memory=1, tree=True)
    assert "leave --tree out" in message
    result = predict_large(model, open_lazy(tmp_path / "t.zarr", "TYXC"), tmp_path / "o", memory=1)
    with pytest.raises(UsageError, match="single image"):
        large_tree(model, result, tmp_path / "o")
