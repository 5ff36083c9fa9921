"""A model is a folder: ``config.json``, ``model.safetensors``, ``classes.json`` and a card to read. Loading never unpickles."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from selfseg.core.classes import ClassTable
from selfseg.core.errors import ModelError, SelfsegError
from selfseg.core.files import write_json, write_text, writing
from selfseg.methods.base import Method, current_options, find_method
from selfseg.nets.autoencoder import options_from_file

FORMAT = 2
"""Version of the folder's layout; a folder of a newer one is refused. In format 1 options had other names (`current_options`)."""

CONFIG, WEIGHTS, CLASSES, CARD = "config.json", "model.safetensors", "classes.json", "README.md"

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
    """Write a model folder. ``config.json`` comes last and names the hash of the weights, so that no half is taken for a whole."""
    content = save({key: value.detach().cpu().contiguous().clone() for key, value in method.state().items()})
    with writing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    write_json(folder / CLASSES, table.to_json())
    write_text(folder / CARD, card)
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
        got = f"format {version}, written by selfseg {facts.get('selfseg', 'of another version')}"
        raise ModelError(
            str(folder), expected=f"a model folder of format {FORMAT} or older", got=got, fix="update selfseg"
        )
    digest = _digest(folder / WEIGHTS)
    if digest != facts.get("weights_sha256"):
        fix = "copy the folder again or train anew"
        raise ModelError(
            str(folder / WEIGHTS), expected="the weights that config.json names", got="other bytes", fix=fix
        )
    try:
        kind = find_method(facts["method"])
        _rename_options(kind, facts)
        config, n_channels, n_dims = kind.Config.build(facts["config"]), int(facts["n_channels"]), int(facts["n_dims"])
        with options_from_file(networks):
            _check_room(partial(kind, config, n_channels, n_dims), (folder / WEIGHTS).stat().st_size)
            method = kind(config, n_channels, n_dims)
        method.restore(load_file(folder / WEIGHTS))
        table = ClassTable.from_json(_read_json(folder / CLASSES, list))
        if max((source for item in table.classes for source in item.sources), default=0) >= method.n_classes:
            raise ValueError(f"classes of more than the {method.n_classes} clusters that there are")
    except DAMAGE as error:
        fix = "copy the folder again or train anew"
        raise ModelError(folder, expected="a whole model", got=str(error)[:200], fix=fix) from error
    except ModelError:
        raise
    except SelfsegError as error:
        raise ModelError(f"{folder}: {error}") from error
    method.eval()
    return Stored(method, facts["method"], table, facts)


def _rename_options(kind: type[Method], facts: dict[str, Any]) -> None:
    """Give the options of a folder of format 1 the names of today, wherever they stand in ``config.json``."""
    if facts["format"] > 1:
        return
    training = facts.get("training", {})
    holders = [(facts, "config"), (facts.get("params", {}), "options"), (training, "config")]
    for holder, key in [*holders, *((change, "options") for change in training.get("changes", []))]:
        if holder.get(key):
            holder[key] = current_options(kind, holder[key], stored_before=True)


def _check_file(folder: Path, name: str) -> None:
    """Refuse what is no ordinary file (a pipe would be read for ever) or a link out of the folder; one that is missing is told later."""
    path = folder / name
    inside = path.resolve().is_relative_to(folder.resolve())
    if path.exists() and not (inside and path.is_file()):
        got = "something that is no ordinary file" if inside else f"a link to {path.resolve()}"
        fix = "do not trust this folder, or copy the file itself into it"
        raise ModelError(path, expected="a file in the model folder", got=got, fix=fix)


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
        fix = "give the folder that `selfseg fit -o` wrote"
        raise ModelError(
            str(path), expected="the weights of a model", got=error.strerror or "no file", fix=fix
        ) from error


def count_parameters(method: torch.nn.Module) -> int:
    """Return the number of trained values."""
    return sum(parameter.numel() for parameter in method.parameters())
