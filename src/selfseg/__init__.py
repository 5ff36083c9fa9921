"""selfseg: segment images without labels.

Data flows from left to right, imports point left, and a machine checks it:

    core -> read -> regions -> sample -> kernels -> nets | losses -> methods -> train | tiling -> refine -> measure | export
    -> results -> segmenting -> learning -> evaluation -> benchmark -> apps

The short way in: ``selfseg.segment("photo.jpg").save("out/")``. A model that is kept: ``Segmenter(...).fit(images)``,
``.predict(other)``, ``.save(folder)``, ``selfseg.load(folder)``. Parts can be used alone on plain arrays and tensors:
``selfseg.losses``, ``selfseg.measure``, ``selfseg.refine``, ``selfseg.regions``. Nothing heavy is imported before it is used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfseg.core.image import Image
    from selfseg.evaluation.evaluate import evaluate
    from selfseg.learning.run import fit, load, predict, segment
    from selfseg.learning.segmenter import Segmenter
    from selfseg.results.result import Result

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
"""Matrix products of torch on Intel's library are then the same with any number of threads; it is read at the first of them."""

__version__ = "0.1.0"

_HOMES = {
    "Image": "selfseg.core.image",
    "Result": "selfseg.results.result",
    "Segmenter": "selfseg.learning.segmenter",
    "evaluate": "selfseg.evaluation.evaluate",
    "fit": "selfseg.learning.run",
    "load": "selfseg.learning.run",
    "predict": "selfseg.learning.run",
    "segment": "selfseg.learning.run",
}
_STAGES = ("export", "losses", "measure", "methods", "nets", "read", "refine", "regions", "sample")

__all__ = ["Image", "Result", "Segmenter", "__version__", "evaluate", "fit", "load", "predict", "segment"]


def __getattr__(name: str) -> Any:
    """Import a public name, or a stage, when it is first used."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _STAGES:
        return importlib.import_module(f"selfseg.{name}")
    raise AttributeError(f"module 'selfseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_STAGES])
