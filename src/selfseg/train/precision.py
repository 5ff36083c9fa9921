"""Precision and layout: what pays on this device. Decided once, printed, stored with the run."""

import contextlib
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from selfseg.core.errors import UsageError
from selfseg.methods.base import Method

PRECISIONS = ("float32", "bfloat16")

COMPILE_FROM_STEPS = 500
"""Shortest schedule for which compilation is switched on: it costs tens of seconds, then saves a part of each step."""


@dataclass(frozen=True)
class Precision:
    """How the loop runs a step: on which device, with matrix work in bfloat16 under autocast (parameters and optimiser stay float32).

    `channels_last` is the memory order of images and convolution weights; `compiled`: networks are compiled with ``torch.compile``.
    """

    device: torch.device
    bf16: bool
    channels_last: bool
    compiled: bool

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which losses are computed."""
        if not self.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def place(self, method: nn.Module) -> None:
        """Move a method to the device, in the memory order, and compile its networks if that was chosen."""
        method.to(self.device)
        for network in method.children():
            if self.channels_last:
                for parameter in network.parameters():
                    if parameter.ndim == 4:
                        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
            if self.compiled:
                network.compile()

    def release(self, method: nn.Module) -> None:
        """Put weights back into the plain memory order, so that a model computes the same before and after storing."""
        for parameter in method.parameters():
            parameter.data = parameter.data.contiguous()

    def describe(self) -> str:
        """Return one phrase for the user."""
        kind = "bfloat16 autocast" if self.bf16 else "float32"
        return f"{self.device}, {kind}{', channels last' if self.channels_last else ''}{', compiled' if self.compiled else ''}"


def choose_device(asked: str = "auto") -> torch.device:
    """Return the device to work on, ``auto`` = a CUDA GPU, else the CPU; `UsageError` if it does not exist on this machine."""
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(
            "device", expected="auto, cpu, cuda, cuda:N or mps, present here", got=repr(asked), fix="try --device cpu"
        ) from None
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether matrix products in bfloat16 run in hardware (AVX512-BF16, AMX, a GPU), not in emulation."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, check)()) for check in checks if hasattr(torch.cpu, check))
    return False


def choose_precision(
    method: Method, device: torch.device, n_steps: int, compiled: bool | None = None, asked: str | None = None
) -> Precision:
    """Return how steps are run on `device` for a schedule of `n_steps`: in float32 unless less is asked for.

    `compiled` compiles the networks; None = on a GPU with a C compiler from `COMPILE_FROM_STEPS` steps. `asked` is ``float32`` or
    ``bfloat16``, None = the method's option `precision`; `UsageError` if it is neither. bfloat16 is used where the hardware has it:
    elsewhere it is several times slower than float32. In 3D on a CPU it is not used: weight gradients are not always finite (torch 2.13;
    EXPERIMENTS.md).
    """
    wanted = asked or method.config.precision
    if wanted not in PRECISIONS:
        raise UsageError(
            "precision", expected=" or ".join(PRECISIONS), got=repr(wanted), fix="leave it out for float32"
        )
    sound = device.type != "cpu" or method.n_dims < 3
    bf16 = wanted == "bfloat16" and sound and has_fast_bf16(device)
    if compiled is None:
        can = device.type == "cuda" and shutil.which("cc") is not None
        compiled = can and n_steps >= COMPILE_FROM_STEPS
    return Precision(device, bf16, channels_last=device.type in ("cpu", "cuda"), compiled=compiled)
