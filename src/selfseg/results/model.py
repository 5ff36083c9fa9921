"""A fitted model: the method with its classes and preparation, and the folder that holds it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from selfseg.core.classes import ClassTable
from selfseg.core.errors import InputError, ModelError, SelfsegError
from selfseg.core.files import Manifest, clear_unfinished, write_json, write_text, writing
from selfseg.core.image import Image
from selfseg.export.labels import ClassArea
from selfseg.methods.base import Method, current_options, find_method
from selfseg.nets.autoencoder import options_from_file
from selfseg.refine.decide import Cleaning
from selfseg.refine.steps import parse_refinements
from selfseg.sample.device import choose_device, move
from selfseg.sample.prepare import Preparation

NEARLY_ALL = 0.99
"""Share of an image above which a class is remarked upon."""


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

    def remark(self, areas: Sequence[ClassArea]) -> str:
        """Return one sentence on an image of which one class takes nearly all, with what to try; empty where none does."""
        largest = max(areas, key=lambda area: area.share, default=None)
        if largest is None or largest.share <= NEARLY_ALL or self.params.get("n_classes") == 1:
            return ""
        return (
            f"{largest.image}: {largest.name} takes {largest.share:.1%} of the image; if that is wrong, try --classes 2 or more, "
            f"another --preset or --method, or other limits of the values (--prepare percentile=1:99.8; now {self.preparation})"
        )

    def fixed(self) -> "FittedModel":
        """Return the model as it learned from the training images, of one that learns something of every image too."""
        method = self.method.fixed()
        return self if method is self.method else replace(self, method=method)

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
            raise InputError(
                image.name,
                expected="{} channel(s) in {}D, as in training".format(*wanted),
                got=f"{image.n_channels} channel(s), axes {image.axes}",
                fix="convert it, or name its axes with --axes",
            )

    def save(self, folder: Path | str) -> None:
        """Write the model folder: weights, configuration, class table, card."""
        stored = {
            "selfseg": selfseg_version(),
            "params": {**self.params, "refine": self.refine, "clean": self.clean},
            "preparation": self.preparation.to_json(),
            "training": self.facts,
        }
        clear_unfinished(folder)
        with Manifest(folder, RUN):
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
            raise ModelError(
                folder, expected="a whole model", got=str(error)[:200], fix="copy the folder again or train anew"
            ) from error
        move(stored.method, choose_device(device))
        return cls(stored.name, stored.method, stored.table, preparation, params, facts, refine, clean, device)

    def _card(self) -> str:
        rows = "\n".join(f"| {c.id} | {c.name} | {c.area_share:.1%} | {c.intensity:.3g} |" for c in self.table.classes)
        facts = self.facts
        needs = f"It relies on {self.method.relies_on}.\n" if self.method.relies_on else ""
        return f"""{HUB}# A segmentation model made with selfseg {selfseg_version()}

Learned without labels by the method `{self.name}` (preset `{self.preset}`, seed {self.seed}) from
{facts.get("n_images", "?")} image(s), in {facts.get("steps", "?")} steps and {facts.get("seconds", 0):.0f} seconds.
It takes images with {self.method.n_channels} channel(s) in {self.method.n_dims}D.
Every image is prepared in the same way: `{self.preparation}`.
{needs}
    selfseg predict THIS_FOLDER IMAGES... -o OUT

| label | class | share of the training pixels | mean intensity |
|---|---|---|---|
{rows}

Label 0 means ignore. `config.json` holds every setting, `model.safetensors` the weights.
"""


HUB = """---
library_name: selfseg
pipeline_tag: image-segmentation
tags: [image-segmentation, unsupervised]
---

"""
"""Head of a card, by which a hub classifies the model."""


def selfseg_version() -> str:
    """Return the installed version of this package."""
    try:
        return version("selfseg")
    except PackageNotFoundError:
        return "unknown"


FORMAT = 2
"""Version of the folder's layout; a folder of a newer one is refused. In format 1 options had other names (`current_options`)."""

CONFIG, WEIGHTS, CLASSES, CARD = "config.json", "model.safetensors", "classes.json", "README.md"
RUN = "training.json"
"""File with the facts of the training, and the list of the files in the folder."""

LARGEST_JSON = 64 << 20
"""Bytes of a JSON file above which it is none of ours."""

ROOM = 64 << 20
"""Bytes by which a method may be larger before its weights are restored than they are."""

# What values of the wrong kind raise while a method is built of them.
DAMAGE = (
    SafetensorError,
    OSError,
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)


@dataclass(frozen=True)
class Stored:
    """A model read from its folder, ready to predict.

    `facts` is all else in ``config.json``: preparation, seed, versions, annotation values.
    """

    method: Method
    name: str
    table: ClassTable
    facts: dict[str, Any]


