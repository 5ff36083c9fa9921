"""What a run was asked to do, as a file in its folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from selfseg.core.files import write_json

SPEC = "spec.json"


@dataclass(frozen=True)
class Spec:
    """What a run was asked to do.

    Attributes
    ----------
    name
        What the user calls it.
    method, preset, n_classes, seed, prepare, refine, device, options
        Arguments of `selfseg.Segmenter`.
    inputs
        Files to learn from and to segment.
    axes
        Axes of the inputs; None = as the files say.
    hints
        Folder of scribbles, or None.
    hint_names
        What the classes of the scribbles are called, by their values.
    begin
        Checkpoint of another run, or of this one with other options, to begin from.
    origin
        Run and step that it was forked from, for the page.
    changes
        Options that were changed on the way: ``{"step": 40, "options": {...}}``.
    model
        A model folder that is used as it is, without learning.
    otherwise
        Preset that is taken instead where this one finds a single class.
    """

    name: str
    method: str = "region_merging"
    preset: str = "default"
    n_classes: int | None = None
    seed: int = 0
    prepare: str | None = None
    refine: str | None = None
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    axes: str | None = None
    hints: str | None = None
    hint_names: Mapping[str, str] = field(default_factory=dict)
    begin: str | None = None
    origin: Mapping[str, Any] | None = None
    changes: tuple[Mapping[str, Any], ...] = ()
    model: str | None = None
    otherwise: str | None = None

    def parameters(self) -> dict[str, Any]:
        """Return the arguments of `selfseg.Segmenter`."""
        names = ("method", "preset", "n_classes", "seed", "prepare", "refine", "device")
        return {**{name: getattr(self, name) for name in names}, "options": dict(self.options)}

    def save(self, folder: Path) -> None:
        """Write ``spec.json``."""
        write_json(folder / SPEC, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Spec":
        """Read ``spec.json``."""
        values = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        return cls(**{**values, "inputs": tuple(values["inputs"]), "changes": tuple(values["changes"])})
