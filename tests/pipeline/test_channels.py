"""Channels are chosen by name or number, for learning and prediction alike, in memory and in the file."""

import json

import numpy as np
import pytest
import tifffile

import selfseg
from conftest import blobs
from selfseg.apps.cli import main
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.read import open_lazy

NAMES = ("red", "green", "blue", "depth")


def picture(seed: int = 0) -> np.ndarray:
    """Noise in channels 0 and 3, blobs in 1 and 2: uint8 [Y X C]."""
    noise = np.random.default_rng(seed).integers(0, 255, (40, 52, 2)).astype(np.uint8)
    return np.concatenate([noise[..., :1], blobs(40, 52, 2, seed=seed), noise[..., 1:]], -1)


def test_channels_come_in_the_order_in_which_they_are_named():
    image = Image(picture(), "YXC", channels=NAMES)
    chosen = image.select_channels("blue, 0")
    assert chosen.channels == ("blue", "red") and chosen.n_channels == 2
    np.testing.assert_array_equal(chosen.data, image.data[..., [2, 0]])
    assert image.select_channels(["blue", 0]) is chosen  # what is computed of it is found again
    assert image.select_channels(None) is image and image.select_channels("0,1,2,3") is image
    assert image.select_channels(3).channels == ("depth",)
    assert Image(picture()[..., 0], "YX").select_channels(0).axes == "YX"


@pytest.mark.parametrize("wanted", ["violet", "4", "-1", ["red", "violet"], ""])
def test_an_unknown_channel_is_one_line_that_lists_those_of_the_image(wanted):
    with pytest.raises(InputError, match=r"a channel out of 0 \(red\), 1 \(green\), 2 \(blue\), 3 \(depth\), got '"):
        Image(picture(), "YXC", channels=NAMES).select_channels(wanted)
    with pytest.raises(InputError, match="a channel out of 0 to 3, got 'red'"):
        Image(picture(), "YXC").select_channels("red")


@pytest.mark.parametrize("axes", ["YXC", "CYX"])
def test_channels_of_an_image_in_its_file_are_read_window_by_window(axes, tmp_path):
    data = picture() if axes == "YXC" else np.moveaxis(picture(), -1, 0).copy()
    tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": axes})
    with open_lazy(tmp_path / "a.tif", axes) as image:
        chosen = image.select_channels([3, 1])
        assert not chosen.in_memory
        whole = np.moveaxis(picture()[..., [3, 1]], -1, axes.index("C"))
        np.testing.assert_array_equal(chosen.load().data, whole)
        part = chosen.window(Y=slice(3, 9), X=slice(2, 40), C=slice(1, 2)).channels_last()
        np.testing.assert_array_equal(part, picture()[3:9, 2:40, 1:2])


def test_a_model_keeps_its_channels(tmp_path):
    image = Image(picture(), "YXC", channels=NAMES)
    model = selfseg.Segmenter("region_merging", n_classes=3, channels=["blue", "green"]).fit(image)
    alone = selfseg.Segmenter("region_merging", n_classes=3).fit(Image(picture()[..., [2, 1]].copy(), "YXC"))
    assert model.method_.n_channels == 2
    labels = model.predict(image).labels
    np.testing.assert_array_equal(labels, alone.predict(Image(picture()[..., [2, 1]].copy(), "YXC")).labels)
    model.save(tmp_path)
    again = selfseg.load(tmp_path)
    assert again.channels == ["blue", "green"]
    moved = Image(picture()[..., [1, 2, 0, 3]].copy(), "YXC", channels=("green", "blue", "red", "depth"))
    result = again.predict(moved)
    np.testing.assert_array_equal(result.labels, labels)
    assert result.image.n_channels == 4  # overlays and measures have all of them
    with pytest.raises(InputError, match="a channel out of 0 to 3, got 'blue'"):
        again.predict(picture())
    np.testing.assert_array_equal(again.set_params(channels="2,1").predict(picture()).labels, labels)


def test_channels_from_the_command_line(tmp_path, capfd):
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", picture(ord(name)), metadata={"axes": "YXC"})
    words = ["--method", "region_merging", "--n-classes", "3", "--channels", "1,2", "--quiet"]
    assert main(["segment", str(tmp_path / "a.tif"), "-o", str(tmp_path / "out"), *words]) == 0
    model, other = str(tmp_path / "out" / "model"), str(tmp_path / "b.tif")
    assert json.loads((tmp_path / "out" / "model" / "config.json").read_text())["params"]["channels"] == "1,2"
    assert main(["predict", model, other, "-o", str(tmp_path / "b"), "--quiet"]) == 0
    labels = tifffile.imread(tmp_path / "b" / "labels" / "b.tif")
    np.testing.assert_array_equal(labels, selfseg.load(model).predict(tmp_path / "b.tif").labels)
    assert main(["predict", model, other, "-o", str(tmp_path / "b"), "--channels", "9", "--quiet"]) == 1
    assert "a channel out of 0 to 3, got '9'" in capfd.readouterr().err
    fit = ["fit", other, "-o", str(tmp_path / "m"), *words]
    assert main([*fit[:-2], "7", "--quiet"]) == 1


def test_channels_of_an_image_that_is_predicted_in_parts(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(), metadata={"axes": "YXC"})
    options = {"iterations": 4, "n_features": 8, "n_clusters": 8}
    model = selfseg.Segmenter(prepare="range", n_classes=3, options=options, channels="2,1").fit(picture())
    assert selfseg.predict(model, tmp_path / "a.tif", tmp_path / "out", axes="YXC", memory=1) == []
    with open_lazy(tmp_path / "out" / "labels" / "a.zarr") as labels:
        np.testing.assert_array_equal(labels.data[...], model.predict(picture()).labels)


def test_a_run_is_not_resumed_with_other_channels(tmp_path):
    options = {"iterations": 4, "n_features": 8, "n_clusters": 8}
    how = {"options": options, "out": tmp_path, "method": "feature_clustering"}

    class Stop:
        def __getattr__(self, name):
            return lambda *words: None

        def update(self, done, values):
            if "classes" in values and done == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        selfseg.fit(picture(), channels="1,2", progress=Stop(), checkpoint_every=0, **how)
    with pytest.raises(UsageError, match="other channels"):
        selfseg.fit(picture(), channels="2,1", resume=True, **how)