def save_method(folder: Path, method: Method, name: str, table: ClassTable, facts: dict[str, Any], card: str) -> None:
    """Write a model folder. ``config.json`` comes last and names the hash of the weights, so that no half is taken for a whole;
    the table, by which an edit is done or not, comes after the card that describes it."""
    content = save({key: value.detach().cpu().contiguous().clone() for key, value in method.state().items()})
    with writing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    write_text(folder / CARD, card)
    write_json(folder / CLASSES, table.to_json())
    fixed = {
        "format": FORMAT,
        "method": name,
        "config": method.config.model_dump(),
        "n_channels": method.n_channels,
        "n_dims": method.n_dims,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    write_json(folder / CONFIG, {**fixed, **facts})


def load_method(folder: Path, networks: str | None = None) -> Stored:
    """Read a model folder. `networks` names the module with the user's own networks again: nothing else is imported for it.

    Raises
    ------
    ModelError
        If it is no model folder, its format is newer, a file is missing, damaged or a link out of the folder, or the weights do
        not fit.
    """
    for name in (CONFIG, WEIGHTS, CLASSES):
        _check_file(folder, name)
    facts = _read_json(folder / CONFIG, dict)
    version = facts.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise ModelError(
            str(folder),
            expected=f"a model folder of format {FORMAT} or older",
            got=f"format {version}, written by selfseg {facts.get('selfseg', 'of another version')}",
            fix="update selfseg",
        )
    digest = _digest(folder / WEIGHTS)
    if digest != facts.get("weights_sha256"):
        raise ModelError(
            str(folder / WEIGHTS),
            expected="the weights that config.json names",
            got="other bytes",
            fix="copy the folder again or train anew",
        )
    try:
        _rename_options(find_method(facts["method"]), facts)
        kind = find_method(facts["method"])
        config, n_channels, n_dims = kind.Config.build(facts["config"]), int(facts["n_channels"]), int(facts["n_dims"])
        with options_from_file(networks):
            _check_room(partial(kind, config, n_channels, n_dims), (folder / WEIGHTS).stat().st_size)
            method = kind(config, n_channels, n_dims)
        method.restore(load_file(folder / WEIGHTS))
        table = ClassTable.from_json(_read_json(folder / CLASSES, list))
        if max((source for item in table.classes for source in item.sources), default=0) >= method.n_classes:
            raise ValueError(f"classes of more than the {method.n_classes} clusters that there are")
    except DAMAGE as error:
        raise ModelError(
            folder, expected="a whole model", got=str(error)[:200], fix="copy the folder again or train anew"
        ) from error
    except ModelError:
        raise
    except SelfsegError as error:
        raise ModelError(f"{folder}: {error}") from error
    method.eval()
    return Stored(method, facts["method"], table, facts)


def _rename_options(kind: type[Method], facts: dict[str, Any]) -> None:
    """Give method, preset and options the names of today, wherever they stand in ``config.json``."""
    params = facts.get("params", {})
    moved = kind.moved(str(params.get("preset", "default")), facts["config"])
    if moved is not None:
        facts["method"], params["preset"], facts["config"] = moved
        params["options"] = (kind.moved("default", params.get("options") or {}) or ("", "", params.get("options")))[2]
    if facts["format"] > 1:
        return
    training = facts.get("training", {})
    holders = [(facts, "config"), (facts.get("params", {}), "options"), (training, "config")]
    for holder, key in [*holders, *((change, "options") for change in training.get("changes", []))]:
        if holder.get(key):
            holder[key] = current_options(kind, holder[key], stored_before=True)


def _check_file(folder: Path, name: str) -> None:
    """Refuse what is no ordinary file (a pipe would be read for ever) or a link out of the folder; a missing one is reported later."""
    path = folder / name
    inside = path.resolve().is_relative_to(folder.resolve())
    if path.exists() and not (inside and path.is_file()):
        raise ModelError(
            path,
            expected="a file in the model folder",
            got="something that is no ordinary file" if inside else f"a link to {path.resolve()}",
            fix="do not trust this folder, or copy the file itself into it",
        )


def _check_room(build: Callable[[], Method], stored: int) -> None:
    """Raise `ValueError` where a method, built without memory, is larger than the `stored` bytes and some: before memory is taken."""
    try:
        with torch.device("meta"):
            tensors = build().state_dict().values()
    except (RuntimeError, NotImplementedError):
        return  # a method that computes with its values when it is built
    wanted = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if wanted > stored + ROOM:
        raise ValueError(f"a configuration of {wanted} bytes of weights, and {stored} bytes stored")


def _read_json(path: Path, kind: type) -> Any:
    what = "a model folder written by selfseg" if path.name == CONFIG else "a whole file"
    fix = "give the folder that `selfseg fit -o` wrote"
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(path, expected=what, got=error.strerror or "no file", fix=fix) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(path, expected=what, got="damaged JSON", fix=fix) from error
    if not isinstance(value, kind):
        raise ModelError(path, expected=what, got="other JSON", fix=fix)
    return value


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            str(path),
            expected="the weights of a model",
            got=error.strerror or "no file",
            fix="give the folder that `selfseg fit -o` wrote",
        ) from error


def count_parameters(method: torch.nn.Module) -> int:
    """Return the number of trained values."""
    return sum(parameter.numel() for parameter in method.parameters())
