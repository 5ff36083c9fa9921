"""Checkpoints: one safetensors file with the method's state, the optimisers' state and the step; never a pickled object."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from selfseg.core.errors import ModelError
from selfseg.core.files import writing

VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint file: finished steps, training time so far, the method's tensors, and the optimisers' state.

    `optimizers` has their tensors, ``{"net": {"0.momentum_buffer": ...}}``, `settings` the plain values of their parameter groups.
    """

    step: int
    seconds: float
    method: dict[str, Tensor]
    optimizers: dict[str, dict[str, Tensor]]
    settings: dict[str, Any]


def save_checkpoint(
    path: Path, step: int, seconds: float, state: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer]
) -> None:
    """Write a checkpoint over the one before, whole or not at all; `OutputError` if it cannot be written."""
    tensors = {f"method/{name}": _plain(tensor) for name, tensor in state.items()}
    settings: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        packed = optimizer.state_dict()
        settings[name] = {"groups": packed["param_groups"], "scalars": {}, "defaults": _jsonable(optimizer.defaults)}
        for index, values in packed["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{name}/{index}.{key}"] = _plain(value)
                elif value is not None:
                    settings[name]["scalars"][f"{index}.{key}"] = value
    facts = {"version": str(VERSION), "step": str(step), "seconds": repr(seconds), "settings": json.dumps(settings)}
    with writing(path) as temporary:
        temporary.write_bytes(save(tensors, facts))  # not `save_file`, which has errors of its own for a full disk


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous().clone()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; `ModelError` if the file is missing, damaged, or of a newer version."""
    if not path.exists():
        raise ModelError(path, expected="a checkpoint to resume from", got="no such file", fix="start without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if facts.get("version") != str(VERSION):
        raise ModelError(
            str(path),
            expected=f"a checkpoint of version {VERSION}",
            got=f"version {facts.get('version', 'none')}"[:40],
            fix="use the selfseg that wrote it",
        )
    method: dict[str, Tensor] = {}
    optimizers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "method":
            method[rest] = tensor
        else:
            optimizer, _, key = rest.partition("/")
            optimizers.setdefault(optimizer, {})[key] = tensor
    try:
        step, seconds, settings = int(facts["step"]), float(facts["seconds"]), json.loads(facts["settings"])
    except (KeyError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    return Checkpoint(step, seconds, method, optimizers, settings)


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(
        path, expected="a whole checkpoint", got=str(error)[:200] or type(error).__name__, fix="start without --resume"
    )


def continue_optimizer(optimizer: Optimizer, name: str, checkpoint: Checkpoint, same_run: bool) -> None:
    """Put an optimiser back to where the checkpoint has it, with the options in which it was made otherwise than that one.

    An optimiser that the checkpoint does not know, or whose parameters are others, begins anew where another run is begun from it;
    `ValueError` if the checkpoint should be of the same run.
    """
    settings = checkpoint.settings.get(name)
    fresh = optimizer.state_dict()["param_groups"]
    if settings is None or [g["params"] for g in settings["groups"]] != [g["params"] for g in fresh]:
        if same_run:
            raise ValueError(f"no state of the optimiser of {name}")
        return
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*checkpoint.optimizers.get(name, {}).items(), *settings["scalars"].items()]:
        index, _, field = key.partition(".")
        state.setdefault(int(index), {})[field] = value
    before = {"state": state, "param_groups": settings["groups"]}
    _load_keeping_options(optimizer, before, _jsonable(optimizer.defaults), settings.get("defaults", {}))


def take_over(optimizer: Optimizer, before: Optimizer) -> None:
    """Give an optimiser the state of one over the same parameters, and keep its own options where the two were made otherwise."""
    _load_keeping_options(optimizer, before.state_dict(), optimizer.defaults, before.defaults)


def _load_keeping_options(
    optimizer: Optimizer, state: dict[str, Any], made: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """Load a state of `before`, but for the options in which the optimiser was `made` otherwise."""
    fresh = optimizer.state_dict()["param_groups"]
    changed = {key for key, value in made.items() if before.get(key) != value}
    optimizer.load_state_dict(state)
    for group, new in zip(optimizer.param_groups, fresh, strict=True):
        group.update({key: new[key] for key in changed & set(new)})


def _jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as they come back out of JSON: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def move_optimizer(optimizer: Optimizer, device: torch.device) -> None:
    """Move an optimiser's tensors to a device."""
    for values in optimizer.state.values():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.ndim > 0:
                values[key] = value.to(device)
