"""Every method learns and predicts on a device of its own: nothing may mix with the host's, nor be handed to NumPy from there."""

import contextlib
import os

import numpy as np
import pytest
import torch
from pretended_gpu import PretendedGPU

from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import find_method, method_names
from selfseg.sample.device import in_fixed_order

TINY = {
    "feature_clustering": {"n_features": 8, "n_clusters": 8, "iterations": 4, "min_classes": 1, "learning_rate": 0.001},
    "wnet": {"width": 4, "depth": 1, "patch": 16, "iterations": 3, "n_clusters": 4, "radius": 3},
    "sp_wnet": {"width": 4, "depth": 1, "patch_sides": (12,), "iterations": 3, "n_features": 4, "beta_cut": 0.5},
    "deep_kmeans": {
        "width": 4,
        "depth": 1,
        "n_features": 4,
        "n_clusters": 3,
        "pretrain_iterations": 3,
        "iterations": 3,
        "restarts": 1,
    },
    "unet": {"width": 4, "depth": 1, "patch": 16, "iterations": 3, "border": 5.0, "dice": 1.0},
    "region_merging": {"superpixel_size": 40.0},
    "pixel_classifier": {},
    **{name: {} for name in ("contours", "feature_codebook", "kmeans", "membranes", "objects", "threshold")},
}
DRAWN = np.random.default_rng(0).integers(0, 20, (24, 32, 3))
GREY = np.full((24, 32, 3), 60) + np.where(np.arange(32) < 16, 0, 120)[None, :, None] + DRAWN
PHOTO = Image(GREY.astype(np.uint8), "YXC")
VOLUME = Image(np.repeat(GREY[None, ::2, ::2].astype(np.uint8), 6, 0), "ZYXC")

CASES = [pytest.param(name, PHOTO, id=f"{name}-2D") for name in sorted(TINY)] + [
    pytest.param(name, VOLUME, id=f"{name}-3D", marks=pytest.mark.slow)
    for name in sorted(TINY)
    if 3 in find_method(name).dimensions
]


def told(name, image):
    """Labels, for the method that needs them."""
    return {"labels": [(image.data.mean(-1) > 120).astype(np.int32) + 1]} if needs_labels(name) else {}


def needs_labels(name):
    return find_method(name).needs_annotations


def learned(name, image=PHOTO, device="cuda", **how):
    options = {**TINY[name], **how.pop("options", {})}
    model = Segmenter(name, None if needs_labels(name) else 2, device=device, prepare="range", options=options)
    return model.fit(image, preview_every=0, compiled=False, **told(name, image), **how)


def the_gpu():
    """The pretended GPU, or the real one where `benchmarks/gpu.sh` asks for it."""
    return contextlib.nullcontext() if os.environ.get("SELFSEG_REAL_GPU") else PretendedGPU()


def counters(method):
    """Names of what stays on the host: the host decides by it."""
    parts = method.named_modules()
    return {".".join(filter(None, (path, name))) for path, part in parts for name in getattr(part, "on_host", ())}


@pytest.mark.parametrize(("name", "image"), CASES)
def test_learning_and_prediction_keep_to_their_device(name, image, tmp_path):
    with the_gpu():
        model = learned(name, image, out=tmp_path / "m", checkpoint_every=0)
        here = {key for key, tensor in model.method_.state().items() if tensor.numel() and tensor.device.type == "cpu"}
        assert here == counters(model.method_)
        labels = model.predict(image).labels
        again = Segmenter.load(tmp_path / "m", device="cuda").predict(image).labels
    assert len(np.unique(labels)) == (1 if name == "objects" and image is PHOTO else 2)  # two halves are no objects
    assert np.array_equal(labels, again)
    here = Segmenter.load(tmp_path / "m", device="cpu").predict(image).labels
    assert (labels == here).mean() > (0.99 if os.environ.get("SELFSEG_REAL_GPU") else 1 - 1e-9)


def test_every_method_of_this_package_is_among_them():
    assert set(method_names()) == set(TINY)


@pytest.mark.parametrize(("name", "image"), CASES)
def test_every_method_has_a_form_in_a_fixed_order(name, image):
    """The pretended GPU refuses what the documentation of torch says is refused; the labels are those of the quick form."""
    with the_gpu():
        labels = learned(name, image, deterministic=True).predict(image).labels
        quick = learned(name, image).predict(image).labels
    assert (labels == quick).mean() > 0.97


def test_what_torch_has_no_fixed_order_for_is_refused_on_the_pretended_gpu():
    with PretendedGPU(), in_fixed_order(True):
        chances = torch.rand(5, device="cuda")
        assert chances.long().cumsum(0).shape == (5,)
        with pytest.raises(RuntimeError, match="cumsum does not have a deterministic implementation"):
            chances.cumsum(0)
