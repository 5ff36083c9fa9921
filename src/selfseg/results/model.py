"""A fitted model: the method with its classes and preparation, and the folder that holds it."""

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from selfseg.core.classes import ClassTable
from selfseg.core.errors import InputError, ModelError, SelfsegError
from selfseg.core.image import Image
from selfseg.methods._store import load_method, save_method
from selfseg.methods.base import Method
from selfseg.refine.decide import Cleaning
from selfseg.refine.steps import parse_refinements
from selfseg.sample.prepare import Preparation
from selfseg.train.precision import choose_device


@dataclass(frozen=True)
class FittedModel:
    """All that it takes to segment an image.

    Attributes
    ----------
    name
        Name of the method.
    method
        The fitted method.
    table
        Its classes, dark to bright.
    preparation
        The preparation, repeated for every image.
    params
        Arguments of `selfseg.Segmenter` that made it, by name: ``preset``, ``seed``, ``n_classes``, ``prepare``, ``options``,
        ``channels``.
    facts
        Where it came from: inputs, steps, configuration.
    refine, clean
        Refinement of the probabilities and cleaning of the labels; None = none.
    device
        Where it computes, as the user named it.
    """

    name: str
    method: Method
    table: ClassTable
    preparation: Preparation
    params: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    refine: str | None = None
    clean: str | None = None
    device: str = "auto"

    @property
    def preset(self) -> str:
        """Name of the preset that the options came from."""
        return str(self.params.get("preset", "default"))

    @property
    def seed(self) -> int:
        """Seed of every random choice while it learned."""
        return int(self.params.get("seed", 0))

    @property
    def torch_device(self) -> torch.device:
        """Where the method's tensors are."""
        return next((tensor.device for tensor in self.method.state().values()), torch.device("cpu"))

    def slices_volume(self, image: Image) -> bool:
        """Return whether the method is 2D and the image a volume, so that it is segmented slice by slice."""
        return self.method.n_dims == 2 and "Z" in image.axes

    def view(self, image: Image) -> Image:
        """Return the channels of an image that the model uses, in its order.

        Raises
        ------
        InputError
            If the image lacks one of them.
        """
        return image.select_channels(self.params.get("channels"))

    def check(self, image: Image) -> None:
        """Raise unless the model takes such an image, all of whose channels it uses (`view`).

        Raises
        ------
        InputError
            If the image has other channels or dimensions than those it learned from.
        """
        wanted = (self.method.n_channels, self.method.n_dims)
        if (image.n_channels, 2 if self.slices_volume(image) else len(image.spatial_shape)) != wanted:
            expected = "{} channel(s) in {}D, as in training".format(*wanted)
            got, fix = f"{image.n_channels} channel(s), axes {image.axes}", "convert it, or name its axes with --axes"
            raise InputError(image.name, expected=expected, got=got, fix=fix)

    def save(self, folder: Path | str) -> None:
        """Write the model folder: weights, configuration, class table, card."""
        stored = {
            "selfseg": selfseg_version(),
            "params": {**self.params, "refine": self.refine, "clean": self.clean},
            "preparation": self.preparation.to_json(),
            "training": self.facts,
        }
        save_method(Path(folder), self.method, self.name, self.table, stored, self._card())

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto", networks: str | None = None) -> "FittedModel":
        """Read a model folder (see `selfseg.load`).

        Raises
        ------
        ModelError
            If it is no model folder, damaged, or written by a newer version.
        """
        stored = load_method(Path(folder), networks)
        try:
            params = dict(stored.facts.get("params", {}))
            refine, clean = params.pop("refine", None), params.pop("clean", None)
            parse_refinements(refine), Cleaning.parse(clean)
            preparation = Preparation.from_json(stored.facts["preparation"])
            facts = dict(stored.facts.get("training", {}))
        except (KeyError, TypeError, ValueError, AttributeError, SelfsegError) as error:
            fix = "copy the folder again or train anew"
            raise ModelError(folder, expected="a whole model", got=str(error)[:200], fix=fix) from error
        method = stored.method.to(choose_device(device))
        return cls(stored.name, method, stored.table, preparation, params, facts, refine, clean, device)

    def _card(self) -> str:
        rows = "\n".join(f"| {c.id} | {c.name} | {c.area_share:.1%} | {c.intensity:.3g} |" for c in self.table.classes)
        facts = self.facts
        return f"""# A segmentation model made with selfseg {selfseg_version()}

Learned without labels by the method `{self.name}` (preset `{self.preset}`, seed {self.seed}) from
{facts.get("n_images", "?")} image(s), in {facts.get("steps", "?")} steps and {facts.get("seconds", 0):.0f} seconds.
It takes images with {self.method.n_channels} channel(s) in {self.method.n_dims}D.
Every image is prepared in the same way: `{self.preparation}`.

    selfseg predict THIS_FOLDER IMAGES... -o OUT

| label | class | share of the training pixels | mean intensity |
|---|---|---|---|
{rows}

Label 0 means ignore. `config.json` holds every setting, `model.safetensors` the weights.
"""


def selfseg_version() -> str:
    """Return the installed version of this package."""
    try:
        return version("selfseg")
    except PackageNotFoundError:
        return "unknown"
