"""Where kernels of Triton can be used, and where networks can be compiled: tried out once for each device."""

import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.kernels.layout import is_channels_last


def runs_triton(values: Tensor) -> bool:
    """Return whether the float32 kernel of a GPU applies: a CUDA or ROCm device with Triton, and a dense map."""
    plain = values.device.type == "cuda" and values.dtype == torch.float32 and values.ndim in (4, 5)
    return (
        plain
        and values.numel() > 0
        and (values.is_contiguous() or is_channels_last(values))
        and has_triton(values.device)
    )


@cache
def triton_fault(device: torch.device) -> str | None:
    """Return why kernels of Triton cannot be used on a device, by launching one; None = they can."""
    if device.type != "cuda":
        return "no CUDA or ROCm device"
    if find_spec("triton") is None:
        return "Triton is not installed"
    try:
        from selfseg.kernels.window_products_triton import try_out

        try_out(device)
    except Exception as error:  # noqa: BLE001 (compilers and drivers raise whatever they like, and there is a plain form)
        return " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return None


def has_triton(device: torch.device) -> bool:
    """Return whether kernels of Triton can be used on a device."""
    return triton_fault(device) is None


def check_compiling(device: torch.device) -> None:
    """Raise `UsageError` where ``torch.compile`` cannot work."""
    fault = None
    if device.type == "cuda":
        fault = triton_fault(device)
        if torch.cuda.get_device_capability(device) < (7, 0):
            fault = "compute capability below 7.0"
        elif not Path(sysconfig.get_path("include"), "Python.h").is_file():
            fault = "no Python.h, which comes with the development files of Python"
    if fault is not None:
        raise UsageError(
            "--compile", expected=f"a {device} for which networks can be compiled", got=fault, fix="leave it out"
        )
