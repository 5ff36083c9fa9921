"""Models as BioImage.IO packages (specification 0.5), which ilastik, Fiji's deepImageJ, QuPath and others read."""

import hashlib
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from selfseg.core.classes import class_colours
from selfseg.core.files import writing
from selfseg.results.model import FittedModel, selfseg_version
from selfseg.results.portable import AXES, OPSET, Portable, example_image, export_onnx

FORMAT = "0.5.3"
"""Version of the specification: the oldest in which axes have sizes and halos of their own."""

WEIGHTS, TEST_IN, TEST_OUT, COVER = "model.onnx", "test_input.npy", "test_output.npy", "cover.png"
DOCUMENTATION, CLASSES, DESCRIPTION = "README.md", "classes.json", "rdf.yaml"

LEAST_SIDE = {2: 64, 3: 16}
"""Smallest side that a package promises to take by number of spatial axes, and that of its test image; more where the halo needs it."""

MOST_SIDE = {2: 512, 3: 96}
"""Side that a halo may ask for, at most; else no halo is promised, and the image is done as a whole."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of each file in the package: equal models give equal bytes."""


def export_bioimageio(model: FittedModel, path: Path | str, values: str | None = None) -> Portable:
    """Write a model as ``NAME.zip``: weights as ONNX, axes with sizes and halo, classes, test images, cover, and how to prepare images.

    The test image is made up. Authors, licence and citation are for the user to fill in, in ``rdf.yaml``.

    Parameters
    ----------
    model
        A fitted model.
    path
        The file.
    values
        As for `export_onnx`.

    Raises
    ------
    UsageError, OutputError
        As for `export_onnx`.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        portable = export_onnx(model, Path(folder) / WEIGHTS, values)
        weights = (Path(folder) / WEIGHTS).read_bytes()
    _, side = _halo_and_side(model)
    image = example_image(model, portable.values, side)
    with torch.no_grad():
        answer = portable.net(torch.from_numpy(image).to(model.method.device)).cpu().numpy()
    files = {
        WEIGHTS: weights,
        TEST_IN: _npy(image),
        TEST_OUT: _npy(answer),
        COVER: _cover(image, answer),
        DOCUMENTATION: _documentation(model, portable).encode(),
        CLASSES: json.dumps(model.table.to_json(), indent=2).encode(),
    }
    description = _description(model, path.name.partition(".")[0], files)
    files[DESCRIPTION] = yaml.safe_dump(description, sort_keys=False, allow_unicode=True).encode()
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return portable


def _description(model: FittedModel, name: str, files: dict[str, bytes]) -> dict[str, Any]:
    method = model.method
    channels = {"type": "channel", "channel_names": [f"channel{i}" for i in range(method.n_channels)]}
    classes = {"type": "channel", "channel_names": [f"class{item.id}" for item in model.table.classes]}
    halo, least = _halo_and_side(model)
    letters = AXES[method.n_dims]
    sizes = [{"type": "space", "id": one, "size": {"min": least, "step": method.multiple}} for one in letters]
    like = [
        {"type": "space", "id": one, "size": {"tensor_id": "image", "axis_id": one}, "halo": halo} for one in letters
    ]
    if not halo:
        like = [{key: value for key, value in axis.items() if key != "halo"} for axis in like]
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": f"selfseg {model.name} {name}",
        "description": f"Classes of pixels, learned without labels by selfseg's method {model.name}; {len(model.table)} classes.",
        "authors": [{"name": "unnamed"}],
        "tags": ["segmentation", "unsupervised", "selfseg", f"{method.n_dims}d"],
        "documentation": _file(DOCUMENTATION, files),
        "covers": [_file(COVER, files)],
        "attachments": [_file(CLASSES, files)],
        "inputs": [
            {
                "id": "image",
                "axes": [{"type": "batch"}, channels, *sizes],
                "test_tensor": _file(TEST_IN, files),
                "data": {"type": "float32"},
            }
        ],
        "outputs": [
            {
                "id": "probabilities",
                "axes": [{"type": "batch"}, classes, *like],
                "test_tensor": _file(TEST_OUT, files),
                "data": {"type": "float32", "range": [0, 1]},
            }
        ],
        "weights": {"onnx": {**_file(WEIGHTS, files), "opset_version": OPSET}},
        "config": {"selfseg": {"version": selfseg_version(), "method": model.name, "preset": model.preset}},
    }


def _halo_and_side(model: FittedModel) -> tuple[int, int]:
    """Return the pixels around a tile that its answer depends on, 0 where tiles are not promised, and the smallest side."""
    context, step, n_dims = model.method.context, model.method.multiple, model.method.n_dims
    halo = 0 if context is None else -(-context // step) * step
    halo = halo if 2 * halo + 1 <= MOST_SIDE[n_dims] else 0
    return halo, -(-max(LEAST_SIDE[n_dims], 2 * halo + 1) // step) * step


def _file(name: str, files: dict[str, bytes]) -> dict[str, str]:
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _cover(image: NDArray[np.float32], answer: NDArray[np.float32]) -> bytes:
    """Return a PNG of the test image beside its classes; of a volume the middle slice."""
    from PIL import Image as Picture

    plane, classes = image[0].mean(0), answer[0].argmax(0)
    if plane.ndim == 3:
        plane, classes = plane[len(plane) // 2], classes[len(classes) // 2]
    grey = (255 * (plane - plane.min()) / max(1e-9, float(np.ptp(plane)))).astype(np.uint8)
    colours = np.array(class_colours(answer.shape[1]), np.uint8)[..., :3]
    both = np.hstack([np.repeat(grey[..., None], 3, -1), colours[classes]])
    scale = max(1, 256 // len(both))
    buffer = io.BytesIO()
    Picture.fromarray(both.repeat(scale, 0).repeat(scale, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def _documentation(model: FittedModel, portable: Portable) -> str:
    rows = "\n".join(f"| {item.id - 1} | {item.id} | {item.name} |" for item in model.table.classes)
    before = (
        f"Prepare images by `{portable.before}` first (selfseg's grammar); the rest, `{model.preparation}`, is in the network."
        if portable.before
        else f"Give images as they are, with values of the type {portable.values}: `{model.preparation}` is in the network."
    )
    after = [f"refinement `{model.refine}`" if model.refine else "", f"cleaning `{model.clean}`" if model.clean else ""]
    left = " and ".join(filter(None, after))
    left = f" selfseg's {left} is not in the network." if left else ""
    return f"""# A segmentation model made with selfseg {selfseg_version()}

Learned without labels by the method `{model.name}` (preset `{model.preset}`, seed {model.seed}) from
{model.facts.get("n_images", "?")} image(s).

## Before

{before}

## After

The output has a channel for each class; the label of a pixel is 1 + the number of its largest channel.{left}

| channel | label | class |
|---|---|---|
{rows}

## Validation

Compare with the labels that selfseg gives for the same image: `selfseg predict` with the model that this was exported from, and
`selfseg evaluate` where there is truth. The test image in this package is made up.
"""
