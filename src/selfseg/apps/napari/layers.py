"""Layers of napari and images, results and labels layers, and the sample data."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.methods.base import find_method

STACKS = {"volume": "Z", "time series": "T", "channels": "C"}
"""Meaning of a third axis, as a user names it, and its letter."""


def image_of(layer: Any, stack: str = "volume") -> Image:
    """Return a layer as an image in memory.

    Parameters
    ----------
    layer
        An image layer; of a pyramid the finest level is taken.
    stack
        Meaning of the axis before rows and columns, one of `STACKS`.

    Raises
    ------
    UsageError
        If the layer has more axes.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    axes = {2: "YX", 3: f"{STACKS[stack]}YX"}.get(data.ndim - bool(layer.rgb))
    if axes is None or (layer.rgb and "C" in axes):
        raise UsageError(
            f"layer {layer.name}",
            expected="rows and columns, with at most one axis before them",
            got=f"{data.ndim} axes",
            fix="take a slice: right click on the layer, or use `selfseg segment` on the file",
        )
    pixels = np.asarray(data)
    alpha = pixels[..., 3] > 0 if layer.rgb and pixels.shape[-1] == 4 else None
    pixels = pixels[..., :3] if layer.rgb else pixels
    spacing = tuple(float(one) for one in layer.scale[-2 - ("Z" in axes) :])
    units = {str(one) for one in (layer.units or ())}
    unit = units.pop() if len(units) == 1 else "pixel"
    return Image(pixels, axes + "C" * bool(layer.rgb), spacing, unit, name=str(layer.name), valid=alpha)


def labels_look(table: ClassTable) -> dict[str, Any]:
    """Return how a labels layer shows classes: their colours, and their names as features."""
    from napari.utils import DirectLabelColormap

    nothing = np.zeros(4, np.float32)
    colours: dict[int | None, NDArray[Any]] = {None: nothing, 0: nothing}
    colours |= {item.id: np.array([*item.rgba[:3], 255], np.float32) / np.float32(255) for item in table.classes}
    named = {item.id: item.name for item in table.classes}
    ids = [*range(max(named, default=0) + 1)]
    features = {"index": ids, "class": [named.get(i, "ignore") for i in ids]}
    return {"colormap": DirectLabelColormap(color_dict=colours), "features": features}


def warm_up(methods: Iterable[str]) -> None:
    """Load the methods, pandas, and the compiled colours of labels: napari does the last two with the first labels layer, for seconds.

    For a thread beside the window.
    """
    from napari.utils.colormaps import label_colormap

    import_module("pandas")
    maps = labels_look(ClassTable(()))["colormap"], label_colormap()
    for kind in (np.uint8, np.uint16, np.uint32, np.int32):
        for one in maps:
            one.map(np.zeros((2, 2), kind))
    for name in methods:
        find_method(name)


def place_of(layer: Any) -> dict[str, Any]:
    """Return the place in the world of labels ``[*S]`` of a layer."""
    return {"scale": layer.scale, "translate": layer.translate, "units": layer.units}


def coffee() -> list[tuple[NDArray[np.uint8], dict[str, Any], str]]:
    """Return a photograph that comes with scikit-image."""
    import skimage.data
    from PIL import Image as Picture

    photo = Path(skimage.data.__file__).parent / "coffee.png"
    return [(np.asarray(Picture.open(photo).convert("RGB")), {"name": "coffee"}, "image")]


def nuclei() -> list[tuple[NDArray[np.uint16], dict[str, Any], str]]:
    """Return bright discs of several sizes on a dark, noisy ground: 512 x 512, 0.5 micrometres a pixel."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512]
    image = np.full((512, 512), 300.0)
    for at_y, at_x in np.stack(np.meshgrid(*(np.arange(32, 512, 64),) * 2), -1).reshape(-1, 2):
        row, column = at_y + rng.uniform(-14, 14), at_x + rng.uniform(-14, 14)
        radii, tone = rng.uniform(9, 17, 2), rng.uniform(900, 2400)
        image += tone * (((y - row) / radii[0]) ** 2 + ((x - column) / radii[1]) ** 2 < 1)
    noisy = rng.normal(image, 90).clip(0, 4095).astype(np.uint16)
    return [(noisy, {"name": "nuclei", "scale": (0.5, 0.5), "units": ("um", "um")}, "image")]
