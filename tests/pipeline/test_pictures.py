"""Pictures of the way: as files, in the report, and beside the labels while a method learns."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from conftest import blobs
from selfseg import Segmenter
from selfseg.core.image import Image
from selfseg.learning.run import predict
from selfseg.results.folder import method_pictures, shown

QUICK = {"width": 4, "depth": 2, "n_features": 6, "iterations": 3, "patch_sides": (8, 12), "patches_of_largest": 1}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("way")
    model = Segmenter("sp_wnet", options=QUICK).fit(blobs(), out=folder / "model", preview_every=0.0)
    assert predict(model, blobs(), folder) == []
    return folder


def test_files_and_report_show_how_the_method_sees_the_image(out):
    names = {path.stem for path in (out / "pictures").iterdir()}
    assert names == {"reconstruction", "superpixels", "patches", "curves"}
    drawing = ElementTree.parse(out / "pictures" / "curves.svg").getroot()
    titles = {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "title"}
    assert titles == {"rc_image", "rc_patches", "sim", "con"}
    assert Pillow.open(out / "pictures" / "superpixels.png").size == (52, 40)
    page = (out / "report.html").read_text()
    for caption in ("image: reconstruction", "image: superpixels", "image: patches", "while learning, step 000003"):
        assert f"<figcaption>{caption}</figcaption>" in page


def test_previews_show_the_reconstruction_beside_the_labels(out):
    pictures = sorted((out / "model" / "previews").glob("step-*.png"))
    assert len(pictures) == 3
    width, height = Pillow.open(pictures[0]).size
    assert (width, height) in ((2 * 52 + 4, 40), (52, 2 * 40 + 4))


def test_superpixel_boundaries_lie_between_superpixels(out):
    model = Segmenter("sp_wnet", options=QUICK).fit(blobs())
    prepared = model.preparation_.apply(Image(blobs(), "YXC"))
    picture = model.method_.pictures(torch.from_numpy(prepared.array))["superpixels"].numpy()
    labels = model.method_.graphs.of(torch.from_numpy(prepared.array)).regions.labels.numpy()
    edge = np.zeros(labels.shape, bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    assert (picture[:, edge] == prepared.array.max()).all()
    assert np.array_equal(picture[:, ~edge], prepared.array[:, ~edge])


def test_a_method_without_pictures_has_none():
    model = Segmenter("region_merging").fit(blobs())
    assert method_pictures(model.method_, model.preparation_.apply(Image(blobs(), "YXC"))) == {}


def test_pictures_of_any_scale_and_dimension_become_rgb():
    prepared = np.linspace(-3, 5, 2 * 4 * 6 * 7, dtype=np.float32).reshape(2, 4, 6, 7)
    assert shown(prepared, prepared).shape == (6, 7, 3)
    grey = np.array([[[-1.0, 0.0, 1.0, 9.0]]], np.float32)
    assert shown(grey, np.array([[[0.0, 2.0]]]))[0, :, 0].tolist() == [0, 0, 128, 255]
    colours = np.full((3, 2, 2), 0.5, np.float32)
    assert (shown(colours, np.full((3, 2, 2), 0.2)) == 128).all()
