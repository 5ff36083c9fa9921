"""selfseg: segment images without labels.

Data flows from left to right, imports point left, and a machine checks it:

    core -> read -> regions -> sample -> kernels -> nets | losses -> methods -> train | predict -> refine
    -> measure | export -> pipeline -> benchmark -> apps

The short way in: ``selfseg.segment("photo.jpg").save("out/")``. A model that is kept: ``Segmenter(...).fit(images)``,
``.predict(other)``, ``.save(folder)``, ``selfseg.load(folder)``. Parts can be used alone on plain arrays and tensors:
``selfseg.losses``, ``selfseg.measure``, ``selfseg.refine``, ``selfseg.regions``. Nothing heavy is imported before it is used.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfseg.core.image import Image
    from selfseg.pipeline import Result, Segmenter, evaluate, fit, load, predict, segment

__version__ = "0.1.0.dev0"

_HOMES = {
    "Image": "selfseg.core.image",
    "Result": "selfseg.pipeline",
    "Segmenter": "selfseg.pipeline",
    "evaluate": "selfseg.pipeline",
    "fit": "selfseg.pipeline",
    "load": "selfseg.pipeline",
    "predict": "selfseg.pipeline",
    "segment": "selfseg.pipeline",
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


class _Package(ModuleType):
    """This package, where ``selfseg.predict`` stays the function: importing the stage of that name would put itself in its place."""

    @property
    def predict(self) -> Any:
        """Segment images into a folder: `pipeline.run.predict`."""
        return __getattr__("predict")

    @predict.setter
    def predict(self, stage: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
