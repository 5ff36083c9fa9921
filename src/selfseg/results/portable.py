"""Models for other programs: ONNX (`selfseg[onnx]`), for every method that is a network (`Method.portable`).

The graph takes images ``[B C *S]`` of any size, float32, with the values that stand in the file, and gives probabilities ``[B K *S]``:
channel k belongs to label k + 1. Normalisations whose numbers are known are part of it; steps before them, which depend on the image or
change its size, are named in the file (``before``) and done outside.
"""

import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from selfseg.core.errors import UsageError
from selfseg.core.files import writing
from selfseg.core.image import Image
from selfseg.results.model import FittedModel, selfseg_version
from selfseg.sample.chain import Scaled
from selfseg.sample.prepare import Preparation, has_8_bits, prepare
from selfseg.sample.steps import GLOBAL, NORMALISING, Step

OPSET = 17
"""Version of ONNX's operators: that of onnxruntime 1.12 and later."""

VALUES = ("uint8", "uint16", "float32")
"""Kinds of values that images may have."""

AXES = {2: "yx", 3: "zyx"}
SIDE = {2: 64, 3: 16}
"""Side of the image by which the graph is traced, in multiples of the method's grid."""


@dataclass(frozen=True)
class Portable:
    """A model that other programs can run.

    Attributes
    ----------
    net
        Images ``[B C *S]`` to probabilities ``[B K *S]``.
    before
        Preparation steps that are done outside, in selfseg's grammar; empty = none.
    values
        Kind of the values that the images have, one of `VALUES`.
    """

    net: nn.Module
    before: str
    values: str


