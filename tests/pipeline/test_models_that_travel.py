"""Models in other programs: onnxruntime gives the labels that selfseg gives; hub folders; BioImage.IO packages."""

import hashlib
import json
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image as Picture

from conftest import blobs
from selfseg.apps.cli import main
from selfseg.core.errors import InputError, OutputError, UsageError
from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import find_method, method_names
from selfseg.results.bioimageio import export_bioimageio
from selfseg.results.portable import export_onnx, make_portable

NETWORKS = {
    "feature_clustering": {"iterations": 10, "n_features": 16, "n_clusters": 12},
    "wnet": {"iterations": 4, "width": 4, "depth": 2, "n_clusters": 5},
    "deep_kmeans": {"iterations": 4},
    "unet": {"iterations": 4, "width": 4, "depth": 2, "padded": False, "symmetries": True},
}


def fitted(name, images=None, **options):
    model = Segmenter(name, options=NETWORKS[name] | options.pop("options", {}), **{"prepare": "auto", **options})
    images = [blobs(64, 72)] if images is None else images
    annotations = [(image[..., 0] > 100).astype(np.uint8) + 1 for image in images] if name == "unet" else None
    return model.fit(images, annotations)


def run(path, image):
    """Labels of an image ``[*S C]`` by onnxruntime alone."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (answer,) = session.run(["probabilities"], {"image": np.moveaxis(image, -1, 0)[None].astype(np.float32)})
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-4)
    return answer[0].argmax(0) + 1


@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_gives_the_same_labels_at_any_size(name, tmp_path):
    pytest.importorskip("onnx")
    model = fitted(name)
    assert export_onnx(model.fitted, tmp_path / "model.onnx").before == ""
    for shape in ((64, 72), (101, 87), (50, 131)):
        image = blobs(*shape, seed=4)
        agree = run(tmp_path / "model.onnx", image) == model.predict(image).labels
        assert agree.mean() >= 0.999, shape


def test_merged_classes_are_summed(tmp_path):
    pytest.importorskip("onnx")
    model = fitted("feature_clustering", n_classes=4).edit([(2, 3)])
    export_onnx(model.fitted, tmp_path / "model.onnx")
    image = blobs(50, 60, seed=2)
    labels = run(tmp_path / "model.onnx", image)
    assert (labels == model.predict(image).labels).mean() >= 0.999 and labels.max() <= 3


def test_a_volume(tmp_path):
    pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    volume = (rng.random((12, 20, 24)) * 60 + 150 * (np.indices((12, 20, 24))[1] > 9)).astype(np.uint8)
    model = fitted("feature_clustering", [Image(volume, "ZYX")])
    export_onnx(model.fitted, tmp_path / "model.onnx")
    labels = run(tmp_path / "model.onnx", volume[..., None])
    assert (labels == model.predict(Image(volume, "ZYX")).labels).mean() >= 0.999


@pytest.mark.parametrize(("kind", "top"), [("uint16", 4000), ("float32", 0.8)])
def test_known_limits_are_in_the_graph(kind, top, tmp_path):
    pytest.importorskip("onnx")
    image = (blobs(64, 72).astype(np.float64) / 255 * top).astype(kind)
    model = fitted("feature_clustering", [image])
    portable = export_onnx(model.fitted, tmp_path / "model.onnx")
    assert (portable.before, portable.values) == ("", kind)
    assert (run(tmp_path / "model.onnx", image) == model.predict(image).labels).mean() >= 0.999


def test_steps_that_depend_on_the_image_are_named(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = fitted("feature_clustering", prepare="size=40,percentile=1:99")
    assert export_onnx(model.fitted, tmp_path / "model.onnx").before == "size=40,percentile=1:99"
    told = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert told["selfseg.before"] == "size=40,percentile=1:99" and told["selfseg.axes"] == "bcyx"
    assert [item["id"] for item in json.loads(told["selfseg.classes"])] == [one.id for one in model.table_.classes]


@pytest.mark.parametrize("name", sorted({*method_names()} - {*NETWORKS, "sp_wnet"}))
def test_methods_that_are_no_network_are_refused(name):
    method = find_method(name)
    assert method.portable(SimpleNamespace()) is None
    model = SimpleNamespace(method=SimpleNamespace(eval=lambda: SimpleNamespace(portable=lambda: None)), name=name)
    with pytest.raises(UsageError, match="selfseg distill"):
        make_portable(model)


def test_without_the_package_one_line_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("selfseg.results.portable.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'selfseg\[onnx\]'"):
        export_onnx(fitted("deep_kmeans").fitted, tmp_path / "model.onnx")


def test_a_package_is_whole_and_says_how_to_prepare(tmp_path):
    pytest.importorskip("onnx")
    model = fitted("feature_clustering", prepare="size=40,auto", n_classes=3, refine="crf")
    export_bioimageio(model.fitted, tmp_path / "cells.bioimageio.zip")
    with zipfile.ZipFile(tmp_path / "cells.bioimageio.zip") as package:
        files = {name: package.read(name) for name in package.namelist()}
    told = yaml.safe_load(files["rdf.yaml"])
    named = [told["documentation"], *told["covers"], *told["attachments"], told["weights"]["onnx"]]
    named += [told[side][0]["test_tensor"] for side in ("inputs", "outputs")]
    assert all(hashlib.sha256(files[one["source"]]).hexdigest() == one["sha256"] for one in named)
    assert len(named) == len(files) - 1
    (tmp_path / "model.onnx").write_bytes(files["model.onnx"])
    for name in ("test_input.npy", "test_output.npy"):
        (tmp_path / name).write_bytes(files[name])
    image, answer = np.load(tmp_path / "test_input.npy"), np.load(tmp_path / "test_output.npy")
    np.testing.assert_array_equal(run(tmp_path / "model.onnx", np.moveaxis(image[0], 0, -1)), answer[0].argmax(0) + 1)
    text = files["README.md"].decode()
    assert "`size=40`" in text and "crf" in text and "| 2 | 3 | class 3 |" in text
    export_bioimageio(model.fitted, tmp_path / "again" / "cells.bioimageio.zip")
    assert (tmp_path / "again" / "cells.bioimageio.zip").read_bytes() == (
        tmp_path / "cells.bioimageio.zip"
    ).read_bytes()


def test_the_command_line_exports_the_model_of_a_folder(tmp_path, capfd):
    pytest.importorskip("onnx")
    Picture.fromarray(blobs()).save(tmp_path / "photo.png")
    fitted("feature_clustering").save(tmp_path / "cells")
    words = [
        "export",
        str(tmp_path / "cells"),
        "--format",
        "onnx",
        "--format",
        "bioimageio",
        "-o",
        str(tmp_path / "to"),
    ]
    assert main(words) == 0
    assert {path.name for path in (tmp_path / "to").iterdir()} == {"cells.onnx", "cells.bioimageio.zip"}
    assert main(["segment", str(tmp_path / "photo.png"), "--method", "kmeans", "-q", "-o", str(tmp_path / "out")]) == 0
    assert main(["export", str(tmp_path / "out"), "--format", "onnx"]) == 2
    assert "selfseg distill" in capfd.readouterr().err
    assert main([*words[:4], "--values", "uint7"]) == 2
    assert main(["export", str(tmp_path / "out"), "--format", "csv", "--values", "uint8"]) == 2


def test_a_shared_folder_does_not_name_the_training_images(tmp_path):
    Picture.fromarray(blobs()).save(tmp_path / "patient_7.png")
    model = Segmenter("kmeans").fit(tmp_path / "patient_7.png")
    model.save(tmp_path / "own")
    model.save_pretrained(tmp_path / "shared")
    assert "patient_7" in (tmp_path / "own" / "config.json").read_text()
    for path in (tmp_path / "shared").rglob("*"):
        assert b"patient_7" not in path.read_bytes()
    again = Segmenter.from_pretrained(tmp_path / "shared")
    np.testing.assert_array_equal(again.predict(blobs(seed=1)).labels, model.predict(blobs(seed=1)).labels)
    head = (tmp_path / "shared" / "README.md").read_text().split("---")[1]
    assert yaml.safe_load(head)["library_name"] == "selfseg"


def test_what_is_pushed_is_what_is_loaded(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    store, asked = tmp_path / "hub", {}

    def create_repo(self, repo_id, private=None, exist_ok=False):
        asked.update(private=private)
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message, **more):
        for name in allow_patterns:
            (store / "blobs").mkdir(parents=True, exist_ok=True)
            shutil.copy(f"{folder_path}/{name}", store / "blobs" / name)
        return SimpleNamespace(commit_url=f"hub/{repo_id}/commit/1")

    def snapshot_download(repo_id, *, allow_patterns, revision=None, **more):
        asked.update(repo=repo_id, revision=revision)
        place = store / "snapshots"  # as in the cache: links to blobs
        place.mkdir(exist_ok=True)
        for name in allow_patterns:
            (place / name).unlink(missing_ok=True)
            (place / name).symlink_to(store / "blobs" / name)
        return str(place)

    monkeypatch.setattr(hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    model = fitted("feature_clustering")
    assert model.push_to_hub("someone/cells", private=True) == "hub/someone/cells/commit/1"
    assert asked["private"] is True
    assert {path.name for path in (store / "blobs").iterdir()} == {
        "README.md",
        "classes.json",
        "config.json",
        "model.safetensors",
    }
    image = blobs(seed=1)
    for again in (Segmenter.from_pretrained("someone/cells@v2"), Segmenter.load("hf://someone/cells@v2")):
        np.testing.assert_array_equal(again.predict(image).labels, model.predict(image).labels)
        assert (asked["repo"], asked["revision"]) == ("someone/cells", "v2")
    Picture.fromarray(image).save(tmp_path / "a.png")
    words = ["predict", "hf://someone/cells", str(tmp_path / "a.png"), "-q", "-o", str(tmp_path / "out")]
    assert main(words) == 0 and asked["repo"] == "someone/cells"


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")

    def fail(*_, **__):
        raise OSError("no network\nand more")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    monkeypatch.setattr(hub.HfApi, "create_repo", fail)
    with pytest.raises(InputError, match="no network; check name"):
        Segmenter.from_pretrained("someone/cells")
    with pytest.raises(OutputError, match="no network; check name"):
        fitted("deep_kmeans").push_to_hub("someone/cells")
    monkeypatch.undo()
    with pytest.raises(UsageError, match="a folder that exists, or USER/NAME"):
        Segmenter.from_pretrained("a/b/c/d")
