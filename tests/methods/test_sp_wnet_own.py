"""Superpixels that the user brings along."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

from conftest import blobs
from selfseg import Segmenter
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.learning.run import predict
from selfseg.segmenting.images import OwnSuperpixels

SMALL = {"prepare": "range", "width": 4, "depth": 2, "n_features": 6, "iterations": 3, "patch_sides": (8, 12)}


def halves():
    own = np.zeros((40, 52), np.int32)
    own[:, 20:] = 7
    own[25:] += 100
    own[:2] = -1
    return own


def test_own_superpixels_from_files(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "own").mkdir()
    for name in ("a", "b"):
        Pillow.fromarray(blobs(seed=len(name))).save(tmp_path / "photos" / f"{name}.png")
        tifffile.imwrite(tmp_path / "own" / f"{name}.tif", halves())
    photos, own = tmp_path / "photos", tmp_path / "own"
    model = Segmenter("sp_wnet", options=SMALL).fit(photos, superpixels=own, out=tmp_path / "m")
    assert "superpixels" in model.facts_
    results = model.predict(photos, superpixels=own)
    for result in results:
        for value in np.unique(halves())[1:]:
            assert len(np.unique(result.labels[halves() == value])) == 1
        assert (result.labels > 0).all()
    with pytest.raises(InputError, match="your own for every image"):
        model.predict(blobs(seed=5))
    (own / "b.tif").unlink()
    (failure,) = predict(model, photos, tmp_path / "out", superpixels=own)
    assert failure[0] == "b" and "expected some for b" in failure[1]


def test_own_superpixels_follow_the_preparation(tmp_path):
    Pillow.fromarray(blobs()).save(tmp_path / "a.png")
    np.save(tmp_path / "s.npy", halves())
    model = Segmenter("sp_wnet", options=SMALL, prepare="rescale=0.5,border=2,range")
    model.fit(tmp_path / "a.png", superpixels=tmp_path / "s.npy")
    prepared = model.preparation_.apply(Image(blobs(), "YXC"))
    OwnSuperpixels(tmp_path / "s.npy").give(model.method_, prepared)
    labels = model.method_.graphs.of(torch.from_numpy(prepared.array), memo=prepared.memo).regions.labels.numpy()
    assert labels.shape == (16, 22)
    expected = halves()[1::2, 1::2][2:-2, 2:-2]
    assert len(np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1).T) == len(np.unique(expected))


def test_own_superpixels_are_refused_where_they_make_no_sense(tmp_path):
    np.save(tmp_path / "s.npy", halves())
    np.save(tmp_path / "wrong.npy", halves()[:5])
    with pytest.raises(UsageError, match="sp_wnet"):
        Segmenter("region_merging").fit(blobs(), superpixels=tmp_path / "s.npy")
    with pytest.raises(InputError, match="size of the image"):
        Segmenter("sp_wnet", options=SMALL).fit(blobs(), superpixels=tmp_path / "wrong.npy")
    model = Segmenter("sp_wnet", options=SMALL).fit(blobs())
    with pytest.raises(UsageError, match="learned with given ones"):
        model.predict(blobs(), superpixels=tmp_path / "s.npy")