class _Graph(nn.Module):
    """Normalise, assign clusters, sum them within classes."""

    def __init__(self, model: FittedModel, scalings: list[Scaled], assign: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.method = model.method  # its weights are those of the graph
        self.assign, self.sources = assign, [list(item.sources) for item in model.table.classes]
        shape = (1, -1, *(1,) * model.method.n_dims)
        pairs = [(one.scaling.offset, one.scaling.scale) for one in scalings]
        self.scalings = [tuple(torch.tensor(part, dtype=torch.float32).view(shape) for part in pair) for pair in pairs]
        self.clips = [one.clip for one in scalings]

    def forward(self, images: Tensor) -> Tensor:
        """Return ``[B K *S]`` of ``[B C *S]``."""
        x = images
        for (offset, scale), clip in zip(self.scalings, self.clips, strict=True):
            x = (x - offset) / scale
            x = x.clamp(0, 1) if clip else x
        clusters = self.assign(x)
        return torch.stack([clusters[:, one].sum(1) for one in self.sources], 1)


def make_portable(model: FittedModel, values: str | None = None) -> Portable:
    """Return a model as one network.

    Parameters
    ----------
    model
        A fitted model.
    values
        One of `VALUES`: the values of the images; None = as in training, as far as the preparation shows it.

    Raises
    ------
    UsageError
        If the method is no network.
    """
    method = model.method.eval()
    assign = method.portable()
    if assign is None:
        networks = "feature_clustering, wnet, deep_kmeans or unet"
        raise UsageError(
            f"method {model.name}",
            expected=f"a network ({networks})",
            got="one that computes with superpixels, trees or filters",
            fix="teach a U-Net its labels with `selfseg distill`, and export that",
        )
    values = values or _likely_values(model.preparation)
    if values not in VALUES:
        raise UsageError("--values", expected=f"one of {', '.join(VALUES)}", got=repr(values), fix="check the name")
    before, scalings = _split(model.preparation, method.n_channels, method.n_dims, values)
    return Portable(_Graph(model, scalings, assign).eval(), before, values)


def export_onnx(model: FittedModel, path: Path | str, values: str | None = None) -> Portable:
    """Write a model as ``NAME.onnx``, with what a program must know in its metadata, and return the network that is in it.

    Raises
    ------
    UsageError
        If the method is no network, or the package onnx is not installed.
    OutputError
        If the file cannot be written.
    """
    if find_spec("onnx") is None:
        raise UsageError(
            "--format onnx", expected="the package onnx", got="none installed", fix="pip install 'selfseg[onnx]'"
        )
    import onnx

    portable = make_portable(model, values)
    content = onnx.load_from_string(_traced(model, portable.net))
    for name, value in metadata(model, portable).items():
        content.metadata_props.add(key=f"selfseg.{name}", value=value)
    onnx.checker.check_model(content)
    with writing(path) as temporary:
        temporary.write_bytes(content.SerializeToString())
    return portable


def metadata(model: FittedModel, portable: Portable) -> dict[str, str]:
    """Return what a program must know to use the graph, as text by name."""
    return {
        "version": selfseg_version(),
        "method": model.name,
        "axes": f"bc{AXES[model.method.n_dims]}",
        "values": portable.values,
        "before": portable.before,
        "preparation": str(model.preparation),
        "after": "label = 1 + argmax over the channels of probabilities",
        "refine": model.refine or "none",
        "clean": model.clean or "none",
        "classes": json.dumps(model.table.to_json()),
    }


def example_image(model: FittedModel, values: str, side: int, seed: int = 0) -> NDArray[np.float32]:
    """Return a square image ``[1 C *S]`` of soft blobs, `side` pixels wide, with the values of such images: no pixel of a user's."""
    from scipy.ndimage import gaussian_filter

    n_dims, rng = model.method.n_dims, np.random.default_rng(seed)
    noise = [gaussian_filter(rng.normal(size=(side,) * n_dims), side / 16) for _ in range(model.method.n_channels)]
    low, high = _range(model.preparation, values)
    unit = np.stack([(one - one.min()) / (one.max() - one.min()) for one in noise])
    image = low + (high - low) * unit[None]
    return (image if values == "float32" else np.rint(image)).astype(np.float32)


def _range(preparation: Preparation, values: str) -> tuple[float, float]:
    if preparation.fitted is not None:
        tops = (low + scale for low, scale in zip(preparation.fitted.offset, preparation.fitted.scale, strict=True))
        return max(0.0, min(preparation.fitted.offset)), max(tops)
    return 0.0, {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}[values]


def _likely_values(preparation: Preparation) -> str:
    if preparation.fitted is None:
        return "uint8"
    return "uint16" if _range(preparation, "uint16")[1] > 1 else "float32"


def _split(preparation: Preparation, n_channels: int, n_dims: int, values: str) -> tuple[str, list[Scaled]]:
    """Return the steps that are done outside, and the normalisations at the end of the chain whose numbers are known."""
    side = SIDE[n_dims]
    ramp = np.linspace(0, 1, side**n_dims * n_channels).reshape(*(side,) * n_dims, n_channels)
    top = _range(preparation, values)[1]
    probe = Image((ramp * top).astype(values), f"{AXES[n_dims].upper()}C")
    steps = preparation.steps
    first = len(steps)
    while first and _is_known(steps[first - 1], preparation, probe):
        first -= 1
    plan = prepare(probe, preparation).plan
    known = [one for one in plan[len(plan) - (len(steps) - first) :] if isinstance(one, Scaled)]
    return ",".join(str(step) for step in steps[:first]), known


def _is_known(step: Step, preparation: Preparation, probe: Image) -> bool:
    """Return whether a step normalises by numbers that are those of every image with such values."""
    if step.name not in NORMALISING:
        return False
    if step.name == "range" or (step.name == "auto" and has_8_bits(probe)):
        return bool(probe.data.dtype.kind == "u")
    return step.scope == GLOBAL and preparation.fitted is not None


def _traced(model: FittedModel, net: nn.Module) -> bytes:
    """Return the graph of a network as bytes, for any number of images of any size."""
    method = model.method
    side = max(SIDE[method.n_dims], 4 * method.multiple)
    example = torch.zeros(1, method.n_channels, *(side,) * method.n_dims, device=method.device)
    axes = {0: "batch", **{2 + i: letter for i, letter in enumerate(AXES[method.n_dims])}}
    options: Any = {
        "input_names": ["image"],
        "output_names": ["probabilities"],
        "dynamic_axes": {"image": axes, "probabilities": axes},
        "opset_version": OPSET,
        "dynamo": False,
    }
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # on Python's own branches, all of which are on what never changes
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(net.to(method.device), (example,), path, **options)
        return path.read_bytes()
